// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "time"

// Tree is one supervision tree. It is not safe for concurrent use.
type Tree struct {
	seed  uint64
	root  *node
	nodes map[string]*node
	// retired holds the last runs of children that are no more, by ID.
	retired map[string]runs

	now    time.Duration
	timers timers
	agenda []item
	out    []Action

	unsettled int // supervisors that are settling

	tracking bool    // SaveChanges is in use
	dirty    []*node // changed since it was called last
}

// item is one thing still to be done within a Step. What happens to a child
// reaches its supervisor through this queue and not by a call, so that a
// supervisor never finds itself called while it is deciding something.
type item struct {
	do      func(*Tree, *node)
	n       *node
	command Command // for do == nil
}

// New returns a tree at rest, or an error that names every invalid part of root.
// The seed determines the jitter of back-off delays.
func New(root Supervisor, seed uint64) (*Tree, error) {
	if err := validateRoot(&root); err != nil {
		return nil, err
	}
	t := &Tree{seed: seed, nodes: make(map[string]*node), retired: make(map[string]runs)}
	t.root = t.grow(nil, &Child{Supervisor: &root}, true)
	return t, nil
}

// Step takes one event in at time now, on any monotonic clock, and returns what
// follows from it, timers that are due included. A now before an earlier one
// counts as that. The slice is valid until the next Step.
func (t *Tree) Step(now time.Duration, ev Event) []Action {
	t.now = max(t.now, now)
	clear(t.out)
	t.out = t.out[:0]
	t.take(ev)
	t.settle()
	for n := t.timers.due(t.now); n != nil; n = t.timers.due(t.now) {
		t.timers.disarm(n)
		t.touch(n)
		t.timeUp(n)
		t.settle()
	}
	return t.out
}

func (t *Tree) take(ev Event) {
	switch ev := ev.(type) {
	case Start:
		t.startTree()
	case Stop:
		t.stopTree()
	case Spawned:
		if n := t.current(ev.ID, ev.Run); n != nil {
			t.spawned(n)
		}
	case Ready:
		if n := t.current(ev.ID, ev.Run); n != nil {
			t.ready(n)
		}
	case StartFailed:
		if n := t.current(ev.ID, ev.Run); n != nil {
			t.startFailed(n)
		}
	case Exited:
		if n := t.current(ev.ID, ev.Run); n != nil {
			t.exited(n, ev.Reason)
		}
	case Unkillable:
		if n := t.current(ev.ID, ev.Run); n != nil {
			t.unkillable(n)
		}
	case Command:
		t.command(ev)
	case Reconfigure:
		t.reconfigure(ev)
	case Unattended:
		t.unattended(ev.For)
	case Tick: // timers are looked at after every event
	}
}

// current is the worker whose latest run is meant, nil if the event is stale.
func (t *Tree) current(id string, run uint64) *node {
	n := t.nodes[id]
	if n == nil || n.sup != nil || n.run != run || run == 0 {
		return nil
	}
	return n
}

// settle works the agenda off.
func (t *Tree) settle() {
	for i := 0; i < len(t.agenda); i++ {
		if it := t.agenda[i]; it.do != nil {
			it.do(t, it.n)
		} else {
			t.command(it.command)
		}
	}
	clear(t.agenda)
	t.agenda = t.agenda[:0]
}

// later puts something about n on the agenda.
func (t *Tree) later(do func(*Tree, *node), n *node) {
	t.agenda = append(t.agenda, item{do: do, n: n})
}

// wake has n's supervisor look at its children again.
func (t *Tree) wake(n *node) {
	if n.parent != nil {
		t.later((*Tree).advance, n.parent)
	}
}

func (t *Tree) emit(a Action) { t.out = append(t.out, a) }

// NextDeadline is when a Tick is wanted; false: no time is awaited.
func (t *Tree) NextDeadline() (at time.Duration, ok bool) {
	if len(t.timers.heap) == 0 {
		return 0, false
	}
	return t.timers.heap[0].timer.at, true
}

// Status tells about the child with that ID, or the root ("").
func (t *Tree) Status(id string) (Status, bool) {
	n := t.nodes[id]
	if n == nil {
		return Status{}, false
	}
	return n.status(), true
}

// SetData replaces the Data of a child's specification, for a tree that was loaded;
// nothing happens if there is no such child.
func (t *Tree) SetData(id string, data any) {
	if n := t.nodes[id]; n != nil {
		n.spec.Data = data
	}
}

func (n *node) status() Status {
	s := Status{
		State: n.state, Data: n.spec.Data, Since: n.since, Run: n.run, Row: n.row, Ended: n.ended, Exit: n.exit,
		Supervisor: n.sup != nil,
		Template:   n.parent != nil && n.parent.sup.spec.Template != nil,
		Gone:       n.gone,
		Waiting:    n.waiting(),
	}
	if n.pending && n.timer.armed() {
		s.RestartAt = n.timer.at
	}
	return s
}

// RestartBudget is how many more restarts the supervisor allows at time now
// before it gives up, 0 or more; false if there is no supervisor of that ID.
func (t *Tree) RestartBudget(id string, now time.Duration) (int, bool) {
	n := t.nodes[id]
	if n == nil || n.sup == nil {
		return 0, false
	}
	spec := n.sup.spec
	return max(0, spec.MaxRestarts-n.sup.window.count(now, spec.Period)), true
}

// Walk visits all children in their order, depth first, each supervisor before
// its children and the root ("") first, until visit returns false.
func (t *Tree) Walk(visit func(id string, s Status) bool) { walk(t.root, visit) }

func walk(n *node, visit func(id string, s Status) bool) bool {
	if !visit(n.id, n.status()) {
		return false
	}
	if n.sup != nil {
		for c := n.sup.first; c != nil; c = c.next {
			if !walk(c, visit) {
				return false
			}
		}
	}
	return true
}
