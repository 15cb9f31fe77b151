// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// dumped is what a client would find in a store.
func dumped(t require.TestingT, s *store) State {
	state := State{Values: map[string][]byte{}, JournalFirst: s.first}
	for kind, payload := range s.dump() {
		d := wire.NewDecoder(payload)
		for d.More() {
			switch kind {
			case kindValues:
				key := d.String()
				state.Values[key] = bytes.Clone(d.Bytes())
			case kindRecords:
				state.Journal = append(state.Journal, bytes.Clone(d.Bytes()))
			}
		}
		require.NoError(t, d.Err())
	}
	return state
}

func TestStore_HoldsWhatWasCommittedAndNoMoreThanItShould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore()
		limit := rapid.IntRange(0, 20).Draw(t, "limit")
		s.setLimit(limit)
		values := map[string][]byte{}
		var journal [][]byte // all of it
		var events []Event   // that are not acknowledged
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "an event") {
				e := []Event{{Kind: Gone, ID: "a", Run: s.seq + 1}}
				s.file(e)
				assert.Equal(t, e[0].Run, e[0].Seq)
				events = append(events, e...)
				continue
			}
			var c Commit
			for range rapid.IntRange(0, 3).Draw(t, "values") {
				v := Value{Key: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "key")}
				if rapid.Bool().Draw(t, "set") {
					v.Data = rapid.SliceOf(rapid.Byte()).Draw(t, "data")
					values[v.Key] = v.Data
				} else {
					delete(values, v.Key)
				}
				c.Values = append(c.Values, v)
			}
			for range rapid.IntRange(0, 30).Draw(t, "records") {
				c.Journal = append(c.Journal, []byte(fmt.Sprint(len(journal)+1)))
				journal = append(journal, c.Journal[len(c.Journal)-1])
			}
			var want []runKey
			for len(events) > 0 && rapid.Bool().Draw(t, "acknowledge") {
				i := rapid.IntRange(0, len(events)-1).Draw(t, "which")
				c.Acknowledge = append(c.Acknowledge, events[i].Seq, events[i].Seq, 1<<40)
				want = append(want, runKey{"a", events[i].Run})
				events = append(events[:i:i], events[i+1:]...)
			}
			var e wire.Encoder
			appendCommit(&e, c)
			decoded, err := decodeCommit(e.Buf)
			require.NoError(t, err)
			assert.Equal(t, want, s.apply(decoded))
			clear(e.Buf) // the connection's buffer is used again
		}
		state := dumped(t, s)
		assert.Len(t, state.Values, len(values))
		for key, data := range values {
			assert.True(t, bytes.Equal(data, state.Values[key]), key)
		}
		first := max(0, len(journal)-limit)
		assert.Equal(t, uint64(first+1), state.JournalFirst)
		assert.Len(t, state.Journal, len(journal)-first)
		for i, record := range state.Journal {
			assert.Equal(t, journal[first+i], record)
		}
		assert.Len(t, s.events, len(events))
		for i := range events {
			assert.Equal(t, events[i].Seq, s.events[i].Seq)
		}
	})
}

func TestStore_ASmallerLimitLetsTheOldestGo(t *testing.T) {
	s := newStore()
	s.setLimit(10)
	for i := range 12 {
		s.apply(Commit{Journal: [][]byte{{byte(i)}}})
	}
	s.setLimit(3)
	assert.Equal(t, [][]byte{{9}, {10}, {11}}, s.journal)
	assert.Equal(t, uint64(10), s.first)
}

func TestStore_IsToldInMessagesOfBoundedLength(t *testing.T) {
	s := newStore()
	s.setLimit(1000)
	for i := range 1000 {
		s.apply(Commit{
			Values:  []Value{{fmt.Sprint(i), make([]byte, 500)}},
			Journal: [][]byte{make([]byte, 500)},
		})
	}
	messages := 0
	for _, payload := range s.dump() {
		messages++
		assert.Less(t, len(payload), dumpSize+1000)
	}
	assert.Equal(t, 16, messages)
	state := dumped(t, s)
	assert.Len(t, state.Values, 1000)
	assert.Len(t, state.Journal, 1000)
}

func TestProtocol_EveryMessageIsTakenAsItWasPut(t *testing.T) {
	at := time.Unix(0, 1234567890123456789)
	spec := Spec{
		ID: "a.b", Run: 1 << 60, Argv: []string{"x", ""}, Env: []string{"A=b"}, Dir: "/d", Stdout: StreamPipe, Stderr: StreamJoin,
		NotifyFD: 9, Stop: Stop{Signal: syscall.SIGUSR1, Grace: -1},
	}
	m := spawn{request: 7, spec: spec, holds: 2, inherits: true}
	var e wire.Encoder
	m.append(&e)
	gotSpawn, err := decodeSpawn(e.Buf)
	require.NoError(t, err)
	assert.Equal(t, m, gotSpawn)

	a := adopted{
		request: 3, key: runKey{"a", 4}, pid: 5, startTicks: 6, at: at, mono: time.Hour, pipes: [3]bool{true, false, true},
		gone: true, how: Stop{Signal: syscall.SIGHUP, Grace: time.Minute},
	}
	gotAdopted, err := decodeAdopted(a.encode())
	require.NoError(t, err)
	assert.Equal(t, a, gotAdopted)

	events := []Event{
		{Kind: Killed, ID: "a", Run: 1, Seq: 2},
		{Kind: Died, ID: "a", Run: 1, Seq: 3, Replayed: true, Exit: Exit{
			PID: 4, Code: -1, Signal: syscall.SIGSEGV, Core: true, OOM: true, Lost: true, User: 5, System: 6, At: at, Mono: 7, By: StoppedByKeeper,
			Usage: syscall.Rusage{
				Utime: syscall.NsecToTimeval(8000), Stime: syscall.NsecToTimeval(9000),
				Maxrss: 10, Minflt: 11, Majflt: 12, Inblock: 13, Oublock: 14, Nvcsw: 15, Nivcsw: 16,
			},
			IO: &IO{1, 2, 3, 4, 5, 6},
		}},
		{Kind: Gone, ID: "a", Run: 1, Seq: 4},
	}
	gotEvents, err := decodeEvents(encodeEvents(events))
	require.NoError(t, err)
	assert.Equal(t, events, gotEvents)

	n := notSpawned{1, true, syscall.EAGAIN, "text"}
	gotNot, err := decodeNotSpawned(n.encode())
	require.NoError(t, err)
	assert.Equal(t, n, gotNot)
	assert.ErrorIs(t, n.asError(), ErrClosed)
	assert.ErrorIs(t, notSpawned{errno: syscall.EAGAIN}.asError(), syscall.EAGAIN)

	w := attach{-1, 5}
	gotAttach, err := decodeAttach(w.encode())
	require.NoError(t, err)
	assert.Equal(t, w, gotAttach)

	later := append(hello{1, 2}.encode(), 9, 9)
	gotHello, err := decodeHello(later)
	require.NoError(t, err, "a later version may say more")
	assert.Equal(t, hello{1, 2}, gotHello)
	r := refusal{refusedHeld, "text"}
	gotRefusal, err := decodeRefusal(append(r.encode(), 1))
	require.NoError(t, err)
	assert.Equal(t, r, gotRefusal)
}

func TestSpecCheck_RefusesWhatWouldMisbehave(t *testing.T) {
	good := Spec{Argv: []string{"x"}, Stderr: StreamJoin, NotifyFD: 3, Stop: Stop{Signal: 64}}
	assert.NoError(t, good.check())
	for name, spoil := range map[string]func(*Spec){
		"no command":            func(s *Spec) { s.Argv = nil },
		"an empty command":      func(s *Spec) { s.Argv = []string{""} },
		"notification on stdin": func(s *Spec) { s.NotifyFD = 0 - 1 },
		"a huge descriptor":     func(s *Spec) { s.NotifyFD = maxNotifyFD + 1 },
		"stdout joins":          func(s *Spec) { s.Stdout = StreamJoin },
		"an unknown stream":     func(s *Spec) { s.Stderr = StreamJoin + 1 },
		"an unknown signal":     func(s *Spec) { s.Stop.Signal = 65 },
		"a negative signal":     func(s *Spec) { s.Stop.Signal = -1 },
		"too much to hold":      func(s *Spec) { s.Hold = make([]*os.File, MaxHold+1) },
	} {
		bad := good
		spoil(&bad)
		assert.Error(t, bad.check(), name)
	}
}

func FuzzMessages(f *testing.F) {
	var e wire.Encoder
	spawn{spec: Spec{Argv: []string{"x"}}}.append(&e)
	f.Add(e.Buf)
	f.Add(encodeEvents([]Event{{Kind: Died, Exit: Exit{IO: &IO{}}}}))
	f.Add(adopted{}.encode())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if m, err := decodeSpawn(payload); err == nil {
			assert.NoError(t, m.spec.check())
		}
		_, _ = decodeHello(payload)
		_, _ = decodeAttach(payload)
		_, _ = decodeRef(payload)
		_, _ = decodeCommit(payload)
		_, _ = decodeAdopted(payload)
		_, _ = decodeWelcome(payload)
		_, _ = decodeRefusal(payload)
		for version := uint64(minVersion); version <= maxVersion; version++ {
			_, _ = decodeGranted(payload, version)
		}
		_, _ = decodeNotSpawned(payload)
		if events, err := decodeEvents(payload); err == nil {
			again, err := decodeEvents(encodeEvents(events))
			require.NoError(t, err)
			assert.Equal(t, len(events), len(again))
		}
	})
}
