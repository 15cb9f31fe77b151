// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"pgregory.net/rapid"
)

// drawLogs makes requests of any shape, with empty resources and scopes too. Bodies are numbers in the order of the tree.
func drawLogs(t *rapid.T) plog.Logs {
	ld := plog.NewLogs()
	n := 0
	for range rapid.IntRange(0, 4).Draw(t, "resources") {
		rl := ld.ResourceLogs().AppendEmpty()
		rl.Resource().Attributes().PutInt("r", int64(rapid.IntRange(0, 2).Draw(t, "resource")))
		rl.SetSchemaUrl(rapid.SampledFrom([]string{"", "s"}).Draw(t, "schema"))
		for range rapid.IntRange(0, 3).Draw(t, "scopes") {
			sl := rl.ScopeLogs().AppendEmpty()
			sl.Scope().SetName(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "scope"))
			for range rapid.IntRange(0, 6).Draw(t, "records") {
				r := sl.LogRecords().AppendEmpty()
				r.SetEventName(rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "event"))
				r.Body().SetStr(fmt.Sprint(n))
				n++
			}
		}
	}
	return ld
}

// places lists every record with where it stands.
func places(ld plog.Logs) []string {
	var out []string
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				out = append(out, fmt.Sprint(r.Body().Str(), rl.Resource().Attributes().AsRaw(), rl.SchemaUrl(), sl.Scope().Name(), r.EventName()))
			}
		}
	}
	return out
}

func newTestSignal(t interface{ Fatal(...any) }, keys ...string) *logsSignal {
	g, err := newGrouping(keys, signalLogs)
	if err != nil {
		t.Fatal(err)
	}
	return newLogsSignal(g, nil)
}

func TestTree_RepresentationOfPdataIsTheOneAssumed(t *testing.T) {
	assert.True(t, hasPointers[plog.LogRecordSlice](), "single records are moved the slow way")
	assert.True(t, hasPointers[ptrace.SpanSlice](), "single spans are moved the slow way")
	assert.False(t, hasPointers[plog.LogRecord]())
	assert.False(t, hasPointers[pmetric.NumberDataPoint]())
	assert.False(t, hasPointers[[]int]())
}

func TestTree_DistributeKeepsEveryItemInItsPlace(t *testing.T) {
	for _, byPointer := range []bool{true, false} {
		t.Run(fmt.Sprint("byPointer=", byPointer), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := newTestSignal(t, "event_name")
				s.byPointer = byPointer
				ld := drawLogs(t)
				want := places(ld)
				var c classification
				c.reset()
				s.classify(ld, &c)
				if len(c.assigned) != len(want) {
					t.Fatalf("%d records, %d assigned", len(want), len(c.assigned))
				}
				if len(want) == 0 {
					return
				}
				var got []string
				for i, part := range s.distribute(ld, c.assigned, len(c.shares), nil) {
					if part.LogRecordCount() != c.shares[i].n {
						t.Fatalf("share %d: %d records, %d announced", i, part.LogRecordCount(), c.shares[i].n)
					}
					seen := map[string]bool{}
					for _, rl := range part.ResourceLogs().All() {
						for _, sl := range rl.ScopeLogs().All() {
							for _, r := range sl.LogRecords().All() {
								seen[r.EventName()] = true
							}
						}
					}
					if len(seen) != 1 {
						t.Fatalf("share %d has events %v", i, seen)
					}
					got = append(got, places(part)...)
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("got\n%v\nwant\n%v", got, want)
				}
			})
		})
	}
}

func TestTree_SplitTakesTheFirstItems(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newTestSignal(t)
		ld := drawLogs(t)
		want := places(ld)
		if len(want) == 0 {
			return
		}
		n := rapid.IntRange(1, len(want)).Draw(t, "n")
		first := s.split(ld, n)
		if got := places(first); !slices.Equal(got, want[:n]) {
			t.Fatalf("first %v, want %v", got, want[:n])
		}
		if got := places(ld); !slices.Equal(got, want[n:]) {
			t.Fatalf("rest %v, want %v", got, want[n:])
		}
	})
}

func TestTree_CompactMergesWhatIsEqualAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newTestSignal(t)
		ld := drawLogs(t)
		want := places(ld)
		s.compact(ld)
		got := places(ld)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
		seen := map[string]bool{}
		for _, rl := range ld.ResourceLogs().All() {
			k := fmt.Sprint(rl.Resource().Attributes().AsRaw(), rl.SchemaUrl())
			if seen[k] {
				t.Fatalf("resource %s twice", k)
			}
			seen[k] = true
		}
	})
}

func TestMetricsSplit_TakesTheFirstPointsOfEveryType(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		md := pmetric.NewMetrics()
		n := 0
		for range rapid.IntRange(1, 3).Draw(t, "resources") {
			rm := md.ResourceMetrics().AppendEmpty()
			for range rapid.IntRange(0, 2).Draw(t, "scopes") {
				ms := rm.ScopeMetrics().AppendEmpty().Metrics()
				for range rapid.IntRange(0, 4).Draw(t, "metrics") {
					m := ms.AppendEmpty()
					m.SetName(fmt.Sprint("m", n))
					m.SetUnit("s")
					points := rapid.IntRange(0, 4).Draw(t, "points")
					switch rapid.IntRange(0, 4).Draw(t, "type") {
					case 0:
						m.SetEmptyGauge()
						for range points {
							m.Gauge().DataPoints().AppendEmpty().SetTimestamp(stamp(&n))
						}
					case 1:
						m.SetEmptySum().SetIsMonotonic(true)
						m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
						for range points {
							m.Sum().DataPoints().AppendEmpty().SetTimestamp(stamp(&n))
						}
					case 2:
						m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
						for range points {
							m.Histogram().DataPoints().AppendEmpty().SetTimestamp(stamp(&n))
						}
					case 3:
						m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
						for range points {
							m.ExponentialHistogram().DataPoints().AppendEmpty().SetTimestamp(stamp(&n))
						}
					case 4:
						m.SetEmptySummary()
						for range points {
							m.Summary().DataPoints().AppendEmpty().SetTimestamp(stamp(&n))
						}
					}
				}
			}
		}
		if n == 0 {
			return
		}
		want := points(md)
		k := rapid.IntRange(1, n).Draw(t, "n")
		s := &metricsSignal{}
		first := s.split(md, k)
		if got := points(first); !slices.Equal(got, want[:k]) {
			t.Fatalf("first %v, want %v", got, want[:k])
		}
		if got := points(md); !slices.Equal(got, want[k:]) {
			t.Fatalf("rest %v, want %v", got, want[k:])
		}
	})
}
