// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The state of a tree is saved as keyed values: one for the clock and one for
// every child that there is or was. Together with the specification and the seed
// they are all that a tree knows: one that is loaded from them answers every
// event as the saved one would. Enumerations are saved as their numbers.

const (
	clockKey    = "clock"
	childPrefix = "child/" // and the ID
)

type clockRecord struct {
	Now   time.Duration `json:"now"`
	Armed uint64        `json:"armed"`
}

// childRecord is a node, or what is left of one.
type childRecord struct {
	// Retired is of a child that is no more; nothing else is set then.
	Retired *runs `json:"retired,omitempty"`

	Spec  *Child `json:"spec,omitempty"` // of children that are not in the original list
	Place uint64 `json:"place,omitempty"`

	State     State         `json:"state,omitempty"`
	Since     time.Duration `json:"since,omitempty"`
	Run       uint64        `json:"run,omitempty"`
	Instances uint64        `json:"instances,omitempty"`
	Ended     bool          `json:"ended,omitempty"`
	Exit      ExitReason    `json:"exit,omitempty"`
	Row       int           `json:"row,omitempty"`
	Deadline  *deadline     `json:"deadline,omitempty"`

	Gone    bool `json:"gone,omitempty"`
	Buried  bool `json:"buried,omitempty"`
	Pending bool `json:"pending,omitempty"`
	Awaited bool `json:"awaited,omitempty"`
	Queued  bool `json:"queued,omitempty"`
	Wanted  bool `json:"wanted,omitempty"`
	Manual  bool `json:"manual,omitempty"`
	Failed  bool `json:"failed,omitempty"`

	AwaitsReady bool    `json:"awaits_ready,omitempty"`
	Leaving     leaving `json:"leaving,omitempty"`

	Why      StopReason `json:"why,omitempty"`
	Commands []Command  `json:"commands,omitempty"`

	Supervisor *supervisorRecord `json:"supervisor,omitempty"`
}

type deadline struct {
	At    time.Duration `json:"at"`
	Order uint64        `json:"order"`
}

// supervisorRecord names children by their IDs.
type supervisorRecord struct {
	Places  uint64 `json:"places,omitempty"`
	Altered bool   `json:"altered,omitempty"`

	Phase    phase         `json:"phase,omitempty"`
	Cursor   string        `json:"cursor,omitempty"`
	From     string        `json:"from,omitempty"`
	Gate     string        `json:"gate,omitempty"`
	Delay    time.Duration `json:"delay,omitempty"`
	Inbox    []string      `json:"inbox,omitempty"`
	Deferred []Command     `json:"deferred,omitempty"`

	Stale    bool            `json:"stale,omitempty"`
	Coming   map[string]bool `json:"coming,omitempty"`
	Settling bool            `json:"settling,omitempty"`

	Restarts []time.Duration `json:"restarts,omitempty"`

	Up        bool       `json:"up,omitempty"`
	StopWhy   StopReason `json:"stop_why,omitempty"`
	StopCause string     `json:"stop_cause,omitempty"`
	Doomed    bool       `json:"doomed,omitempty"`
	Ending    ending     `json:"ending,omitempty"`
	Asked     bool       `json:"asked,omitempty"`
	EndCause  string     `json:"end_cause,omitempty"`
	EndReason ExitReason `json:"end_reason,omitempty"`
}

// Save calls put with every key of the tree's state and its value.
func (t *Tree) Save(put func(key string, value []byte)) {
	t.saveClock(put)
	for _, n := range t.nodes {
		put(childPrefix+n.id, encode(n.record()))
	}
	for id, last := range t.retired {
		put(childPrefix+id, encode(childRecord{Retired: &last}))
	}
}

// SaveChanges calls put with the keys that changed since it was called last, the
// first time with all, and their values; nil: the key is to be deleted. A key may
// come more than once.
func (t *Tree) SaveChanges(put func(key string, value []byte)) {
	if !t.tracking {
		t.tracking = true
		t.Save(put)
		return
	}
	t.saveClock(put)
	for _, d := range t.dirty {
		d.dirty = false
		key := childPrefix + d.id
		if n := t.nodes[d.id]; n != nil {
			put(key, encode(n.record()))
		} else if last, ok := t.retired[d.id]; ok {
			put(key, encode(childRecord{Retired: &last}))
		} else {
			put(key, nil)
		}
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
}

func (t *Tree) saveClock(put func(key string, value []byte)) {
	// As json would: it comes with every change.
	value := strconv.AppendInt([]byte(`{"now":`), int64(t.now), 10)
	value = strconv.AppendUint(append(value, `,"armed":`...), t.timers.armed, 10)
	put(clockKey, append(value, '}'))
}

// encode never fails: records hold nothing but finite numbers, strings and validated specifications.
func encode(record any) []byte {
	value, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("tree: encoding %#v: %v", record, err))
	}
	return value
}

func (n *node) record() childRecord {
	r := childRecord{
		Place: n.place,
		State: n.state, Since: n.since, Run: n.run, Instances: n.instances, Ended: n.ended, Exit: n.exit, Row: n.row,
		Gone: n.gone, Buried: n.buried, Pending: n.pending, Awaited: n.awaited, Queued: n.queued,
		Wanted: n.wanted, Manual: n.manual, Failed: n.failed,
		AwaitsReady: n.awaitsReady, Leaving: n.leaving,
		Why: n.why, Commands: n.commands,
	}
	if !n.declared {
		r.Spec = n.spec
	}
	if n.timer.armed() {
		r.Deadline = &deadline{n.timer.at, n.timer.order}
	}
	if s := n.sup; s != nil {
		r.Supervisor = &supervisorRecord{
			Places: s.places, Altered: s.altered,
			Phase: s.phase, Cursor: idOf(s.cursor), From: idOf(s.from), Gate: idOf(s.gate), Delay: s.delay, Deferred: s.deferred,
			Stale: s.stale, Coming: s.coming, Settling: s.settling,
			Restarts: s.window.times[s.window.old:],
			Up:       s.up, StopWhy: s.stopWhy, StopCause: s.stopCause, Doomed: s.doomed,
			Ending: s.ending, Asked: s.asked, EndCause: s.endCause, EndReason: s.endReason,
		}
		for _, c := range s.inbox {
			r.Supervisor.Inbox = append(r.Supervisor.Inbox, c.id)
		}
	}
	return r
}

// idOf is the ID of a child, "" (which is no child's) for none.
func idOf(n *node) string {
	if n == nil {
		return ""
	}
	return n.id
}

// Load returns the tree of which saved holds the keys and values. The seed has to be
// the one that it was made with, and the root that too or, if there was a valid
// Reconfigure, the one of the last.
func Load(root Supervisor, seed uint64, saved iter.Seq2[string, []byte]) (*Tree, error) {
	t, err := New(root, seed)
	if err != nil {
		return nil, err
	}
	records := make(map[string]*childRecord)
	for key, value := range saved {
		var target any = &clockRecord{}
		id, isChild := strings.CutPrefix(key, childPrefix)
		if isChild {
			records[id] = &childRecord{}
			target = records[id]
		} else if key != clockKey {
			return nil, fmt.Errorf("saved state: key %q is neither %q nor begins with %q", key, clockKey, childPrefix)
		}
		if err := json.Unmarshal(value, target); err != nil {
			return nil, fmt.Errorf("saved state: key %q: %w", key, err)
		}
		if clock, ok := target.(*clockRecord); ok {
			t.now, t.timers.armed = clock.Now, clock.Armed
		}
	}
	// In the order of IDs every supervisor comes before its children.
	ids := slices.Sorted(maps.Keys(records))
	for _, id := range ids {
		if err := t.restore(id, records[id]); err != nil {
			return nil, fmt.Errorf("saved state: child %q: %w", id, err)
		}
	}
	for _, id := range ids {
		if n := t.nodes[id]; n != nil && n.sup != nil {
			if err := t.restoreList(n, records); err != nil {
				return nil, fmt.Errorf("saved state: supervisor %q: %w", id, err)
			}
		}
	}
	return t, nil
}

// restore gives the node of that ID what its record says, and makes it if it is
// not one of the original list.
func (t *Tree) restore(id string, r *childRecord) error {
	if r.Retired != nil {
		t.retired[id] = *r.Retired
		return nil
	}
	n := t.nodes[id]
	if r.Spec != nil {
		parent := t.root
		if i := strings.LastIndexByte(id, '.'); i >= 0 {
			parent = t.nodes[id[:i]]
		}
		if parent == nil || parent.sup == nil || join(parent.id, r.Spec.Name) != id {
			return errors.New("no supervisor to add it to")
		}
		if err := validateAlone(id, r.Spec); err != nil {
			return err
		}
		if n != nil { // it was deleted, and added again
			t.uproot(n)
		}
		n = t.grow(parent, r.Spec, false)
		t.link(n)
	}
	if n == nil {
		return errors.New("the specification does not have it")
	}
	if (n.sup != nil) != (r.Supervisor != nil) {
		return errors.New("a supervisor in one of state and specification, a worker in the other")
	}
	if r.State >= NumStates || r.Exit >= NumExitReasons || r.Leaving > leavesConfig {
		return errors.New("a state, exit reason or way to leave that does not exist")
	}
	n.place, n.run, n.instances, n.ended, n.exit, n.row = r.Place, r.Run, r.Instances, r.Ended, r.Exit, r.Row
	n.state, n.since = r.State, r.Since
	n.gone, n.buried, n.pending, n.awaited, n.queued = r.Gone, r.Buried, r.Pending, r.Awaited, r.Queued
	n.wanted, n.manual, n.failed = r.Wanted, r.Manual, r.Failed
	n.awaitsReady, n.leaving = r.AwaitsReady, r.Leaving
	n.why, n.commands = r.Why, r.Commands
	if r.Deadline != nil {
		t.timers.insert(n, timer{at: r.Deadline.At, order: r.Deadline.Order})
	}
	t.recount(n)
	return nil
}

// restoreList gives the supervisor n its list as it was, and the rest of its record.
func (t *Tree) restoreList(n *node, records map[string]*childRecord) error {
	s, r := n.sup, records[n.id].Supervisor
	var list []*node
	for c := s.first; c != nil; {
		next := c.next
		if own := records[c.id]; own == nil || own.Retired != nil { // it was deleted
			t.uproot(c)
		} else {
			list = append(list, c)
		}
		c = next
	}
	slices.SortFunc(list, func(a, b *node) int { return cmp.Compare(a.place, b.place) })
	s.first, s.last = nil, nil
	for _, c := range list {
		t.append(c)
	}
	s.places, s.altered = r.Places, r.Altered
	s.phase, s.delay, s.deferred = r.Phase, r.Delay, r.Deferred
	s.stale, s.coming, s.settling = r.Stale, r.Coming, r.Settling
	if s.settling {
		t.unsettled++
	}
	s.window.times = slices.Clone(r.Restarts)
	s.up, s.stopWhy, s.stopCause, s.doomed = r.Up, r.StopWhy, r.StopCause, r.Doomed
	s.ending, s.asked, s.endCause, s.endReason = r.Ending, r.Asked, r.EndCause, r.EndReason
	for _, ref := range []struct {
		to **node
		id string
	}{{&s.cursor, r.Cursor}, {&s.from, r.From}, {&s.gate, r.Gate}} {
		if ref.id == "" {
			continue
		}
		if *ref.to = t.childOf(n, ref.id); *ref.to == nil {
			return fmt.Errorf("it has no child %q", ref.id)
		}
	}
	for _, id := range r.Inbox {
		c := t.childOf(n, id)
		if c == nil {
			return fmt.Errorf("it has no child %q", id)
		}
		s.inbox = append(s.inbox, c)
	}
	if s.phase > phaseEnding || s.phase == phaseStopping && s.totals.leaving == 0 {
		return fmt.Errorf("phase %d makes no sense", s.phase)
	}
	return nil
}

func (t *Tree) childOf(parent *node, id string) *node {
	if c := t.nodes[id]; c != nil && c.parent == parent {
		return c
	}
	return nil
}
