// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/aggregate"
	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metricdata"
)

// metricsSignal has no groups: data points of one type are one group by their nature, and metrics are told apart by name.
type metricsSignal struct {
	next consumer.Metrics
}

type metricsProcessor struct{ *engine[pmetric.Metrics] }

func newMetricsProcessor(set processor.Settings, cfg *Config, next consumer.Metrics) (*metricsProcessor, error) {
	e, err := newEngine(set, cfg, "metrics", &metricsSignal{next: next}, false)
	if err != nil {
		return nil, err
	}
	if cfg.Metrics.Interval > 0 {
		rules := cfg.Metrics.rules()
		e.join(cfg.Metrics.Interval, func() absorber[pmetric.Metrics] { return aggregate.NewStore(rules) })
	}
	return &metricsProcessor{e}, nil
}

// rules translates the words of the configuration, which has been validated.
func (m *MetricsConfig) rules() aggregate.Rules {
	words := map[string]aggregate.Aggregation{
		AggregateNone:    aggregate.None,
		AggregateSum:     aggregate.Sum,
		AggregateAverage: aggregate.Average,
		AggregateLast:    aggregate.Last,
		AggregateMin:     aggregate.Min,
		AggregateMax:     aggregate.Max,
		AggregateMerge:   aggregate.Merge,
	}
	r := aggregate.Rules{Sum: words[m.Sum], Gauge: words[m.Gauge], Histogram: words[m.Histogram]}
	for _, o := range m.Overrides {
		r.Overrides = append(r.Overrides, aggregate.Override{Metric: o.Metric, Aggregation: words[o.Aggregate]})
	}
	return r
}

// ConsumeMetrics takes the points over. See Config.Acknowledge for what a nil error means.
func (p *metricsProcessor) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	return p.consume(ctx, md)
}

func (*metricsSignal) create() pmetric.Metrics      { return pmetric.NewMetrics() }
func (*metricsSignal) count(md pmetric.Metrics) int { return md.DataPointCount() }
func (*metricsSignal) moveAll(from, to pmetric.Metrics) {
	from.ResourceMetrics().MoveAndAppendTo(to.ResourceMetrics())
}

func (s *metricsSignal) send(ctx context.Context, md pmetric.Metrics) error {
	return s.next.ConsumeMetrics(ctx, md)
}

// Without groups the engine never asks for these.
func (*metricsSignal) classify(pmetric.Metrics, *classification) {}
func (*metricsSignal) compact(pmetric.Metrics)                   {}
func (*metricsSignal) distribute(md pmetric.Metrics, _ []int32, _ int, parts []pmetric.Metrics) []pmetric.Metrics {
	return append(parts, md)
}

// split takes the first n data points out of md. What has no points goes along with what it stands before.
func (*metricsSignal) split(md pmetric.Metrics, n int) pmetric.Metrics {
	out := pmetric.NewMetrics()
	left := n
	md.ResourceMetrics().RemoveIf(func(rm pmetric.ResourceMetrics) bool {
		if left == 0 {
			return false
		}
		if c := resourcePoints(rm); c <= left {
			left -= c
			rm.MoveTo(out.ResourceMetrics().AppendEmpty())
			return true
		}
		dst := out.ResourceMetrics().AppendEmpty()
		rm.Resource().CopyTo(dst.Resource())
		dst.SetSchemaUrl(rm.SchemaUrl())
		rm.ScopeMetrics().RemoveIf(func(sm pmetric.ScopeMetrics) bool {
			if left == 0 {
				return false
			}
			if c := scopePoints(sm); c <= left {
				left -= c
				sm.MoveTo(dst.ScopeMetrics().AppendEmpty())
				return true
			}
			to := dst.ScopeMetrics().AppendEmpty()
			sm.Scope().CopyTo(to.Scope())
			to.SetSchemaUrl(sm.SchemaUrl())
			left = splitMetrics(sm.Metrics(), to.Metrics(), left)
			return false
		})
		return false
	})
	return out
}

// splitMetrics moves the first n points of src, which has more, and returns 0.
func splitMetrics(src, dst pmetric.MetricSlice, n int) int {
	src.RemoveIf(func(m pmetric.Metric) bool {
		if n == 0 {
			return false
		}
		if c := metricdata.Points(m); c <= n {
			n -= c
			m.MoveTo(dst.AppendEmpty())
			return true
		}
		splitPoints(m, dst.AppendEmpty(), n)
		n = 0
		return false
	})
	return n
}

func splitPoints(src, dst pmetric.Metric, n int) {
	metricdata.CopyDescriptor(src, dst)
	switch src.Type() {
	case pmetric.MetricTypeGauge:
		movePoints(src.Gauge().DataPoints(), dst.Gauge().DataPoints(), n)
	case pmetric.MetricTypeSum:
		movePoints(src.Sum().DataPoints(), dst.Sum().DataPoints(), n)
	case pmetric.MetricTypeHistogram:
		movePoints(src.Histogram().DataPoints(), dst.Histogram().DataPoints(), n)
	case pmetric.MetricTypeExponentialHistogram:
		movePoints(src.ExponentialHistogram().DataPoints(), dst.ExponentialHistogram().DataPoints(), n)
	case pmetric.MetricTypeSummary:
		movePoints(src.Summary().DataPoints(), dst.Summary().DataPoints(), n)
	}
}

func movePoints[E movable[E], S slice[E, S]](src, dst S, n int) {
	dst.EnsureCapacity(n)
	src.RemoveIf(func(p E) bool {
		if n == 0 {
			return false
		}
		n--
		p.MoveTo(dst.AppendEmpty())
		return true
	})
}

func resourcePoints(rm pmetric.ResourceMetrics) int {
	n := 0
	for i := range rm.ScopeMetrics().Len() {
		n += scopePoints(rm.ScopeMetrics().At(i))
	}
	return n
}

func scopePoints(sm pmetric.ScopeMetrics) int {
	n := 0
	for i := range sm.Metrics().Len() {
		n += metricdata.Points(sm.Metrics().At(i))
	}
	return n
}
