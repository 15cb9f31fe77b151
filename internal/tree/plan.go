// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"reflect"
	"slices"
)

// Change is what a Reconfigure means for one child, or the root.
type Change struct {
	// ID is "" for the root.
	ID   string
	Kind ChangeKind
}

// ChangeKind says what a Reconfigure does with a child.
type ChangeKind uint8

const (
	// ChangeKept: nothing.
	ChangeKept ChangeKind = iota
	// ChangeUpdated: its specification changes, or the order of its children, and no process for that.
	ChangeUpdated
	// ChangeRestarted: it is stopped and started again; of a supervisor this is so because it becomes something else.
	ChangeRestarted
	// ChangeStarted: it is new.
	ChangeStarted
	// ChangeStopped: it is no more.
	ChangeStopped

	// NumChangeKinds is the number of kinds, for arrays indexed by them.
	NumChangeKinds
)

var changeKindNames = [NumChangeKinds]string{"kept", "updated", "restarted", "started", "stopped"}

func (k ChangeKind) String() string {
	if k < NumChangeKinds {
		return changeKindNames[k]
	}
	return fmt.Sprintf("ChangeKind(%d)", uint8(k))
}

// Plan is what a Reconfigure to next, with the workers in restart, means for a tree
// of the specification now in which all children are up: one Change for the root and
// for every child of either, depth first in the order of next, with what is no more in
// its old place. What is new and Manual is not started, nor is what is down and stays
// so; see [Reconfigure]. Of what operators added and of instances of templates nothing
// is said. The specifications have to be valid.
func Plan(now, next Supervisor, restart []string) []Change {
	p := planner{restart: make(map[string]bool, len(restart))}
	for _, id := range restart {
		p.restart[id] = true
	}
	p.child("", &Child{Supervisor: &now}, &Child{Supervisor: &next})
	return p.changes
}

type planner struct {
	restart map[string]bool
	changes []Change
}

func (p *planner) add(id string, kind ChangeKind) { p.changes = append(p.changes, Change{id, kind}) }

// child adds what becomes of a child, of which now or next is nil if it is new or no more.
func (p *planner) child(id string, now, next *Child) {
	switch {
	case now == nil:
		p.add(id, ChangeStarted)
		p.children(id, nil, next.children())
	case next == nil:
		p.add(id, ChangeStopped)
		p.children(id, now.children(), nil)
	case !sameKind(now, next):
		p.add(id, ChangeRestarted)
		p.children(id, now.children(), nil)
		p.children(id, nil, next.children())
	default:
		switch {
		case p.restart[id] && next.Worker != nil:
			p.add(id, ChangeRestarted)
		case alike(now, next, false) && sameOrder(now.children(), next.children()):
			p.add(id, ChangeKept)
		default:
			p.add(id, ChangeUpdated)
		}
		p.children(id, now.children(), next.children())
	}
}

// children adds what becomes of a list. What is no more comes after the one that it
// came after in the old list.
func (p *planner) children(id string, now, next []Child) {
	was, is := places(now), places(next)
	gone := func(from int) {
		for i := from; i < len(now); i++ {
			if _, stays := is[now[i].Name]; stays {
				return
			}
			p.child(join(id, now[i].Name), &now[i], nil)
		}
	}
	gone(0)
	for i := range next {
		c := &next[i]
		if place, both := was[c.Name]; both {
			p.child(join(id, c.Name), &now[place], c)
			gone(place + 1)
		} else {
			p.child(join(id, c.Name), nil, c)
		}
	}
}

func (c *Child) children() []Child {
	if c.Supervisor == nil {
		return nil
	}
	return c.Supervisor.Children
}

// places are the places of the names in a list.
func places(list []Child) map[string]int {
	m := make(map[string]int, len(list))
	for i := range list {
		m[list[i].Name] = i
	}
	return m
}

// sameOrder: the children that are in both lists are in the same order.
func sameOrder(now, next []Child) bool {
	was, last := places(now), -1
	for i := range next {
		if place, both := was[next[i].Name]; both {
			if place < last {
				return false
			}
			last = place
		}
	}
	return true
}

// alike: a and b are specified alike, the caller's Data aside and, unless they count,
// the children of a supervisor.
func alike(a, b *Child, childrenCount bool) bool {
	if !sameKind(a, b) {
		return false
	}
	x, y := *a, *b
	x.Data, y.Data, x.Supervisor, y.Supervisor = nil, nil, nil, nil
	if !reflect.DeepEqual(x, y) {
		return false
	}
	if a.Supervisor == nil {
		return true
	}
	s, u := *a.Supervisor, *b.Supervisor
	if s.Template != nil && !alike(s.Template, u.Template, true) {
		return false
	}
	if childrenCount && !slices.EqualFunc(s.Children, u.Children, func(c, d Child) bool { return alike(&c, &d, true) }) {
		return false
	}
	s.Template, s.Children, u.Template, u.Children = nil, nil, nil, nil
	return reflect.DeepEqual(s, u)
}
