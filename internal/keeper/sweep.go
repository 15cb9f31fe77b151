// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"syscall"
	"time"
)

// Sweep is for Lost: it ends what is known of the runs without the keeper. Each gets its
// stop signal, its grace and KILL, all at the same time. It returns when nothing of
// them lives, with how many processes it found living; the error names what outlives
// KILL. Runs that want to be waited for for ever get KILL after a short grace as well.
func (c *Client) Sweep() (ended int, err error) {
	c.mu.Lock()
	known := maps.Clone(c.known)
	c.mu.Unlock()
	s := newSweep(c.o.Directory, known)
	ended, err = s.run()
	if s.cgroups != "" {
		_ = (&cgroup{s.cgroups}).remove()
	}
	return ended, err
}

// sweep ends processes that are not children of this one, or whose keeper is dead. They
// are those that carry the RunIDVariable of a directory, those in the cgroups of its
// runs, and the groups of the runs that are known. Nothing tells of the death of all of them, so it looks again and again.
type sweep struct {
	directory string
	known     map[runKey]*knownRun
	begun     time.Time
	killed    map[runKey]time.Time // when KILL was first sent
	// cgroups is where the runs had theirs, "" if that is nowhere.
	cgroups string
}

func newSweep(directory string, known map[runKey]*knownRun) *sweep {
	s := &sweep{directory: directory, known: known, begun: time.Now(), killed: map[runKey]time.Time{}}
	if base, err := cgroupBase(directory); err == nil {
		s.cgroups = base
	}
	return s
}

func (s *sweep) run() (ended int, err error) {
	defer s.eachCgroup(func(_ runKey, g *cgroup) { _ = g.remove() })
	living, err := s.look()
	if err != nil {
		return 0, err
	}
	for key, members := range living {
		ended += len(members)
		if how := s.how(key); how.Grace != 0 {
			s.signal(key, members, how.Signal, syscall.SIGCONT)
		}
	}
	const shortest, longest = 5 * time.Millisecond, 200 * time.Millisecond
	for pause := shortest; len(living) > 0; pause = min(2*pause, longest) {
		if s.kill(living) {
			return ended, s.unkillable(living)
		}
		time.Sleep(pause)
		if living, err = s.look(); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// look returns the living processes by their runs.
func (s *sweep) look() (map[runKey][]identity, error) {
	leftovers, err := Leftovers(s.directory)
	if err != nil {
		return nil, errorf("look for the processes of %q: %w", s.directory, err)
	}
	living := map[runKey][]identity{}
	for _, l := range leftovers {
		key := runKey{l.ID, l.Run}
		living[key] = append(living[key], identity{l.PID, l.StartTicks})
	}
	s.eachCgroup(func(key runKey, g *cgroup) {
		for _, pid := range g.pids() {
			stat, err := readStat(pid)
			member := identity{pid, stat.startTicks}
			if err == nil && stat.living() && !slices.Contains(living[key], member) {
				living[key] = append(living[key], member)
			}
		}
	})
	for key, run := range s.known {
		if run.pid != 0 && !slices.Contains(living[key], run.identity) && run.lives() {
			living[key] = append(living[key], run.identity)
		}
	}
	return living, nil
}

// eachCgroup visits the cgroups of runs that were left.
func (s *sweep) eachCgroup(visit func(key runKey, g *cgroup)) {
	if s.cgroups == "" {
		return
	}
	(&cgroup{s.cgroups}).eachBelow(func(g *cgroup) {
		if key, ok := parseCgroupName(path.Base(g.path)); ok {
			visit(key, g)
		}
	})
}

// how a run is to be ended.
func (s *sweep) how(key runKey) Stop {
	how := Stop{Signal: syscall.SIGTERM, Grace: leftoverGrace}
	if known := s.known[key]; known != nil {
		how = known.how
		if how.Grace < 0 {
			how.Grace = leftoverGrace
		}
	}
	return how
}

// kill sends KILL where the grace is over. It reports whether nothing is left but what
// KILL has had its time with.
func (s *sweep) kill(living map[runKey][]identity) (hopeless bool) {
	hopeless = true
	for key, members := range living {
		if time.Since(s.begun) < s.how(key).Grace {
			hopeless = false
			continue
		}
		first, again := s.killed[key]
		if !again {
			first = time.Now()
			s.killed[key] = first
		}
		s.signal(key, members, syscall.SIGKILL)
		hopeless = hopeless && time.Since(first) > UnkillableAfter
	}
	return hopeless
}

// signal signals the processes of a run. If the process that was started still lives,
// the number of its group is its own, and those of its group that do not carry the
// variable are reached too.
func (s *sweep) signal(key runKey, members []identity, signals ...syscall.Signal) {
	group := 0
	if known := s.known[key]; known != nil && known.pid != 0 && known.lives() {
		group = known.pid
		for _, sig := range signals {
			_ = syscall.Kill(-group, sig)
		}
	}
	for _, member := range members {
		if stat, err := readStat(member.pid); err == nil && stat.pgid != group {
			member.signal(signals...)
		}
	}
}

func (s *sweep) unkillable(living map[runKey][]identity) error {
	var names [][]byte
	for key, members := range living {
		for _, member := range members {
			names = append(names, []byte(sprintf("%d (run %d of %q)", member.pid, key.run, key.id)))
		}
	}
	slices.SortFunc(names, bytes.Compare)
	return errorf("still alive %v after KILL: process %s", UnkillableAfter, bytes.Join(names, []byte(", ")))
}
