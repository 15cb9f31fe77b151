// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/otelwarden/warden/internal/journal"
)

// Attributes of a recovery.
const (
	keyRecoverOutcome   = "supervisor.recover.outcome"
	keyRecoverProcesses = "supervisor.recover.processes" // how many it touched
	keyRecoverFailures  = "supervisor.recover.failures"  // how many it took, the first included
)

// The outcomes of a recovery.
const (
	recovered = "recovered"
	gaveUp    = "gave_up" // a supervisor did, and nobody restarts it
	called    = "stopped" // off: who was not up yet is not to be up any more
)

// most moments of one unit in one recovery. In a crash loop without end the rest is counted.
const mostMoments = 64

// rescue is what a tracer knows of the recoveries under way.
type rescue struct {
	// open holds them by what failed: a process, an instance, or a supervisor that
	// gave up over one of these. Several can lead to the same.
	open map[string]*recovery
	// doomed is the recovery of a supervisor that gave up and is down, until the next
	// event tells whether it is restarted; fallen is the event that it is down.
	doomed *recovery
	fallen *journal.Event
}

// recovery is what happens from a failure until all processes that it touched are ready.
type recovery struct {
	context spanContext
	failure *journal.Event
	failed  string // the id of the unit
	begin   time.Time
	members []*member // in the order in which they were touched
	fails   int
	moments []moment // of the supervisors
}

// member is the part of one unit in a recovery.
type member struct {
	unit          *unit
	before, after processRun
	begin, end    time.Time
	first         *journal.Event
	moments       []moment
	omitted       int
	pending       bool // it is to be ready, and is not yet
}

// follow takes an event of a unit, for its recovery or to begin one.
func (t *tracer) follow(u *unit, event *journal.Event) {
	switch event.Name {
	case journal.ProcessRestarting:
		t.seeRestarting(u, event)
		return
	case journal.ProcessStopping:
		t.seeStopping(u, event)
		return
	}
	r := u.recovery
	if r == nil {
		return
	}
	m := r.member(u)
	m.add(r, event)
	switch event.Name {
	case journal.ProcessCrashed, journal.ProcessStartFailed:
		r.fails++
	case journal.ProcessReady:
		if m.pending {
			m.after = u.run
			t.leave(m, r, event)
		}
	}
}

func (t *tracer) seeRestarting(u *unit, event *journal.Event) {
	cause, _ := stringAttr(event, journal.KeyRestartCause)
	if cause == "" {
		cause = u.id
	}
	if r := t.recoveryFrom(cause); r != nil {
		t.touch(r, u, event)
		r.member(u).pending = true
	} else if r := u.recovery; r != nil { // an operator, or a new configuration, restarts it before it is ready
		r.member(u).add(r, event)
	}
	u.failure = nil
}

// seeStopping: who is stopped for a failure is part of the recovery from it; who is
// stopped for another reason is not any more.
func (t *tracer) seeStopping(u *unit, event *journal.Event) {
	if cause, ok := stringAttr(event, journal.KeyRestartCause); ok {
		if r := t.open[cause]; r != nil {
			t.touch(r, u, event)
			return
		}
	}
	r := u.recovery
	if r == nil {
		return
	}
	m := r.member(u)
	m.add(r, event)
	if reason, _ := stringAttr(event, journal.KeyStopReason); !failing[reason] {
		t.callOff(m, r, event)
	}
}

// failing are the reasons for a stop that are failures of what is stopped.
var failing = map[string]bool{"liveness": true, "start_timeout": true}

// recoveryFrom returns the recovery from the failure of whom the id names, a new one if
// it has just failed, and nil if nothing is known of a failure.
func (t *tracer) recoveryFrom(id string) *recovery {
	if r := t.open[id]; r != nil {
		return r
	}
	u := t.units[id]
	if u == nil || u.failure == nil {
		return nil
	}
	failure := u.failure
	u.failure = nil
	if r := u.recovery; r != nil { // it failed on its way
		t.open[id] = r
		return r
	}
	r := &recovery{failure: failure, failed: id, begin: failure.Time, fails: 1}
	if created, ok := creation(failure); ok && replayed(failure) {
		lasted, _ := secondsAttr(failure, journal.KeyRunDuration)
		r.begin = created.Add(lasted)
	}
	r.context = newRoot(spanRecover, t.instanceOf(u.process), id, failure.Time.Format(time.RFC3339Nano))
	t.open[id] = r
	t.touch(r, u, failure)
	r.member(u).pending = true
	return r
}

// touch makes u part of the recovery, if it is not yet. One whose own recovery it is part
// of already is taken in whole: from now on they wait for each other.
func (t *tracer) touch(r *recovery, u *unit, event *journal.Event) {
	switch {
	case u.recovery == nil:
		r.members = append(r.members, &member{unit: u, before: u.run, begin: r.at(event), first: event})
		u.recovery = r
	case u.recovery != r:
		t.takeIn(r, u.recovery)
	}
	r.member(u).add(r, event)
}

func (t *tracer) takeIn(r, other *recovery) {
	for _, m := range other.members {
		if m.unit.recovery == other {
			m.unit.recovery = r
		}
	}
	r.members = append(other.members, r.members...)
	r.fails += other.fails
	if other.begin.Before(r.begin) {
		r.begin = other.begin
	}
	for id, open := range t.open {
		if open == other {
			t.open[id] = r
		}
	}
}

// member returns the last part of a unit in the recovery.
func (r *recovery) member(u *unit) *member {
	for i := len(r.members) - 1; i >= 0; i-- {
		if r.members[i].unit == u {
			return r.members[i]
		}
	}
	return nil
}

// at is when the event was, on the clock that ran since the failure was told of.
func (r *recovery) at(event *journal.Event) time.Time {
	if event == r.failure {
		return r.begin
	}
	return r.failure.Time.Add(event.Mono - r.failure.Mono)
}

func (m *member) add(r *recovery, event *journal.Event) {
	if len(m.moments) == mostMoments {
		m.omitted++
		return
	}
	m.moments = append(m.moments, moment{r.at(event), event})
}

// callOff has the recovery not wait for a member any more.
func (t *tracer) callOff(m *member, r *recovery, event *journal.Event) {
	m.unit.recovery = nil
	t.leave(m, r, event)
}

// leave ends the part of a member. The recovery ends with the last one's.
func (t *tracer) leave(m *member, r *recovery, event *journal.Event) {
	m.pending, m.end = false, r.at(event)
	outcome := called
	for _, other := range r.members {
		if other.pending {
			return
		}
		if other.unit.id == r.failed && other.after.number != 0 {
			outcome = recovered
		}
	}
	t.finish(r, event, outcome)
}

// finish makes the spans of a recovery that has come to its end with the event.
func (t *tracer) finish(r *recovery, event *journal.Event, outcome string) {
	end := r.at(event)
	for _, m := range r.members {
		if m.unit.recovery == r {
			m.unit.recovery = nil
		}
		if m.pending || m.end.IsZero() {
			m.end = end
		}
	}
	for id, open := range t.open {
		if open == r {
			delete(t.open, id)
		}
	}
	if t.doomed == r {
		t.doomed = nil
	}
	if !t.recoveries {
		return
	}
	root := span{
		process: superior(r.failure), name: spanRecover, context: r.context, start: r.begin, end: end, of: r.failure, moments: r.moments,
		attrs: []journal.Attr{
			journal.String(keyRecoverOutcome, outcome),
			journal.Int(keyRecoverProcesses, int64(len(r.members))), journal.Int(keyRecoverFailures, int64(r.fails)),
		},
	}
	if outcome == gaveUp {
		root.failure = r.moments[len(r.moments)-1].of.Body
	}
	at := len(t.made)
	t.made = append(t.made, root)
	for _, m := range r.members {
		part := span{
			process: m.unit.process, name: spanRecovers, context: r.context.child(spanRecovers, m.unit.id), parent: r.context.span,
			start: m.begin, end: m.end, of: m.of(), moments: m.moments, omitted: m.omitted,
		}
		for _, run := range []processRun{m.before, m.after} {
			if run.number != 0 {
				part.links = append(part.links, link{run.context, run.number})
			}
		}
		t.made = append(t.made, part)
		if m.unit.id == r.failed {
			t.made[at].links = part.links
		}
	}
}

// of says whose part it is, without what the event that it began with has to tell.
func (m *member) of() *journal.Event {
	event := &journal.Event{Process: m.unit.process}
	if id, ok := stringAttr(m.first, journal.KeyInstanceID); ok {
		event.Attrs = []journal.Attr{journal.String(journal.KeyInstanceID, id)}
	}
	return event
}

// superior is the id of the supervisor of whom the event is about.
func superior(event *journal.Event) string {
	if _, isInstance := stringAttr(event, journal.KeyInstanceID); isInstance {
		return event.Process // the template
	}
	return event.Process[:max(strings.LastIndexByte(event.Process, '.'), 0)]
}

// seeSupervisor takes an event of a supervisor.
func (t *tracer) seeSupervisor(event *journal.Event) {
	switch event.Name {
	case journal.SupervisorGaveUp:
		cause, _ := stringAttr(event, journal.KeyRestartCause)
		r := t.recoveryFrom(cause)
		if r == nil {
			return
		}
		r.moments = append(r.moments, moment{r.at(event), event})
		if event.Process == "" {
			t.finish(r, event, gaveUp)
			return
		}
		t.open[event.Process] = r // its own supervisor may restart it for that
	case journal.SupervisorStopped:
		t.seeDown(event)
	case journal.ConfigApplied:
		if action, _ := stringAttr(event, journal.KeyConfigAction); action == "stopped" {
			if u := t.units[event.Process]; u != nil && u.recovery != nil {
				t.callOff(u.recovery.member(u), u.recovery, event)
			}
		}
	}
}

// seeDown: the children of a supervisor that is down are not going to be ready, unless it
// gave up over one of them and is now restarted.
func (t *tracer) seeDown(event *journal.Event) {
	if r := t.open[event.Process]; r != nil {
		t.doomed, t.fallen = r, event
		return
	}
	for _, r := range t.underWay() {
		for _, m := range r.members {
			if m.pending && below(m.unit.process, event.Process) {
				t.callOff(m, r, event)
			}
		}
	}
}

// underWay returns each recovery once, in the order of their failures.
func (t *tracer) underWay() []*recovery {
	all := slices.Collect(maps.Values(t.open))
	slices.SortFunc(all, func(a, b *recovery) int { return cmp.Compare(a.failure.Seq, b.failure.Seq) })
	return slices.Compact(all)
}

func below(id, supervisor string) bool {
	return supervisor == "" || strings.HasPrefix(id, supervisor+".")
}

// judge tells from the next event whether a supervisor that is down is restarted, or
// the one above it gives up too.
func (t *tracer) judge(next *journal.Event) {
	r := t.doomed
	if r == nil {
		return
	}
	t.doomed = nil
	cause, _ := stringAttr(next, journal.KeyRestartCause)
	switch {
	case next.Name == journal.ProcessRestarting && cause == t.fallen.Process:
	case next.Name == journal.SupervisorGaveUp && t.open[cause] == r:
	default:
		t.finish(r, t.fallen, gaveUp)
	}
}
