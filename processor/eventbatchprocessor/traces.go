// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

type tracesTree = tree[ptrace.Traces, ptrace.ResourceSpansSlice, ptrace.ResourceSpans, ptrace.ScopeSpansSlice, ptrace.ScopeSpans, ptrace.SpanSlice, ptrace.Span]

type tracesSignal struct {
	tracesTree
	grouping grouping
	next     consumer.Traces
}

type tracesProcessor struct{ *engine[ptrace.Traces] }

func newTracesProcessor(set processor.Settings, cfg *Config, next consumer.Traces) (*tracesProcessor, error) {
	grouping, err := newGrouping(cfg.Traces.GroupBy, signalTraces)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(set, cfg, "traces", newTracesSignal(grouping, next), grouping.enabled())
	if err != nil {
		return nil, err
	}
	return &tracesProcessor{e}, nil
}

func newTracesSignal(g grouping, next consumer.Traces) *tracesSignal {
	return &tracesSignal{
		tracesTree: tracesTree{
			create:    ptrace.NewTraces,
			resources: ptrace.Traces.ResourceSpans,
			scopes:    ptrace.ResourceSpans.ScopeSpans,
			items:     ptrace.ScopeSpans.Spans,
			byPointer: hasPointers[ptrace.SpanSlice](),
		},
		grouping: g,
		next:     next,
	}
}

// ConsumeTraces takes the spans over. See Config.Acknowledge for what a nil error means.
func (p *tracesProcessor) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	return p.consume(ctx, td)
}

func (s *tracesSignal) create() ptrace.Traces      { return ptrace.NewTraces() }
func (s *tracesSignal) count(td ptrace.Traces) int { return td.SpanCount() }
func (s *tracesSignal) moveAll(from, to ptrace.Traces) {
	from.ResourceSpans().MoveAndAppendTo(to.ResourceSpans())
}

func (s *tracesSignal) send(ctx context.Context, td ptrace.Traces) error {
	return s.next.ConsumeTraces(ctx, td)
}

func (s *tracesSignal) classify(td ptrace.Traces, c *classification) {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			c.buf = s.grouping.appendShared(c.buf[:0], rs.Resource(), ss.Scope())
			spans := ss.Spans()
			if len(s.grouping.item) == 0 {
				c.addRun(spans.Len())
				continue
			}
			shared := len(c.buf)
			for i := range spans.Len() {
				c.buf = s.grouping.appendSpan(c.buf[:shared], spans.At(i))
				c.add()
			}
		}
	}
}
