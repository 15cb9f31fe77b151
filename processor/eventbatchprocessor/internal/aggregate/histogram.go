// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

type histogram = pmetric.HistogramDataPoint

// deltaHistogram merges the points of a delta histogram with explicit bounds.
type deltaHistogram struct{}

func (deltaHistogram) create() histogram         { return pmetric.NewHistogramDataPoint() }
func (deltaHistogram) finish(*stream[histogram]) {}

func (d deltaHistogram) add(s *stream[histogram], p histogram, c *counts) bool {
	switch {
	case !wellFormed(p):
		return s.setAside(p, d.create(), Malformed, c)
	case s.live && overlapping(s, p):
		return s.setAside(p, d.create(), Overlap, c)
	case s.live && mergeHistograms(s.cur, p):
		extend(s, p)
		c.merged++
		return true
	default:
		// Other bounds, or counts too large to add: what was there stays as it is.
		s.complete(d)
		s.coverage.reset(spanOf(p))
		return s.begin(p, c)
	}
}

// join merges points of one time. Those that cannot be merged both go on: with other bounds they are other streams.
func (deltaHistogram) join(a, b histogram) bool {
	if !wellFormed(a) || !wellFormed(b) || !mergeHistograms(a, b) {
		return false
	}
	a.SetStartTimestamp(min(a.StartTimestamp(), b.StartTimestamp()))
	return true
}

// wellFormed reports whether the buckets fit the bounds and add up to the count. A histogram may have no buckets at all.
func wellFormed(p histogram) bool {
	counts, bounds := p.BucketCounts(), p.ExplicitBounds()
	if counts.Len() == 0 {
		return bounds.Len() == 0
	}
	if counts.Len() != bounds.Len()+1 {
		return false
	}
	var sum uint64
	for i := range counts.Len() {
		var ok bool
		if sum, ok = addCounts(sum, counts.At(i)); !ok {
			return false
		}
	}
	return sum == p.Count()
}

// mergeHistograms adds b to a, both well formed, or reports false and changes nothing.
func mergeHistograms(a, b histogram) bool {
	count, ok := addCounts(a.Count(), b.Count())
	if !ok || a.BucketCounts().Len() != b.BucketCounts().Len() || !a.ExplicitBounds().Equal(b.ExplicitBounds()) {
		return false
	}
	a.SetCount(count)
	// No bucket can overflow where the count, their sum, does not.
	to, from := a.BucketCounts(), b.BucketCounts()
	for i := range to.Len() {
		to.SetAt(i, to.At(i)+from.At(i))
	}
	mergeStatistics(a, b)
	takeExemplars(a.Exemplars(), b.Exemplars())
	return true
}

// statistics is what histograms of both kinds have beside buckets.
type statistics interface {
	HasSum() bool
	Sum() float64
	SetSum(float64)
	RemoveSum()
	HasMin() bool
	Min() float64
	SetMin(float64)
	RemoveMin()
	HasMax() bool
	Max() float64
	SetMax(float64)
	RemoveMax()
}

// mergeStatistics keeps only what both sides know: half a sum is no sum.
func mergeStatistics[P statistics](a, b P) {
	if a.HasSum() && b.HasSum() {
		a.SetSum(a.Sum() + b.Sum())
	} else {
		a.RemoveSum()
	}
	if a.HasMin() && b.HasMin() {
		a.SetMin(math.Min(a.Min(), b.Min()))
	} else {
		a.RemoveMin()
	}
	if a.HasMax() && b.HasMax() {
		a.SetMax(math.Max(a.Max(), b.Max()))
	} else {
		a.RemoveMax()
	}
}

func addCounts(a, b uint64) (sum uint64, ok bool) {
	sum = a + b
	return sum, sum >= a
}
