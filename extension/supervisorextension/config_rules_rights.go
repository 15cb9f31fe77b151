// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/keeper"
)

// rights checks whom a process runs as, and what it may do and use.
func (r *rules) rights(at place, p *ProcessConfig) {
	if p.User != "" {
		r.user(at.key("user"), p.User)
	}
	if p.Group != "" {
		r.identity(at.key("group"), p.Group, "a group")
	}
	for i, group := range p.SupplementaryGroups {
		r.identity(at.key("supplementary_groups").index(i), group, "a group")
	}
	if p.Umask != nil && (*p.Umask < 0 || *p.Umask > 0o777) {
		r.report(at.key("umask"), "%#o is not from 0 to 0777: write three octal digits, such as 022", int(*p.Umask))
	}
	r.limits(at.key("limits"), p.Limits)
	if p.Nice != nil {
		r.between(at.key("nice"), *p.Nice, -20, 19, "19 gives way to all others")
	}
	if p.OOMScoreAdj != nil {
		r.between(at.key("oom_score_adj"), *p.OOMScoreAdj, -1000, 1000, "1000 is killed first, -1000 never")
	}
	r.cgroup(at.key("cgroup"), p.Cgroup)
}

func (r *rules) between(at place, value, least, most int, meaning string) {
	if value < least || value > most {
		r.report(at, "%d is not from %d to %d: write a number between; %s", value, least, most, meaning)
	}
}

// user is identity for one that other programs write together with a group.
func (r *rules) user(at place, text string) {
	if user, group, both := strings.Cut(text, ":"); both && user != "" && group != "" {
		r.report(at, "%s is a user and a group: write user: %s and group: %s", quoted(text), user, group)
		return
	}
	r.identity(at, text, "a user")
}

var (
	idText = regexp.MustCompile(`^[0-9]+$`)
	// nameText leaves out what no database of users can hold, and a sign, which was meant for a number.
	nameText = regexp.MustCompile(`^[^-+:,/\s\x00][^:,/\s\x00]*$`)
)

// largestID: the number after it says "no change" to the kernel.
const largestID = math.MaxUint32 - 1

func (r *rules) identity(at place, text, what string) {
	switch id, err := strconv.ParseUint(text, 10, 64); {
	case text == "":
		r.report(at, "empty: write the name or the number of %s", what)
	case idText.MatchString(text) && (err != nil || id > largestID):
		r.report(at, "%s is not the number of %s: they go from 0 to %d", text, what, largestID)
	case !nameText.MatchString(text):
		r.report(at, "%s cannot name %s: write a name such as www-data, or a number", quoted(text), what)
	}
}

func (r *rules) limits(at place, limits Limits) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		here, limit := at.key(name), limits[name]
		i := slices.IndexFunc(limitResources, func(l limitResource) bool { return l.name == name })
		if i < 0 {
			r.report(here, "there is no such limit: write one of %s", strings.Join(limitsKeys().names(), ", "))
			continue
		}
		l := limitResources[i]
		switch {
		case limit.Soft == limit.Hard && limit.Soft == keeper.LimitUnchanged:
			r.report(here, "neither soft nor hard is given: write one of them, or both, or remove %s", name)
		case limit.Soft == limit.Hard:
			r.limit(here, l, limit.Soft)
		default:
			if ok := r.limit(here.key("soft"), l, limit.Soft) && r.limit(here.key("hard"), l, limit.Hard); !ok {
				continue
			}
			if limit.Soft != keeper.LimitUnchanged && limit.Hard != keeper.LimitUnchanged && limit.Soft > limit.Hard {
				r.report(here.key("soft"), "%v is more than hard, %v, the most that it can be raised to: lower it, or raise that",
					limitText(limit.Soft), limitText(limit.Hard))
			}
		}
	}
}

func (r *rules) limit(at place, l limitResource, value uint64) bool {
	switch {
	case value == keeper.Unlimited || value == keeper.LimitUnchanged:
	case value > largestLimit:
		r.report(at, "%d is more than any machine has: write less, or unlimited", value)
		return false
	case value < l.least:
		r.report(at, "%d is less than %d, and %s: write more, or unlimited", value, l.least, l.why)
		return false
	}
	return true
}

var cpuMaxText = regexp.MustCompile(`^(max|[0-9]+) ([0-9]+)$`)

func (r *rules) cgroup(at place, c CgroupConfig) {
	most := r.memory(at.key("memory_max"), c.MemoryMax, "leaves the process no memory")
	high := r.memory(at.key("memory_high"), c.MemoryHigh, "leaves the process nothing but to wait for memory")
	if high != math.MaxUint64 && high > most {
		r.report(at.key("memory_high"), "%s is more than memory_max, %s, so it is never reached: lower it, or raise that", c.MemoryHigh, c.MemoryMax)
	}
	if c.CPUMax != "" && c.CPUMax != unlimitedInCgroup {
		r.cpuMax(at.key("cpu_max"), c.CPUMax)
	}
	if c.PIDsMax != "" && c.PIDsMax != unlimitedInCgroup {
		switch n, err := strconv.ParseUint(c.PIDsMax, 10, 63); {
		case err != nil:
			r.report(at.key("pids_max"), "%s is not a number: write one such as 100, or max", quoted(c.PIDsMax))
		case n < 1:
			r.report(at.key("pids_max"), "%d is less than 1, and the process itself counts too: write more, or max", n)
		}
	}
	if c.IOWeight != "" {
		if n, err := strconv.Atoi(c.IOWeight); err != nil || n < 1 || n > 10_000 {
			r.report(at.key("io_weight"), "%s is not from 1 to 10000: write a number between; 100 is what others have", c.IOWeight)
		}
	}
}

// memory returns the bytes, the most there are for what is not limited or no use for a
// comparison.
func (r *rules) memory(at place, text, ofNothing string) uint64 {
	if text == "" || text == unlimitedInCgroup {
		return math.MaxUint64
	}
	bytes, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err != nil:
		r.report(at, "%s is not a number of bytes: write one such as 536870912, or max", quoted(text))
	case bytes > largestLimit:
		r.report(at, "%s is more than any machine has: write less, or max", text)
	case bytes == 0:
		r.report(at, "0 %s: write more, or max", ofNothing)
	default:
		return bytes
	}
	return math.MaxUint64
}

// cpuMax checks the kernel's own text.
func (r *rules) cpuMax(at place, text string) {
	parts := cpuMaxText.FindStringSubmatch(text)
	if parts == nil {
		r.report(at, `%s is not a quota and a period in microseconds: write them such as "50000 100000", or max`, quoted(text))
		return
	}
	if quota, err := strconv.ParseUint(parts[1], 10, 63); parts[1] != unlimitedInCgroup && (err != nil || quota < 1000) {
		r.report(at, "%s has a quota of %s µs, and the kernel takes 1000 or more: write more, or max", quoted(text), parts[1])
	}
	if period, err := strconv.ParseUint(parts[2], 10, 63); err != nil || period < 1000 || period > 1_000_000 {
		r.report(at, "%s has a period of %s µs, and the kernel takes 1000 to 1000000: write one such as %d", quoted(text), parts[2], cpuPeriod)
	}
}

func (r *rules) reload(at place, c ReloadConfig) {
	if c.Signal != 0 && c.Command != nil {
		r.report(at, "signal and command exclude each other: keep one")
	}
	switch {
	case c.Signal == 0:
	case !isSignal(c.Signal):
		r.report(at.key("signal"), "%d is not the number of a signal: write a name such as SIGHUP", int(c.Signal))
	case c.Signal == unix.SIGKILL || c.Signal == unix.SIGSTOP:
		r.report(at.key("signal"), "a process never sees %s, so it cannot reload at it: write one that it handles, such as SIGHUP", signalName(c.Signal))
	}
	if c.Command != nil {
		r.command(at.key("command"), c.Command)
	}
}
