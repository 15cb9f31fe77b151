// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatch

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

var body = strings.Repeat("0123456789abcdef", 8)

// groups is how many types of event the requests have; neighbours are of different types, which is the worst case.
const groups = 10

func fillResource(r pcommon.Resource) {
	a := r.Attributes()
	a.PutStr("service.name", "shop")
	a.PutStr("service.instance.id", "7d5f7f4e-8c1f-4b8e-9d55-0f4c1d9f2b10")
	a.PutStr("process.executable.name", "shopd")
	a.PutStr("process.owner", "www-data")
	a.PutStr("host.name", "node-17")
}

func fillAttributes(a pcommon.Map, i int) {
	a.EnsureCapacity(5)
	a.PutInt("worker", int64(i%groups))
	a.PutStr("stream", "stdout")
	a.PutStr("unit", "shop@1")
	a.PutBool("partial", false)
}

func makeLogs(s shape, seed int) plog.Logs {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	fillResource(rl.Resource())
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	records.EnsureCapacity(s.items)
	for i := range s.items {
		r := records.AppendEmpty()
		if s.bare {
			continue
		}
		r.SetTimestamp(pcommon.Timestamp(seed + 1))
		r.SetEventName(eventNames[(seed+i)%groups])
		r.Body().SetStr(body)
		fillAttributes(r.Attributes(), seed+i)
	}
	return ld
}

func makeTraces(s shape, seed int) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	fillResource(rs.Resource())
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	spans.EnsureCapacity(s.items)
	for i := range s.items {
		span := spans.AppendEmpty()
		if s.bare {
			continue
		}
		span.SetName(eventNames[(seed+i)%groups])
		span.SetTraceID(pcommon.TraceID{1, byte(i)})
		span.SetSpanID(pcommon.SpanID{1, byte(i)})
		span.SetEndTimestamp(pcommon.Timestamp(seed + 1))
		fillAttributes(span.Attributes(), seed+i)
	}
	return td
}

// makeMetrics makes cumulative sums, ten points to a metric. Requests of different parity have different streams, so that
// two producers never bring points of one stream out of order.
func makeMetrics(s shape, seed int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	fillResource(rm.Resource())
	metrics := rm.ScopeMetrics().AppendEmpty().Metrics()
	for i := 0; i < s.items; i += 10 {
		m := metrics.AppendEmpty()
		m.SetName(metricName(i / 10))
		sum := m.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for j := i; j < min(s.items, i+10); j++ {
			dp := sum.DataPoints().AppendEmpty()
			if s.bare {
				continue
			}
			dp.SetStartTimestamp(1)
			dp.SetTimestamp(pcommon.Timestamp(seed + 2))
			dp.SetIntValue(int64(seed))
			fillAttributes(dp.Attributes(), j)
			dp.Attributes().PutInt("producer", int64(seed%2))
		}
	}
	return md
}

var (
	eventNames  [groups]string
	metricNames [100]string
)

func init() {
	for i := range eventNames {
		eventNames[i] = fmt.Sprintf("shop.event_%d", i)
	}
	for i := range metricNames {
		metricNames[i] = fmt.Sprintf("shop.metric_%d", i)
	}
}

func metricName(i int) string { return metricNames[i%len(metricNames)] }

var logs = signal[plog.Logs]{
	generate: makeLogs,
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, got *atomic.Int64) (component.Component, func(context.Context, plog.Logs) error, error) {
		p, err := f.CreateLogs(context.Background(), set, cfg, mustConsumer(consumer.NewLogs(func(_ context.Context, ld plog.Logs) error {
			got.Add(int64(ld.LogRecordCount()))
			return nil
		})))
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeLogs, nil
	},
}

var metrics = signal[pmetric.Metrics]{
	generate: makeMetrics,
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, got *atomic.Int64) (component.Component, func(context.Context, pmetric.Metrics) error, error) {
		p, err := f.CreateMetrics(context.Background(), set, cfg, mustConsumer(consumer.NewMetrics(func(_ context.Context, md pmetric.Metrics) error {
			got.Add(int64(md.DataPointCount()))
			return nil
		})))
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeMetrics, nil
	},
}

var traces = signal[ptrace.Traces]{
	generate: makeTraces,
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, got *atomic.Int64) (component.Component, func(context.Context, ptrace.Traces) error, error) {
		p, err := f.CreateTraces(context.Background(), set, cfg, mustConsumer(consumer.NewTraces(func(_ context.Context, td ptrace.Traces) error {
			got.Add(int64(td.SpanCount()))
			return nil
		})))
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeTraces, nil
	},
}

type (
	logsData    = plog.Logs
	metricsData = pmetric.Metrics
	tracesData  = ptrace.Traces
)
