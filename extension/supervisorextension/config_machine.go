// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/keeper"
)

// machine is what this program is and may do where it runs, as far as the warnings
// need it.
type machine struct {
	uid, gid int
	groups   []int
	// capabilities has bit n set for the effective capability n.
	capabilities uint64
	// lowestNice needs no capability, nor does lowestOOMScoreAdj.
	lowestNice, lowestOOMScoreAdj int
	// mostOpenFiles is what the kernel gives to one process, whoever asks.
	mostOpenFiles uint64
	hardLimit     func(keeper.Resource) uint64
	// userID and groupID find names, and are false for those that are not known here.
	userID, groupID func(name string) (int, bool)
}

// rlimits are the kernel's names for what limits a resource.
var rlimits = map[keeper.Resource]int{
	keeper.OpenFiles: unix.RLIMIT_NOFILE, keeper.Processes: unix.RLIMIT_NPROC, keeper.CoreSize: unix.RLIMIT_CORE,
	keeper.FileSize: unix.RLIMIT_FSIZE, keeper.AddressSpace: unix.RLIMIT_AS, keeper.Stack: unix.RLIMIT_STACK,
	keeper.LockedMemory: unix.RLIMIT_MEMLOCK,
}

// newMachine asks the system. What it does not tell is taken as what allows most, so
// that nobody is warned of what is perhaps not so.
func newMachine() *machine {
	m := &machine{
		uid: os.Geteuid(), gid: os.Getegid(), capabilities: capabilities(),
		lowestNice: -20, lowestOOMScoreAdj: -1000, mostOpenFiles: keeper.Unlimited,
		hardLimit: func(r keeper.Resource) uint64 { return rlimit(rlimits[r]).Max },
		userID: remembered(func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}),
		groupID: remembered(func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}),
	}
	m.groups, _ = os.Getgroups()
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		// The system call returns 20 less the niceness; RLIMIT_NICE counts likewise.
		m.lowestNice = 20 - max(raw, int(min(rlimit(unix.RLIMIT_NICE).Cur, 40)))
	}
	if n, ok := readNumber("/proc/self/oom_score_adj"); ok {
		m.lowestOOMScoreAdj = n
	}
	if n, ok := readNumber("/proc/sys/fs/nr_open"); ok {
		m.mostOpenFiles = uint64(n)
	}
	return m
}

// remembered asks once for each name: a thousand processes may have the same one.
func remembered(find func(name string) (string, error)) func(string) (int, bool) {
	ids := map[string]int{} // -1: not known
	return func(name string) (int, bool) {
		id, asked := ids[name]
		if !asked {
			id = -1
			if text, err := find(name); err == nil {
				id, _ = strconv.Atoi(text)
			}
			ids[name] = id
		}
		return id, id >= 0
	}
}

func (m *machine) can(capability int) bool { return m.capabilities&(1<<capability) != 0 }

// capabilities are the effective ones of this program, all if it cannot be told.
func capabilities() uint64 {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return ^uint64(0)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
}

func rlimit(which int) unix.Rlimit {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Getrlimit(which, &limit)
	return limit
}

func readNumber(file string) (int, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil
}

// rights warns of what this program may not give a process, or cannot find, here.
func (w *warner) rights(at place, p *ProcessConfig) {
	w.identity(at, p)
	for _, l := range limitResources {
		if limit, ok := p.Limits[l.name]; ok {
			w.limit(at.key("limits").key(l.name), l, limit)
		}
	}
	if p.Nice != nil && *p.Nice < w.machine.lowestNice && !w.machine.can(unix.CAP_SYS_NICE) {
		w.once(at.key("nice"), "%d is below %d, the lowest that this program may give, and needs root (CAP_SYS_NICE): the process will not start",
			*p.Nice, w.machine.lowestNice)
	}
	if p.OOMScoreAdj != nil && *p.OOMScoreAdj < w.machine.lowestOOMScoreAdj && !w.machine.can(unix.CAP_SYS_RESOURCE) {
		w.once(at.key("oom_score_adj"), "%d is below %d, this program's own, and needs root (CAP_SYS_RESOURCE): the process will not start",
			*p.OOMScoreAdj, w.machine.lowestOOMScoreAdj)
	}
}

// identity warns of names that are not known here, and else of the first key that
// needs a right.
func (w *warner) identity(at place, p *ProcessConfig) {
	m, known := w.machine, true
	id := func(here place, text, what string, find func(string) (int, bool)) int {
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
		n, ok := find(text)
		if !ok {
			known = false
			w.once(here, "there is no %s %s here: the process will not start before there is", what, quoted(text))
		}
		return n
	}
	type needs struct {
		at    place
		other bool
		all   bool
	}
	user, group, groups := at.key("user"), at.key("group"), at.key("supplementary_groups")
	needed := []needs{
		{user, p.User != "" && id(user, p.User, "user", m.userID) != m.uid, m.can(unix.CAP_SETUID) && m.can(unix.CAP_SETGID)},
		{group, p.Group != "" && id(group, p.Group, "group", m.groupID) != m.gid, m.can(unix.CAP_SETGID)},
	}
	if p.SupplementaryGroups != nil {
		wanted := make([]int, len(p.SupplementaryGroups))
		for i, text := range p.SupplementaryGroups {
			wanted[i] = id(groups.index(i), text, "group", m.groupID)
		}
		needed = append(needed, needs{groups, !sameSet(wanted, m.groups), m.can(unix.CAP_SETGID)})
	}
	for _, n := range needed {
		if known && n.other && !n.all {
			w.once(n.at, "needs root (CAP_SETUID and CAP_SETGID), and this is user %d: the process will not start", m.uid)
			return
		}
	}
}

func sameSet(a, b []int) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func (w *warner) limit(at place, l limitResource, limit Limit) {
	most := limit.Hard
	if most == keeper.LimitUnchanged {
		most = limit.Soft
	}
	own := w.machine.hardLimit(l.resource)
	switch {
	case l.resource == keeper.OpenFiles && most > w.machine.mostOpenFiles:
		w.once(at, "%v is more than the kernel gives to any process here, %d (fs.nr_open): the process will not start", limitText(most), w.machine.mostOpenFiles)
	case most <= own:
	case limit.Hard == keeper.LimitUnchanged:
		w.once(at, "%v is more than this program's own hard limit, %v, and hard is not given: the process will not start", limitText(most), limitText(own))
	case !w.machine.can(unix.CAP_SYS_RESOURCE):
		w.once(at, "%v is more than this program's own hard limit, %v, and needs root (CAP_SYS_RESOURCE): the process will not start", limitText(most), limitText(own))
	}
}
