// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"slices"
)

// How a Reconfigure is done.
//
// First the whole tree is told what is now wanted, and nothing is done for it:
//
//	specification ──respecify──▶ per supervisor: spec, declared, coming
//	              ──remove─────▶ per child: buried, leaving
//	Restart       ──replace────▶ per child: pending, leaving
//
// Every child that is kept has the new specification then. The lists are still the
// old ones where that makes a difference, which the mark `stale` says: what goes is
// still in it, at its old place, and what comes is not. `coming` names the latter.
// A child that is replaced by something else is both: it goes, and its name comes.
//
// Then every stale supervisor is set to work (rearrange), and what it does is what it
// does for a strategy: phaseStopping stops what is leaving, phaseStarting starts what
// is pending. Between the two relist makes the list the new one. Whatever phase it
// was in, the marks that it had then are still there and are worked off with the new
// ones: a group that was being stopped, or waits, or is being started, is pending.
//
//	phaseLoop, phaseWaiting ──something up is leaving──▶ phaseStopping ──relist──▶ phaseWaiting ─▶ …
//	phaseStarting           ──────────likewise─────────▶ phaseStopping ──relist──▶ phaseWaiting ─▶ …
//	all of them             ──nothing is leaving──relist──▶ go on from the first that is pending
//	phaseStopping           ──look at the list again from its end
//
// A supervisor that is down has its list made new at once, one that is ending when it
// is down. Nothing of this is lost when the supervisor is stopped in the middle: its
// specification is the new one, and its start returns to that.
//
// A supervisor is settling from then until it is in its loop or waits for a back-off,
// or ends. When none is, the Reconfigure is done.

// CheckReconfigure returns every finding that keeps root from becoming the
// specification of the tree, joined.
func (t *Tree) CheckReconfigure(root Supervisor) error {
	var f findings
	f.supervisor("", &root)
	if !sameKind(t.root.spec, &Child{Supervisor: &root}) {
		f.add("", "template: cannot be added to the root, taken from it, or become one of another kind of child; give it to a supervisor below the root")
	}
	return errors.Join(f...)
}

func (t *Tree) reconfigure(ev Reconfigure) {
	if err := t.CheckReconfigure(ev.Root); err != nil {
		t.emit(Reconfigured{err})
		return
	}
	t.update(t.root, &Child{Supervisor: &ev.Root})
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ev.Restart))) {
		if n := t.nodes[id]; n != nil && n.sup == nil && !n.removed() {
			t.replace(n)
		}
	}
	stale := staleIn(t.root, nil)
	for _, n := range stale {
		if n.commandable() && !n.sup.settling {
			n.sup.settling = true
			t.unsettled++
		}
	}
	nothing := t.unsettled == 0
	for _, n := range stale {
		t.rearrange(n)
	}
	if nothing {
		t.emit(Reconfigured{})
	}
}

// staleIn appends the stale supervisors in n to list, those below first: when a
// supervisor starts or stops what is below it, that knows its own new list.
func staleIn(n *node, list []*node) []*node {
	if n.sup == nil {
		return list
	}
	for c := n.sup.first; c != nil; c = c.next {
		list = staleIn(c, list)
	}
	if n.sup.stale {
		list = append(list, n)
	}
	return list
}

// update gives n, which is kept, a new specification.
func (t *Tree) update(n *node, spec *Child) {
	n.spec = spec
	n.gone = n.buried || n.gone && spec.Restart == Temporary
	if n.queued && n.endedForGood() {
		t.becomeDown(n, n.restState())
	} else if n.queued {
		t.becomeDown(n, StateBackoff)
	}
	t.recount(n)
	if n.sup == nil {
		return
	}
	t.respecify(n, spec.Supervisor)
	for c := n.sup.first; c != nil && spec.Supervisor.Template != nil; c = c.next {
		instance := *spec.Supervisor.Template
		instance.Name = c.spec.Name
		t.update(c, &instance)
	}
}

// respecify gives n the list of children in spec, all but in deed.
func (t *Tree) respecify(n *node, spec *Supervisor) {
	s := n.sup
	was, came := s.declared, s.coming
	kept := make(map[string]*node, len(was))
	deleted := make(map[string]bool)
	for i, c := range was {
		name := s.spec.Children[i].Name
		if _, comes := came[name]; c == nil && !comes || c != nil && c.buried {
			deleted[name] = true
		}
		if c != nil {
			c.declared = false
			kept[name] = c
		}
	}
	if spec.Parallel != s.spec.Parallel {
		t.later((*Tree).advance, n) // what was to wait for another need not, from now on
	}
	s.spec, s.declared, s.coming = spec, make([]*node, len(spec.Children)), nil
	for i := range spec.Children {
		child := &spec.Children[i]
		old := kept[child.Name]
		start, comes := came[child.Name]
		switch {
		case deleted[child.Name]:
		case old != nil && sameKind(old.spec, child):
			s.declared[i], old.declared = old, true
			t.update(old, child)
		case comes && !t.stands(n, child.Name):
			s.comes(child.Name, start && child.startsWithSupervisor())
		default:
			t.supersede(n, child, old)
		}
	}
	for _, c := range was {
		if c != nil && !c.declared {
			t.remove(c)
		}
	}
	s.stale = s.stale || len(s.coming) > 0 || !slices.Equal(was, s.declared)
	t.touch(n)
}

// stands: n has a child of that name which is not on its way out.
func (t *Tree) stands(n *node, name string) bool {
	c := t.nodes[join(n.id, name)]
	return c != nil && !c.buried
}

// supersede has child come into n's list. If there is one of its name, that goes;
// it is old if it was declared, otherwise an operator added it, or it is going already.
func (t *Tree) supersede(n *node, child *Child, old *node) {
	start := n.commandable() && child.startsWithSupervisor() && (old == nil || old.isToRun())
	n.sup.comes(child.Name, start)
	if start {
		t.announceComing(join(n.id, child.Name), child)
	}
	if c := t.nodes[join(n.id, child.Name)]; c != nil {
		t.remove(c)
	}
}

// announceComing is announce for what replaces a child of that ID.
func (t *Tree) announceComing(id string, spec *Child) {
	if n := t.nodes[id]; n != nil && n.run > 0 {
		t.emit(Restarting{ID: id, Run: n.run, Reason: RestartConfig})
	}
	if spec.Supervisor == nil {
		return
	}
	for i := range spec.Supervisor.Children {
		if c := &spec.Supervisor.Children[i]; c.startsWithSupervisor() {
			t.announceComing(join(id, c.Name), c)
		}
	}
}

// remove has n stopped, if it is up, and forgotten.
func (t *Tree) remove(n *node) {
	n.declared, n.gone, n.buried = false, true, true
	n.parent.sup.stale = true
	t.setAwaited(n, false)
	t.dismiss(n)
	t.leave(n)
}

// replace has the process of n stopped, if there is one, and n started, if it is to run.
func (t *Tree) replace(n *node) {
	if !n.parent.commandable() || !n.isToRun() || n.state == StateStopping && n.commanded(OpRestart) {
		return
	}
	if n.run > 0 && (!n.pending || n.state == StateBackoff) { // otherwise it has been announced
		t.emit(Restarting{ID: n.id, Run: n.run, Reason: RestartConfig})
	}
	n.parent.sup.stale = true
	n.gone, n.row = false, 0
	t.unqueue(n)
	t.setAwaited(n, false)
	t.setPending(n, true)
	t.leave(n)
	if !n.live() {
		t.timers.disarm(n)
		if s := n.parent.sup; s.gate == n {
			s.gate = nil
		}
	}
}

// leave has n stopped by its supervisor, if it is up.
func (t *Tree) leave(n *node) {
	if n.live() && n.parent.commandable() {
		t.setLeaving(n, leavesConfig)
	}
}

// isToRun: n is up or going to be; or its end, not a stop, is why it is down.
func (n *node) isToRun() bool {
	switch {
	case n.waiting():
		return true
	case n.inStoppingGroup():
		return false
	}
	switch n.state {
	case StateStarting, StateRunning:
		return true
	case StateStopping:
		return n.why != StopOperator || n.commanded(OpRestart) || n.sup != nil && !n.sup.asked
	case StateExited, StateFailed:
		return n.startsWithSupervisor() || n.wanted
	default:
		return n.sup != nil && n.ended && !n.sup.asked
	}
}

// removed: n, or a supervisor that it is in, is no more in the specification.
func (n *node) removed() bool {
	return n.buried || n.parent != nil && n.parent.removed()
}

// rearrange sets a stale supervisor to work.
func (t *Tree) rearrange(n *node) {
	s := n.sup
	switch {
	case !n.live():
		t.relist(n)
		return
	case !n.commandable():
		return // it is ending
	case s.totals.leaving > 0:
		s.cursor = s.last
		t.setPhase(n, phaseStopping)
	case s.phase == phaseStarting:
		t.relist(n)
		s.cursor = s.from
	default:
		t.relist(n)
		t.setPhase(n, phaseWaiting)
	}
	t.advance(n)
}

// settled: n has done what a Reconfigure asked of it, if there was one.
func (t *Tree) settled(n *node) {
	if !n.sup.settling {
		return
	}
	n.sup.settling = false
	t.touch(n)
	t.unsettled--
	if t.unsettled == 0 && t.root.commandable() {
		t.emit(Reconfigured{})
	}
}

// sameKind: a child of specification a can take on b without being replaced.
func sameKind(a, b *Child) bool {
	if a.Supervisor == nil || b.Supervisor == nil {
		return a.Supervisor == b.Supervisor
	}
	a, b = a.Supervisor.Template, b.Supervisor.Template
	if a == nil || b == nil {
		return a == b
	}
	return sameKind(a, b)
}
