// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"pgregory.net/rapid"
)

// whole is a sum that does not round.
type whole struct{ high, low int64 }

func (w *whole) add(v int64) {
	w.high += v >> 32
	w.low += v & math.MaxUint32
}

func (w whole) float() float64 { return math.Ldexp(float64(w.high), 32) + float64(w.low) }

// What goes in as deltas comes out, whatever the values, the windows, the streams and the order.
func TestStore_DeltasAreConserved(t *testing.T) {
	values := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, 0}), rapid.Int64())
	rapid.Check(t, func(t *rapid.T) {
		s := NewStore(defaults())
		var in whole
		var magnitude, out float64
		held := 0
		for range rapid.IntRange(1, 30).Draw(t, "requests") {
			md := pmetric.NewMetrics()
			sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
			m := sm.Metrics().AppendEmpty()
			m.SetName(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "metric"))
			m.SetEmptySum().SetAggregationTemporality(delta)
			for range rapid.IntRange(0, 5).Draw(t, "points") {
				p := m.Sum().DataPoints().AppendEmpty()
				v := values.Draw(t, "value")
				in.add(v)
				magnitude += math.Abs(float64(v))
				p.SetIntValue(v)
				p.SetStartTimestamp(pcommon.Timestamp(rapid.IntRange(0, 10).Draw(t, "start")))
				p.SetTimestamp(p.StartTimestamp() + pcommon.Timestamp(rapid.IntRange(0, 5).Draw(t, "length")))
				p.Attributes().PutInt("k", int64(rapid.IntRange(0, 2).Draw(t, "stream")))
			}
			h, _, n := s.Absorb(md)
			if n != 0 {
				t.Fatalf("%d points came back", n)
			}
			held += h
			if rapid.IntRange(0, 9).Draw(t, "flush") == 0 {
				md, n := s.Flush()
				if n > held {
					t.Fatalf("%d points held, %d sent", held, n)
				}
				held = 0
				out += total(md)
				assertUnique(t, md)
			}
		}
		md, _ := s.Flush()
		out += total(md)
		assertUnique(t, md)
		if diff := math.Abs(in.float() - out); diff > 1e-9*magnitude {
			t.Fatalf("in %v, out %v", in.float(), out)
		}
	})
}

func assertUnique(t *rapid.T, md pmetric.Metrics) {
	seen := map[string]bool{}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				for _, p := range m.Sum().DataPoints().All() {
					k := fmt.Sprint(m.Name(), p.Attributes().AsRaw(), p.Timestamp())
					if seen[k] && p.Timestamp() != 0 {
						t.Fatalf("two points of %s", k)
					}
					seen[k] = true
				}
			}
		}
	}
}

// The order of deltas, gauges and histograms within a window, and that of attributes, does not show in the result.
func TestStore_OrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "points")
		values := rapid.SliceOfN(rapid.Int64Range(-1<<50, 1<<50), n, n).Draw(t, "values")
		gaps := rapid.SliceOfN(rapid.IntRange(0, 2), n, n).Draw(t, "gaps")
		build := func(order []int, seed uint64) string {
			s := NewStore(defaults())
			starts := make([]pcommon.Timestamp, n)
			at := pcommon.Timestamp(1)
			for i, g := range gaps {
				at += pcommon.Timestamp(g)
				starts[i] = at
				at += 2
			}
			for _, i := range order {
				md := pmetric.NewMetrics()
				ms := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
				attributes := attributesOf(shuffled(4, seed+uint64(i)))
				d := ms.AppendEmpty()
				d.SetName("delta")
				d.SetEmptySum().SetAggregationTemporality(delta)
				p := d.Sum().DataPoints().AppendEmpty()
				pt{starts[i], starts[i] + 2, values[i]}.fill(p)
				attributes(p.Attributes())
				g := ms.AppendEmpty()
				g.SetName("gauge")
				p = g.SetEmptyGauge().DataPoints().AppendEmpty()
				pt{0, starts[i], float64(values[i]) / 8}.fill(p)
				attributes(p.Attributes())
				h := ms.AppendEmpty()
				h.SetName("histogram")
				h.SetEmptyHistogram().SetAggregationTemporality(delta)
				hd := h.Histogram().DataPoints().AppendEmpty()
				hp{start: starts[i], time: starts[i] + 2, bounds: []float64{1}, counts: []uint64{uint64(i), 1}, noSum: true}.fill(hd)
				attributes(hd.Attributes())
				s.Absorb(md)
			}
			md, _ := s.Flush()
			return show(md)
		}
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		other := rapid.Permutation(order).Draw(t, "order")
		if a, b := build(order, 1), build(other, rapid.Uint64().Draw(t, "seed")); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}

func TestStore_TellsEveryIdentityApart(t *testing.T) {
	s := NewStore(defaults())
	variants := []func(pmetric.ResourceMetrics){
		func(pmetric.ResourceMetrics) {},
		func(rm pmetric.ResourceMetrics) { rm.SetSchemaUrl("x") },
		func(rm pmetric.ResourceMetrics) { rm.Resource().Attributes().PutStr("a", "1") },
		func(rm pmetric.ResourceMetrics) { rm.Resource().Attributes().PutInt("a", 1) },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).SetSchemaUrl("x") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Scope().SetName("x") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Scope().SetVersion("x") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Scope().Attributes().PutStr("a", "1") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Metrics().At(0).SetName("x") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Metrics().At(0).SetUnit("x") },
		func(rm pmetric.ResourceMetrics) { rm.ScopeMetrics().At(0).Metrics().At(0).Sum().SetIsMonotonic(true) },
		func(rm pmetric.ResourceMetrics) {
			rm.ScopeMetrics().At(0).Metrics().At(0).Sum().SetAggregationTemporality(cumulative)
		},
		func(rm pmetric.ResourceMetrics) {
			rm.ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Attributes().PutEmptySlice("a").AppendEmpty().SetBool(true)
		},
		func(rm pmetric.ResourceMetrics) {
			rm.ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Attributes().PutEmptyMap("a").PutDouble("b", 1)
		},
		func(rm pmetric.ResourceMetrics) {
			rm.ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Attributes().PutEmptyBytes("a").FromRaw([]byte("b"))
		},
	}
	const each = 3
	for range each {
		for _, change := range variants {
			md := sum(delta, false, pt{0, 1, 1})
			change(md.ResourceMetrics().At(0))
			absorb(t, s, md)
		}
	}
	md := flushed(t, s)
	assert.Equal(t, len(variants), md.DataPointCount())
	assert.Equal(t, int64(each*len(variants)-len(variants)), s.Stats().Merged+s.Stats().Unmerged[DuplicateTimestamp])
}

func TestStore_ManyProducersAtOnce(t *testing.T) {
	s := NewStore(defaults())
	var wg sync.WaitGroup
	var mu sync.Mutex
	held := 0
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				md := sum(delta, true, pt{0, 1, 1})
				m := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
				m.SetName(fmt.Sprint("m", i%3))
				m.Sum().DataPoints().At(0).Attributes().PutInt("k", int64(i%7))
				h, _, _ := s.Absorb(md)
				mu.Lock()
				held += h
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	md := flushed(t, s)
	assert.Equal(t, held, md.DataPointCount())
	assert.Equal(t, 1600.0, total(md))
}

// Whatever comes: no panic, and nothing is sent that is not counted as held.
func FuzzStore(f *testing.F) {
	marshal := func(md pmetric.Metrics) []byte {
		b, err := (&pmetric.ProtoMarshaler{}).MarshalMetrics(md)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(marshal(sum(delta, true, pt{1, 2, 3}, pt{2, 3, 4}, pt{0, 0, nil})), byte(0))
	f.Add(marshal(sum(cumulative, true, pt{1, 2, 3}, pt{2, 3, 1.5})), byte(1))
	f.Add(marshal(gauges("g", pt{1, 2, math.NaN()}, pt{2, 3, 4})), byte(2))
	f.Add(marshal(histograms(delta, hp{start: 1, time: 2, bounds: []float64{1}, counts: []uint64{1, 2}}, hp{start: 2, time: 3, bounds: []float64{1}, counts: []uint64{1, 2}})), byte(3))
	f.Add(marshal(exponentials(delta, xp{start: 1, time: 2, scale: 3, offset: 5, positive: []uint64{1}}, xp{start: 2, time: 3, scale: 1, offset: -70000, positive: []uint64{1, 1}, threshold: 0.1})), byte(4))
	f.Fuzz(func(t *testing.T, data []byte, rounds byte) {
		s := NewStore(defaults())
		held := 0
		for i := range int(rounds%4) + 2 {
			md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(data)
			if err != nil {
				t.Skip()
			}
			n := md.DataPointCount()
			before := s.Stats()
			h, rest, restPoints := s.Absorb(md)
			if restPoints > 0 && rest.DataPointCount() != restPoints {
				t.Fatalf("%d points came back, %d announced", rest.DataPointCount(), restPoints)
			}
			after := s.Stats()
			left := after.Unmerged[OutOfOrder] - before.Unmerged[OutOfOrder] + after.Unmerged[DuplicateTimestamp] - before.Unmerged[DuplicateTimestamp]
			if got := int64(h+restPoints) + after.Merged - before.Merged + left; got != int64(n) {
				t.Fatalf("%d points came, %d accounted for", n, got)
			}
			held += h
			if i%2 == 1 {
				out, sent := s.Flush()
				if out.DataPointCount() != sent || sent > held {
					t.Fatalf("held %d, announced %d, sent %d", held, sent, out.DataPointCount())
				}
				held = 0
			}
		}
	})
}
