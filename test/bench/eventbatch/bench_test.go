// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/groupbyattrsprocessor"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/intervalprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/processor/batchprocessor"

	"github.com/otelwarden/warden/processor/eventbatchprocessor"
)

func ours[T any](change func(*eventbatchprocessor.Config)) side[T] {
	return side[T]{name: "event_batch", factory: eventbatchprocessor.NewFactory(), exact: true, config: func(c component.Config) {
		cfg := c.(*eventbatchprocessor.Config)
		cfg.Logs.GroupBy, cfg.Traces.GroupBy = nil, nil
		if change != nil {
			change(cfg)
		}
	}}
}

func eachShape[T any](b *testing.B, sig signal[T], bare bool, sides ...side[T]) {
	for _, items := range []int{1, 10, 1000} {
		for _, producers := range []int{1, 2} {
			b.Run(fmt.Sprintf("items=%d/producers=%d", items, producers), func(b *testing.B) {
				compare(b, sig, shape{items, producers, bare}, sides...)
			})
		}
	}
}

func batch[T any]() side[T] {
	return side[T]{name: "batch", factory: batchprocessor.NewFactory(), exact: true}
}

// BenchmarkBatching is batching without groups, beside the stock batch processor.
func BenchmarkBatching(b *testing.B) {
	b.Run("logs", func(b *testing.B) { eachShape(b, logs, true, ours[logsData](nil), batch[logsData]()) })
	b.Run("metrics", func(b *testing.B) { eachShape(b, metrics, true, ours[metricsData](nil), batch[metricsData]()) })
	b.Run("traces", func(b *testing.B) { eachShape(b, traces, true, ours[tracesData](nil), batch[tracesData]()) })
}

func groupByAttributes[T any]() side[T] {
	return side[T]{name: "groupbyattrs", factory: groupbyattrsprocessor.NewFactory(), exact: true, config: func(c component.Config) {
		c.(*groupbyattrsprocessor.Config).GroupByKeys = []string{"worker"}
	}}
}

// BenchmarkGroupingByAttribute puts ten types of event apart, by an attribute of the record, and merges resources.
func BenchmarkGroupingByAttribute(b *testing.B) {
	group := func(c *eventbatchprocessor.Config) {
		c.Logs.GroupBy, c.Traces.GroupBy = []string{`attributes["worker"]`}, []string{`attributes["worker"]`}
	}
	b.Run("logs", func(b *testing.B) { eachShape(b, logs, false, ours[logsData](group), groupByAttributes[logsData]()) })
	b.Run("traces", func(b *testing.B) {
		eachShape(b, traces, false, ours[tracesData](group), groupByAttributes[tracesData]())
	})
}

// BenchmarkGroupingByName is the default configuration: logs by event name, spans by name.
func BenchmarkGroupingByName(b *testing.B) {
	group := func(c *eventbatchprocessor.Config) {
		c.Logs.GroupBy, c.Traces.GroupBy = []string{"event_name"}, []string{"span_name"}
	}
	b.Run("logs", func(b *testing.B) { eachShape(b, logs, false, ours[logsData](group)) })
	b.Run("traces", func(b *testing.B) { eachShape(b, traces, false, ours[tracesData](group)) })
}

// BenchmarkAggregation keeps the newest point of cumulative streams over an interval that no round outlasts.
func BenchmarkAggregation(b *testing.B) {
	our := ours[metricsData](func(c *eventbatchprocessor.Config) { c.Metrics.Interval = time.Hour })
	our.exact = false
	eachShape(b, metrics, false, our, side[metricsData]{name: "interval", factory: intervalprocessor.NewFactory()})
}
