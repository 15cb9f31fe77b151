// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// run is one life of one process with its scope, from just before the clone until
// nothing of it lives. While it runs no goroutine serves it. outlived, if something
// survives the process, waits for the end of that; conduct, from the first reason to
// stop it, sends the signals.
//
// The number of the group stays ours for as long as the process is not reaped
// (its zombie holds the PID) or the group has a member (which pins the number).
// Reaping and signalling exclude each other, so a signal can go astray only if the
// process is reaped, its last survivor vanishes, the PIDs wrap around and the number
// is given to a new group, all between two looks at the group.
type run struct {
	parent *parent
	spec   Spec
	pid    int // also the number of the group and the session
	pidfd  int
	// cgroup is its own; nil: it has none.
	cgroup *cgroup
	// leader is pid, for who may ask before it is set: 0 then.
	leader atomic.Int32

	mu   sync.Mutex
	dead bool      // guarded by mu; the process itself is reaped
	over bool      // guarded by mu; nothing of the scope lives: the group's number is not ours any more
	by   StoppedBy // guarded by mu
	how  Stop      // guarded by mu

	asked   atomic.Bool // the stop signal is sent
	killing atomic.Bool // KILL is sent

	telling sync.Mutex
	gone    bool // guarded by telling; Gone has been told

	begun   chan struct{} // closed by begin: pid is set
	empty   chan struct{} // closed by vanished: nothing of the scope lives
	hurry   chan struct{} // closed by kill: no more grace
	conduct sync.Once
	kills   sync.Once
	freed   sync.Once
}

func newRun(p *parent, spec Spec) *run {
	return &run{
		parent: p,
		spec:   spec,

		how: spec.Stop,

		begun: make(chan struct{}),
		empty: make(chan struct{}),
		hurry: make(chan struct{}),
	}
}

// begin starts to watch the process and returns its start time in ticks. On an
// error the process has been killed and reaped.
func (r *run) begin(pid, pidfd int) (startTicks uint64, err error) {
	r.pid = pid
	r.pidfd = pidfd
	r.leader.Store(int32(pid))
	stat, err := readStat(pid)
	if err == nil {
		r.parent.known.Store(pid, r)
		if err = r.parent.deaths.add(pidfd, r.died); err != nil {
			r.parent.known.Delete(pid)
		}
	}
	if err != nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		_ = retry(func() error { _, e := syscall.Wait4(pid, nil, 0, nil); return e })
		_ = syscall.Close(pidfd)
		return 0, err
	}
	close(r.begun)
	return stat.startTicks, nil
}

// died is called when the process is dead, and tells of it.
func (r *run) died() {
	exit, over := r.reap()
	death := Event{Kind: Died, Exit: exit}
	if over {
		r.vanished(death)
	} else {
		r.tell(death)
		go r.outlived()
	}
	_ = syscall.Close(r.pidfd) // late: what waits for the news of the end waits for less
}

// outlived ends what survived the process, if anything did, and waits for that.
func (r *run) outlived() {
	members, over := r.remains(false)
	if !over {
		// A child that was being forked while the group was signalled was missed: a
		// shell holds signals back while it forks.
		r.askAgain()
		r.beginStop()
		r.awaitEnd(members)
	}
	r.vanished()
}

// remains says what lives of the scope now that the process is dead, and whether that
// is nothing. The members are left out where the kernel knows them as one.
func (r *run) remains(closely bool) (members []identity, over bool) {
	if !r.sees(r.scope()) {
		members = r.members()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = len(members) == 0 && !r.survivesLocked(closely)
	return members, r.over
}

// vanished tells that nothing of the group lives, after what else there is to tell.
func (r *run) vanished(events ...Event) {
	close(r.empty)
	r.parent.unregister(r)
	r.tell(append(events, Event{Kind: Gone})...)
	r.release()
	r.discardCgroup()
}

// discardCgroup lets go of the cgroup of a run that is over.
func (r *run) discardCgroup() {
	if r.cgroup != nil {
		r.parent.cgroups.discard(r.cgroup)
	}
}

// abandon ends a run that never began, or was undone by begin.
func (r *run) abandon() {
	r.discardCgroup()
	r.over = true // not begun: nobody else looks at it yet
	r.gone = true
	close(r.empty)
	close(r.begun)
	r.parent.unregister(r)
	r.release()
}

// reap reads of the dead process what only its zombie tells, and reaps it; over:
// it is seen at once that nothing of its scope lives.
func (r *run) reap() (exit Exit, over bool) {
	exit = Exit{PID: r.pid, Code: -1, At: time.Now(), Mono: monotonic(), IO: readIO(r.pid)}
	if stat, err := readStat(r.pid); err == nil {
		exit.User, exit.System = stat.user, stat.system
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	err := retry(func() error { _, e := syscall.Wait4(r.pid, &status, 0, &exit.Usage); return e })
	r.parent.forget(r)
	switch {
	case err != nil:
		// Somebody else in this process waits for children that are not its own.
		exit.Lost = true
	case status.Signaled():
		exit.Signal, exit.Core = status.Signal(), status.CoreDump()
		exit.OOM = exit.Signal == syscall.SIGKILL && r.cgroup != nil && r.cgroup.ranOutOfMemory()
	default:
		exit.Code = status.ExitStatus()
	}
	exit.By = r.by
	r.dead = true
	r.over = r.sees(r.how.Scope) && !r.survivesLocked(false)
	return exit, r.over
}

// awaitEnd returns when nothing of the scope lives. There is nothing to wait on for
// it, so it looks again and again, at growing intervals. What has left the group, and
// so did not hear the stop signal, is asked one by one, and killed when KILL is due.
func (r *run) awaitEnd(members []identity) {
	const shortest, longest = 500 * time.Microsecond, 100 * time.Millisecond
	heard := map[identity]struct{}{}
	for pause := shortest; ; pause = min(2*pause, longest) {
		if r.cgroup != nil && r.scope() == ScopeTree {
			members = r.members()
		}
		switch {
		case r.killing.Load():
			r.killScope()
		case r.asked.Load():
			r.askMembers(members, heard)
		}
		time.Sleep(pause)
		found, over := r.remains(pause > 10*time.Millisecond)
		if over && !r.sees(r.scope()) {
			// What forks as it dies can be passed by one look, and not by two.
			found, over = r.remains(true)
		}
		if over {
			return
		}
		members = found
	}
}

// askMembers sends the stop signal to what is not in the group, to each once.
func (r *run) askMembers(members []identity, heard map[identity]struct{}) {
	r.mu.Lock()
	signal := r.how.Signal
	r.mu.Unlock()
	if signal == 0 {
		return
	}
	for _, member := range members {
		if _, again := heard[member]; again {
			continue
		}
		heard[member] = struct{}{}
		if s, err := readStat(member.pid); err == nil && s.pgid != r.pid {
			member.signal(signal, syscall.SIGCONT)
		}
	}
}

// stop begins to stop the run, once.
func (r *run) stop(by StoppedBy) {
	r.setBy(by)
	r.beginStop()
}

// setStop changes how the run is stopped, and sends the signal if that is another by
// now than the one that was sent.
func (r *run) setStop(how Stop) {
	r.mu.Lock()
	another := r.how.Signal != how.Signal
	r.how = how
	r.mu.Unlock()
	if another && r.asked.Load() && !r.killing.Load() {
		r.ask()
	}
}

// signalProcess sends to the process alone.
func (r *run) signalProcess(signal syscall.Signal) {
	if !isClosed(r.begun) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dead && !r.over {
		_ = pidfdSignal(r.pidfd, signal)
	}
}

// kill ends the run without grace.
func (r *run) kill() {
	r.setBy(StoppedByKill)
	r.kills.Do(func() { close(r.hurry) })
	r.beginStop()
}

func (r *run) beginStop() {
	r.conduct.Do(func() { go r.carryOutStop() })
}

// setBy keeps the first who asked, but for a stop that a kill overtakes.
func (r *run) setBy(by StoppedBy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == StoppedByNobody || r.by == StoppedByStop && by == StoppedByKill {
		r.by = by
	}
}

func (r *run) carryOutStop() {
	<-r.begun
	if !r.askToStop() {
		return
	}
	r.tell(Event{Kind: Killed, Processes: r.survivors()})
	r.killing.Store(true)
	r.killScope()
	unkillable := time.NewTimer(UnkillableAfter)
	defer unkillable.Stop()
	select {
	case <-r.empty:
	case <-unkillable.C:
		r.tell(Event{Kind: Unkillable})
		r.release()
	}
}

// survivors names what is about to be killed though the process itself has ended.
func (r *run) survivors() []ProcessName {
	r.mu.Lock()
	dead := r.dead
	r.mu.Unlock()
	if !dead {
		return nil
	}
	return namesOf(r.members())
}

// askToStop sends the stop signal and waits out the grace; true: KILL is due.
func (r *run) askToStop() bool {
	r.mu.Lock()
	grace := r.how.Grace
	r.mu.Unlock()
	if grace == 0 || isClosed(r.hurry) {
		return true
	}
	r.ask()
	var over <-chan time.Time
	if grace > 0 {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-r.empty:
		return false
	case <-over:
	case <-r.hurry:
	}
	return true
}

// ask sends the stop signal to the group, and CONT: a stopped process does not see
// the signal before it goes on.
func (r *run) ask() {
	// First: the process may die before the rest, and then it is askAgain's turn.
	r.asked.Store(true)
	r.mu.Lock()
	stopSignal := r.how.Signal
	r.mu.Unlock()
	r.signal(stopSignal)
	r.signal(syscall.SIGCONT)
}

// askAgain repeats ask, if it has been called.
func (r *run) askAgain() {
	if r.asked.Load() {
		r.ask()
	}
}

// signal sends to the group, or to the process if that is all there is to the run,
// unless it is over.
func (r *run) signal(sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
	case r.how.Scope == ScopeProcess:
		if !r.dead {
			_ = pidfdSignal(r.pidfd, sig)
		}
	default:
		_ = syscall.Kill(-r.pid, sig)
	}
}

// tell passes events on. Gone is the last: what the other goroutine had to say
// until then no longer matters.
func (r *run) tell(events ...Event) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if r.gone {
		return
	}
	for i := range events {
		events[i].ID, events[i].Run = r.spec.ID, r.spec.Run
	}
	r.gone = events[len(events)-1].Kind == Gone
	r.parent.notify(events...)
}

// release lets Close no longer wait for this run.
func (r *run) release() { r.freed.Do(r.parent.live.Done) }
