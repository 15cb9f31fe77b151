// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap/zaptest/observer"
)

// stamp is the next of a row of timestamps.
func stamp(n *int) pcommon.Timestamp {
	*n++
	return pcommon.Timestamp(*n)
}

type timed interface{ Timestamp() pcommon.Timestamp }

// points lists what there is of each point: name, unit, kind of its metric, and its time.
func points(md pmetric.Metrics) []string {
	var out []string
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				add := func(p timed, t pmetric.AggregationTemporality) {
					out = append(out, fmt.Sprint(m.Name(), m.Unit(), m.Type(), t, p.Timestamp()))
				}
				switch m.Type() {
				case pmetric.MetricTypeGauge:
					for _, p := range m.Gauge().DataPoints().All() {
						add(p, 0)
					}
				case pmetric.MetricTypeSum:
					for _, p := range m.Sum().DataPoints().All() {
						add(p, m.Sum().AggregationTemporality())
					}
				case pmetric.MetricTypeHistogram:
					for _, p := range m.Histogram().DataPoints().All() {
						add(p, m.Histogram().AggregationTemporality())
					}
				case pmetric.MetricTypeExponentialHistogram:
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						add(p, m.ExponentialHistogram().AggregationTemporality())
					}
				case pmetric.MetricTypeSummary:
					for _, p := range m.Summary().DataPoints().All() {
						add(p, 0)
					}
				}
			}
		}
	}
	return out
}

type metricsFixture struct {
	*metricsProcessor
	sink *consumertest.MetricsSink
	tel  *componenttest.Telemetry
	logs *observer.ObservedLogs
}

func startMetrics(t *testing.T, change func(*Config)) *metricsFixture {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Metrics.Interval = 10 * time.Second
	if change != nil {
		change(cfg)
	}
	require.NoError(t, cfg.Validate())
	f := &metricsFixture{sink: new(consumertest.MetricsSink)}
	set, logs, tel := settings(t)
	f.tel, f.logs = tel, logs
	p, err := newMetricsProcessor(set, cfg, f.sink)
	require.NoError(t, err)
	f.metricsProcessor = p
	require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return f
}

func (f *metricsFixture) held() int {
	return f.observe().size
}

// deltas makes one delta point of value 1 for each stream.
func deltas(time int, streams ...int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("requests")
	m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	for _, s := range streams {
		p := m.Sum().DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(time))
		p.SetTimestamp(pcommon.Timestamp(time + 1))
		p.SetIntValue(1)
		p.Attributes().PutInt("stream", int64(s))
	}
	return md
}

// values lists the sums that came out, batch by batch.
func (f *metricsFixture) values() [][]int64 {
	var out [][]int64
	for _, md := range f.sink.AllMetrics() {
		var b []int64
		for _, rm := range md.ResourceMetrics().All() {
			for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
				for _, p := range m.Sum().DataPoints().All() {
					b = append(b, p.IntValue())
				}
			}
		}
		out = append(out, b)
	}
	return out
}

func TestWindow_SendsOnePointOfEachStreamPerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, nil)
		for i := range 25 {
			require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(i+1, 1, 2)))
			assert.LessOrEqual(t, f.held(), 2, "a stream holds one item")
			pass(time.Second)
		}
		assert.Equal(t, [][]int64{{10, 10}, {10, 10}}, f.values())
		assert.Equal(t, int64(44), counterOf(t, f.tel, "otelcol_processor_event_batch_merged_points"))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, [][]int64{{10, 10}, {10, 10}, {5, 5}}, f.values())
		assert.Zero(t, f.held())
	})
}

func TestWindow_NothingIsSentForAQuietInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, nil)
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(1, 1)))
		pass(time.Minute)
		assert.Equal(t, [][]int64{{1}}, f.values())
	})
}

func TestWindow_EndsAtMultiplesOfTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, nil)
		pass(27 * time.Second)
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(1, 1)))
		pass(2999 * time.Millisecond)
		assert.Empty(t, f.values())
		pass(2 * time.Millisecond)
		assert.Equal(t, [][]int64{{1}}, f.values())
	})
}

func TestWindow_ClosesEarlyWhenTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.QueueSize = 4 })
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(1, 1, 2, 3)))
		begin := time.Now()
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(2, 4, 5)))
		assert.Zero(t, time.Since(begin))
		synctest.Wait()
		assert.Equal(t, [][]int64{{1, 1, 1}}, f.values())
		assert.Equal(t, 2, f.held())
	})
}

func TestWindow_DeliveredWaitsForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.Acknowledge = AcknowledgeDelivered })
		done := make(chan error, 2)
		begin := time.Now()
		for i := range 2 {
			go func() { done <- f.ConsumeMetrics(t.Context(), deltas(i+1, 1)) }()
		}
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		assert.Equal(t, 10*time.Second, time.Since(begin))
		assert.Equal(t, [][]int64{{2}}, f.values())
	})
}

func TestWindow_DeliveredDoesNotWaitForWhatIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.Acknowledge = AcknowledgeDelivered })
		point := func() pmetric.Metrics {
			md := deltas(1, 1)
			md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			return md
		}
		require.NoError(t, f.ConsumeMetrics(t.Context(), point()))
		begin := time.Now()
		require.NoError(t, f.ConsumeMetrics(t.Context(), point()), "the same again: nothing to deliver")
		assert.Zero(t, time.Since(begin))
	})
}

func TestWindow_WhatIsNotAggregatedIsBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.Metrics.Overrides = []Override{{Metric: "requests", Aggregate: AggregateNone}} })
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(1, 1, 1)))
		pass(time.Second)
		assert.Equal(t, [][]int64{{1, 1}}, f.values())
		assert.Zero(t, f.held())
	})
}

func TestWindow_WarnsOfASecondSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, nil)
		first := deltas(1, 1)
		first.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).SetTimestamp(9)
		require.NoError(t, f.ConsumeMetrics(t.Context(), first))
		require.NoError(t, f.ConsumeMetrics(t.Context(), deltas(4, 1)))
		pass(10 * time.Second)
		assert.Equal(t, [][]int64{{1, 1}}, f.values())
		logged := f.logs.FilterMessageSnippet("could not be merged").All()
		require.Len(t, logged, 1)
		assert.Equal(t, int64(1), logged[0].ContextMap()["overlapping"])
		assert.Equal(t, int64(1), counterOf(t, f.tel, "otelcol_processor_event_batch_unmerged_points", "cause", "overlap"))
	})
}

func TestWindow_MetadataKeepsStreamsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.MetadataKeys = []string{"tenant"} })
		for i, name := range []string{"red", "blue", "red"} {
			require.NoError(t, f.ConsumeMetrics(tenant(t.Context(), name), deltas(i+1, 1)))
		}
		pass(10 * time.Second)
		assert.ElementsMatch(t, [][]int64{{2}, {1}}, f.values())
	})
}

func TestWindow_ManyProducersLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startMetrics(t, func(c *Config) { c.QueueSize = 20 })
		done := make(chan error)
		for p := range 6 {
			go func() {
				var err error
				for i := range 50 {
					md := deltas(0, p, i%9, 3)
					err = f.ConsumeMetrics(t.Context(), md)
					time.Sleep(time.Duration(i%7) * 100 * time.Millisecond)
				}
				done <- err
			}()
		}
		for range 6 {
			require.NoError(t, <-done)
		}
		require.NoError(t, f.Shutdown(t.Context()))
		var sum int64
		for _, b := range f.values() {
			for _, v := range b {
				sum += v
			}
		}
		assert.Equal(t, int64(6*50*3), sum)
	})
}
