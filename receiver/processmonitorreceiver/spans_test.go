// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/ptracetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/journal"
)

// tale makes the events that the extension tells of. Times are seconds since now.
type tale struct {
	events []journal.Event
	last   map[string]*toldRun
}

type toldRun struct {
	number  uint64
	created float64
}

func (l *tale) tell(at float64, topic, process, name, body string, attrs ...journal.Attr) {
	since := time.Duration(at * float64(time.Second))
	event := journal.Event{
		Seq: uint64(len(l.events) + 1), Time: now.Add(since), Mono: time.Hour + since,
		Topic: topic, Name: name, Severity: journal.SeverityInfo, Body: body, Process: process, Attrs: attrs,
	}
	if run := l.last[process]; run != nil {
		event.Run, event.PID = run.number, 100+int(run.number)
	}
	l.events = append(l.events, event)
}

func (l *tale) lifecycle(at float64, process, name string, attrs ...journal.Attr) {
	l.tell(at, journal.TopicLifecycle, process, name, process+" "+strings.TrimPrefix(name, "process."), attrs...)
}

func (l *tale) created(process string) journal.Attr {
	at := now.Add(time.Duration(l.last[process].created * float64(time.Second)))
	return journal.String(journal.KeyCreationTime, at.UTC().Format(time.RFC3339Nano))
}

func (l *tale) started(at float64, process string) {
	if l.last == nil {
		l.last = map[string]*toldRun{}
	}
	if l.last[process] == nil {
		l.last[process] = &toldRun{}
	}
	*l.last[process] = toldRun{l.last[process].number + 1, at}
	l.lifecycle(at, process, journal.ProcessStarted, l.created(process))
}

func (l *tale) since(at float64, process, key string) journal.Attr {
	return journal.Seconds(key, time.Duration(math.Round((at-l.last[process].created)*1000))*time.Millisecond)
}

func (l *tale) ready(at float64, process string) {
	l.lifecycle(at, process, journal.ProcessReady, l.created(process), l.since(at, process, journal.KeyStartDuration))
}

func (l *tale) up(at float64, process string) { l.started(at, process); l.ready(at+0.5, process) }

func (l *tale) ended(at float64, process, name, reason string, attrs ...journal.Attr) {
	l.lifecycle(at, process, name, append(attrs,
		journal.String(journal.KeyExitReason, reason), l.created(process), l.since(at, process, journal.KeyRunDuration))...)
}

func (l *tale) crashed(at float64, process string) {
	l.ended(at, process, journal.ProcessCrashed, "exit", journal.Int(journal.KeyExitCode, 3))
}

func cause(id string) (attrs []journal.Attr) {
	if id != "" {
		attrs = append(attrs, journal.String(journal.KeyRestartCause, id))
	}
	return attrs
}

func (l *tale) restarting(at float64, process, reason, because string, delay time.Duration) {
	l.lifecycle(at, process, journal.ProcessRestarting, append(cause(because),
		journal.String(journal.KeyRestartReason, reason), journal.Seconds(journal.KeyRestartDelay, delay))...)
}

func (l *tale) stopping(at float64, process, why, because string) {
	l.lifecycle(at, process, journal.ProcessStopping, append(cause(because), journal.String(journal.KeyStopReason, why))...)
}

func (l *tale) stopped(at float64, process string) {
	l.ended(at, process, journal.ProcessStopped, "stopped")
}

func (l *tale) supervisor(at float64, id, name string, attrs ...journal.Attr) {
	l.tell(at, journal.TopicSupervisor, id, name, fmt.Sprintf("supervisor %q %s", id, strings.TrimPrefix(name, "supervisor.")), attrs...)
}

// groupCrash: db fails among others after it that depend on it.
func groupCrash() []journal.Event {
	var l tale
	for i, process := range []string{"shop.api", "shop.db", "shop.cache", "shop.web"} {
		l.up(float64(i), process)
	}
	l.crashed(60, "shop.db")
	l.restarting(60, "shop.db", "exit", "", 400*time.Millisecond)
	l.restarting(60, "shop.cache", "strategy", "shop.db", 400*time.Millisecond)
	l.restarting(60, "shop.web", "strategy", "shop.db", 400*time.Millisecond)
	l.stopping(60, "shop.web", "strategy", "shop.db")
	l.stopped(60.2, "shop.web")
	l.stopping(60.2, "shop.cache", "strategy", "shop.db")
	l.stopped(60.25, "shop.cache")
	l.started(60.4, "shop.db")
	l.ready(61.9, "shop.db")
	l.up(61.9, "shop.cache")
	l.up(62.4, "shop.web")
	return l.events
}

// tales are what a text in testdata/spans has the spans of.
var tales = map[string]func() []journal.Event{
	"run": func() []journal.Event {
		var l tale
		l.up(0, "web")
		l.stopping(10, "web", "operator", "")
		l.lifecycle(12, "web", journal.ProcessKilled, journal.String(journal.KeyReportContext, "shutdown_error"))
		l.ended(12.5, "web", journal.ProcessStopped, "stopped", journal.String(journal.KeyExitSignal, "SIGKILL"))
		return l.events
	},
	"one_for_one": func() []journal.Event {
		var l tale
		l.up(0, "web")
		l.crashed(3, "web")
		l.restarting(3, "web", "exit", "", 0)
		l.up(3, "web")
		return l.events
	},
	"rest_for_one": groupCrash,
	"fails_on_the_way": func() []journal.Event {
		var l tale
		l.up(0, "web")
		l.crashed(3, "web")
		l.restarting(3, "web", "exit", "", 0)
		l.started(3, "web")
		l.crashed(3.1, "web")
		l.restarting(3.1, "web", "exit", "", time.Second)
		l.lifecycle(4.1, "web", journal.ProcessStartFailed, journal.String(journal.KeyErrorMessage, "no such file"), journal.String(journal.KeyExitReason, "start_failed"))
		l.restarting(4.1, "web", "start_failed", "", 2*time.Second)
		l.started(6.1, "web")
		l.stopping(16.1, "web", "start_timeout", "")
		l.ended(16.2, "web", journal.ProcessStartFailed, "start_timeout")
		l.restarting(16.2, "web", "start_timeout", "", 2*time.Second)
		l.up(18.2, "web")
		return l.events
	},
	"escalates": func() []journal.Event {
		var l tale
		l.up(0, "shop.db")
		l.up(1, "shop.web")
		l.crashed(5, "shop.db")
		l.supervisor(5, "shop", journal.SupervisorGaveUp, cause("shop.db")...)
		l.stopping(5, "shop.web", "gave_up", "shop.db")
		l.stopped(5.1, "shop.web")
		l.supervisor(5.1, "shop", journal.SupervisorStopped)
		l.restarting(5.1, "shop.db", "strategy", "shop", 0)
		l.restarting(5.1, "shop.web", "strategy", "shop", 0)
		l.up(5.2, "shop.db")
		l.up(5.7, "shop.web")
		return l.events
	},
	"gives_up": func() []journal.Event {
		var l tale
		l.up(0, "db")
		l.up(1, "web")
		l.crashed(5, "db")
		l.supervisor(5, "", journal.SupervisorGaveUp, cause("db")...)
		l.stopping(5, "web", "gave_up", "db")
		l.stopped(5.1, "web")
		l.supervisor(5.1, "", journal.SupervisorStopped)
		return l.events
	},
	"gives_up_below": func() []journal.Event {
		var l tale
		l.up(0, "clock")
		l.up(0, "shop.db")
		l.crashed(5, "shop.db")
		l.supervisor(5, "shop", journal.SupervisorGaveUp, cause("shop.db")...)
		l.supervisor(5, "shop", journal.SupervisorStopped)
		l.stopping(9, "clock", "shutdown", "")
		return l.events
	},
	"stopped_meanwhile": func() []journal.Event {
		var l tale
		l.up(0, "db")
		l.up(1, "web")
		l.crashed(5, "db")
		l.restarting(5, "db", "exit", "", time.Minute)
		l.crashed(6, "web")
		l.restarting(6, "web", "exit", "", 0)
		l.started(6, "web")
		l.stopping(6.2, "web", "shutdown", "")
		l.stopped(6.3, "web")
		l.supervisor(6.3, "", journal.SupervisorStopped)
		return l.events
	},
	"two_at_once": func() []journal.Event {
		var l tale
		for _, process := range []string{"a", "b", "c"} {
			l.up(0, process)
		}
		l.crashed(5, "c")
		l.restarting(5, "c", "exit", "", time.Second)
		l.crashed(5.5, "b")
		l.restarting(5.5, "b", "exit", "", time.Second)
		l.restarting(5.5, "c", "strategy", "b", time.Second)
		l.up(6.5, "b")
		l.up(7, "c")
		return l.events
	},
	"replayed": func() []journal.Event {
		var l tale
		l.up(0, "web")
		l.crashed(60, "web") // 50 s after its end
		crash := &l.events[len(l.events)-1]
		crash.Attrs = slices.DeleteFunc(crash.Attrs, func(a journal.Attr) bool { return a.Key == journal.KeyRunDuration })
		crash.Attrs = append(crash.Attrs, journal.Bool(journal.KeyReplayed, true), journal.Seconds(journal.KeyRunDuration, 10*time.Second))
		l.restarting(60, "web", "exit", "", 0)
		l.up(60.1, "web")
		return l.events
	},
	"operator": func() []journal.Event { // not from any failure
		var l tale
		l.up(0, "web")
		l.restarting(5, "web", "operator", "", 0)
		l.stopping(5, "web", "operator", "")
		l.stopped(5.1, "web")
		l.up(5.1, "web")
		return l.events
	},
}

// drawn shows traces as text: a line for each span, those below it indented, with its
// time since the first one's start.
func drawn(traces ptrace.Traces) string {
	var all []ptrace.Span
	for _, rs := range traces.ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b ptrace.Span) int { return a.StartTimestamp().AsTime().Compare(b.StartTimestamp().AsTime()) })
	since := func(t pcommon.Timestamp) string { return fmt.Sprintf("%.2f s", t.AsTime().Sub(now).Seconds()) }
	var text strings.Builder
	put := func(indent, name string, attrs pcommon.Map, without ...string) {
		var list []string
		for key, value := range attrs.All() {
			if !slices.Contains(without, key) {
				list = append(list, key+"="+value.AsString())
			}
		}
		slices.Sort(list)
		fmt.Fprintf(&text, "%s\n", strings.TrimRight(indent+name+" "+strings.Join(list, " "), " "))
	}
	var draw func(indent string, trace pcommon.TraceID, parent pcommon.SpanID)
	draw = func(indent string, trace pcommon.TraceID, parent pcommon.SpanID) {
		for _, s := range all {
			if s.TraceID() != trace || s.ParentSpanID() != parent {
				continue
			}
			process, _ := s.Attributes().Get(journal.KeyProcessID)
			put(indent, fmt.Sprintf("%s %s [%s to %s]", s.Name(), process.Str(), since(s.StartTimestamp()), since(s.EndTimestamp())), s.Attributes(),
				"process.creation.time", "process.pid", "supervisor.process.id")
			if s.Status().Code() == ptrace.StatusCodeError {
				fmt.Fprintf(&text, "%s  ! %s\n", indent, s.Status().Message())
			}
			for _, l := range s.Links().All() {
				run, _ := l.Attributes().Get(journal.KeyRun)
				fmt.Fprintf(&text, "%s  -> process.run %s, run %d\n", indent, process.Str(), run.Int())
			}
			for _, e := range s.Events().All() {
				put(indent+"  ", "* "+e.Name()+" ["+since(e.Timestamp())+"]", e.Attributes(), "process.pid", "supervisor.event.sequence")
			}
			draw(indent+"  ", trace, s.SpanID())
		}
	}
	for _, s := range all {
		if s.ParentSpanID().IsEmpty() {
			draw("", s.TraceID(), pcommon.SpanID{})
		}
	}
	return text.String()
}

func newTestSpans(t *testing.T, change func(*Config)) (*spans, *run) {
	t.Helper()
	fake := newFakeSupervisor(fakeProcess("web"), fakeProcess("clock"), fakeProcess("a"), fakeProcess("b"), fakeProcess("c"), fakeProcess("db"),
		fakeProcess("shop"), fakeProcess("shop.api"), fakeProcess("shop.db"), fakeProcess("shop.cache"), fakeProcess("shop.web"))
	r := newRun(fake, change)
	rep, err := newReport(r.set)
	require.NoError(t, err)
	return newSpans(r.cfg, newResources(fake, &r.cfg.ResourceAttributes), rep, r.traces), r
}

// tracesOf are the traces that come of events that are offered in that many parts.
func tracesOf(t *testing.T, events []journal.Event, change func(*Config), parts ...int) ptrace.Traces {
	t.Helper()
	s, r := newTestSpans(t, change)
	for at := 0; at < len(events); {
		n := len(events) - at
		if len(parts) > 0 {
			n, parts = min(n, parts[0]), parts[1:]
		}
		require.NoError(t, s.deliver(context.Background(), events[at:at+n], 0))
		at += n
	}
	all := ptrace.NewTraces()
	for _, traces := range r.traces.AllTraces() {
		traces.ResourceSpans().MoveAndAppendTo(all.ResourceSpans())
	}
	return all
}

func TestSpans_TellWhatHappened(t *testing.T) {
	for name, tell := range tales {
		t.Run(name, func(t *testing.T) {
			got := drawn(tracesOf(t, tell(), nil))
			path := filepath.Join("testdata", "spans", name+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

func TestSpans_AreAsRecorded(t *testing.T) {
	path := filepath.Join("testdata", "golden", "spans.yaml")
	got := tracesOf(t, groupCrash(), nil)
	if *update {
		require.NoError(t, golden.WriteTracesToFile(path, got))
	}
	want, err := golden.ReadTraces(path)
	require.NoError(t, err)
	require.NoError(t, ptracetest.CompareTraces(want, got))
}

func TestSpans_TheDocumentShowsARecovery(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "telemetry.md"))
	require.NoError(t, err)
	recover := drawn(tracesOf(t, groupCrash(), func(cfg *Config) { cfg.Topics.Lifecycle.Trace = false }))
	assert.Contains(t, string(document), "```text\n"+recover+"```\n")
}

// Whatever parts the events come in, and whichever collector is told of them.
func TestSpans_AreTheSameHoweverTheyAreTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := tales[rapid.SampledFrom([]string{"run", "rest_for_one", "fails_on_the_way", "escalates", "two_at_once"}).Draw(rt, "tale")]()
		want := sorted(tracesOf(t, events, nil))
		parts := rapid.SliceOfN(rapid.IntRange(1, 5), 0, 20).Draw(rt, "parts")
		require.Equal(rt, want, sorted(tracesOf(t, events, nil, parts...)))

		split := rapid.IntRange(0, len(events)).Draw(rt, "another collector from")
		before, after := tracesOf(t, events[:split], nil), ptrace.NewTraces()
		s, r := newTestSpans(t, nil)
		if split > 0 {
			s.recall(events[:split])
		}
		if split < len(events) {
			require.NoError(rt, s.deliver(context.Background(), events[split:], 0))
		}
		before.ResourceSpans().MoveAndAppendTo(after.ResourceSpans())
		for _, traces := range r.traces.AllTraces() {
			traces.ResourceSpans().MoveAndAppendTo(after.ResourceSpans())
		}
		require.Equal(rt, want, sorted(after))
	})
}

// sorted is each span in JSON, with its ids.
func sorted(traces ptrace.Traces) []string {
	var all []string
	for _, rs := range traces.ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			one := ptrace.NewTraces()
			s.CopyTo(one.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty())
			text, _ := new(ptrace.JSONMarshaler).MarshalTraces(one)
			all = append(all, string(text))
		}
	}
	slices.Sort(all)
	return all
}

func TestSpans_AreOfferedAgainAsTheyWere(t *testing.T) {
	s, _ := newTestSpans(t, nil)
	refusing := &refuser{}
	s.next = refusing
	events := groupCrash()
	require.Error(t, s.deliver(context.Background(), events, 0))
	refusing.next = new(consumertest.TracesSink)
	require.NoError(t, s.deliver(context.Background(), events, 0))
	assert.Equal(t, sorted(tracesOf(t, groupCrash(), nil)), sorted(refusing.next.AllTraces()[0]))
}

type refuser struct {
	consumertest.Consumer
	next *consumertest.TracesSink
}

func (r *refuser) ConsumeTraces(ctx context.Context, traces ptrace.Traces) error {
	if r.next == nil {
		return errors.New("not now")
	}
	return r.next.ConsumeTraces(ctx, traces)
}

func TestSpans_AfterAGapNothingIsGuessed(t *testing.T) {
	s, r := newTestSpans(t, nil)
	events := groupCrash()
	crash := slices.IndexFunc(events, func(e journal.Event) bool { return e.Name == journal.ProcessCrashed })
	require.NoError(t, s.deliver(context.Background(), events[:crash+3], 0))
	r.traces.Reset()
	require.NoError(t, s.deliver(context.Background(), events[len(events)-2:], 1000))
	require.Len(t, r.traces.AllTraces(), 1)
	assert.Equal(t, 1, r.traces.SpanCount(), "of the start, and none of a recovery of which the end is not known")
}

func TestSpans_TopicsChoose(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"lifecycle":  {func(cfg *Config) { cfg.Topics.Lifecycle.Trace = false }, []string{spanRecover, spanRecovers}},
		"supervisor": {func(cfg *Config) { cfg.Topics.Supervisor.Trace = false }, []string{spanRun, spanStart, spanStop}},
	} {
		got := tracesOf(t, groupCrash(), tt.change)
		seen := map[string]bool{}
		for _, rs := range got.ResourceSpans().All() {
			for _, s := range rs.ScopeSpans().At(0).Spans().All() {
				seen[s.Name()] = true
			}
		}
		assert.Len(t, seen, len(tt.want))
		for _, kind := range tt.want {
			assert.True(t, seen[kind], "%s without %s", kind, name)
		}
	}
	s, r := newTestSpans(t, func(cfg *Config) { cfg.Topics.Lifecycle.Trace, cfg.Topics.Supervisor.Trace = false, false })
	require.NoError(t, s.deliver(context.Background(), groupCrash(), 0))
	assert.Empty(t, r.traces.AllTraces())
}

// An instance that has ended may never come again, and is forgotten.
func TestTracer_HoldsNoMoreThanThereIs(t *testing.T) {
	var l tale
	for i := range 1000 {
		id := fmt.Sprintf("jobs.%d", i)
		at := len(l.events)
		l.up(float64(i), id)
		if i%2 == 0 {
			l.crashed(float64(i)+1, id)
			l.restarting(float64(i)+1, id, "exit", "", 0)
			l.up(float64(i)+1, id)
		}
		l.stopping(float64(i)+2, id, "operator", "")
		l.stopped(float64(i)+3, id)
		for j := at; j < len(l.events); j++ {
			l.events[j].Process = "jobs"
			l.events[j].Attrs = append(l.events[j].Attrs, journal.String(journal.KeyInstanceID, id))
		}
	}
	s, _ := newTestSpans(t, nil)
	s.tell(l.events)
	assert.Empty(t, s.tracer.units)
	assert.Empty(t, s.tracer.open)
	assert.Len(t, s.tracer.made, 1000*3+500*(3-1+2))
}

func TestTracer_CountsWhatACrashLoopHasMoreToTell(t *testing.T) {
	var l tale
	l.up(0, "web")
	for i := range 100 {
		l.crashed(float64(i+1), "web")
		l.restarting(float64(i+1), "web", "exit", "", 0)
		l.started(float64(i+1), "web")
	}
	l.ready(101, "web")
	var parts []ptrace.Span
	for _, rs := range tracesOf(t, l.events, nil).ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			if s.Name() == spanRecovers {
				parts = append(parts, s)
			}
		}
	}
	require.Len(t, parts, 1, "it never came up in between")
	assert.Equal(t, mostMoments, parts[0].Events().Len())
	assert.EqualValues(t, 301-mostMoments, parts[0].DroppedEventsCount())
}
