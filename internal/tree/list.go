// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "slices"

// The nodes of a tree and their lists: how they come and how they go.

// link appends n to its parent's list.
func (t *Tree) link(n *node) {
	s := n.parent.sup
	s.places++
	n.place = s.places
	t.append(n)
	t.touch(n)
	t.touch(n.parent)
}

func (t *Tree) append(n *node) {
	s := n.parent.sup
	n.prev, n.next = s.last, nil
	if s.last == nil {
		s.first = n
	} else {
		s.last.next = n
	}
	s.last = n
}

// unlink takes n, which is down, out of its parent's list. It can be the next to
// be looked at in a start, or where one begins, but no stop stands at a child that
// is down.
func (t *Tree) unlink(n *node) {
	s := n.parent.sup
	if s.cursor == n {
		s.cursor = n.next
	}
	if s.from == n {
		s.from = n.next
	}
	if n.prev == nil {
		s.first = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		s.last = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next = nil, nil
	t.touch(n)
	t.touch(n.parent)
}

// grow makes the node of a specification and everything below it, not linked into its parent's list.
func (t *Tree) grow(parent *node, spec *Child, declared bool) *node {
	n := &node{spec: spec, parent: parent, declared: declared}
	if parent != nil {
		n.id = join(parent.id, spec.Name)
		n.numbered = parent.numbered
		if n.numbered == nil && parent.sup.spec.Template != nil {
			n.numbered = parent
		}
	}
	last, known := t.retired[n.id]
	delete(t.retired, n.id)
	floor := uint64(0) // what a supervisor above it, which was a template, has given out
	if n.numbered != nil {
		n.numbered.instances = max(n.numbered.instances, last.Run)
		t.touch(n.numbered)
	} else {
		for a := parent; a != nil; a = a.parent {
			floor = max(floor, a.instances)
		}
	}
	if known || floor > 0 {
		t.emit(Changed{n.id, StateStopped}) // not what was last said of the one before
	}
	n.run, n.instances = max(last.Run, floor), max(last.Instances, floor)
	t.nodes[n.id] = n
	t.touch(n)
	if spec.Supervisor == nil {
		return n
	}
	s := &supervisor{spec: spec.Supervisor}
	n.sup = s
	s.declared = make([]*node, len(s.spec.Children))
	for i := range s.declared {
		s.declared[i] = t.grow(n, &s.spec.Children[i], true)
		t.link(s.declared[i])
	}
	return n
}

// bury takes n, which is down, out of the tree. While a process of it outlives
// its SIGKILL only the specification goes, and the rest when the process ends.
func (t *Tree) bury(n *node) {
	n.buried = true
	n.parent.sup.altered = true
	t.touch(n.parent)
	t.unqueue(n)
	t.setGone(n)
	if n.awaited { // what an operator's restart would have made of it is waited for no more
		t.setAwaited(n, false)
		t.wake(n)
	}
	if !haunted(n) {
		t.uproot(n)
	}
}

// uproot removes n and all below it.
func (t *Tree) uproot(n *node) {
	t.unlink(n)
	if n.declared {
		s := n.parent.sup
		s.declared[slices.Index(s.declared, n)] = nil
	}
	t.forget(n)
}

// haunted: some process of n, which is down, still lives.
func haunted(n *node) bool {
	if n.state == StateUnkillable {
		return true
	}
	if n.sup != nil {
		for c := n.sup.first; c != nil; c = c.next {
			if haunted(c) {
				return true
			}
		}
	}
	return false
}

// forget drops n and all below it. Their run numbers are remembered, unless a
// template counts them: a child added later under the same ID must not use them again.
func (t *Tree) forget(n *node) {
	last := runs{n.run, n.instances}
	if n.sup != nil {
		for c := n.sup.first; c != nil; c = c.next {
			t.forget(c)
		}
	}
	if last.Run > 0 && n.numbered == nil {
		t.retired[n.id] = last
	}
	delete(t.nodes, n.id)
	t.touch(n)
}

// renew returns the list of n, whose children are all down, to the original one.
func (t *Tree) renew(n *node) {
	s := n.sup
	if s.altered {
		for c := s.first; c != nil; c = c.next {
			c.buried = c.buried || !c.declared
		}
		for i, c := range s.declared {
			if c == nil {
				s.comes(s.spec.Children[i].Name, true)
			}
		}
		t.relist(n)
		s.altered = s.first != nil && !s.first.declared // still, on account of processes that cannot be ended
	}
	for _, c := range s.declared {
		if c != nil {
			c.gone, c.buried, c.wanted, c.manual, c.row = false, false, false, false, 0
			t.setPending(c, c.startsWithSupervisor())
		}
	}
}

// relist makes the list of n that of its specification, followed by what operators
// added; first comes what only a process that cannot be ended keeps in it. All
// children that have to go for it are down.
func (t *Tree) relist(n *node) {
	s := n.sup
	s.stale = false
	var left, added []*node
	for c := s.first; c != nil; {
		next := c.next
		t.setLeaving(c, stays)
		if c.buried {
			t.bury(c)
		}
		switch {
		case t.nodes[c.id] != c || c.declared:
		case c.buried:
			left = append(left, c)
		default:
			added = append(added, c)
		}
		c = next
	}
	for i := range s.declared {
		spec := &s.spec.Children[i]
		if start, comes := s.coming[spec.Name]; comes && t.nodes[join(n.id, spec.Name)] == nil {
			delete(s.coming, spec.Name)
			s.declared[i] = t.grow(n, spec, true)
			t.setPending(s.declared[i], start && n.commandable())
		}
	}
	s.first, s.last, s.from, s.places = nil, nil, nil, 0
	for _, list := range [][]*node{left, s.declared, added} {
		for _, c := range list {
			if c == nil {
				continue
			}
			t.link(c)
			if c.pending && s.from == nil {
				s.from = c
			}
		}
	}
}

// comes notes that a child of the specification is to be in the list as soon as its
// name is free, and whether it is then to be started.
func (s *supervisor) comes(name string, start bool) {
	if s.coming == nil {
		s.coming = make(map[string]bool)
	}
	s.coming[name] = start
}

func (t *Tree) setGone(n *node) {
	n.gone = true
	t.touch(n)
}
