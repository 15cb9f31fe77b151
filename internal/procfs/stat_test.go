// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestStat_ReadsFixtures(t *testing.T) {
	for _, tt := range []struct {
		name string
		pid  int
		want Stat
	}{
		{"plain", 1, Stat{
			State: 'S', PPID: 0, User: 1500 * time.Millisecond, System: 750 * time.Millisecond,
			ChildrenUser: 3 * time.Second, ChildrenSystem: 250 * time.Millisecond,
			Threads: 1, StartTicks: 12, VirtualBytes: 170000384, RSSPages: 3300,
		}},
		{"name with brackets and blanks", 42, Stat{
			State: 'R', PPID: 1, User: 12345670 * time.Millisecond, System: 80 * time.Millisecond,
			Threads: 64, StartTicks: 98765, VirtualBytes: 1 << 32, RSSPages: 1 << 20,
		}},
		{"name with a line end and a false state", 43, Stat{
			State: 'T', PPID: 1, Threads: 1, StartTicks: 98766, VirtualBytes: 1000000, RSSPages: 250,
		}},
		{"zombie", 45, Stat{
			State: 'Z', PPID: 42, User: 90 * time.Millisecond, System: 10 * time.Millisecond, Threads: 1, StartTicks: 98767,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got Stat
			require.NoError(t, New(fixtures).Stat(tt.pid, tt.want.StartTicks, &got))
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.want.State == 'Z', got.Zombie())
		})
	}
}

func TestStat_EndedProcessIsGone(t *testing.T) {
	var st Stat
	assert.ErrorIs(t, New(fixtures).Stat(47, 0, &st), ErrGone)
	assert.ErrorIs(t, New(fixtures).Stat(4711, 0, &st), ErrGone)
}

func TestStat_ReusedPIDIsGone(t *testing.T) {
	var st Stat
	f := New(fixtures)
	require.NoError(t, f.Stat(42, 98765, &st))
	assert.ErrorIs(t, f.Stat(42, 98764, &st), ErrGone)
}

func TestStat_OwnProcess(t *testing.T) {
	var st Stat
	f := New("/proc")
	require.NoError(t, f.Stat(os.Getpid(), 0, &st))
	assert.Equal(t, os.Getppid(), st.PPID)
	assert.Positive(t, st.RSSPages)
	assert.Positive(t, st.VirtualBytes)
	assert.Positive(t, st.Threads)
	require.NoError(t, f.Stat(os.Getpid(), st.StartTicks, &st))
}

const statRest = " 1 1 0 -1 4194560 2 3 4 5 14 15 16 17 20 0 20 0 22 23 24 25\n"

func TestStat_RejectsWhatItCannotRead(t *testing.T) {
	for _, tt := range []struct{ name, give, want string }{
		{"empty", "", `"" has no name in brackets`},
		{"no name", "12 cat S 1", `"12 cat S 1" has no name in brackets`},
		{"nothing behind the name", "12 (cat)", `"12 (cat)" ends before field 3`},
		{"cut off", "12 (cat) S 1 2 3", `"12 (cat) S 1 2 3" ends before field 7`},
		{"cut off by a line end", "12 (cat) S 1\n2 3", `"12 (cat) S 1\n2 3" ends before field 5`},
		{"state of two letters", "12 (cat) SS 1" + statRest, `field 3 is "SS"`},
		{"not a number", "12 (cat) S x" + statRest, `field 4 is "x"`},
		{"too large a number", "12 (cat) S 99999999999999999999" + statRest, `field 4 is "99999999999999999999"`},
		{"negative time", "12 (cat) S 1" + strings.Replace(statRest, " 14 ", " -14 ", 1), `field 14 is "-14"`},
		{"time beyond all times", "12 (cat) S 1" + strings.Replace(statRest, " 15 ", " 922337203685477581 ", 1), `field 15 is "922337203685477581"`},
		{"long input is cut", strings.Repeat("x", 100), `"` + strings.Repeat("x", 64) + `"… has no name in brackets`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var st Stat
			assert.EqualError(t, st.parse([]byte(tt.give)), tt.want)
		})
	}
}

func TestStat_TruncatedFileIsNamed(t *testing.T) {
	var st Stat
	assert.EqualError(t, New(fixtures).Stat(46, 0, &st),
		`parse testdata/proc/46/stat: "46 (cut) S 1 46 46 0 -1 4194560 26000" ends before field 11`)
}

func TestStat_AnyNameLeavesTheFieldsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Stat{
			State:          rapid.SampledFrom([]byte("RSDTtZXI")).Draw(t, "state"),
			PPID:           rapid.IntRange(0, 1<<22).Draw(t, "ppid"),
			User:           ticks(t, "user"),
			System:         ticks(t, "system"),
			ChildrenUser:   ticks(t, "children user"),
			ChildrenSystem: ticks(t, "children system"),
			Threads:        rapid.Int64Range(0, 1<<22).Draw(t, "threads"),
			StartTicks:     rapid.Uint64().Draw(t, "start"),
			VirtualBytes:   rapid.Uint64().Draw(t, "virtual"),
			RSSPages:       rapid.Int64().Draw(t, "rss"),
		}
		name := rapid.StringOfN(rapid.SampledFrom([]rune("a )(\n\t0RZ")), 0, 15, 15).Draw(t, "name")
		var got Stat
		if err := got.parse(formatStat(name, &want)); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func ticks(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(0, 1<<39).Draw(t, label)) * tick
}

func formatStat(name string, s *Stat) []byte {
	return fmt.Appendf(nil, "77 (%s) %c %d 1 1 0 -1 4194560 2 3 4 5 %d %d %d %d 20 0 %d 0 %d %d %d 18446744073709551615\n",
		name, s.State, s.PPID, s.User/tick, s.System/tick, s.ChildrenUser/tick, s.ChildrenSystem/tick,
		s.Threads, s.StartTicks, s.VirtualBytes, s.RSSPages)
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("12 (cat) S 1" + statRest))
	f.Add([]byte("12 (a) b) R -1" + statRest))
	f.Add([]byte("1 ()"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var st Stat
		if st.parse(data) != nil {
			return
		}
		// What was understood is understood the same way when it is written again.
		var again Stat
		require.NoError(t, again.parse(formatStat("x", &st)))
		assert.Equal(t, st, again)
	})
}
