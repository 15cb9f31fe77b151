// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"math"
	"strconv"
	"time"

	"github.com/otelwarden/warden/internal/journal"
)

// The names of spans.
const (
	spanRun      = "process.run"        // from its start to its end
	spanStart    = "process.start"      // from there until it was ready, or failed to be
	spanStop     = "process.stop"       // from when it was asked to end
	spanRecover  = "supervisor.recover" // from a failure until all are ready that it touched
	spanRecovers = "process.recover"    // the part of one of them in that
)

// tracer makes spans of the events of a journal, in their order. It is told all of
// them, and what it makes depends on nothing else: told the same it makes the same.
type tracer struct {
	runs, recoveries bool // which of the two kinds of spans are wanted
	// instanceOf returns what tells the process with that id from those of the same id elsewhere.
	instanceOf func(process string) string

	units map[string]*unit
	rescue
	made []span
}

func newTracer(cfg *TopicsConfig, instanceOf func(process string) string) *tracer {
	t := &tracer{
		runs: cfg.of(journal.TopicLifecycle).Trace, recoveries: cfg.of(journal.TopicSupervisor).Trace,
		instanceOf: instanceOf,
	}
	t.forget()
	return t
}

// forget has the tracer know nothing: what it knows may be wrong after a gap.
func (t *tracer) forget() {
	t.units = map[string]*unit{}
	t.rescue = rescue{open: map[string]*recovery{}}
	t.made = nil
}

// unit is what runs once at a time: a process, or one instance of a template.
type unit struct {
	id      string
	process string // its id, or its template's
	run     processRun
	ready   bool
	// stopping and killed are what came before the end of the run, nil if nothing did.
	stopping, killed *journal.Event
	// failure is the end of the last run until it is known what comes of it.
	failure  *journal.Event
	recovery *recovery
}

// processRun is one run of a unit. The zero value is none.
type processRun struct {
	number  uint64
	created time.Time
	context spanContext
}

// see takes the next event, which is not to be changed any more.
func (t *tracer) see(event *journal.Event) {
	t.judge(event)
	switch event.Topic {
	case journal.TopicSupervisor:
		t.seeSupervisor(event)
		return
	case journal.TopicLifecycle:
	default:
		return
	}
	id, isInstance := stringAttr(event, journal.KeyInstanceID)
	if !isInstance {
		id = event.Process
	}
	if id == "" {
		return // left behind by it is not known whom
	}
	u, known := t.units[id]
	if !known {
		u = &unit{id: id, process: event.Process}
		t.units[id] = u
	}
	if created, ok := creation(event); ok && (!created.Equal(u.run.created) || event.Run != u.run.number) {
		u.begins(t.newRun(u, event, created))
	}
	switch event.Name {
	case journal.ProcessStarted, journal.ProcessAdopted:
		known = true
	case journal.ProcessReady:
		u.ready = true
		t.makeStart(u, event, "")
	case journal.ProcessStartFailed, journal.ProcessExited, journal.ProcessCrashed, journal.ProcessStopped:
		t.seeEnd(u, event)
		known = false
	case journal.ProcessStopping:
		u.stopping = event
	case journal.ProcessKilled:
		u.killed = event
	}
	t.follow(u, event)
	if isInstance && !known && u.failure == nil && u.recovery == nil {
		delete(t.units, id) // what has ended may never come again under that name
	}
}

// begins has another run take the place of the one before.
func (u *unit) begins(r processRun) {
	u.run, u.ready, u.stopping, u.killed = r, false, nil, nil
}

func (t *tracer) newRun(u *unit, event *journal.Event, created time.Time) processRun {
	return processRun{event.Run, created, newRoot(spanRun, t.instanceOf(u.process), u.id,
		strconv.FormatUint(event.Run, 10), strconv.Itoa(event.PID), created.Format(time.RFC3339Nano))}
}

// seeEnd makes the spans that end with a run, or with the attempt at one.
func (t *tracer) seeEnd(u *unit, event *journal.Event) {
	failed := event.Name == journal.ProcessCrashed || event.Name == journal.ProcessStartFailed
	failure := ""
	if failed {
		failure = event.Body
	}
	if duration, ok := secondsAttr(event, journal.KeyRunDuration); ok && u.run != (processRun{}) {
		r, end := u.run, u.run.created.Add(duration)
		if failed && !u.ready {
			t.makeStart(u, event, failure)
		}
		if u.stopping != nil {
			t.makeStop(u, event, end)
		}
		t.makeRun(span{process: u.process, name: spanRun, context: r.context, start: r.created, end: end, failure: failure, of: event})
		u.stopping, u.killed = nil, nil
	} else if failed {
		context := newRoot(spanStart, t.instanceOf(u.process), u.id, event.Time.Format(time.RFC3339Nano))
		t.makeRun(span{process: u.process, name: spanStart, context: context, start: event.Time, end: event.Time, failure: failure, of: event})
	}
	u.failure = nil
	if failed {
		u.failure = event
	}
}

// makeStart makes the span of a start that came to its end with the event.
func (t *tracer) makeStart(u *unit, event *journal.Event, failure string) {
	took, ok := secondsAttr(event, journal.KeyStartDuration)
	if !ok {
		took, ok = secondsAttr(event, journal.KeyRunDuration)
	}
	if !ok || u.run == (processRun{}) {
		return
	}
	r := u.run
	t.makeRun(span{
		process: u.process, name: spanStart, context: r.context.child(spanStart), parent: r.context.span,
		start: r.created, end: r.created.Add(took), failure: failure, of: event,
	})
}

// makeStop makes the span of a stop. An end that was told of later than it came does
// not say when that was on the clock of the events.
func (t *tracer) makeStop(u *unit, event *journal.Event, end time.Time) {
	took := event.Mono - u.stopping.Mono
	if replayed(event) {
		took = end.Sub(u.stopping.Time)
	}
	failure := ""
	if u.killed != nil {
		if _, late := stringAttr(u.killed, journal.KeyReportContext); late {
			failure = u.killed.Body
		}
	}
	r := u.run
	took = min(max(took, 0), end.Sub(r.created))
	t.makeRun(span{
		process: u.process, name: spanStop, context: r.context.child(spanStop), parent: r.context.span,
		start: end.Add(-took), end: end, failure: failure, of: event, attrs: stopAttrs(u.stopping),
	})
}

// stopAttrs says why it was asked to end, which the end does not.
func stopAttrs(stopping *journal.Event) (attrs []journal.Attr) {
	for _, attr := range stopping.Attrs {
		if attr.Key == journal.KeyStopReason || attr.Key == journal.KeyRestartCause {
			attrs = append(attrs, attr)
		}
	}
	return attrs
}

func (t *tracer) makeRun(s span) {
	if t.runs {
		t.made = append(t.made, s)
	}
}

// creation is when the run of an event began; false if the event does not say it.
func creation(event *journal.Event) (time.Time, bool) {
	text, ok := stringAttr(event, journal.KeyCreationTime)
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

func replayed(event *journal.Event) bool {
	attr := attrOf(event, journal.KeyReplayed)
	return attr != nil && attr.Int != 0
}

func stringAttr(event *journal.Event, key string) (string, bool) {
	if attr := attrOf(event, key); attr != nil && attr.Kind == journal.KindString {
		return attr.Str, true
	}
	return "", false
}

func secondsAttr(event *journal.Event, key string) (time.Duration, bool) {
	if attr := attrOf(event, key); attr != nil && attr.Kind == journal.KindFloat {
		return time.Duration(math.Round(attr.Float * float64(time.Second))), true
	}
	return 0, false
}

func attrOf(event *journal.Event, key string) *journal.Attr {
	for i := range event.Attrs {
		if event.Attrs[i].Key == key {
			return &event.Attrs[i]
		}
	}
	return nil
}
