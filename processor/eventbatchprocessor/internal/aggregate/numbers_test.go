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
)

// Each case is one window of one stream.
func TestStore_NumbersOfOneWindow(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, tt := range map[string]struct {
		in       pmetric.Metrics
		want     string
		unmerged map[Cause]int64
		resets   int64
	}{
		"delta sums are added":                           {in: sum(delta, true, pt{1, 2, 3}, pt{2, 3, 4}, pt{3, 5, 5}), want: "[1,5]=12"},
		"a non-monotonic delta sum is added":             {in: sum(delta, false, pt{1, 2, 3}, pt{2, 3, -4}), want: "[1,3]=-1"},
		"a late delta fills its gap":                     {in: sum(delta, true, pt{1, 2, 1}, pt{3, 4, 1}, pt{2, 3, 1}, pt{8, 9, 1}), want: "[1,9]=4"},
		"deltas without start are added":                 {in: sum(delta, true, pt{0, 2, 1}, pt{0, 3, 1}, pt{0, 3, 1}), want: "[0,3]=3"},
		"an unknown start stays unknown":                 {in: sum(delta, true, pt{1, 2, 1}, pt{0, 3, 1}), want: "[0,3]=2"},
		"a source that repeats its own start is added":   {in: sum(delta, true, pt{1, 2, 1}, pt{1, 3, 1}, pt{1, 4, 1}), want: "[1,4]=3"},
		"an overlapping delta goes on by itself":         {in: sum(delta, true, pt{1, 5, 10}, pt{3, 4, 1}), want: "[3,4]=1 [1,5]=10", unmerged: map[Cause]int64{Overlap: 1}},
		"an overlapping delta of the same time is added": {in: sum(delta, true, pt{1, 5, 10}, pt{3, 5, 1}), want: "[1,5]=11", unmerged: map[Cause]int64{Overlap: 1}},
		"integers and doubles make a double":             {in: sum(delta, true, pt{1, 2, 1}, pt{2, 3, 0.5}, pt{3, 4, 1}), want: "[1,4]=2.5."},
		"integers that do not fit become a double":       {in: sum(delta, true, pt{1, 2, math.MaxInt64}, pt{2, 3, math.MaxInt64}), want: "[1,3]=1.8446744073709552e+19."},
		"the same below":                                 {in: sum(delta, false, pt{1, 2, math.MinInt64}, pt{2, 3, math.MinInt64}), want: "[1,3]=-1.8446744073709552e+19."},
		"the extremes fit together":                      {in: sum(delta, false, pt{1, 2, math.MinInt64}, pt{2, 3, math.MaxInt64}), want: "[1,3]=-1"},
		"a sum that fits no double is the largest":       {in: sum(delta, true, pt{1, 2, math.MaxFloat64}, pt{2, 3, math.MaxFloat64}), want: "[1,3]=1.7976931348623157e+308."},
		"small parts of a sum are not lost":              {in: sum(delta, false, pt{1, 2, 1e100}, pt{2, 3, 1.0}, pt{3, 4, -1e100}), want: "[1,4]=1."},
		"an infinite delta goes on by itself":            {in: sum(delta, true, pt{1, 2, 1}, pt{2, 3, inf}, pt{3, 4, 1}), want: "[2,3]=+Inf. [1,4]=2", unmerged: map[Cause]int64{NotFinite: 1}},
		"of cumulative sums the newest stays":            {in: sum(cumulative, true, pt{1, 2, 3}, pt{1, 3, 4}, pt{1, 4, 9}), want: "[1,4]=9"},
		"an older cumulative point is left out":          {in: sum(cumulative, true, pt{1, 4, 9}, pt{1, 3, 4}), want: "[1,4]=9", unmerged: map[Cause]int64{OutOfOrder: 1}},
		"of two of one time the first stays":             {in: sum(cumulative, true, pt{1, 4, 9}, pt{1, 4, 10}), want: "[1,4]=9", unmerged: map[Cause]int64{DuplicateTimestamp: 1}},
		"a new start keeps both runs":                    {in: sum(cumulative, true, pt{1, 2, 3}, pt{1, 3, 4}, pt{4, 5, 6}, pt{4, 6, 7}), want: "[1,3]=4 [4,6]=7", resets: 1},
		"a monotonic value that falls keeps both runs":   {in: sum(cumulative, true, pt{0, 2, 30}, pt{0, 3, 4}, pt{0, 4, 5}), want: "[0,2]=30 [0,4]=5", resets: 1},
		"large integers are compared exactly":            {in: sum(cumulative, true, pt{0, 2, math.MaxInt64}, pt{0, 3, math.MaxInt64 - 1}), want: "[0,2]=9223372036854775807 [0,3]=9223372036854775806", resets: 1},
		"a non-monotonic value may fall":                 {in: sum(cumulative, false, pt{1, 2, 30}, pt{1, 3, 4}), want: "[1,3]=4"},
		"points without time count as they come":         {in: sum(cumulative, false, pt{0, 0, 30}, pt{0, 0, 4}, pt{0, 0, 7}), want: "[0,0]=7"},
		"gauges are averaged":                            {in: gauges("g", pt{0, 2, 1}, pt{0, 3, 2}, pt{0, 4, 2}), want: "[0,4]=1.6666666666666667."},
		"a mean has all points whatever their order":     {in: gauges("g", pt{0, 4, 6.0}, pt{0, 3, 1.0}, pt{0, 2, 2.0}), want: "[0,4]=3."},
		"a single gauge becomes a double":                {in: gauges("g", pt{0, 2, 7}), want: "[0,2]=7."},
		"a mean fits where the sum does not":             {in: gauges("g", pt{0, 2, math.MaxFloat64}, pt{0, 3, math.MaxFloat64}, pt{0, 4, math.MaxFloat64}), want: "[0,4]=1.7976931348623157e+308."},
		"large integers have a mean":                     {in: gauges("g", pt{0, 2, math.MaxInt64}, pt{0, 3, math.MaxInt64}), want: "[0,3]=9.223372036854776e+18."},
		"NaN goes on by itself":                          {in: gauges("g", pt{0, 2, 1.0}, pt{0, 3, nan}, pt{0, 4, 3.0}), want: "[0,3]=NaN. [0,4]=2.", unmerged: map[Cause]int64{NotFinite: 1}},
		"NaN gives way to a value of the same time":      {in: gauges("g", pt{0, 4, nan}, pt{0, 4, 3.0}), want: "[0,4]=3.", unmerged: map[Cause]int64{NotFinite: 1}},
		"uptimes are not averaged":                       {in: gauges("process.uptime", pt{0, 2, 10}, pt{0, 3, 20}), want: "[0,3]=20"},
		"a marker goes on behind the aggregate":          {in: sum(delta, true, pt{1, 2, 1}, pt{2, 3, 1}, pt{0, 5, nil}), want: "[1,3]=2 | [0,5]=gone"},
		"what follows a marker is a metric of its own":   {in: gauges("g", pt{0, 2, 1.0}, pt{0, 5, nil}, pt{0, 6, 4.0}, pt{0, 7, 6.0}), want: "[0,2]=1. | [0,5]=gone | [0,7]=5."},
		"a late marker is left out":                      {in: sum(cumulative, true, pt{1, 5, 1}, pt{0, 3, nil}), want: "[1,5]=1", unmerged: map[Cause]int64{OutOfOrder: 1}},
		"a marker alone goes on":                         {in: sum(cumulative, true, pt{0, 3, nil}), want: "[0,3]=gone"},
		"a gauge of the time of its marker is left out":  {in: gauges("g", pt{0, 5, nil}, pt{0, 5, 4.0}), want: "[0,5]=gone", unmerged: map[Cause]int64{OutOfOrder: 1}},
		"a run after a marker is no reset":               {in: sum(cumulative, true, pt{1, 2, 9}, pt{0, 3, nil}, pt{4, 5, 1}), want: "[1,2]=9 | [0,3]=gone | [4,5]=1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStore(defaults())
			rest, held := absorb(t, s, tt.in)
			assert.Empty(t, rest)
			out := flushed(t, s)
			assert.Equal(t, tt.want, show(out))
			assert.GreaterOrEqual(t, held, out.DataPointCount())
			var want Stats
			for c, n := range tt.unmerged {
				want.Unmerged[c] = n
			}
			assert.Equal(t, want.Unmerged, s.Stats().Unmerged)
			assert.Equal(t, tt.resets, s.Stats().Resets)
		})
	}
}

func TestStore_GaugeAggregations(t *testing.T) {
	points := []pt{{0, 2, 5}, {0, 4, 2}, {0, 3, 9}}
	for a, want := range map[Aggregation]string{
		Average: "[0,4]=5.333333333333333.",
		Last:    "[0,4]=2",
		Min:     "[0,4]=2",
		Max:     "[0,4]=9",
	} {
		s := NewStore(Rules{Gauge: a})
		absorb(t, s, gauges("g", points...))
		assert.Equal(t, want, show(flushed(t, s)), "aggregation %d", a)
	}
}

func TestStore_WhatIsNotAggregatedComesBack(t *testing.T) {
	rules := defaults()
	rules.Overrides = []Override{{"raw.*", None}}
	s := NewStore(rules)
	md := gauges("raw.temperature", pt{0, 1, 1}, pt{0, 2, 2})
	md.ResourceMetrics().At(0).Resource().Attributes().PutStr("service.name", "a")
	md.ResourceMetrics().At(0).ScopeMetrics().At(0).Scope().SetName("x")
	unspecified := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	unspecified.SetName("unspecified")
	pt{1, 2, 3}.fill(unspecified.SetEmptySum().DataPoints().AppendEmpty())
	kept := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	kept.SetName("kept")
	pt{0, 2, 3}.fill(kept.SetEmptyGauge().DataPoints().AppendEmpty())

	rest, held := absorb(t, s, md)
	assert.Equal(t, 1, held)
	require.Len(t, rest, 1)
	assert.Equal(t, "[0,1]=1 [0,2]=2 | [1,2]=3", show(rest[0]))
	rm := rest[0].ResourceMetrics().At(0)
	assert.Equal(t, map[string]any{"service.name": "a"}, rm.Resource().Attributes().AsRaw())
	assert.Equal(t, "x", rm.ScopeMetrics().At(0).Scope().Name())
	assert.Equal(t, "[0,2]=3.", show(flushed(t, s)))
}

func TestStore_WindowsFollowEachOther(t *testing.T) {
	s := NewStore(defaults())
	absorb(t, s, sum(cumulative, true, pt{1, 2, 5}))
	assert.Equal(t, "[1,2]=5", show(flushed(t, s)))
	assert.Empty(t, show(flushed(t, s)), "an empty window")
	absorb(t, s, sum(cumulative, true, pt{1, 2, 5}, pt{1, 1, 4}))
	assert.Empty(t, show(flushed(t, s)), "nothing newer")
	absorb(t, s, sum(cumulative, true, pt{1, 3, 6}))
	assert.Equal(t, "[1,3]=6", show(flushed(t, s)))

	absorb(t, s, gauges("g", pt{0, 2, 1.0}))
	assert.Equal(t, "[0,2]=1.", show(flushed(t, s)))
	absorb(t, s, gauges("g", pt{0, 4, 3.0}, pt{0, 2, 100.0}))
	assert.Equal(t, "[0,4]=3.", show(flushed(t, s)), "a mean is of its own window")

	late := sum(delta, true, pt{1, 2, 5})
	absorb(t, s, sum(delta, true, pt{2, 3, 1}))
	assert.Equal(t, "[2,3]=1", show(flushed(t, s)))
	absorb(t, s, late)
	assert.Equal(t, "[1,2]=5", show(flushed(t, s)), "a late delta is not lost")
}

func TestStore_ForgetsWhatHasGoneQuiet(t *testing.T) {
	s := NewStore(defaults())
	request := func() pmetric.Metrics { return gauges("g", pt{0, 7, 1.0}) }
	absorb(t, s, request())
	for range forgetAfter + 2 {
		flushed(t, s)
	}
	assert.Empty(t, s.scopes)
	assert.Empty(t, s.resources)
	assert.Empty(t, s.order)
	// One time far in the future silences a stream for a while only.
	absorb(t, s, gauges("g", pt{0, math.MaxUint64, 1.0}))
	flushed(t, s)
	for range forgetAfter + 1 {
		absorb(t, s, request())
		assert.Empty(t, show(flushed(t, s)))
	}
	absorb(t, s, request())
	assert.Equal(t, "[0,7]=1.", show(flushed(t, s)))
}

func TestStore_ExemplarsAreJoinedAndBounded(t *testing.T) {
	s := NewStore(defaults())
	for i := range 3 {
		md := sum(delta, true, pt{pcommon.Timestamp(i + 1), pcommon.Timestamp(i + 2), 1})
		exemplars := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Exemplars()
		for j := range 10 {
			exemplars.AppendEmpty().SetTimestamp(pcommon.Timestamp(100*i + j))
		}
		absorb(t, s, md)
	}
	exemplars := flushed(t, s).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Exemplars()
	require.Equal(t, maxExemplars, exemplars.Len())
	for _, e := range exemplars.All() {
		assert.GreaterOrEqual(t, e.Timestamp(), pcommon.Timestamp(104), "the newest are kept")
	}
}

func TestStore_KeepsDescriptionAndMetadata(t *testing.T) {
	s := NewStore(defaults())
	md := gauges("g", pt{0, 7, 1.0})
	m := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	m.SetDescription("first")
	m.SetUnit("By")
	m.Metadata().PutStr("prometheus.type", "unknown")
	absorb(t, s, md)
	got := flushed(t, s).ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	assert.Equal(t, "first", got.Description())
	assert.Equal(t, "By", got.Unit())
	assert.Equal(t, map[string]any{"prometheus.type": "unknown"}, got.Metadata().AsRaw())
}

func TestRules_FirstOverrideThatTheKindKnows(t *testing.T) {
	r := defaults()
	r.Overrides = []Override{{"a.*", Merge}, {"a.b", Min}, {"a.*", Max}, {"*.limit", Average}}
	assert.Equal(t, Min, r.choose("a.b", kindGauge))
	assert.Equal(t, Max, r.choose("a.c", kindGauge))
	assert.Equal(t, Merge, r.choose("a.c", kindHistogram))
	assert.Equal(t, Sum, r.choose("a.c", kindSum))
	assert.Equal(t, Average, r.choose("memory.limit", kindGauge))
	assert.Equal(t, Last, r.choose("process.uptime", kindGauge))
	assert.Equal(t, Last, r.choose("supervisor.process.state", kindGauge))
	assert.Equal(t, Last, r.choose("a.b", kindSummary))
}

func TestMatches_Globs(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*.uptime", "process.uptime", true},
		{"*.uptime", "process.uptimes", false},
		{"*.uptime", "uptime", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-b-b-", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"a*", "a", true},
		{"**", "x/y", true},
	} {
		assert.Equal(t, tt.want, matches(tt.pattern, tt.name), "%q against %q", tt.pattern, tt.name)
	}
}
