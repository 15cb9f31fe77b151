// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"strconv"
	"syscall"

	"github.com/otelwarden/warden/internal/keeper"
)

// marshal leaves out what is not accepted, since it would do nothing. base is nil if
// there are no defaults.
func (s StopConfig) marshal(base *ChildConfig) map[string]any {
	out := map[string]any{"signal": signalName(s.Signal), "scope": string(s.Scope)}
	if s.Signal != syscall.SIGKILL || s.Timeout == 0 {
		out["timeout"] = formatDuration(s.Timeout)
	}
	switch {
	case s.kills():
	case s.Command != nil:
		out["command"] = anyOf(s.Command)
	case base != nil && base.Process.Stop.Command != nil:
		out["command"] = nil
	}
	return out
}

// marshalRights writes reload and the rightsKeys.
func (p *ProcessConfig) marshalRights(out map[string]any, base *ChildConfig) {
	out["user"], out["group"] = p.User, p.Group
	out["no_new_privileges"] = p.NoNewPrivileges
	limits := make(map[string]any, len(p.Limits))
	for name, limit := range p.Limits {
		limits[name] = limit.marshal()
	}
	out["limits"] = limits
	out["cgroup"] = p.Cgroup.marshal()

	var above ProcessConfig
	if base != nil {
		above = *base.Process
	}
	// Without a value of its own a process would get that of the defaults.
	optional := func(key string, given, there bool, value func() any) {
		switch {
		case given:
			out[key] = value()
		case there:
			out[key] = nil
		}
	}
	optional("reload", p.Reload.given(), above.Reload.given(), func() any { return p.Reload.marshal() })
	optional("supplementary_groups", p.SupplementaryGroups != nil, above.SupplementaryGroups != nil, func() any { return anyOf(p.SupplementaryGroups) })
	optional("umask", p.Umask != nil, above.Umask != nil, func() any { return fmt.Sprintf("%03o", *p.Umask) })
	optional("nice", p.Nice != nil, above.Nice != nil, func() any { return *p.Nice })
	optional("oom_score_adj", p.OOMScoreAdj != nil, above.OOMScoreAdj != nil, func() any { return *p.OOMScoreAdj })
}

func (r ReloadConfig) marshal() map[string]any {
	out := map[string]any{}
	if r.Signal != 0 {
		out["signal"] = signalName(r.Signal)
	}
	if r.Command != nil {
		out["command"] = anyOf(r.Command)
	}
	return out
}

func (l Limit) marshal() any {
	if l.Soft == l.Hard {
		return limitText(l.Soft)
	}
	out := map[string]any{}
	if l.Soft != keeper.LimitUnchanged {
		out["soft"] = limitText(l.Soft)
	}
	if l.Hard != keeper.LimitUnchanged {
		out["hard"] = limitText(l.Hard)
	}
	return out
}

// limitText is a limit as it is written.
func limitText(limit uint64) any {
	if limit == keeper.Unlimited {
		return "unlimited"
	}
	return limit
}

func (c CgroupConfig) marshal() map[string]any {
	out := map[string]any{}
	for key, value := range map[string]string{
		"memory_max": c.MemoryMax, "memory_high": c.MemoryHigh, "cpu_max": c.CPUMax, "pids_max": c.PIDsMax, "io_weight": c.IOWeight,
	} {
		number, err := strconv.ParseUint(value, 10, 64)
		switch {
		case value == "":
		case err == nil:
			out[key] = number
		default:
			out[key] = value
		}
	}
	// Alone it does nothing and is not accepted, so it is not written either.
	if len(out) > 0 {
		out["optional"] = c.Optional
	}
	return out
}
