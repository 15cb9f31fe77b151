// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "time"

// node is a child in its place in the tree, or the root.
type node struct {
	id     string
	spec   *Child
	parent *node // nil: the root

	// The neighbours in the parent's list and the place in it, which only grows
	// along the list.
	prev, next *node
	place      uint64
	// declared nodes come from the parent's original list, to which every start
	// of the parent returns; the others were added by an operator.
	declared bool
	// numbered is the outermost template that the node is inside of, whose
	// instances' runs are numbered together; nil for none.
	numbered *node

	state State
	since time.Duration // when state was entered
	run   uint64        // the latest
	// instances is the last run that was given inside of it while it was a template,
	// which no child of it may be given again, whatever it is now.
	instances uint64
	ended     bool // some run has ended, the latest for the reason in exit
	exit      ExitReason
	row       int // failures in a row
	timer     timer

	// gone: the specification does not exist any more, but how it ended, or that it
	// still runs, is to be seen. buried: the node goes too, as soon as no process of
	// it is alive.
	gone, buried bool
	// pending: its supervisor is going to start it, when it has first stopped it perhaps.
	pending bool
	// awaited: its supervisor's start, or restart of a group, goes on when this one is up.
	awaited bool
	// queued: its end or failed start waits in the supervisor's inbox.
	queued bool
	// wanted: an operator started this Manual worker since its supervisor started.
	wanted bool
	// manual: the current start is an operator's, a failure of it is not retried.
	manual bool
	// failed: the latest run was never up.
	failed bool
	// awaitsReady: the latest run is running when Ready says so. It is what the
	// worker's AwaitReady was when the run began.
	awaitsReady bool
	// leaving: in phaseStopping its supervisor stops it, or has.
	leaving leaving

	// why the stop in progress was asked for.
	why StopReason

	// commands that were accepted: starts are answered when the node is up, stops
	// when it is down, and what came while it was stopping is looked at again then.
	commands []Command

	counted counts // what the parent's totals have of this node
	dirty   bool   // changed since the last SaveChanges

	sup *supervisor // nil for workers
}

// runs are the last run numbers that a child used, for itself and for its instances if it was a template.
type runs struct {
	Run       uint64 `json:"run"`
	Instances uint64 `json:"instances,omitempty"`
}

// counts are what a supervisor keeps totals of, so that no decision has to look at all children.
type counts struct {
	live        int // starting, running or stopping
	significant int // significant, and up as far as OTP's supervisor knows: live, pending or queued
	awaited     int
	leaving     int // live and to be stopped in phaseStopping
}

// supervisor is what a node has beyond a worker.
type supervisor struct {
	spec        *Supervisor
	declared    []*node // the nodes of spec.Children, nil for those that were deleted or are coming
	first, last *node   // the list
	places      uint64  // the last place given
	altered     bool    // the list is not the declared one any more
	totals      counts

	phase phase
	// cursor: while starting, the next child to look at; while stopping, the child
	// whose end is awaited.
	cursor *node
	// from is where the next phaseStarting begins: no child before it waits for that.
	from *node
	// gate is the child whose back-off, of that delay, the group waits for.
	gate  *node
	delay time.Duration
	// inbox holds the children whose end has to wait until the supervisor is back in its loop.
	inbox []*node
	// deferred are the commands that wait for the same.
	deferred []Command
	// stale: the list is not yet the one of a new specification, or children that a
	// Reconfigure replaces are not down yet. coming are the children of spec that
	// are not in the list for that reason, and whether they are to be started.
	stale  bool
	coming map[string]bool
	// settling: the last Reconfigure is not yet done here.
	settling bool

	window window

	// up: it has been running since its latest start.
	up bool
	// What the children that are stopped are told.
	stopWhy   StopReason
	stopCause string
	// doomed: it, or a supervisor above it, is ending. Nothing below is started any more.
	doomed bool
	// ending says what began its end; asked, that its parent wants it down.
	ending ending
	asked  bool
	// What ended it, or is ending it: the process and its exit reason.
	endCause  string
	endReason ExitReason
}

// phase is what a supervisor is doing with its list.
type phase uint8

const (
	// phaseLoop: nothing. What happens to a child is handled at once.
	phaseLoop phase = iota
	// phaseStopping: the children that are leaving are stopped, before others, or they again, are started.
	phaseStopping
	// phaseWaiting: the group is down and waits for a back-off.
	phaseWaiting
	// phaseStarting: the list, or a group, is started.
	phaseStarting
	// phaseEnding: everything is stopped for good.
	phaseEnding
)

// leaving says why a child is among those that are stopped in phaseStopping.
type leaving uint8

const (
	stays leaving = iota
	// leavesGroup: it belongs to a group that a strategy restarts.
	leavesGroup
	// leavesConfig: a Reconfigure removed it, or has its process replaced.
	leavesConfig
)

// ending is what began the end of a supervisor.
type ending uint8

const (
	endAsked ending = iota
	endGaveUp
	endAutoShutdown
	endStartFailed
)

// busy: OTP's supervisor would be inside start_children or terminate_children and read no messages.
func (s *supervisor) busy() bool {
	return s.phase == phaseStopping || s.phase == phaseStarting
}

// together: the children are stopped all at once.
func (s *supervisor) together() bool { return s.spec.Parallel || s.spec.Template != nil }

// live: it has, or may have, processes that have to end before it is down.
func (n *node) live() bool {
	return n.state == StateStarting || n.state == StateRunning || n.state == StateStopping
}

// commandable: a supervisor that takes commands for its children, and restarts them.
func (n *node) commandable() bool {
	return n.sup != nil && !n.sup.doomed && (n.state == StateStarting || n.state == StateRunning)
}

// inStoppingGroup: n's supervisor is stopping n among others. An end of n is then part of that.
func (n *node) inStoppingGroup() bool {
	return n.leaving != stays && n.parent.sup.phase == phaseStopping
}

// endedForGood: n, which ended by itself or failed to start, will not be started again for it.
func (n *node) endedForGood() bool {
	switch n.spec.Restart {
	case Permanent:
		return false
	case Transient:
		// A supervisor that ends by itself ends with the reason shutdown, which is a good end.
		return !n.failed && (n.sup != nil || n.exit == ExitSuccess)
	default:
		return true
	}
}

// waiting: n is down and will be started without an operator's doing.
func (n *node) waiting() bool {
	return n.pending || n.queued && !n.endedForGood()
}

// culprit is the process behind the end of n.
func (n *node) culprit() string {
	if n.sup != nil {
		return n.sup.endCause
	}
	return n.id
}

// become is the only place where a state is assigned.
func (t *Tree) become(n *node, s State) {
	if s == StateStopping {
		t.endRow(n)
	}
	changed := n.state != s
	n.state, n.since = s, t.now
	t.recount(n)
	if changed {
		t.emit(Changed{n.id, s})
	}
}

// endRow ends n's row of failures if the run that is ending was up for long enough.
func (t *Tree) endRow(n *node) {
	b := n.spec.Backoff
	if n.state == StateRunning && b.ResetAfter > 0 && t.now-n.since >= b.ResetAfter {
		n.row = 0
	}
}

func (t *Tree) setPending(n *node, pending bool) {
	n.pending = pending
	t.recount(n)
}

func (t *Tree) setAwaited(n *node, awaited bool) {
	n.awaited = awaited
	t.recount(n)
}

func (t *Tree) setLeaving(n *node, leaving leaving) {
	if n.leaving != leaving {
		n.leaving = leaving
		t.recount(n)
	}
}

// recount brings the parent's totals up to date after a change of n.
func (t *Tree) recount(n *node) {
	t.touch(n)
	if n.parent == nil {
		return
	}
	var c counts
	if n.live() {
		c.live = 1
	}
	if n.spec.Significant && (n.live() || n.pending || n.queued) {
		c.significant = 1
	}
	if n.awaited {
		c.awaited = 1
	}
	if n.leaving != stays && n.live() {
		c.leaving = 1
	}
	if c == n.counted {
		return
	}
	totals := &n.parent.sup.totals
	totals.live += c.live - n.counted.live
	totals.significant += c.significant - n.counted.significant
	totals.awaited += c.awaited - n.counted.awaited
	totals.leaving += c.leaving - n.counted.leaving
	n.counted = c
}

// touch notes that n has changed for SaveChanges, once that is in use.
func (t *Tree) touch(n *node) {
	if t.tracking && !n.dirty {
		n.dirty = true
		t.dirty = append(t.dirty, n)
	}
}
