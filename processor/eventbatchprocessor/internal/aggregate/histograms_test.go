// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"pgregory.net/rapid"
)

// hp is a histogram point in short. Its count is the sum of the buckets, unless it is given.
type hp struct {
	start, time pcommon.Timestamp
	bounds      []float64
	counts      []uint64
	count       uint64
	sum, min    float64
	noSum       bool
	gone        bool // a marker
}

func (h hp) fill(p pmetric.HistogramDataPoint) {
	p.SetStartTimestamp(h.start)
	p.SetTimestamp(h.time)
	p.ExplicitBounds().FromRaw(h.bounds)
	p.BucketCounts().FromRaw(h.counts)
	n := h.count
	for _, c := range h.counts {
		n += c
	}
	p.SetCount(n)
	if h.gone {
		p.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	} else if !h.noSum {
		p.SetSum(h.sum)
		p.SetMin(h.min)
	}
}

func histograms(t pmetric.AggregationTemporality, points ...hp) pmetric.Metrics {
	return one("h", func(m pmetric.Metric) {
		m.SetEmptyHistogram().SetAggregationTemporality(t)
		for _, p := range points {
			p.fill(m.Histogram().DataPoints().AppendEmpty())
		}
	})
}

func TestStore_HistogramsOfOneWindow(t *testing.T) {
	b := []float64{1, 10}
	for name, tt := range map[string]struct {
		in       pmetric.Metrics
		want     string
		unmerged map[Cause]int64
	}{
		"delta histograms are merged": {
			in:   histograms(delta, hp{start: 1, time: 2, bounds: b, counts: []uint64{1, 2, 3}, sum: 5, min: 2}, hp{start: 2, time: 3, bounds: b, counts: []uint64{0, 1, 0}, sum: 3, min: 1}),
			want: "[1,3]=7[1 10][1 3 3] sum 8 min 1",
		},
		"half a sum is no sum": {
			in:   histograms(delta, hp{start: 1, time: 2, bounds: b, counts: []uint64{1, 0, 0}, sum: 5}, hp{start: 2, time: 3, bounds: b, counts: []uint64{1, 0, 0}, noSum: true}),
			want: "[1,3]=2[1 10][2 0 0]",
		},
		"other bounds begin a new point": {
			in:   histograms(delta, hp{start: 1, time: 2, bounds: b, counts: []uint64{1, 0, 0}, noSum: true}, hp{start: 2, time: 3, bounds: []float64{2, 10}, counts: []uint64{1, 0, 0}, noSum: true}, hp{start: 3, time: 4, bounds: []float64{2, 10}, counts: []uint64{1, 0, 0}, noSum: true}),
			want: "[1,2]=1[1 10][1 0 0] [2,4]=2[2 10][2 0 0]",
		},
		"counts without buckets are added": {
			in:   histograms(delta, hp{start: 1, time: 2, count: 3, noSum: true}, hp{start: 2, time: 3, count: 4, noSum: true}),
			want: "[1,3]=7[][]",
		},
		"counts that do not fit begin a new point": {
			in:   histograms(delta, hp{start: 1, time: 2, count: math.MaxUint64, noSum: true}, hp{start: 2, time: 3, count: 4, noSum: true}),
			want: "[1,2]=18446744073709551615[][] [2,3]=4[][]",
		},
		"buckets that do not fit the bounds go on": {
			in:       histograms(delta, hp{start: 1, time: 2, bounds: b, counts: []uint64{1, 0}, noSum: true}, hp{start: 2, time: 3, bounds: b, counts: []uint64{1, 0, 0}, noSum: true}),
			want:     "[1,2]=1[1 10][1 0] [2,3]=1[1 10][1 0 0]",
			unmerged: map[Cause]int64{Malformed: 1},
		},
		"a count that is not the buckets' sum goes on": {
			in:       histograms(delta, hp{start: 1, time: 2, bounds: b, counts: []uint64{1, 0, 0}, count: 9, noSum: true}),
			want:     "[1,2]=10[1 10][1 0 0]",
			unmerged: map[Cause]int64{Malformed: 1},
		},
		"an overlapping one goes on by itself": {
			in:       histograms(delta, hp{start: 1, time: 5, count: 1, noSum: true}, hp{start: 3, time: 4, count: 2, noSum: true}),
			want:     "[3,4]=2[][] [1,5]=1[][]",
			unmerged: map[Cause]int64{Overlap: 1},
		},
		"a marker is not merged with what has its time": {
			in:   histograms(delta, hp{start: 1, time: 5, gone: true}, hp{start: 2, time: 5, count: 2, noSum: true}),
			want: "[1,5]=0[][] | [2,5]=2[][]",
		},
		"of cumulative ones the newest stays": {
			in:   histograms(cumulative, hp{start: 1, time: 2, count: 3, noSum: true}, hp{start: 1, time: 3, count: 4, noSum: true}),
			want: "[1,3]=4[][]",
		},
		"a count that falls keeps both runs": {
			in:   histograms(cumulative, hp{start: 1, time: 2, count: 3, noSum: true}, hp{start: 1, time: 3, count: 1, noSum: true}),
			want: "[1,2]=3[][] [1,3]=1[][]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStore(defaults())
			absorb(t, s, tt.in)
			assert.Equal(t, tt.want, show(flushed(t, s)))
			for c, n := range s.Stats().Unmerged {
				assert.Equal(t, tt.unmerged[Cause(c)], n, Causes[c])
			}
		})
	}
}

func TestStore_SummariesAreNeverMerged(t *testing.T) {
	s := NewStore(defaults())
	absorb(t, s, one("s", func(m pmetric.Metric) {
		for i := range 3 {
			p := m.SetEmptySummary().DataPoints().AppendEmpty()
			p.SetTimestamp(pcommon.Timestamp(i + 1))
			p.SetCount(uint64(i + 5))
		}
	}))
	assert.Equal(t, "[0,3]=7", show(flushed(t, s)))
}

// xp is an exponential point in short.
type xp struct {
	start, time pcommon.Timestamp
	scale       int32
	zero        uint64
	threshold   float64
	offset      int32
	positive    []uint64
	negative    []uint64 // at offset 0
}

func (x xp) fill(p pmetric.ExponentialHistogramDataPoint) {
	p.SetStartTimestamp(x.start)
	p.SetTimestamp(x.time)
	p.SetScale(x.scale)
	p.SetZeroCount(x.zero)
	p.SetZeroThreshold(x.threshold)
	p.Positive().SetOffset(x.offset)
	p.Positive().BucketCounts().FromRaw(x.positive)
	p.Negative().BucketCounts().FromRaw(x.negative)
	n := x.zero
	for _, counts := range [][]uint64{x.positive, x.negative} {
		for _, c := range counts {
			n += c
		}
	}
	p.SetCount(n)
}

func exponentials(t pmetric.AggregationTemporality, points ...xp) pmetric.Metrics {
	return one("x", func(m pmetric.Metric) {
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(t)
		for _, p := range points {
			p.fill(m.ExponentialHistogram().DataPoints().AppendEmpty())
		}
	})
}

func TestStore_ExponentialHistogramsOfOneWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		in   pmetric.Metrics
		want string
	}{
		"buckets are aligned": {
			in:   exponentials(delta, xp{start: 1, time: 2, offset: 1, positive: []uint64{1, 2}, negative: []uint64{1}}, xp{start: 2, time: 3, offset: -1, positive: []uint64{5, 0, 1}}),
			want: "[1,3]=10 s0 z0+-1[5 0 2 2]-0[1]",
		},
		"in place if there is a bucket for each": {
			in:   exponentials(delta, xp{start: 1, time: 2, offset: 1, positive: []uint64{1, 2, 3}}, xp{start: 2, time: 3, offset: 2, positive: []uint64{5, 1}, zero: 2}),
			want: "[1,3]=14 s0 z2+1[1 7 4]-0[]",
		},
		"the coarser scale wins": {
			in:   exponentials(delta, xp{start: 1, time: 2, scale: 1, offset: -1, positive: []uint64{1, 2, 3, 4}}, xp{start: 2, time: 3, scale: 0, offset: 0, positive: []uint64{10}}),
			want: "[1,3]=20 s0 z0+-1[1 15 4]-0[]",
		},
		"the larger zero bucket takes buckets in": {
			// At scale 0 bucket 0 is (1, 2] and bucket 1 is (2, 4].
			in:   exponentials(delta, xp{start: 1, time: 2, offset: 0, positive: []uint64{1, 2, 3}}, xp{start: 2, time: 3, threshold: 1.5, zero: 7}),
			want: "[1,3]=13 s0 z8+1[2 3]-0[]",
		},
		"a malformed one goes on": {
			in:   exponentials(delta, xp{start: 1, time: 2, scale: 99, positive: []uint64{1}}, xp{start: 2, time: 3, zero: 1}),
			want: "[1,2]=1 s99 z0+0[1]-0[] [2,3]=1 s0 z1+0[]-0[]",
		},
		"of cumulative ones the newest stays": {
			in:   exponentials(cumulative, xp{start: 1, time: 2, zero: 1}, xp{start: 1, time: 3, zero: 4}),
			want: "[1,3]=4 s0 z4+0[]-0[]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStore(defaults())
			absorb(t, s, tt.in)
			assert.Equal(t, tt.want, show(flushed(t, s)))
		})
	}
}

func TestExponential_BucketsAreBoundedByCoarserScale(t *testing.T) {
	s := NewStore(defaults())
	absorb(t, s, exponentials(delta,
		xp{start: 1, time: 2, scale: 20, offset: 1_000_000_000, positive: []uint64{1}},
		xp{start: 2, time: 3, scale: 20, offset: -1_000_000_000, positive: []uint64{1}}))
	out := flushed(t, s).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).ExponentialHistogram().DataPoints()
	require.Equal(t, 1, out.Len())
	assert.LessOrEqual(t, out.At(0).Positive().BucketCounts().Len(), maxBuckets)
	assert.GreaterOrEqual(t, out.At(0).Scale(), int32(-4), "the Prometheus exporter takes no coarser one")
	assert.Equal(t, uint64(2), out.At(0).Count())
}

func TestExponential_EmptyBucketsDoNotWidenTheZeroBucket(t *testing.T) {
	a, b := pmetric.NewExponentialHistogramDataPoint(), pmetric.NewExponentialHistogramDataPoint()
	xp{offset: 0, positive: []uint64{1, 0, 1}}.fill(a) // (1, 2], (2, 4], (4, 8]
	xp{threshold: 3}.fill(b)
	assert.True(t, mergeExponentials(a, b))
	assert.Equal(t, 3.0, a.ZeroThreshold())
	assert.Equal(t, uint64(1), a.ZeroCount())
	assert.Equal(t, []uint64{1}, a.Positive().BucketCounts().AsRaw())
}

// Every merge is checked against values: a value stays in a bucket that contains it, or in the zero bucket.
func TestExponential_MergeKeepsEveryValueWhereItBelongs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		points := make([]pmetric.ExponentialHistogramDataPoint, 2)
		var all []float64
		for i := range points {
			scale := int32(rapid.IntRange(-3, 6).Draw(t, "scale"))
			threshold := rapid.SampledFrom([]float64{0, 0, 0.001, 0.75, 3}).Draw(t, "threshold")
			values := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 0, 20).Draw(t, "values")
			points[i] = sketchOf(scale, threshold, values)
			all = append(all, values...)
		}
		if !mergeExponentials(points[0], points[1]) {
			t.Fatal("not merged")
		}
		got := points[0]
		if !wellFormedExponential(got) || got.Count() != uint64(len(all)) {
			t.Fatalf("%d values, count %d", len(all), got.Count())
		}
		want := sketchOf(got.Scale(), got.ZeroThreshold(), all)
		g, w := load(got), load(want)
		// The value at an edge may be computed into either bucket: compare what is up to each edge, with one value's slack.
		for side := range g.sides {
			compareCumulative(t, g.sides[side], w.sides[side])
		}
	})
}

// sketchOf counts values into buckets, by the definition.
func sketchOf(scale int32, threshold float64, values []float64) pmetric.ExponentialHistogramDataPoint {
	x := sketch{scale: scale, zeroThreshold: threshold}
	for _, v := range values {
		if math.Abs(v) <= threshold {
			x.zeroCount++
			continue
		}
		if v == 0 {
			x.zeroCount++
			continue
		}
		side := 0
		if v < 0 {
			side = 1
		}
		i := int64(math.Ceil(math.Ldexp(math.Log2(math.Abs(v)), int(scale)))) - 1
		x.sides[side].add(&buckets{first: i, counts: []uint64{1}})
	}
	p := pmetric.NewExponentialHistogramDataPoint()
	x.store(p)
	p.SetCount(uint64(len(values)))
	return p
}

func compareCumulative(t *rapid.T, a, b buckets) {
	first := min(a.first, b.first)
	last := max(a.first+int64(len(a.counts)), b.first+int64(len(b.counts)))
	if len(a.counts) == 0 && len(b.counts) == 0 {
		return
	}
	at := func(s buckets, i int64) int64 {
		if i < s.first || i >= s.first+int64(len(s.counts)) {
			return 0
		}
		return int64(s.counts[i-s.first])
	}
	var sa, sb int64
	for i := first; i < last; i++ {
		sa += at(a, i)
		sb += at(b, i)
		if sa-sb > 1 || sb-sa > 1 {
			t.Fatalf("up to bucket %d: %d against %d values\n%v\n%v", i, sa, sb, a, b)
		}
	}
}
