// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// run is one life of one process with its group, from just before the clone until
// nothing of it lives. While it runs no goroutine serves it. outlived, if something
// survives the process, waits for the end of the group; conduct, from the first reason
// to stop it, sends the signals.
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

	mu   sync.Mutex
	over bool      // guarded by mu; nothing of the group lives: its number is not ours any more
	by   StoppedBy // guarded by mu
	how  Stop      // guarded by mu

	asked atomic.Bool // the stop signal is sent

	telling sync.Mutex
	gone    bool // guarded by telling; Gone has been told

	begun   chan struct{} // closed by begin: pid is set
	empty   chan struct{} // closed by vanished: nothing of the group lives
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
	exit, survivors := r.reap()
	death := Event{Kind: Died, Exit: exit}
	if survivors {
		r.tell(death)
		go r.outlived()
	} else {
		r.vanished(death)
	}
	_ = syscall.Close(r.pidfd) // late: what waits for the news of the end waits for less
}

// outlived waits for the end of what survived the process.
func (r *run) outlived() {
	// A child that was being forked while the group was signalled was missed: a
	// shell holds signals back while it forks.
	r.askAgain()
	r.beginStop()
	r.awaitGroup()
	r.vanished()
}

// vanished tells that nothing of the group lives, after what else there is to tell.
func (r *run) vanished(events ...Event) {
	close(r.empty)
	r.parent.unregister(r)
	r.tell(append(events, Event{Kind: Gone})...)
	r.release()
}

// abandon ends a run that never began, or was undone by begin.
func (r *run) abandon() {
	r.over = true // not begun: nobody else looks at it yet
	r.gone = true
	close(r.empty)
	close(r.begun)
	r.parent.unregister(r)
	r.release()
}

// reap reads of the dead process what only its zombie tells, and reaps it; survivors:
// something of its group still lives.
func (r *run) reap() (exit Exit, survivors bool) {
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
	default:
		exit.Code = status.ExitStatus()
	}
	exit.By = r.by
	survivors = groupExists(r.pid)
	r.over = !survivors
	return exit, survivors
}

// awaitGroup returns when nothing of the group lives. There is nothing to wait on
// for a group, so it looks again and again, at growing intervals.
func (r *run) awaitGroup() {
	const shortest, longest = 500 * time.Microsecond, 100 * time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		r.mu.Lock()
		// Asking the kernel is cheap, but it counts zombies, and where PID 1 does not
		// reap they stay for ever. So every look that is not cheap by its rarity
		// counts the living.
		r.over = !groupExists(r.pid) || pause > 10*time.Millisecond && !groupLives(r.pid)
		over := r.over
		r.mu.Unlock()
		if over {
			return
		}
		time.Sleep(pause)
	}
}

// stop begins to stop the run, once.
func (r *run) stop(by StoppedBy) {
	r.setBy(by)
	r.beginStop()
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
	r.tell(Event{Kind: Killed})
	r.signal(syscall.SIGKILL)
	unkillable := time.NewTimer(UnkillableAfter)
	defer unkillable.Stop()
	select {
	case <-r.empty:
	case <-unkillable.C:
		r.tell(Event{Kind: Unkillable})
		r.release()
	}
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

// signal sends to the whole group, unless nothing of it lives.
func (r *run) signal(sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
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
