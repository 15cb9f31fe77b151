// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

// What the outside says about a worker's current run, by the worker's state.
// These functions are the whole matrix: a state that is not named ignores the
// event, for the reason given.

func (t *Tree) spawned(n *node) {
	if n.state == StateStarting && !n.awaitsReady {
		t.isUp(n)
	}
	// Starting, awaitsReady: Ready will follow. Stopping: too late, its end is
	// awaited. Running: told twice. All others: the run is over.
}

func (t *Tree) ready(n *node) {
	if n.state == StateStarting {
		t.isUp(n)
	}
	// As above.
}

func (t *Tree) startFailed(n *node) {
	switch n.state {
	case StateStarting, StateStopping, StateUnkillable:
		t.noProcess(n, ExitStartFailed)
	default:
		// Running contradicts it, and the other states are those of a run that is over.
	}
}

func (t *Tree) exited(n *node, reason ExitReason) {
	switch n.state {
	case StateStarting:
		if n.awaitsReady {
			t.noProcess(n, reason)
			return
		}
		t.isUp(n) // it cannot have exited without having been spawned
		t.endedWith(n, reason)
		t.later((*Tree).childEnded, n)
	case StateRunning:
		t.endedWith(n, reason)
		t.later((*Tree).childEnded, n)
	case StateStopping, StateUnkillable:
		t.noProcess(n, reason)
	default:
		// The run is over and has been told of.
	}
}

// noProcess takes in that a run which was never up, or was to end, is over.
func (t *Tree) noProcess(n *node, reason ExitReason) {
	t.timers.disarm(n)
	switch {
	case n.state == StateStarting:
		t.endedWith(n, reason)
		t.later((*Tree).childStartFailed, n)
	case n.state == StateUnkillable:
		t.endedWith(n, reason)
		t.become(n, StateStopped)
		t.exorcise(n)
	case n.why == StopStartTimeout:
		t.endedWith(n, ExitStartTimeout)
		t.later((*Tree).childStartFailed, n)
	default:
		t.endedWith(n, reason)
		t.become(n, StateStopped)
		t.isDown(n)
	}
}

func (t *Tree) endedWith(n *node, reason ExitReason) {
	t.endRow(n)
	n.ended, n.exit = true, reason
	t.touch(n)
}

// unkillable takes in that the run cannot be ended. From here on nothing waits
// for it: as for its supervisor it is down, but it cannot be started either.
func (t *Tree) unkillable(n *node) {
	if !n.live() {
		return // the run is over, or this was told before
	}
	failedStart := n.state == StateStopping && n.why == StopStartTimeout
	t.timers.disarm(n)
	t.setPending(n, false)
	t.become(n, StateUnkillable)
	t.answerStarts(n, ErrStartFailed)
	t.answerStops(n, ErrUnkillable)
	t.redo(n)
	if failedStart && n.failsFirstStart() {
		t.failFirstStart(n, ExitStartTimeout)
		return
	}
	t.setAwaited(n, false)
	t.wake(n)
}

// exorcise removes what was kept in the tree for the sake of n's process only.
func (t *Tree) exorcise(n *node) {
	if n.spec.Restart == Temporary {
		t.setGone(n)
	}
	for a := n; a.parent != nil; {
		above := a.parent
		if a.buried && !a.live() {
			t.bury(a)
		}
		a = above
	}
}

// timeUp: the time that n waited for has come.
func (t *Tree) timeUp(n *node) {
	switch {
	case n.state == StateStarting:
		n.why = StopStartTimeout
		t.become(n, StateStopping)
		t.emit(StopProcess{n.id, n.run, StopStartTimeout, ""})
	case n.parent.sup.gate == n:
		n.parent.sup.gate = nil
		t.later((*Tree).advance, n.parent)
	default:
		t.start(n)
	}
}
