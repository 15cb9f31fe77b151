// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"slices"
	"sort"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

type number = pmetric.NumberDataPoint

// value is a number that is being computed. Integers stay integers as long as they fit.
type value struct {
	isInt bool
	i     int64
	f     float64
	lost  float64 // what rounding took from f
	n     uint64  // points in it
	// shrunk says that f and lost are 2^-shrink of the truth, since the sum would not fit.
	shrunk bool
}

const shrink = 64

func (v *value) begin(p number) {
	*v = value{n: 1}
	if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
		v.isInt, v.i = true, p.IntValue()
	} else {
		v.f = p.DoubleValue()
	}
}

func (v *value) add(p number) {
	v.n++
	if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
		if v.isInt {
			sum := v.i + p.IntValue()
			// Both operands have a sign that the sum has not: it does not fit.
			if (v.i^sum)&(p.IntValue()^sum) >= 0 {
				v.i = sum
				return
			}
		}
		v.toDouble()
		v.addDouble(float64(p.IntValue()))
		return
	}
	v.toDouble()
	v.addDouble(p.DoubleValue())
}

func (v *value) toDouble() {
	if v.isInt {
		v.isInt, v.f = false, float64(v.i)
	}
}

// addDouble keeps what rounding takes away (Neumaier), so that the order of the points does not show in the result.
func (v *value) addDouble(x float64) {
	if v.shrunk {
		x = math.Ldexp(x, -shrink)
	}
	sum := v.f + x
	if math.IsInf(sum, 0) {
		v.shrunk = true
		v.f, v.lost, x = math.Ldexp(v.f, -shrink), math.Ldexp(v.lost, -shrink), math.Ldexp(x, -shrink)
		sum = v.f + x
	}
	if math.Abs(v.f) >= math.Abs(x) {
		v.lost += (v.f - sum) + x
	} else {
		v.lost += (x - sum) + v.f
	}
	v.f = sum
}

// mean fits a double even if the sum does not.
func (v *value) mean() float64 {
	if v.isInt {
		return float64(v.i) / float64(v.n)
	}
	m := v.f/float64(v.n) + v.lost/float64(v.n)
	if v.shrunk {
		return math.Ldexp(m, shrink)
	}
	return m
}

// store writes the sum into p. One that does not fit a double is the largest double.
func (v *value) store(p number) {
	if v.isInt {
		p.SetIntValue(v.i)
		return
	}
	sum := v.f + v.lost
	if v.shrunk {
		sum = math.Ldexp(sum, shrink)
	}
	p.SetDoubleValue(min(max(sum, -math.MaxFloat64), math.MaxFloat64))
}

// notFinite also covers points without a value: neither can be added.
func notFinite(p number) bool {
	switch p.ValueType() {
	case pmetric.NumberDataPointValueTypeInt:
		return false
	case pmetric.NumberDataPointValueTypeDouble:
		return math.IsNaN(p.DoubleValue()) || math.IsInf(p.DoubleValue(), 0)
	default:
		return true
	}
}

func numberReset(monotonic bool) func(last, next number) bool {
	return func(last, next number) bool {
		return restarted(last, next) || monotonic && fell(last, next)
	}
}

func fell(last, next number) bool {
	var a, b value
	a.begin(last)
	b.begin(next)
	return b.less(&a)
}

// deltaSum adds the points of a delta sum.
type deltaSum struct{}

func (deltaSum) create() number { return pmetric.NewNumberDataPoint() }

func (d deltaSum) add(s *stream[number], p number, c *counts) bool {
	switch {
	case notFinite(p):
		return s.setAside(p, d.create(), NotFinite, c)
	case !s.live:
		s.value.begin(p)
		s.coverage.reset(spanOf(p))
		return s.begin(p, c)
	case overlapping(s, p):
		return s.setAside(p, d.create(), Overlap, c)
	default:
		s.value.add(p)
		extend(s, p)
		takeExemplars(s.cur.Exemplars(), p.Exemplars())
		c.merged++
		return true
	}
}

func (deltaSum) finish(s *stream[number]) {
	if s.value.n > 1 {
		s.value.store(s.cur)
	}
}

func (deltaSum) join(a, b number) bool {
	if notFinite(a) || notFinite(b) {
		return false
	}
	var v value
	v.begin(a)
	v.add(b)
	v.store(a)
	a.SetStartTimestamp(min(a.StartTimestamp(), b.StartTimestamp()))
	takeExemplars(a.Exemplars(), b.Exemplars())
	return true
}

// gauge computes one value of the points of a gauge: the mean, the smallest or the largest.
type gauge struct{ aggregation Aggregation }

func (gauge) create() number { return pmetric.NewNumberDataPoint() }

func (g gauge) add(s *stream[number], p number, c *counts) bool {
	t := p.Timestamp()
	switch {
	case t != 0 && t <= s.sent:
		c.unmerged[OutOfOrder]++
		return false
	case notFinite(p):
		return s.setAside(p, g.create(), NotFinite, c)
	case !s.live:
		s.value.begin(p)
		return s.begin(p, c)
	default:
		g.combine(&s.value, p)
		if t >= s.cur.Timestamp() {
			s.cur.SetTimestamp(t)
			s.cur.SetStartTimestamp(p.StartTimestamp())
		}
		takeExemplars(s.cur.Exemplars(), p.Exemplars())
		c.merged++
		return true
	}
}

func (g gauge) combine(v *value, p number) {
	if g.aggregation == Average {
		v.add(p)
		return
	}
	var next value
	next.begin(p)
	if less := next.less(v); less && g.aggregation == Min || !less && g.aggregation == Max {
		next.n = v.n + 1
		*v = next
	} else {
		v.n++
	}
}

func (v *value) less(w *value) bool {
	if v.isInt && w.isInt {
		return v.i < w.i
	}
	return v.double() < w.double()
}

func (v *value) double() float64 {
	if v.isInt {
		return float64(v.i)
	}
	return v.f
}

func (g gauge) finish(s *stream[number]) {
	switch {
	case g.aggregation == Average:
		s.cur.SetDoubleValue(s.value.mean())
	case s.value.n > 1:
		s.value.store(s.cur)
	}
}

// join leaves out what could not be computed with if there is a value for that time.
func (gauge) join(a, b number) bool {
	if notFinite(a) {
		b.MoveTo(a)
	}
	return true
}

func spanOf[P point[P]](p P) span { return span{p.StartTimestamp(), p.Timestamp()} }

// overlapping reports whether the time of a delta point has been counted already. A start of its own that equals the
// aggregate's is let through: some sources repeat their own start with every delta.
func overlapping[P point[P]](s *stream[P], p P) bool {
	start := p.StartTimestamp()
	return start != 0 && s.coverage.hull.from != 0 && start != s.coverage.hull.from && s.coverage.overlaps(spanOf(p))
}

// extend makes the aggregate be about the time of p too. An unknown start makes that of the aggregate unknown.
func extend[P point[P]](s *stream[P], p P) {
	s.coverage.add(spanOf(p))
	s.cur.SetStartTimestamp(min(s.cur.StartTimestamp(), p.StartTimestamp()))
	s.cur.SetTimestamp(max(s.cur.Timestamp(), p.Timestamp()))
}

// maxExemplars bounds the exemplars of an aggregate; the newest are kept.
const maxExemplars = 16

func takeExemplars(to, from pmetric.ExemplarSlice) {
	if from.Len() == 0 {
		return
	}
	from.MoveAndAppendTo(to)
	extra := to.Len() - maxExemplars
	if extra <= 0 {
		return
	}
	times := make([]pcommon.Timestamp, to.Len())
	for i := range times {
		times[i] = to.At(i).Timestamp()
	}
	slices.Sort(times)
	oldestKept := times[extra]
	same := extra - sort.Search(extra, func(i int) bool { return times[i] >= oldestKept })
	to.RemoveIf(func(e pmetric.Exemplar) bool {
		if e.Timestamp() == oldestKept && same > 0 {
			same--
			return true
		}
		return e.Timestamp() < oldestKept
	})
}
