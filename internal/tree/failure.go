// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"slices"
	"time"
)

// childEnded: c, which was running, has ended by itself.
func (t *Tree) childEnded(c *node) {
	p, s := c.parent, c.parent.sup
	t.setAwaited(c, false) // a supervisor can shut down automatically before it was up
	t.answerStarts(c, ErrStartFailed)
	switch {
	case !p.commandable():
		t.becomeDown(c, StateStopped)
		t.wake(c)
	case c.inStoppingGroup():
		t.endedInGroup(c)
	case s.busy() && (c.endedForGood() && c.spec.Significant || !c.endedForGood() && s.spec.Strategy != OneForOne):
		t.enqueue(c)
		t.wake(c)
	default:
		t.handle(c)
	}
	t.redo(c)
}

// childStartFailed: c, which was starting, could not be started.
func (t *Tree) childStartFailed(c *node) {
	p, s := c.parent, c.parent.sup
	c.failed = true
	switch {
	case !p.commandable():
		t.becomeDown(c, StateStopped)
		t.answerStarts(c, ErrStartFailed)
		t.wake(c)
	case c.inStoppingGroup():
		t.answerStarts(c, ErrStartFailed)
		t.endedInGroup(c)
	case c.manual:
		t.becomeDown(c, StateFailed)
		t.startByOperatorFailed(c)
	case c.failsFirstStart():
		t.becomeDown(c, StateFailed)
		t.failFirstStart(c, c.exit)
	case s.spec.Strategy == OneForOne:
		t.handle(c)
	default:
		// OTP's supervisor sends itself a message to try again, so that what
		// happened to others while it was starting this one comes first.
		t.setAwaited(c, false)
		t.enqueue(c)
		if s.phase != phaseStarting { // it had a back-off of its own, from when the strategy was one_for_one
			t.wake(c)
			break
		}
		t.setPhase(p, phaseWaiting)
		if !t.serve(p) { // a temporary child is not tried again, and the next one's turn comes
			t.setPhase(p, phaseStarting)
			t.later((*Tree).advance, p)
		}
	}
	t.redo(c)
}

// endedInGroup: c has ended before its turn to be stopped with its group came. It
// is as if it had been stopped, and as pending as before.
func (t *Tree) endedInGroup(c *node) {
	c.manual = false
	t.becomeDown(c, StateStopped)
	if c.spec.Restart == Temporary && !c.pending {
		t.setGone(c)
	}
	t.wake(c)
}

// failsFirstStart: if the start of n fails, then its supervisor's does.
func (n *node) failsFirstStart() bool {
	return n.awaited && n.parent.state == StateStarting && n.parent.sup.spec.FirstStart == Strict
}

func (t *Tree) failFirstStart(c *node, reason ExitReason) {
	p := c.parent
	p.sup.endCause, p.sup.endReason = c.culprit(), reason
	t.end(p, endStartFailed, StopGaveUp, p.sup.endCause)
}

// restState is the state of a worker that ended, or did not start, and is left at that.
func (n *node) restState() State {
	if n.failed {
		return StateFailed
	}
	return StateExited
}

// becomeDown is become for a worker; the state of a supervisor that is down says how it ended.
func (t *Tree) becomeDown(n *node, s State) {
	if n.sup == nil {
		t.become(n, s)
	}
}

// enqueue leaves the end of c to be handled when its supervisor is back in its loop.
func (t *Tree) enqueue(c *node) {
	c.queued = true
	if c.endedForGood() {
		t.becomeDown(c, c.restState())
	} else {
		t.becomeDown(c, StateBackoff)
	}
	t.recount(c)
	s := c.parent.sup
	s.inbox = append(s.inbox, c)
	t.touch(c.parent)
}

// unqueue takes c out of the inbox, if it is in there.
func (t *Tree) unqueue(c *node) {
	if !c.queued {
		return
	}
	c.queued = false
	s := c.parent.sup
	s.inbox = slices.DeleteFunc(s.inbox, func(m *node) bool { return m == c })
	t.recount(c)
	t.touch(c.parent)
}

// serve handles what is in n's inbox, and says whether n has something else to do since.
func (t *Tree) serve(n *node) bool {
	s := n.sup
	for phase := s.phase; len(s.inbox) > 0; {
		c := s.inbox[0]
		t.unqueue(c)
		if t.handle(c); s.phase != phase {
			return true
		}
	}
	return false
}

// handle decides what follows from the end of c, or from its failed start.
func (t *Tree) handle(c *node) {
	s := c.parent.sup
	if !c.endedForGood() {
		t.restart(c)
		return
	}
	t.becomeDown(c, c.restState())
	t.setAwaited(c, false)
	t.wake(c)
	last := s.spec.AutoShutdown == AnySignificant || s.spec.AutoShutdown == AllSignificant && s.totals.significant == 0
	if c.spec.Significant && last {
		t.giveUp(c, endAutoShutdown)
		return
	}
	if c.spec.Restart == Temporary || s.spec.Template != nil {
		t.drop(c)
	}
}

// drop removes the specification of n, which is down. How a child ended stays to
// be seen; an instance of a template, of which there may be any number, is forgotten.
func (t *Tree) drop(n *node) {
	if n.parent.sup.spec.Template != nil {
		t.bury(n)
	} else {
		t.setGone(n)
	}
}

// restart decides whether and how c, whose failure calls for it, is restarted.
func (t *Tree) restart(c *node) {
	p, s := c.parent, c.parent.sup
	t.touch(p)
	if !s.window.take(t.now, s.spec.MaxRestarts, s.spec.Period) {
		t.giveUp(c, endGaveUp)
		return
	}
	c.row++
	delay := c.spec.Backoff.delay(c.row, spread(t.seed, c.id, c.run))
	own := restarting{reason: RestartReason(c.exit), delay: delay}
	others := restarting{reason: RestartStrategy, cause: c.id, delay: delay}
	t.announce(c, own, others)
	if s.spec.Strategy != OneForOne {
		t.restartGroup(c, others)
		return
	}
	if delay == 0 {
		t.start(c)
		return
	}
	t.setPending(c, true)
	t.becomeDown(c, StateBackoff)
	t.arm(c, delay)
	if p.state == StateRunning { // only in its first start do the next ones wait for the one that fails
		t.setAwaited(c, false)
		t.wake(c)
	}
}

// restartGroup stops all children that the strategy restarts with c, and has them
// started when c's delay is over.
func (t *Tree) restartGroup(c *node, others restarting) {
	p, s := c.parent, c.parent.sup
	from := s.first
	if s.spec.Strategy == RestForOne {
		from = c
	}
	switch {
	case s.gate == nil:
		s.gate, s.delay = c, others.delay
	case s.spec.Strategy == OneForAll: // a group waits already, and c joins it
	case s.gate.place <= c.place:
		from = s.gate // the same
	default:
		t.timers.disarm(s.gate) // a group waits already, and joins c's
		s.gate, s.delay = c, others.delay
	}
	t.setPending(c, true)
	t.becomeDown(c, StateBackoff)
	if s.from == nil || from.place < s.from.place {
		s.from = from
	}
	for m := from; m != nil; m = m.next {
		if m.leaving == stays {
			t.setLeaving(m, leavesGroup)
		}
		t.setAwaited(m, false)
		if m == c || !m.startsWithGroup() {
			continue
		}
		if m != s.gate {
			t.timers.disarm(m) // a back-off of its own, from when the strategy was one_for_one
		}
		m.queued = false
		if !m.pending {
			t.announce(m, others, others)
			t.setPending(m, true)
		}
	}
	s.inbox = slices.DeleteFunc(s.inbox, func(m *node) bool { return !m.queued })
	s.stopWhy, s.stopCause = StopStrategy, c.id
	s.cursor = s.last
	t.setPhase(p, phaseStopping)
	t.later((*Tree).advance, p)
}

// startsWithGroup: n is started when the group that it belongs to is, up or down
// as it may be now. A temporary child is only ever started with its supervisor, and
// a Manual one only if an operator wanted it up.
func (n *node) startsWithGroup() bool {
	return !n.gone && n.spec.Restart != Temporary && n.state != StateUnkillable &&
		(n.startsWithSupervisor() || n.wanted)
}

// startsWithSupervisor: n is started when its supervisor is.
func (n *node) startsWithSupervisor() bool {
	return n.state != StateUnkillable && n.spec.startsWithSupervisor()
}

func (c *Child) startsWithSupervisor() bool { return c.Supervisor != nil || !c.Worker.Manual }

// restarting is what a Restarting says besides whom it is about.
type restarting struct {
	reason RestartReason
	cause  string
	delay  time.Duration
}

// announce tells of the decision to restart n, and with it everything that n starts.
func (t *Tree) announce(n *node, own, inner restarting) {
	if n.run > 0 {
		t.emit(Restarting{n.id, n.run, own.reason, own.cause, own.delay})
	}
	if n.sup == nil {
		return
	}
	for _, c := range n.sup.declared {
		if c != nil && c.startsWithSupervisor() {
			t.announce(c, inner, inner)
		}
	}
}

// giveUp has c's supervisor end by itself, for what happened to c.
func (t *Tree) giveUp(c *node, how ending) {
	p, s := c.parent, c.parent.sup
	why, reason := StopGaveUp, GiveUpIntensity
	if how == endAutoShutdown {
		why, reason = StopAutoShutdown, GiveUpAutoShutdown
	}
	t.becomeDown(c, c.restState())
	s.endCause, s.endReason = c.culprit(), c.exit
	t.emit(SupervisorGaveUp{p.id, s.endCause, reason})
	t.end(p, how, why, s.endCause)
}
