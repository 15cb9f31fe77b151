// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// What belongs to a run. A process can leave its group and its session, and lose its
// parent; where there are cgroups it can not leave that of its run, and nothing else has
// to be asked.
//
// Without, what survives a process becomes a child of the keeper, a subreaper. Such an
// orphan belongs to the run whose session or group it is in, or whose mark is in its
// environment, and what descends from it belongs to that run too. An orphan that has
// left all three is a stranger: it is told of and never signalled, since it may be of
// any run. To find orphans takes a look at every process there is.

// seen is a living process that a look has found.
type seen struct {
	identity
	ppid, pgid, session int
}

// looks are made one after the other, and who asks for one gets the first that begins
// after that: a thousand deaths in a row cost a few of them.
type looks struct {
	mu   sync.Mutex
	next *look // guarded by mu; asked for and not begun
	busy bool  // guarded by mu
}

type look struct {
	done  chan struct{}
	found []seen
}

// take returns what scan finds after now.
func (l *looks) take(scan func() []seen) []seen {
	l.mu.Lock()
	if l.next == nil {
		l.next = &look{done: make(chan struct{})}
	}
	mine := l.next
	if !l.busy {
		l.busy = true
		go l.work(scan)
	}
	l.mu.Unlock()
	<-mine.done
	return mine.found
}

func (l *looks) work(scan func() []seen) {
	for {
		l.mu.Lock()
		one := l.next
		l.next = nil
		l.busy = one != nil
		l.mu.Unlock()
		if one == nil {
			return
		}
		one.found = scan()
		close(one.done)
	}
}

// scan looks at every process but those that runs consist of.
func (p *parent) scan() (found []seen) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if _, known := p.known.Load(pid); known {
			continue
		}
		if s, err := readStat(pid); err == nil && s.living() {
			found = append(found, seen{identity{pid, s.startTicks}, s.ppid, s.pgid, s.session})
		}
	}
	return found
}

// hasNoOrphans reports whether it is certain that this process has adopted nothing that
// lives. What it adopts the kernel gives to the first thread, whose children it lists
// where it is built to; that thread forks nothing itself.
func (p *parent) hasNoOrphans() bool {
	self := strconv.Itoa(os.Getpid())
	list, err := os.ReadFile("/proc/self/task/" + self + "/children")
	if err != nil {
		return false
	}
	for field := range bytes.FieldsSeq(list) {
		pid, err := strconv.Atoi(string(field))
		if err != nil {
			return false
		}
		if s, err := readStat(pid); err == nil && s.living() {
			return false
		}
	}
	return true
}

// orphans returns those of the found whose parent the keeper has become.
func orphans(found []seen, keeper int) (adopted []seen) {
	for _, s := range found {
		if s.ppid == keeper {
			adopted = append(adopted, s)
		}
	}
	return adopted
}

// withDescendants returns the roots and what of the found descends from them.
func withDescendants(roots, found []seen) (all []seen) {
	all = append(all, roots...)
	for i := 0; i < len(all); i++ {
		for _, s := range found {
			if s.ppid == all[i].pid {
				all = append(all, s)
			}
		}
	}
	return all
}

// owner returns the run that an orphan belongs to; ok is false for a stranger.
func (p *parent) owner(s seen) (key runKey, ok bool) {
	p.mu.Lock()
	for k, r := range p.runs {
		// A number that is in use as a session's or group's is given to no other process.
		if pid := int(r.leader.Load()); pid != 0 && (s.session == pid || s.pgid == pid) {
			p.mu.Unlock()
			return k, true
		}
	}
	p.mu.Unlock()
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(s.pid) + "/environ")
	if err != nil || p.mark == "" {
		return runKey{}, false
	}
	return parseRunID(environ, p.mark[:len(p.mark)-1])
}

// strays returns what of the found belongs to a run whose process is dead.
func (p *parent) strays(key runKey, found []seen) []seen {
	var roots, strangers []seen
	for _, s := range orphans(found, os.Getpid()) {
		switch owner, ok := p.owner(s); {
		case !ok:
			strangers = append(strangers, s)
		case owner == key:
			roots = append(roots, s)
		}
	}
	p.tellStrangers(strangers)
	return withDescendants(roots, found)
}

// tellStrangers tells of each once.
func (p *parent) tellStrangers(strangers []seen) {
	p.strangersMu.Lock()
	defer p.strangersMu.Unlock()
	told := make(map[identity]struct{}, len(strangers))
	for _, s := range strangers {
		told[s.identity] = struct{}{}
		if _, before := p.strangers[s.identity]; !before {
			p.notify(Event{Kind: Stranger, Processes: namesOf([]identity{s.identity})})
		}
	}
	p.strangers = told
}

// maxNamed is how many processes an event names.
const maxNamed = 16

// namesOf names living processes.
func namesOf(processes []identity) (names []ProcessName) {
	for _, i := range processes[:min(len(processes), maxNamed)] {
		if comm, err := os.ReadFile("/proc/" + strconv.Itoa(i.pid) + "/comm"); err == nil {
			names = append(names, ProcessName{i.pid, string(bytes.TrimSuffix(comm, []byte("\n")))})
		}
	}
	return names
}

// members returns what lives of the run's scope, process by process, after its own
// process is dead.
func (r *run) members() (members []identity) {
	switch scope := r.scope(); {
	case scope == ScopeProcess:
		return nil
	case scope == ScopeTree && r.cgroup != nil:
		for _, pid := range r.cgroup.pids() {
			if s, err := readStat(pid); err == nil && s.living() {
				members = append(members, identity{pid, s.startTicks})
			}
		}
		return members
	case scope == ScopeTree && r.parent.adopts:
		if r.parent.hasNoOrphans() {
			return nil
		}
		for _, s := range r.parent.strays(r.key(), r.parent.looks.take(r.parent.scan)) {
			members = append(members, s.identity)
		}
		return members
	}
	for _, s := range r.parent.looks.take(r.parent.scan) {
		if s.pgid == r.pid {
			members = append(members, s.identity)
		}
	}
	return members
}

func (r *run) scope() Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.how.Scope
}

func (r *run) key() runKey { return runKey{r.spec.ID, r.spec.Run} }

// sees reports whether what survives the process can be told without a look at every
// process there is.
func (r *run) sees(scope Scope) bool {
	return scope != ScopeTree || r.cgroup != nil || !r.parent.adopts
}

// survivesLocked reports whether something of the scope lives, the process itself being
// reaped; what only a look finds is left out. closely: zombies do not count.
func (r *run) survivesLocked(closely bool) bool {
	switch {
	case r.how.Scope == ScopeProcess:
		return false
	case r.how.Scope == ScopeTree && r.cgroup != nil && r.cgroup.populated():
		return true
	}
	// Asking the kernel for a group is cheap, but it counts zombies, and where PID 1
	// does not reap they stay for ever.
	return groupExists(r.pid) && (!closely || groupLives(r.pid))
}

// killScope sends KILL to all of the scope that can be reached now.
func (r *run) killScope() {
	r.signal(syscall.SIGKILL)
	r.mu.Lock()
	scope, dead := r.how.Scope, r.dead
	r.mu.Unlock()
	switch {
	case scope != ScopeTree:
	case r.cgroup != nil:
		r.cgroup.kill()
	case dead:
		for _, member := range r.members() {
			member.signal(syscall.SIGKILL)
		}
	}
}
