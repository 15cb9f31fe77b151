// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"pgregory.net/rapid"
)

func TestGroupLabel_ShowsTheValues(t *testing.T) {
	g, err := newGrouping([]string{"event_name", `attributes["n"]`, `attributes["s"]`, `attributes["list"]`, `attributes["missing"]`}, signalLogs)
	assert.NoError(t, err)
	r := plog.NewLogRecord()
	r.SetEventName("process.crashed")
	r.Attributes().PutInt("n", math.MinInt64)
	r.Attributes().PutStr("s", "\xff")
	r.Attributes().PutEmptySlice("list").AppendEmpty().SetBool(true)
	assert.Equal(t, "process.crashed,-9223372036854775808,\uFFFD,[true],(none)", groupLabel(string(g.appendLogRecord(nil, r))))

	r.SetEventName(strings.Repeat("é", 100))
	label := groupLabel(string(g.appendLogRecord(nil, r)))
	assert.True(t, utf8.ValidString(label))
	assert.LessOrEqual(t, len(label), maxLabel+len("…"))
}

// Two combinations of values have one key only if they are equal.
func TestGrouping_KeysAreUnambiguous(t *testing.T) {
	g, err := newGrouping([]string{`attributes["a"]`, `attributes["b"]`}, signalLogs)
	assert.NoError(t, err)
	value := rapid.OneOf(
		rapid.Map(rapid.StringN(0, 3, -1), func(s string) any { return s }),
		rapid.Map(rapid.Int64Range(-2, 2), func(n int64) any { return n }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
	)
	rapid.Check(t, func(t *rapid.T) {
		key := func(a, b any) string {
			r := plog.NewLogRecord()
			for k, v := range map[string]any{"a": a, "b": b} {
				if v != nil {
					_ = r.Attributes().PutEmpty(k).FromRaw(v)
				}
			}
			return string(g.appendLogRecord(nil, r))
		}
		a, b, c, d := value.Draw(t, "a"), value.Draw(t, "b"), value.Draw(t, "c"), value.Draw(t, "d")
		if (key(a, b) == key(c, d)) != (a == c && b == d) {
			t.Fatalf("%v %v and %v %v", a, b, c, d)
		}
		groupLabel(key(a, b))
	})
}

func TestSeverityClass_CoversEveryNumber(t *testing.T) {
	var got []string
	for n := plog.SeverityNumber(-1); n <= 25; n++ {
		if c := severityClass(n); len(got) == 0 || got[len(got)-1] != c {
			got = append(got, c)
		}
	}
	assert.Equal(t, []string{"UNSPECIFIED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "UNSPECIFIED"}, got)
	assert.Equal(t, "INFO", severityClass(plog.SeverityNumberInfo4))
	assert.Equal(t, "WARN", severityClass(plog.SeverityNumberWarn))
}

func FuzzParseGroupKey(f *testing.F) {
	for _, s := range []string{"event_name", `attributes["x"]`, `resource.attributes["a\"b"]`, "attributes[`x`]", "[", "]", `attributes[""]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseGroupKey(s, signalLogs)
		if err != nil {
			return
		}
		g, err := newGrouping([]string{s}, signalLogs)
		if err != nil || !g.enabled() {
			t.Fatalf("%q parses as %v, but makes no grouping: %v", s, k, err)
		}
		groupLabel(string(g.appendLogRecord(g.appendShared(nil, pcommon.NewResource(), pcommon.NewInstrumentationScope()), plog.NewLogRecord())))
	})
}

// Whatever comes: taken apart and put together it has the same number of records, in batches of one group.
func FuzzGrouping(f *testing.F) {
	b, err := (&plog.ProtoMarshaler{}).MarshalLogs(records("a/1", "b/2", "a/3", "4"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		ld, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(data)
		if err != nil || ld.LogRecordCount() == 0 {
			t.Skip()
		}
		s := newTestSignal(t, "event_name", "severity", `attributes["k"]`, `resource.attributes["k"]`)
		total := ld.LogRecordCount()
		var c classification
		c.reset()
		s.classify(ld, &c)
		got := 0
		for _, part := range s.distribute(ld, c.assigned, len(c.shares), nil) {
			s.compact(part)
			var again classification
			again.reset()
			s.classify(part, &again)
			if len(again.shares) != 1 {
				t.Fatalf("a part of %d groups", len(again.shares))
			}
			all := part.LogRecordCount()
			if k := int(n)%all + 1; s.split(part, k).LogRecordCount() != k || part.LogRecordCount() != all-k {
				t.Fatalf("%d of %d split wrongly", k, all)
			}
			got += all
		}
		if got != total {
			t.Fatalf("%d of %d records", got, total)
		}
	})
}
