// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func defaults() Rules { return Rules{Sum: Sum, Gauge: Average, Histogram: Merge} }

const (
	delta      = pmetric.AggregationTemporalityDelta
	cumulative = pmetric.AggregationTemporalityCumulative
)

// one makes a request of one metric.
func one(name string, fill func(pmetric.Metric)) pmetric.Metrics {
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName(name)
	fill(m)
	return md
}

// pt is a number point in short: value int, float64, or nil for a marker.
type pt struct {
	start, time pcommon.Timestamp
	value       any
}

func (p pt) fill(dp pmetric.NumberDataPoint) {
	dp.SetStartTimestamp(p.start)
	dp.SetTimestamp(p.time)
	switch v := p.value.(type) {
	case int:
		dp.SetIntValue(int64(v))
	case int64:
		dp.SetIntValue(v)
	case float64:
		dp.SetDoubleValue(v)
	default:
		dp.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	}
}

func sum(t pmetric.AggregationTemporality, monotonic bool, points ...pt) pmetric.Metrics {
	return one("m", func(m pmetric.Metric) {
		s := m.SetEmptySum()
		s.SetAggregationTemporality(t)
		s.SetIsMonotonic(monotonic)
		for _, p := range points {
			p.fill(s.DataPoints().AppendEmpty())
		}
	})
}

func gauges(name string, points ...pt) pmetric.Metrics {
	return one(name, func(m pmetric.Metric) {
		g := m.SetEmptyGauge()
		for _, p := range points {
			p.fill(g.DataPoints().AppendEmpty())
		}
	})
}

// show writes points as "[start,time]=value", a metric as its points, metrics separated by " | ".
func show(md pmetric.Metrics) string {
	var out []string
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				out = append(out, showMetric(m))
			}
		}
	}
	return strings.Join(out, " | ")
}

func showMetric(m pmetric.Metric) string {
	var out []string
	switch m.Type() {
	case pmetric.MetricTypeSum:
		out = showNumbers(m.Sum().DataPoints())
	case pmetric.MetricTypeGauge:
		out = showNumbers(m.Gauge().DataPoints())
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			s := fmt.Sprintf("[%d,%d]=%d%v%v", p.StartTimestamp(), p.Timestamp(), p.Count(), p.ExplicitBounds().AsRaw(), p.BucketCounts().AsRaw())
			out = append(out, s+showStatistics(p))
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			s := fmt.Sprintf("[%d,%d]=%d s%d z%d+%d%v-%d%v", p.StartTimestamp(), p.Timestamp(), p.Count(), p.Scale(), p.ZeroCount(),
				p.Positive().Offset(), p.Positive().BucketCounts().AsRaw(), p.Negative().Offset(), p.Negative().BucketCounts().AsRaw())
			out = append(out, s+showStatistics(p))
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			out = append(out, fmt.Sprintf("[%d,%d]=%d", p.StartTimestamp(), p.Timestamp(), p.Count()))
		}
	}
	return strings.Join(out, " ")
}

func showStatistics(p statistics) string {
	s := ""
	if p.HasSum() {
		s += fmt.Sprintf(" sum %v", p.Sum())
	}
	if p.HasMin() {
		s += fmt.Sprintf(" min %v", p.Min())
	}
	if p.HasMax() {
		s += fmt.Sprintf(" max %v", p.Max())
	}
	return s
}

func showNumbers(points pmetric.NumberDataPointSlice) []string {
	var out []string
	for _, p := range points.All() {
		v := "gone"
		switch {
		case p.Flags().NoRecordedValue():
		case p.ValueType() == pmetric.NumberDataPointValueTypeInt:
			v = fmt.Sprint(p.IntValue())
		default:
			v = fmt.Sprintf("%v.", p.DoubleValue())
		}
		out = append(out, fmt.Sprintf("[%d,%d]=%s", p.StartTimestamp(), p.Timestamp(), v))
	}
	return out
}

// absorb puts requests in and checks that the store counts what it holds.
func absorb(t testing.TB, s *Store, requests ...pmetric.Metrics) (rest []pmetric.Metrics, held int) {
	t.Helper()
	for _, md := range requests {
		h, r, n := s.Absorb(md)
		held += h
		if n > 0 {
			require.Equal(t, n, r.DataPointCount())
			rest = append(rest, r)
		}
	}
	return rest, held
}

// flushed ends the window and checks what must hold of every window.
func flushed(t testing.TB, s *Store) pmetric.Metrics {
	t.Helper()
	md, n := s.Flush()
	require.Equal(t, n, md.DataPointCount())
	for _, rm := range md.ResourceMetrics().All() {
		require.NotZero(t, rm.ScopeMetrics().Len())
		for _, sm := range rm.ScopeMetrics().All() {
			require.NotZero(t, sm.Metrics().Len())
			for _, m := range sm.Metrics().All() {
				require.NotEmpty(t, showMetric(m), "an empty metric")
			}
		}
	}
	return md
}

// total adds the numbers of all points up, as doubles and apart as integers that do not overflow in tests.
func total(md pmetric.Metrics) (f float64) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Type() != pmetric.MetricTypeSum {
					continue
				}
				for _, p := range m.Sum().DataPoints().All() {
					if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
						f += float64(p.IntValue())
					} else {
						f += p.DoubleValue()
					}
				}
			}
		}
	}
	return f
}

func attributesOf(order []int) func(pcommon.Map) {
	return func(m pcommon.Map) {
		for _, i := range order {
			m.PutInt(fmt.Sprint("k", i), int64(i))
		}
	}
}

func shuffled(n int, seed uint64) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		seed = seed*6364136223846793005 + 1442695040888963407
		j := int(seed>>33) % (i + 1)
		order[i], order[j] = order[j], order[i]
	}
	return slices.Clip(order)
}
