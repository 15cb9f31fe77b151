// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"slices"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	conventions "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// spans passes on what a tracer makes of the journal.
type spans struct {
	*report
	tracer    *tracer
	resources *resources
	next      consumer.Traces
	seen      uint64 // the last event that the tracer was told of
}

func newSpans(cfg *Config, shared *resources, r *report, next consumer.Traces) *spans {
	s := &spans{report: r, resources: shared, next: next}
	s.tracer = newTracer(&cfg.Topics, func(process string) string {
		id, _ := shared.ofID(process).Attributes().Get(string(conventions.ServiceInstanceIDKey))
		return id.AsString()
	})
	return s
}

// recall tells the tracer of events that have been dealt with, for what comes after
// them. The spans of their own have been delivered.
func (s *spans) recall(events []journal.Event) {
	s.tell(events)
	s.tracer.made = nil
}

// deliver is a feed's. What was missed in the journal has no span.
func (s *spans) deliver(ctx context.Context, events []journal.Event, missed uint64) error {
	if events[len(events)-1].Seq > s.seen { // else they are offered again
		if missed > 0 {
			s.tracer.forget()
		}
		s.tracer.made = s.tracer.made[:0]
		s.tell(events)
	}
	if len(s.tracer.made) == 0 {
		return nil
	}
	traces := s.build(s.tracer.made)
	n := traces.SpanCount()
	ctx = s.obs.StartTracesOp(ctx)
	err := s.next.ConsumeTraces(ctx, traces)
	s.obs.EndTracesOp(ctx, "", n, err)
	return err
}

// tell copies the events, which the feed overwrites and the tracer keeps.
func (s *spans) tell(events []journal.Event) {
	for _, event := range slices.Clone(events) {
		s.tracer.see(&event)
		s.seen = event.Seq
	}
}

func (s *spans) build(made []span) ptrace.Traces {
	traces := ptrace.NewTraces()
	written := map[string]ptrace.SpanSlice{}
	for i := range made {
		process := made[i].process
		slice, ok := written[process]
		if !ok {
			slice = appendScopeSpans(traces, s.resources.ofID(process), s.version)
			written[process] = slice
		}
		made[i].write(slice.AppendEmpty())
	}
	return traces
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
