// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metricdata"
)

// entry finds or makes the entry of a metric, and says which family comes next if the metrics of a request come in the
// order in which the families were made: it is looked at first.
func (sc *scope) entry(m pmetric.Metric, rules *Rules, guess int) (e *entry, next int) {
	key := keyOf(m)
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if guess < len(sc.families) && sc.families[guess].key == key {
		return sc.families[guess], guess + 1
	}
	e = sc.metrics[key]
	if e == nil {
		e = &entry{key: key, family: newFamily(m, rules)}
		sc.metrics[key] = e
		if e.family != nil {
			e.index = len(sc.families)
			sc.families = append(sc.families, e)
		}
	}
	if e.family == nil {
		return e, guess
	}
	return e, e.index + 1
}

func keyOf(m pmetric.Metric) metricKey {
	k := metricKey{name: m.Name(), unit: m.Unit(), kind: m.Type()}
	switch k.kind {
	case pmetric.MetricTypeSum:
		k.temporality, k.monotonic = m.Sum().AggregationTemporality(), m.Sum().IsMonotonic()
	case pmetric.MetricTypeHistogram:
		k.temporality = m.Histogram().AggregationTemporality()
	case pmetric.MetricTypeExponentialHistogram:
		k.temporality = m.ExponentialHistogram().AggregationTemporality()
	}
	return k
}

// newFamily chooses the combiner. It returns nil for metrics that go on as they are: by the rules, or because their
// temporality says neither delta nor cumulative.
func newFamily(m pmetric.Metric, rules *Rules) familyOf {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		if rules.choose(m.Name(), kindSum) == None {
			return nil
		}
		if c := sumCombiner(m.Sum()); c != nil {
			return newFamilyOf(m, c, sumPoints)
		}
	case pmetric.MetricTypeGauge:
		switch a := rules.choose(m.Name(), kindGauge); a {
		case None:
		case Last:
			return newFamilyOf(m, combiner[number](&latest[number]{pmetric.NewNumberDataPoint, never[number]}), gaugePoints)
		default:
			return newFamilyOf(m, combiner[number](gauge{a}), gaugePoints)
		}
	case pmetric.MetricTypeHistogram:
		if rules.choose(m.Name(), kindHistogram) == None {
			return nil
		}
		if c := histogramCombiner(m.Histogram()); c != nil {
			return newFamilyOf(m, c, histogramPoints)
		}
	case pmetric.MetricTypeExponentialHistogram:
		if rules.choose(m.Name(), kindHistogram) == None {
			return nil
		}
		if c := exponentialCombiner(m.ExponentialHistogram()); c != nil {
			return newFamilyOf(m, c, exponentialPoints)
		}
	case pmetric.MetricTypeSummary:
		return newFamilyOf(m, combiner[summary](&latest[summary]{pmetric.NewSummaryDataPoint, countReset[summary]}), summaryPoints)
	}
	return nil
}

func newFamilyOf[P point[P], S pointSlice[P]](m pmetric.Metric, c combiner[P], points func(pmetric.Metric) S) *family[P, S] {
	f := &family[P, S]{descriptor: pmetric.NewMetric(), combiner: c, points: points, streams: map[string]*stream[P]{}}
	metricdata.CopyDescriptor(m, f.descriptor)
	return f
}

func sumCombiner(s pmetric.Sum) combiner[number] {
	switch s.AggregationTemporality() {
	case pmetric.AggregationTemporalityDelta:
		return deltaSum{}
	case pmetric.AggregationTemporalityCumulative:
		return &latest[number]{pmetric.NewNumberDataPoint, numberReset(s.IsMonotonic())}
	default:
		return nil
	}
}

func histogramCombiner(h pmetric.Histogram) combiner[histogram] {
	switch h.AggregationTemporality() {
	case pmetric.AggregationTemporalityDelta:
		return deltaHistogram{}
	case pmetric.AggregationTemporalityCumulative:
		return &latest[histogram]{pmetric.NewHistogramDataPoint, countReset[histogram]}
	default:
		return nil
	}
}

func exponentialCombiner(h pmetric.ExponentialHistogram) combiner[exponential] {
	switch h.AggregationTemporality() {
	case pmetric.AggregationTemporalityDelta:
		return deltaExponential{}
	case pmetric.AggregationTemporalityCumulative:
		return &latest[exponential]{pmetric.NewExponentialHistogramDataPoint, countReset[exponential]}
	default:
		return nil
	}
}

type summary = pmetric.SummaryDataPoint

func never[P any](_, _ P) bool { return false }

type counted[P any] interface {
	point[P]
	Count() uint64
}

func countReset[P counted[P]](last, next P) bool {
	return restarted(last, next) || next.Count() < last.Count()
}

func sumPoints(m pmetric.Metric) pmetric.NumberDataPointSlice { return m.Sum().DataPoints() }

func gaugePoints(m pmetric.Metric) pmetric.NumberDataPointSlice { return m.Gauge().DataPoints() }

func histogramPoints(m pmetric.Metric) pmetric.HistogramDataPointSlice {
	return m.Histogram().DataPoints()
}

func summaryPoints(m pmetric.Metric) pmetric.SummaryDataPointSlice { return m.Summary().DataPoints() }

func exponentialPoints(m pmetric.Metric) pmetric.ExponentialHistogramDataPointSlice {
	return m.ExponentialHistogram().DataPoints()
}
