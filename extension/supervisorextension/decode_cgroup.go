// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

var cgroupKeys = table[CgroupConfig]{
	{"memory_max", func(d *decoder, at place, n *node, c *CgroupConfig) { d.bytesOrMax(at, n, &c.MemoryMax) }},
	{"memory_high", func(d *decoder, at place, n *node, c *CgroupConfig) { d.bytesOrMax(at, n, &c.MemoryHigh) }},
	{"cpu_max", decodeCPUMax},
	{"pids_max", func(d *decoder, at place, n *node, c *CgroupConfig) {
		d.orMax(at, n, &c.PIDsMax, func(into *uint64) { d.whole(at, n, into, "a whole number such as 100, or max") })
	}},
	{"io_weight", func(d *decoder, at place, n *node, c *CgroupConfig) {
		var weight int
		if d.integer(at, n, &weight, "100"); n.kind == kindInt {
			c.IOWeight = strconv.Itoa(weight)
		}
	}},
	{"optional", func(d *decoder, at place, n *node, c *CgroupConfig) { d.boolean(at, n, &c.Optional) }},
}

// unlimitedInCgroup is the kernel's word.
const unlimitedInCgroup = "max"

func (d *decoder) bytesOrMax(at place, n *node, into *string) {
	d.orMax(at, n, into, func(bytes *uint64) { d.size(at, n, bytes, "bytes, a size such as 512MiB, or max") })
}

// orMax takes the kernel's word for no limit, or the number that number takes.
func (d *decoder) orMax(at place, n *node, into *string, number func(*uint64)) {
	switch {
	case n.kind == kindText && n.text == unlimitedInCgroup:
		*into = unlimitedInCgroup
	case n.endless():
		d.report(at, "%s is not the word for no limit here: write max", n.quoted())
	default:
		before := len(d.findings)
		var value uint64
		if number(&value); len(d.findings) == before {
			*into = strconv.FormatUint(value, 10)
		}
	}
}

// cpuPeriod, in microseconds, is the kernel's own choice.
const cpuPeriod = 100_000

var percentage = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?%$`)

// decodeCPUMax takes a number of CPUs, or what the kernel takes.
func decodeCPUMax(d *decoder, at place, n *node, c *CgroupConfig) {
	const want = `a number of CPUs such as 0.5, max, or the kernel's "QUOTA PERIOD"`
	switch {
	case n.kind == kindText && (n.text == unlimitedInCgroup || cpuMaxText.MatchString(n.text)):
		c.CPUMax = n.text
	case n.endless():
		d.report(at, "%s is not the word for no limit here: write max", n.quoted())
	case n.kind == kindText && percentage.MatchString(n.text):
		share, _ := strconv.ParseFloat(percentage.FindStringSubmatch(n.text)[1], 64)
		d.report(at, "%s is a percentage: write the number of CPUs, %v", n.quoted(), share/100)
	case n.kind != kindInt && n.kind != kindFloat:
		d.wrongKind(at, n, want)
	case !(n.float >= 0.01 && n.float <= 1e6):
		d.report(at, "%s is not from 0.01 to a million: write %s", n.text, want)
	default:
		c.CPUMax = fmt.Sprintf("%.0f %d", math.Round(n.float*cpuPeriod), cpuPeriod)
	}
}

// decodeReload replaces what defaults gave, for only one of the ways can hold.
func decodeReload(d *decoder, at place, n *node, into *ReloadConfig) {
	if n.kind != kindMap {
		d.wrongKind(at, n, "a map such as {signal: SIGHUP}")
		return
	}
	*into = ReloadConfig{}
	if len(n.entries) == 0 {
		d.report(at, "missing: write signal: SIGHUP or command: […], or remove reload")
	}
	reloadKeys.decode(d, at, n, into)
}

var reloadKeys = table[ReloadConfig]{
	{"signal", func(d *decoder, at place, n *node, r *ReloadConfig) { d.signal(at, n, &r.Signal, "SIGHUP") }},
	{"command", func(d *decoder, at place, n *node, r *ReloadConfig) { d.command(at, n, &r.Command) }},
}

// pointless reports what a process itself says about its end or its cgroup and another
// of its keys makes useless. From defaults it may well come.
func (d *decoder) pointless(at place, n *node, p *ProcessConfig) {
	if stop := n.get("stop"); stop != nil && stop.get("command") != nil && p.Stop.Command != nil && p.Stop.kills() {
		here := at.key("stop").key("command")
		if p.Stop.Signal == syscall.SIGKILL {
			d.report(here, "SIGKILL ends the process whatever the command does: remove command, or choose another signal")
		} else {
			d.report(here, "timeout: 0s kills the process before the command could do anything: remove command, or write a timeout such as 10s")
		}
	}
	if cgroup := n.get("cgroup"); cgroup != nil && cgroup.get("optional") != nil && p.Cgroup.Optional && !d.reported(at.key("cgroup")) && len(p.Cgroup.settings()) == 0 {
		d.report(at.key("cgroup").key("optional"), "there is nothing that could be left out: write a setting such as memory_max: 512MiB beside it, or remove cgroup")
	}
}

// reported says whether there is a finding about what is at a place or below it.
func (d *decoder) reported(at place) bool {
	return slices.ContainsFunc(d.findings, func(f finding) bool { return at.covers(f.at) })
}
