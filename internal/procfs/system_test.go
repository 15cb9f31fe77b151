// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLoadavg_ReadsFixture(t *testing.T) {
	got, err := New(fixtures).Loadavg()
	require.NoError(t, err)
	assert.Equal(t, Loadavg{One: 0.25, Five: 1.5, Fifteen: 12.07}, got)
}

func TestMeminfo_ReadsFixture(t *testing.T) {
	got, err := New(fixtures).Meminfo()
	require.NoError(t, err)
	assert.Equal(t, Meminfo{
		Total: 16384000 << 10, Free: 1024000 << 10, Available: 8192000 << 10, Buffers: 102400 << 10, Cached: 4096000 << 10,
	}, got)
}

func TestUptime_ReadsFixture(t *testing.T) {
	got, err := New(fixtures).Uptime()
	require.NoError(t, err)
	assert.Equal(t, Uptime(350735.47), got)
}

func TestSystemStat_ReadsFixture(t *testing.T) {
	got, err := New(fixtures).SystemStat()
	require.NoError(t, err)
	assert.Equal(t, SystemStat{BootTime: 1062191376, Processes: 2915}, got)
}

func TestFS_ReadsTheLivingSystem(t *testing.T) {
	f := New("/proc")
	memory, err := f.Meminfo()
	require.NoError(t, err)
	assert.Greater(t, memory.Total, memory.Free)
	uptime, err := f.Uptime()
	require.NoError(t, err)
	assert.Positive(t, float64(uptime))
	_, err = f.Loadavg()
	require.NoError(t, err)
	stat, err := f.SystemStat()
	require.NoError(t, err)
	assert.Positive(t, stat.Processes)
}

const meminfo = "MemTotal: 5 kB\nMemFree: 4 kB\nMemAvailable: 3 kB\nBuffers: 2 kB\nCached: 1 kB\n"

func TestParsers_RejectWhatTheyCannotRead(t *testing.T) {
	loadavg := func(b []byte) error { _, err := parseLoadavg(b); return err }
	memory := func(b []byte) error { var m Meminfo; return m.parse(b) }
	uptime := func(b []byte) error { _, err := parseUptime(b); return err }
	stat := func(b []byte) error { var s SystemStat; return s.parse(b) }
	for _, tt := range []struct {
		name       string
		parse      func([]byte) error
		give, want string
	}{
		{"load: empty", loadavg, "", `"" does not begin with three numbers`},
		{"load: two numbers", loadavg, "1.0 2.0", `"1.0 2.0" does not begin with three numbers`},
		{"load: negative", loadavg, "1.0 -2.0 3.0", `"1.0 -2.0 3.0" does not begin with three numbers`},
		{"load: no digits behind the point", loadavg, "1. 2. 3.", `"1. 2. 3." does not begin with three numbers`},
		{"memory: empty", memory, "", `there is no line "MemTotal:"`},
		{"memory: a line missing", memory, "MemTotal: 5 kB\nMemFree: 4 kB\n", `there is no line "MemAvailable:"`},
		{"memory: another unit", memory, "MemTotal: 5 MB\n", `"MemTotal: 5 MB" is not a number of kB`},
		{"memory: cut off", memory, "MemTotal: 5", `"MemTotal: 5" is not a number of kB`},
		{"memory: too much", memory, "MemTotal: 9007199254740992 kB", `"MemTotal: 9007199254740992 kB" is not a number of kB`},
		{"uptime: empty", uptime, "\n", `"\n" does not begin with a number of seconds`},
		{"uptime: a word", uptime, "inf 1", `"inf 1" does not begin with a number of seconds`},
		{"stat: empty", stat, "", `there is no line "btime"`},
		{"stat: no count", stat, "btime\nprocesses 1\n", `"btime" is not a count`},
		{"stat: a line missing", stat, "btime 1\nprocesses_x 1\n", `there is no line "processes"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.EqualError(t, tt.parse([]byte(tt.give)), tt.want)
		})
	}
	assert.NoError(t, memory([]byte(meminfo)))
}

func TestParseDecimal_IsExactToTheHundredth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.Uint32().Draw(t, "whole")
		hundredths := rapid.IntRange(0, 99).Draw(t, "hundredths")
		text := fmt.Sprintf("%d.%02d", whole, hundredths)
		var want float64
		if _, err := fmt.Sscan(text, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := parseDecimal([]byte(text)); !ok || got != want {
			t.Fatalf("%s: got %v, %v", text, got, ok)
		}
	})
}

func TestParseInt_HasTheRangeOfInt64(t *testing.T) {
	for give, want := range map[string]int64{
		"-9223372036854775808": math.MinInt64, "9223372036854775807": math.MaxInt64, "-0": 0, "17": 17,
	} {
		got, ok := parseInt([]byte(give))
		assert.True(t, ok, give)
		assert.Equal(t, want, got)
	}
	for _, give := range []string{"", "-", "--1", "9223372036854775808", "-9223372036854775809", "1x", "+1", "18446744073709551616"} {
		_, ok := parseInt([]byte(give))
		assert.False(t, ok, give)
	}
}

func FuzzLoadavg(f *testing.F) {
	f.Add([]byte("0.25 1.50 12.07 3/1234 98770\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLoadavg(data)
		if err != nil {
			assert.Zero(t, l)
			return
		}
		for _, v := range []float64{l.One, l.Five, l.Fifteen} {
			assert.False(t, v < 0 || math.IsInf(v, 0) || math.IsNaN(v), "%v", v)
		}
	})
}

func FuzzMeminfo(f *testing.F) {
	f.Add([]byte(meminfo))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Meminfo
		if m.parse(data) != nil {
			return
		}
		for _, v := range []uint64{m.Total, m.Free, m.Available, m.Buffers, m.Cached} {
			assert.Zero(t, v%1024)
			assert.LessOrEqual(t, v, uint64(math.MaxInt64))
		}
	})
}

func FuzzUptime(f *testing.F) {
	f.Add([]byte("350735.47 234388.90\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseUptime(data)
		assert.False(t, u < 0 || math.IsInf(float64(u), 0), "%v", u)
		if err != nil {
			assert.Zero(t, u)
		}
	})
}

func FuzzSystemStat(f *testing.F) {
	f.Add([]byte("cpu 1 2\nbtime 5\nprocesses 6\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s SystemStat
		if s.parse(data) == nil {
			assert.Contains(t, string(data), "btime")
			assert.Contains(t, string(data), "processes")
		}
	})
}
