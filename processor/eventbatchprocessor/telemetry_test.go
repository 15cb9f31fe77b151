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
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// counter is the sum of a metric's points that have the attributes, given as pairs.
func (f *fixture) counter(t *testing.T, name string, attributes ...string) int64 {
	t.Helper()
	return counterOf(t, f.tel, name, attributes...)
}

func counterOf(t *testing.T, tel *componenttest.Telemetry, name string, attributes ...string) int64 {
	t.Helper()
	m, err := tel.GetMetric(name)
	if err != nil {
		return 0
	}
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	default:
		require.Failf(t, "not a number", "%s is a %T", name, m.Data)
	}
	var sum int64
	for _, p := range points {
		match := true
		for i := 0; i < len(attributes); i += 2 {
			v, ok := p.Attributes.Value(attribute.Key(attributes[i]))
			match = match && ok && v.AsString() == attributes[i+1]
		}
		if match {
			sum += p.Value
		}
	}
	return sum
}

func TestTelemetry_CountsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull, c.MaxGroups = 8, OnFullReject, 2 })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("a/1", "a/2", "b/3", "c/4"))
		require.Error(t, f.ConsumeLogs(t.Context(), records("a/5", "a/6", "a/7", "a/8", "b/9")))
		const prefix = "otelcol_processor_event_batch_"
		assert.Equal(t, int64(4), f.counter(t, prefix+"queue_size", "signal", "logs", "processor", "event_batch"))
		assert.Equal(t, int64(8), f.counter(t, prefix+"queue_capacity"))
		assert.Equal(t, int64(2), f.counter(t, prefix+"groups"))
		assert.Equal(t, int64(4), f.counter(t, prefix+"accepted_items"))
		assert.Equal(t, int64(1), f.counter(t, prefix+"overflow_items"))
		assert.Equal(t, int64(4), f.counter(t, prefix+"refused_items", "group", "a", "reason", "queue_full"))
		assert.Equal(t, int64(1), f.counter(t, prefix+"refused_items", "group", "b", "reason", "queue_full"))
		release()
		pass(time.Second)
		assert.Equal(t, int64(4), f.counter(t, prefix+"sent_items"))
		assert.Zero(t, f.counter(t, prefix+"queue_size"))
		m, err := f.tel.GetMetric(prefix + "batch_send_size")
		require.NoError(t, err)
		h := m.Data.(metricdata.Histogram[int64]).DataPoints
		require.Len(t, h, 1)
		assert.Equal(t, uint64(3), h[0].Count)
		assert.Equal(t, int64(4), h[0].Sum)
	})
}

func TestTelemetry_NamesAsManyGroupsAsThereMayBe(t *testing.T) {
	f := build(t, func(c *Config) { c.MaxGroups = 3 })
	for i := range 20 {
		f.telemetry.dropped(fmt.Sprint("g", i), reasonQueueFull, 1)
	}
	const name = "otelcol_processor_event_batch_dropped_items"
	assert.Equal(t, int64(1), f.counter(t, name, "group", "g4"))
	assert.Equal(t, int64(15), f.counter(t, name, "group", labelOther))
	assert.Equal(t, int64(20), f.counter(t, name))
}

func TestTelemetry_SaysWhyRequestsWereRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.MetadataKeys, c.MetadataCardinalityLimit = 8, []string{"tenant"}, 1 })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		red := tenant(t.Context(), "red")
		require.NoError(t, f.ConsumeLogs(red, repeated("a", "x", 7)))
		require.Error(t, f.ConsumeLogs(tenant(t.Context(), "blue"), records("a/1")))
		canceled, cancel := context.WithCancel(red)
		cancel()
		require.Error(t, f.ConsumeLogs(canceled, records("a/1", "a/2")))
		release()
		require.NoError(t, f.Shutdown(t.Context()))
		require.Error(t, f.ConsumeLogs(red, records("a/1")))
		const name = "otelcol_processor_event_batch_refused_items"
		assert.Equal(t, int64(1), f.counter(t, name, "reason", "metadata_cardinality"))
		assert.Equal(t, int64(2), f.counter(t, name, "reason", "canceled", "group", "a"))
		assert.Equal(t, int64(1), f.counter(t, name, "reason", "shutdown", "group", "a"))
	})
}
