// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	conventions "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

const spanRun = "process.run"

// runSpans makes one span of each run that has ended.
type runSpans struct {
	*report
	topics    *TopicsConfig
	resources *resources
	next      consumer.Traces
}

func newRunSpans(cfg *Config, shared *resources, r *report, next consumer.Traces) *runSpans {
	return &runSpans{report: r, topics: &cfg.Topics, resources: shared, next: next}
}

// deliver is a feed's. What was missed in the journal has no span.
func (s *runSpans) deliver(ctx context.Context, events []journal.Event, _ uint64) error {
	traces := s.build(events)
	n := traces.SpanCount()
	if n == 0 {
		return nil
	}
	ctx = s.obs.StartTracesOp(ctx)
	err := s.next.ConsumeTraces(ctx, traces)
	s.obs.EndTracesOp(ctx, "", n, err)
	return err
}

func (s *runSpans) build(events []journal.Event) ptrace.Traces {
	traces := ptrace.NewTraces()
	spans := map[string]ptrace.SpanSlice{}
	for i := range events {
		event := &events[i]
		duration, ok := runDuration(event)
		if !ok || !s.topics.of(event.Topic).Trace {
			continue
		}
		slice, ok := spans[event.Process]
		if !ok {
			slice = appendScopeSpans(traces, s.resources.ofID(event.Process), s.version)
			spans[event.Process] = slice
		}
		setRun(slice.AppendEmpty(), event, duration)
	}
	return traces
}

// runDuration tells how long the run lasted that ended with the event; false if
// the event is not the end of a run. process.killed is not: process.stopped or
// process.crashed follows it.
func runDuration(event *journal.Event) (time.Duration, bool) {
	switch event.Name {
	case journal.ProcessExited, journal.ProcessCrashed, journal.ProcessStopped:
	default:
		return 0, false
	}
	for i := range event.Attrs {
		if attr := &event.Attrs[i]; attr.Key == journal.KeyRunDuration && attr.Kind == journal.KindFloat {
			return time.Duration(attr.Float * float64(time.Second)), true
		}
	}
	return 0, false
}

func setRun(span ptrace.Span, event *journal.Event, duration time.Duration) {
	span.SetTraceID(newTraceID())
	span.SetSpanID(newSpanID())
	span.SetName(spanRun)
	span.SetKind(ptrace.SpanKindInternal)
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(event.Time.Add(-duration)))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(event.Time))
	if event.Name == journal.ProcessCrashed {
		span.Status().SetCode(ptrace.StatusCodeError)
		span.Status().SetMessage(event.Body)
	}
	span.Attributes().EnsureCapacity(len(event.Attrs) + 3)
	putEvent(span.Attributes(), event)
}

func appendScopeSpans(traces ptrace.Traces, resource pcommon.Resource, version string) ptrace.SpanSlice {
	rs := traces.ResourceSpans().AppendEmpty()
	rs.SetSchemaUrl(conventions.SchemaURL)
	resource.CopyTo(rs.Resource())
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName(metadata.ScopeName)
	ss.Scope().SetVersion(version)
	return ss.Spans()
}

// newTraceID returns a random id; all zero bits would mean that there is none.
func newTraceID() pcommon.TraceID {
	var id pcommon.TraceID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1)
	return id
}

func newSpanID() pcommon.SpanID {
	var id pcommon.SpanID
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}
