// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/aggregate"
	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metadata"
)

// How these compare with other processors is measured in test/bench/eventbatch.

// inChunks calls consume b.N times with requests that are made off the clock.
func inChunks[T any](b *testing.B, items int, generate func(i int) T, consume func(T) error) {
	b.ReportAllocs()
	requests := make([]T, max(16, 20_000/items))
	b.ResetTimer()
	for done := 0; done < b.N; {
		k := min(len(requests), b.N-done)
		b.StopTimer()
		for i := range k {
			requests[i] = generate(done + i)
		}
		b.StartTimer()
		for _, r := range requests[:k] {
			if err := consume(r); err != nil {
				b.Fatal(err)
			}
		}
		done += k
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*items), "ns/item")
}

func BenchmarkLogs(b *testing.B) {
	for _, keys := range [][]string{nil, {"event_name"}} {
		for _, items := range []int{1, 10, 1000} {
			b.Run(fmt.Sprintf("group_by=%v/items=%d", keys, items), func(b *testing.B) {
				cfg := createDefaultConfig().(*Config)
				cfg.Logs.GroupBy = keys
				p, err := newLogsProcessor(processortest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
				require.NoError(b, err)
				require.NoError(b, p.Start(b.Context(), componenttest.NewNopHost()))
				specs := make([]string, items)
				for i := range specs {
					specs[i] = fmt.Sprintf("event%d/a line of output", i%10)
				}
				inChunks(b, items, func(int) plog.Logs { return records(specs...) }, func(ld plog.Logs) error { return p.ConsumeLogs(b.Context(), ld) })
				require.NoError(b, p.Shutdown(b.Context()))
			})
		}
	}
}

func BenchmarkTraces(b *testing.B) {
	for _, keys := range [][]string{nil, {"span_name"}} {
		for _, items := range []int{1, 10, 1000} {
			b.Run(fmt.Sprintf("group_by=%v/items=%d", keys, items), func(b *testing.B) {
				cfg := createDefaultConfig().(*Config)
				cfg.Traces.GroupBy = keys
				p, err := newTracesProcessor(processortest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
				require.NoError(b, err)
				require.NoError(b, p.Start(b.Context(), componenttest.NewNopHost()))
				inChunks(b, items, func(int) ptrace.Traces {
					td := ptrace.NewTraces()
					spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
					for i := range items {
						spans.AppendEmpty().SetName(fmt.Sprint("span", i%10))
					}
					return td
				}, func(td ptrace.Traces) error { return p.ConsumeTraces(b.Context(), td) })
				require.NoError(b, p.Shutdown(b.Context()))
			})
		}
	}
}

func BenchmarkMetrics(b *testing.B) {
	for _, interval := range []time.Duration{0, time.Hour} {
		for _, items := range []int{1, 10, 1000} {
			b.Run(fmt.Sprintf("interval=%v/items=%d", interval, items), func(b *testing.B) {
				cfg := createDefaultConfig().(*Config)
				cfg.Metrics.Interval = interval
				p, err := newMetricsProcessor(processortest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
				require.NoError(b, err)
				require.NoError(b, p.Start(b.Context(), componenttest.NewNopHost()))
				streams := make([]int, items)
				for i := range streams {
					streams[i] = i
				}
				inChunks(b, items, func(i int) pmetric.Metrics { return deltas(i+1, streams...) },
					func(md pmetric.Metrics) error { return p.ConsumeMetrics(b.Context(), md) })
				require.NoError(b, p.Shutdown(b.Context()))
			})
		}
	}
}

func TestAggregation_AllocatesNothingInSteadyState(t *testing.T) {
	store := aggregate.NewStore(aggregate.Rules{Sum: aggregate.Sum, Gauge: aggregate.Average, Histogram: aggregate.Merge})
	request := func() pmetric.Metrics {
		md := deltas(0, 1, 2, 3, 4, 5)
		ms := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
		g := ms.AppendEmpty()
		g.SetName("gauge")
		g.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(1)
		h := ms.AppendEmpty()
		h.SetName("histogram")
		h.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := h.Histogram().DataPoints().AppendEmpty()
		p.ExplicitBounds().FromRaw([]float64{1, 2})
		p.BucketCounts().FromRaw([]uint64{0, 0, 0})
		x := ms.AppendEmpty()
		x.SetName("exponential")
		x.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		x.ExponentialHistogram().DataPoints().AppendEmpty().Positive().BucketCounts().FromRaw([]uint64{0, 0})
		return md
	}
	store.Absorb(request())
	// Points of delta streams that exist are only read, so one request can be absorbed again and again.
	again := request()
	if n := testing.AllocsPerRun(1000, func() { store.Absorb(again) }); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}
