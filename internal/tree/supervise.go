// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"math"
	"slices"
	"time"
)

// The state model.
//
// Every node has a state, which is what the outside sees of it, and a few marks
// that say what is wanted of it; a mark is set before anything is done for it, so
// that a later decision only has to change marks.
//
// A worker:
//
//	stopped ──start──▶ starting ──Spawned or Ready──▶ running
//	   ▲                  │  │                          │ │
//	   │                  │  └─no process, timeout─┐    │ └─ended for good──▶ exited
//	   │        ┌───stop──┴────────────stop────────┼────┘
//	   │        ▼                                  ▼ failed
//	   └──── stopping ──outlived KILL──▶ unkillable   backoff ──delay over──▶ starting
//	                                               └─not tried again──▶ failed
//
// A supervisor is starting until its children are up, then running, and stopping
// from the moment its end is decided until all its children are down; then it is
// stopped, or gave_up. Beside that it has a phase, which says what it is doing
// with its list. In OTP it would sit inside a function of its own meanwhile:
//
//	phaseLoop ──failure, not one_for_one──▶ phaseStopping ──▶ phaseWaiting ──▶ phaseStarting ──▶ phaseLoop
//	    │                                       start of the supervisor ──────────▲   │
//	    │                                                       ▲────failed start─────┘
//	    ├──any phase: children to be replaced or removed (reconfigure.go)──▶ phaseStopping
//	    └──any phase: asked to stop, gave up, start failed──▶ phaseEnding
//
// The marks of a child:
//
//   - pending: its supervisor is going to start it: in phaseStarting or, if the
//     child has a back-off of its own, when that is over. The group that a strategy
//     restarts is the pending children. An operator's stop takes the mark away, and
//     that is all there is to it.
//   - leaving: it is among those that are stopped in phaseStopping.
//   - awaited: the phaseStarting of its supervisor goes on when it is up.
//   - queued: it ended while its supervisor was stopping or starting a group, and
//     is in the inbox, which is served in phaseLoop and phaseWaiting. A failed
//     start inside a group goes through the inbox too, as OTP's supervisor sends
//     itself a message to try again: what came before it comes first.
//   - manual: an operator started it, so that a failed start is final.
//
// The mark of a supervisor, doomed: it is ending, or one above it is. It is set
// on everything below at once, while the stops follow one after the other in
// reverse order. What is doomed starts nothing, restarts nothing and takes no commands.
//
// What a supervisor does is written as functions that look at the list and go as
// far as they can (advance, startFromCursor, stopFromCursor). They run when a
// child came up or went down, and it does no harm if they run too often. What a
// failure leads to (childEnded, childStartFailed in failure.go) runs exactly once.
// Both go through the agenda of the tree, never by a call from child to parent.

func (t *Tree) startTree() {
	switch t.root.state {
	case StateStopped, StateGaveUp:
		t.start(t.root)
	default:
		// It is started already, or has not come to rest yet.
	}
}

func (t *Tree) stopTree() {
	if !t.root.live() {
		t.emit(Ended{Outcome: OutcomeStopped, Reason: ExitStopped})
		return
	}
	t.stop(t.root, StopShutdown, "")
}

// start starts n, which is down.
func (t *Tree) start(n *node) {
	t.timers.disarm(n)
	n.failed = false
	t.unqueue(n)
	t.setPending(n, false)
	if n.sup == nil {
		n.awaitsReady = n.spec.Worker.AwaitReady
	}
	if n.numbered == nil {
		n.run++
	} else {
		n.numbered.instances++
		t.touch(n.numbered)
		n.run = n.numbered.instances
	}
	t.become(n, StateStarting)
	if n.sup == nil {
		if limit := n.spec.Worker.StartTimeout; limit > 0 {
			t.arm(n, limit)
		}
		t.emit(Spawn{n.id, n.run})
		return
	}
	t.emit(SupervisorStarting{n.id})
	s := n.sup
	s.window.reset()
	s.up, s.asked, s.doomed = false, false, false
	s.endCause, s.endReason = "", ExitStopped
	t.renew(n)
	s.phase, s.cursor, s.from = phaseStarting, s.first, nil
	t.advance(n)
}

// stop stops n if it is live.
func (t *Tree) stop(n *node, why StopReason, cause string) {
	if !n.live() {
		return
	}
	if n.state != StateStopping || n.why == StopStartTimeout {
		t.answerStarts(n, ErrStartFailed)
	}
	t.halt(n, why, cause)
}

// halt asks n, which is live, to end. Of one that was asked before, or ends by
// itself, it only takes the end over: what was to follow from it no longer does.
func (t *Tree) halt(n *node, why StopReason, cause string) {
	asked := n.state == StateStopping
	n.why, n.manual = why, false
	t.touch(n)
	switch {
	case n.sup != nil:
		n.sup.asked = true
		if !asked {
			t.emit(SupervisorStopping{n.id})
			t.end(n, endAsked, why, cause)
		}
	case !asked:
		t.timers.disarm(n)
		t.become(n, StateStopping)
		t.emit(StopProcess{n.id, n.run, why, cause})
	}
}

// end begins the end of a supervisor, whose children are then told why and cause.
func (t *Tree) end(n *node, how ending, why StopReason, cause string) {
	t.become(n, StateStopping)
	t.doom(n)
	s := n.sup
	s.ending, s.stopWhy, s.stopCause = how, why, cause
	s.phase, s.cursor = phaseEnding, s.last
	t.advance(n)
}

// doom settles, before anything is stopped, that nothing below n will be started
// any more. A supervisor whose turn to stop comes late would otherwise go on restarting.
func (t *Tree) doom(n *node) {
	s := n.sup
	s.doomed = true
	s.phase, s.cursor, s.from, s.gate = phaseLoop, nil, nil, nil
	s.inbox = s.inbox[:0]
	t.settled(n)
	for c := s.first; c != nil; c = c.next {
		t.timers.disarm(c)
		t.setAwaited(c, false)
		t.setLeaving(c, stays)
		t.dismiss(c)
		c.manual = false
		if c.commandable() {
			t.doom(c)
		}
	}
	t.redoDeferred(n)
}

// dismiss has n's supervisor not start it. A group that waits for n's back-off goes on without it.
func (t *Tree) dismiss(n *node) {
	t.unqueue(n)
	t.setPending(n, false)
	if n.live() {
		return
	}
	t.timers.disarm(n)
	if n.state == StateBackoff {
		t.become(n, StateStopped)
	}
	if s := n.parent.sup; s.gate == n {
		s.gate = nil
		t.wake(n)
	}
}

// advance carries on with what n is doing with its list, as far as that goes
// before a process has to answer or a delay to pass.
func (t *Tree) advance(n *node) {
	s := n.sup
	t.touch(n)
	switch s.phase {
	case phaseEnding:
		if t.stopFromCursor(n) {
			t.finish(n)
		}
	case phaseStopping:
		if !t.stopFromCursor(n) {
			return
		}
		for c := s.from; c != nil; c = c.next {
			t.setLeaving(c, stays)
		}
		if s.stale {
			t.relist(n)
		}
		t.setPhase(n, phaseWaiting)
		switch {
		case s.gate == nil || s.gate.timer.armed():
		case s.delay > 0:
			t.arm(s.gate, s.delay)
		default:
			s.gate = nil
		}
		t.later((*Tree).advance, n)
	case phaseWaiting:
		if t.serve(n) {
			return
		}
		if s.gate != nil {
			t.settled(n)
			return
		}
		t.setPhase(n, phaseStarting)
		s.cursor = s.from
		t.advance(n)
	case phaseStarting:
		if t.startFromCursor(n) {
			t.setPhase(n, phaseLoop)
			s.from = nil
			t.isUp(n)
		}
	case phaseLoop:
		t.settled(n)
		if n.state == StateRunning && !t.serve(n) {
			t.redoDeferred(n)
		}
	}
}

// startFromCursor starts the children that wait for it, in order, each when the
// one before is up or all at once, and says whether they are all up.
func (t *Tree) startFromCursor(n *node) bool {
	s := n.sup
	for s.cursor != nil && (s.totals.awaited == 0 || s.spec.Parallel) {
		c := s.cursor
		s.cursor = c.next
		if c.pending && !c.timer.armed() { // a back-off of its own comes first
			t.setAwaited(c, true)
			t.start(c)
		}
	}
	return s.cursor == nil && s.totals.awaited == 0
}

// stopFromCursor stops the children, or those that are leaving, in reverse order,
// each when the one after is down or all at once, and says whether they are all down.
func (t *Tree) stopFromCursor(n *node) bool {
	s := n.sup
	left := &s.totals.live
	if s.phase == phaseStopping {
		left = &s.totals.leaving
	}
	for s.cursor != nil && *left > 0 {
		if c := s.cursor; s.phase == phaseEnding || c.leaving != stays {
			why, cause := s.stopWhy, s.stopCause
			if c.leaving == leavesConfig {
				why, cause = StopConfig, ""
			}
			t.stop(c, why, cause)
			if c.live() && !s.together() {
				return false
			}
		}
		s.cursor = s.cursor.prev
	}
	if *left > 0 {
		return false
	}
	s.cursor = nil
	return true
}

// isUp: n, which was starting, is up; or n, which is running, has restarted a group.
func (t *Tree) isUp(n *node) {
	if n.state == StateStarting {
		t.timers.disarm(n)
		n.manual = false
		t.become(n, StateRunning)
		if n.sup != nil {
			n.sup.up = true
			t.emit(SupervisorStarted{n.id})
		}
		t.answerStarts(n, nil)
		t.setAwaited(n, false)
		t.wake(n)
	}
	if n.sup != nil {
		t.later((*Tree).advance, n)
	}
}

// isDown: n, which was asked to end, has.
func (t *Tree) isDown(n *node) {
	t.answerStops(n, nil)
	if !n.commanded(OpRestart) {
		t.setAwaited(n, false)
		if n.spec.Restart == Temporary && !n.pending && n.parent.commandable() {
			t.drop(n)
		}
	}
	t.wake(n)
	t.redo(n)
}

// finish: all children of n are down.
func (t *Tree) finish(n *node) {
	s := n.sup
	s.phase = phaseLoop
	if s.stale {
		t.relist(n)
	}
	switch {
	case s.ending == endStartFailed:
		t.become(n, StateStopped)
		t.emit(SupervisorStartFailed{n.id, s.endCause})
	case s.ending == endGaveUp && !s.asked:
		t.become(n, StateGaveUp)
		t.emit(SupervisorStopped{n.id})
	default:
		t.become(n, StateStopped)
		t.emit(SupervisorStopped{n.id})
	}
	t.endedWith(n, s.endReason)
	switch {
	case n.parent == nil:
		t.emit(Ended{s.ending.outcome(), s.endCause, s.endReason})
	case s.asked:
		t.isDown(n)
	case s.up || s.ending == endAutoShutdown:
		t.later((*Tree).childEnded, n)
	default:
		t.later((*Tree).childStartFailed, n)
	}
}

func (e ending) outcome() Outcome {
	switch e {
	case endGaveUp:
		return OutcomeGaveUp
	case endAutoShutdown:
		return OutcomeAutoShutdown
	case endStartFailed:
		return OutcomeStartFailed
	default:
		return OutcomeStopped
	}
}

func (t *Tree) setPhase(n *node, p phase) {
	n.sup.phase = p
	t.touch(n)
}

// unattended moves the start timeouts.
func (t *Tree) unattended(away time.Duration) {
	for _, n := range slices.Clone(t.timers.heap) {
		if n.sup != nil || n.state != StateStarting {
			continue
		}
		tm := n.timer
		t.timers.disarm(n)
		tm.at += min(max(away, 0), math.MaxInt64-tm.at)
		t.timers.insert(n, tm)
		t.touch(n)
	}
}

func (t *Tree) arm(n *node, delay time.Duration) {
	at := t.now + delay
	if at < t.now { // beyond the range of the clock
		at = math.MaxInt64
	}
	t.timers.arm(n, at)
	t.touch(n)
}
