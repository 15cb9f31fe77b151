// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

type exponential = pmetric.ExponentialHistogramDataPoint

const (
	// maxBuckets bounds the buckets of each sign after a merge; the resolution gives way.
	maxBuckets = 160
	// minScale and maxScale are what the data model's implementations support. At minScale two buckets hold every double.
	minScale = -10
	maxScale = 20
)

// deltaExponential merges the points of a delta exponential histogram.
type deltaExponential struct{}

func (deltaExponential) create() exponential         { return pmetric.NewExponentialHistogramDataPoint() }
func (deltaExponential) finish(*stream[exponential]) {}

func (d deltaExponential) add(s *stream[exponential], p exponential, c *counts) bool {
	switch {
	case !wellFormedExponential(p):
		return s.setAside(p, d.create(), Malformed, c)
	case s.live && overlapping(s, p):
		return s.setAside(p, d.create(), Overlap, c)
	case s.live && mergeExponentials(s.cur, p):
		extend(s, p)
		c.merged++
		return true
	default:
		s.complete(d)
		s.coverage.reset(spanOf(p))
		return s.begin(p, c)
	}
}

func (deltaExponential) join(a, b exponential) bool {
	if !wellFormedExponential(a) || !wellFormedExponential(b) || !mergeExponentials(a, b) {
		return false
	}
	a.SetStartTimestamp(min(a.StartTimestamp(), b.StartTimestamp()))
	return true
}

// wellFormedExponential reports whether scale and threshold are in range and the buckets add up to the count.
func wellFormedExponential(p exponential) bool {
	if p.Scale() < minScale || p.Scale() > maxScale || math.IsNaN(p.ZeroThreshold()) || p.ZeroThreshold() < 0 || math.IsInf(p.ZeroThreshold(), 0) {
		return false
	}
	sum := p.ZeroCount()
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		counts := b.BucketCounts()
		for i := range counts.Len() {
			var ok bool
			if sum, ok = addCounts(sum, counts.At(i)); !ok {
				return false
			}
		}
	}
	return sum == p.Count()
}

// mergeExponentials adds b to a, both well formed, or reports false and changes nothing.
func mergeExponentials(a, b exponential) bool {
	count, ok := addCounts(a.Count(), b.Count())
	if !ok {
		return false
	}
	if a.Scale() == b.Scale() && a.ZeroThreshold() == b.ZeroThreshold() && covers(a.Positive(), b.Positive()) && covers(a.Negative(), b.Negative()) {
		addInPlace(a.Positive(), b.Positive())
		addInPlace(a.Negative(), b.Negative())
		a.SetZeroCount(a.ZeroCount() + b.ZeroCount())
	} else {
		x, y := load(a), load(b)
		if !x.merge(&y) {
			return false
		}
		x.store(a)
	}
	a.SetCount(count)
	mergeStatistics(a, b)
	takeExemplars(a.Exemplars(), b.Exemplars())
	return true
}

// covers reports whether every bucket of b has one in a.
func covers(a, b pmetric.ExponentialHistogramDataPointBuckets) bool {
	n := b.BucketCounts().Len()
	return n == 0 || b.Offset() >= a.Offset() && int64(b.Offset())+int64(n) <= int64(a.Offset())+int64(a.BucketCounts().Len())
}

func addInPlace(a, b pmetric.ExponentialHistogramDataPointBuckets) {
	to, from := a.BucketCounts(), b.BucketCounts()
	shift := int(int64(b.Offset()) - int64(a.Offset()))
	for i := range from.Len() {
		to.SetAt(i+shift, to.At(i+shift)+from.At(i))
	}
}

// sketch is an exponential histogram to compute with. Indexes are 64 bits wide, so that no offset overflows.
type sketch struct {
	scale         int32
	zeroThreshold float64
	zeroCount     uint64
	sides         [2]buckets // positive, negative
}

// buckets has no empty bucket at either end.
type buckets struct {
	first  int64
	counts []uint64
}

func load(p exponential) sketch {
	return sketch{
		scale: p.Scale(), zeroThreshold: p.ZeroThreshold(), zeroCount: p.ZeroCount(),
		sides: [2]buckets{loadBuckets(p.Positive()), loadBuckets(p.Negative())},
	}
}

func loadBuckets(b pmetric.ExponentialHistogramDataPointBuckets) buckets {
	out := buckets{int64(b.Offset()), b.BucketCounts().AsRaw()}
	out.trim()
	return out
}

func (b *buckets) trim() {
	for len(b.counts) > 0 && b.counts[0] == 0 {
		b.counts = b.counts[1:]
		b.first++
	}
	for len(b.counts) > 0 && b.counts[len(b.counts)-1] == 0 {
		b.counts = b.counts[:len(b.counts)-1]
	}
}

func (x *sketch) store(p exponential) {
	p.SetScale(x.scale)
	p.SetZeroThreshold(x.zeroThreshold)
	p.SetZeroCount(x.zeroCount)
	for i, to := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		to.SetOffset(int32(x.sides[i].first))
		to.BucketCounts().FromRaw(x.sides[i].counts)
	}
}

// merge adds y to x at the coarser scale, with the larger zero bucket, and with at most maxBuckets on each side. It
// reports false, with x of no further use, if no scale is coarse enough.
func (x *sketch) merge(y *sketch) bool {
	x.coarsen(x.scale - min(x.scale, y.scale))
	y.coarsen(y.scale - min(x.scale, y.scale))
	// Taking a bucket into the zero bucket may widen that beyond the other side's.
	for x.widenZero(y.zeroThreshold) || y.widenZero(x.zeroThreshold) {
	}
	var shift int32
	for i := range x.sides {
		for joint(&x.sides[i], &y.sides[i], shift) > maxBuckets {
			shift++
		}
	}
	if x.scale-shift < minScale {
		return false
	}
	x.coarsen(shift)
	y.coarsen(shift)
	x.zeroCount += y.zeroCount
	for i := range x.sides {
		x.sides[i].add(&y.sides[i])
	}
	return x.sides[0].fits() && x.sides[1].fits()
}

// fits reports whether the offset is one that can be stored.
func (b *buckets) fits() bool {
	return b.first >= math.MinInt32 && b.first <= math.MaxInt32
}

// joint is how many buckets both together span after coarsening.
func joint(a, b *buckets, shift int32) int64 {
	switch {
	case len(a.counts) == 0 && len(b.counts) == 0:
		return 0
	case len(a.counts) == 0:
		a = b
	case len(b.counts) == 0:
		b = a
	}
	first := min(a.first, b.first) >> shift
	last := max(a.first+int64(len(a.counts)), b.first+int64(len(b.counts))) - 1
	return last>>shift - first + 1
}

// coarsen lowers the scale: bucket i becomes part of bucket i >> by.
func (x *sketch) coarsen(by int32) {
	x.scale -= by
	if by == 0 {
		return
	}
	for i := range x.sides {
		b := &x.sides[i]
		if len(b.counts) == 0 {
			continue
		}
		first := b.first >> by
		out := make([]uint64, (b.first+int64(len(b.counts))-1)>>by-first+1)
		for j, c := range b.counts {
			out[(b.first+int64(j))>>by-first] += c
		}
		*b = buckets{first, out}
	}
}

// widenZero raises the zero threshold to t at least, takes buckets that it reaches into into the zero bucket, and reports
// whether the threshold is now larger than it was.
func (x *sketch) widenZero(t float64) bool {
	before := x.zeroThreshold
	if t <= before {
		return false
	}
	x.zeroThreshold = t
	for i := range x.sides {
		b := &x.sides[i]
		for len(b.counts) > 0 && bound(b.first, x.scale) < x.zeroThreshold {
			x.zeroCount += b.counts[0]
			b.counts = b.counts[1:]
			b.first++
			x.zeroThreshold = max(x.zeroThreshold, min(bound(b.first, x.scale), math.MaxFloat64))
			b.trim()
		}
	}
	return true
}

// bound is the lower bound of bucket i, which is itself not in the bucket.
func bound(i int64, scale int32) float64 {
	return math.Exp2(math.Ldexp(float64(i), int(-scale)))
}

// add adds the buckets of o, at the same scale.
func (b *buckets) add(o *buckets) {
	if len(o.counts) == 0 {
		return
	}
	if len(b.counts) == 0 {
		*b = *o
		return
	}
	first := min(b.first, o.first)
	last := max(b.first+int64(len(b.counts)), o.first+int64(len(o.counts)))
	out := make([]uint64, last-first)
	for i, c := range b.counts {
		out[b.first-first+int64(i)] += c
	}
	for i, c := range o.counts {
		out[o.first-first+int64(i)] += c
	}
	*b = buckets{first, out}
}
