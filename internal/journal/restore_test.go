// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestJournal_WhatIsStagedIsReadOnlyOncePublished(t *testing.T) {
	j := New(4)
	r, err := j.Open("logs")
	require.NoError(t, err)
	assert.EqualValues(t, 1, j.Stage(Event{Topic: TopicLifecycle, Name: ProcessStarted}))
	assert.EqualValues(t, 2, j.Stage(Event{Topic: TopicLifecycle, Name: ProcessStarted}))
	wait := r.Wait()
	events, _ := r.Read(nil, 10)
	assert.Empty(t, events)
	assert.NotPanics(t, func() {
		select {
		case <-wait:
			panic("it was told of what it can not read")
		default:
		}
	})

	staged, counts := j.Staged()
	assert.Equal(t, []uint64{1, 2}, sequence(staged))
	assert.Equal(t, []Count{{TopicLifecycle, ProcessStarted, 2}}, counts)

	j.Publish()
	<-wait
	events, _ = r.Read(nil, 10)
	assert.Equal(t, []uint64{1, 2}, sequence(events))
	staged, counts = j.Staged()
	assert.Empty(t, staged)
	assert.Empty(t, counts)
}

func TestJournal_ToldOfEveryMoveOfACursor(t *testing.T) {
	j := New(4)
	var moves []Cursor
	j.OnMove(func(c Cursor) { moves = append(moves, c) })
	r, err := j.Open("logs")
	require.NoError(t, err)
	appendN(j, 3)
	r.Ack(2)
	r.Ack(9)
	assert.Equal(t, []Cursor{{"logs", 2}, {"logs", 3}}, moves)
}

func TestJournal_IsRestoredOnceAndWithoutHoles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before int
		events []uint64
		err    string
	}{
		{"a hole", 0, []uint64{1, 3}, "journal: event 1 of those to restore has the number 3, out of order"},
		{"no number", 0, []uint64{0}, "journal: event 0 of those to restore has the number 0, out of order"},
		{"not empty", 1, []uint64{1}, "journal: it holds 1 events already, only an empty one can be restored"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := New(4)
			appendN(j, tt.before)
			var events []Event
			for _, seq := range tt.events {
				events = append(events, Event{Seq: seq})
			}
			assert.EqualError(t, j.Restore(Snapshot{Events: events}), tt.err)
		})
	}
}

// A journal that is restored at any moment from what was staged so far goes on as
// the one that it was made from would have.
func TestJournal_RestoredGoesOnAsIfNothingHadHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 5).Draw(t, "capacity")
		first := New(capacity)
		var saved Snapshot
		counts := map[counter]uint64{}
		act := func(j *Journal, reader *Reader) (seen []uint64) {
			switch rapid.IntRange(0, 2).Draw(t, "act") {
			case 0:
				j.Stage(Event{Topic: TopicHealth, Name: ProcessHealthy})
				fallthrough
			case 1:
				j.Stage(Event{Topic: TopicLifecycle, Name: ProcessStarted})
				events, changed := j.Staged()
				saved.Events = append(saved.Events, events...)
				for _, c := range changed {
					counts[counter{c.Topic, c.Name}] = c.N
				}
				j.Publish()
			default:
				events, missed := reader.Read(nil, 2)
				seen = append(sequence(events), missed)
				if len(events) > 0 {
					reader.Ack(events[len(events)-1].Seq)
				}
			}
			return seen
		}
		reader, err := first.Open("r")
		require.NoError(t, err)
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			act(first, reader)
		}
		for c, n := range counts {
			saved.Counts = append(saved.Counts, Count{c.topic, c.name, n})
		}
		first.mu.Lock()
		for name, seq := range first.cursors {
			saved.Cursors = append(saved.Cursors, Cursor{name, seq})
		}
		first.mu.Unlock()

		second := New(capacity)
		require.NoError(t, second.Restore(saved))
		again, err := second.Open("r")
		require.NoError(t, err)
		if _, known := first.cursors["r"]; !known {
			// Nothing was ever delivered to it: it begins with what is held.
			reader.Close()
			reader, err = first.Open("r")
			require.NoError(t, err)
		}
		for range rapid.IntRange(0, 20).Draw(t, "after") {
			if rapid.Bool().Draw(t, "append") {
				appendN(first, 1)
				appendN(second, 1)
				continue
			}
			limit := rapid.IntRange(1, 3).Draw(t, "limit")
			want, wantMissed := reader.Read(nil, limit)
			got, gotMissed := again.Read(nil, limit)
			assert.Equal(t, sequence(want), sequence(got))
			assert.Equal(t, wantMissed, gotMissed)
			if len(want) > 0 {
				reader.Ack(want[len(want)-1].Seq)
				again.Ack(want[len(want)-1].Seq)
			}
		}
		var was, is []Count
		first.Counts(func(topic, name string, n uint64) bool { was = append(was, Count{topic, name, n}); return true })
		second.Counts(func(topic, name string, n uint64) bool { is = append(is, Count{topic, name, n}); return true })
		assert.Equal(t, was, is)
	})
}

func TestEvent_IsReadAsItWasWritten(t *testing.T) {
	e := Event{
		Seq: 7, Time: time.Unix(1700000000, 123456789).UTC(), Mono: 42 * time.Hour,
		Topic: TopicLifecycle, Name: ProcessCrashed, Severity: SeverityError,
		Body: "process \"a\" was ended by SIGSEGV after 1s", Process: "a", Run: 3, PID: 4711,
		Attrs: []Attr{String(KeyExitReason, "signal"), Int(KeyExitCode, -1), Seconds(KeyRunDuration, time.Second/3), Bool(KeyCoreDumped, true)},
	}
	got, err := Decode(Encode(&e))
	require.NoError(t, err)
	assert.Equal(t, e, got)
}

func TestDecode_NamesWhatItCanNotRead(t *testing.T) {
	_, err := Decode([]byte(`{"seq":"x"}`))
	assert.ErrorContains(t, err, `journal record "{\"seq\":\"x\"}": `)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-02T03:04:05Z","topic":"lifecycle","attrs":[{"key":"k","kind":2,"float":0.5}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := Decode(record)
		if err != nil {
			return
		}
		again, err := Decode(Encode(&e))
		require.NoError(t, err)
		assert.Equal(t, string(Encode(&e)), string(Encode(&again)))
	})
}
