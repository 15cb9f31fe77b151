// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func appendN(j *Journal, n int) {
	for range n {
		j.Append(Event{Topic: TopicLifecycle, Name: ProcessStarted})
	}
}

func sequence(events []Event) (seqs []uint64) {
	for _, e := range events {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

func TestReader_ReadsTheSameUntilItAcknowledges(t *testing.T) {
	j := New(10)
	r, err := j.Open("logs")
	require.NoError(t, err)
	appendN(j, 3)
	for range 2 {
		events, missed := r.Read(nil, 2)
		assert.Equal(t, []uint64{1, 2}, sequence(events))
		assert.Zero(t, missed)
	}
	r.Ack(2)
	events, _ := r.Read(nil, 2)
	assert.Equal(t, []uint64{3}, sequence(events))
	r.Ack(1)
	events, _ = r.Read(nil, 2)
	assert.Equal(t, []uint64{3}, sequence(events), "a cursor never moves back")
}

func TestReader_IsToldHowManyEventsItMissed(t *testing.T) {
	j := New(4)
	r, err := j.Open("logs")
	require.NoError(t, err)
	appendN(j, 6)
	events, missed := r.Read(nil, 10)
	assert.Equal(t, []uint64{3, 4, 5, 6}, sequence(events))
	assert.EqualValues(t, 2, missed)
	appendN(j, 1)
	_, missed = r.Read(nil, 10)
	assert.EqualValues(t, 3, missed, "until it acknowledges, it is told of all it missed")
	r.Ack(7)
	_, missed = r.Read(nil, 10)
	assert.Zero(t, missed)
}

func TestReader_TellsAgainWhatItHasAcknowledged(t *testing.T) {
	j := New(5)
	appendN(j, 8)
	r, err := j.Open("r")
	require.NoError(t, err)
	defer r.Close()
	assert.Empty(t, r.Behind(nil, 0, 10), "it is at the oldest event")
	r.Ack(7)
	assert.Equal(t, []uint64{4, 5, 6, 7}, sequence(r.Behind(nil, 0, 10)), "8 is to be read")
	assert.Equal(t, []uint64{4, 5}, sequence(r.Behind(nil, 0, 2)))
	assert.Equal(t, []uint64{6, 7}, sequence(r.Behind(nil, 5, 10)))
	assert.Empty(t, r.Behind(nil, 7, 10))
}

func TestJournal_OpensANameOnce(t *testing.T) {
	j := New(4)
	r, err := j.Open("logs")
	require.NoError(t, err)
	_, err = j.Open("logs")
	assert.EqualError(t, err, `journal: reader "logs" is open already`)
	r.Close()
	r.Close()
	appendN(j, 1)
	again, err := j.Open("logs")
	require.NoError(t, err)
	events, _ := again.Read(nil, 10)
	assert.Len(t, events, 1, "a new reader begins with the oldest event that is held")
}

func TestReader_WaitEndsWithTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(4)
		r, err := j.Open("logs")
		require.NoError(t, err)
		woken := false
		go func() { <-r.Wait(); woken = true }()
		synctest.Wait()
		assert.False(t, woken)
		appendN(j, 1)
		synctest.Wait()
		assert.True(t, woken)
		<-r.Wait() // at once: the event is not acknowledged
	})
}

func TestJournal_DrainedWaitsForEveryOpenReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(4)
		require.NoError(t, j.Drained(t.Context()), "nobody reads")
		logs, err := j.Open("logs")
		require.NoError(t, err)
		spans, err := j.Open("spans")
		require.NoError(t, err)
		appendN(j, 2)
		drained := make(chan error, 1)
		go func() { drained <- j.Drained(t.Context()) }()
		logs.Ack(2)
		spans.Ack(1)
		synctest.Wait()
		assert.Empty(t, drained)
		spans.Close()
		assert.NoError(t, <-drained)
	})
}

func TestJournal_DrainedNamesTheSlowestReaderAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(4)
		_, err := j.Open("logs")
		require.NoError(t, err)
		appendN(j, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.EqualError(t, j.Drained(ctx), `journal: reader "logs" has not taken the last 2 events: context deadline exceeded`)
	})
}

func TestJournal_CountsWhatWasEverAppended(t *testing.T) {
	j := New(2)
	appendN(j, 5)
	j.Append(Event{Topic: TopicSupervisor, Name: SupervisorStarted})
	j.Append(Event{Topic: TopicLifecycle, Name: ProcessCrashed})
	var got []string
	j.Counts(func(topic, name string, n uint64) bool {
		got = append(got, fmt.Sprintf("%s %s %d", topic, name, n))
		return true
	})
	assert.Equal(t, []string{"lifecycle process.crashed 1", "lifecycle process.started 5", "supervisor supervisor.started 1"}, got)
}

// Whatever the order of appends, reads and acknowledgements: a reader sees every
// event once, in order, or is told that it missed it.
func TestReader_SeesEverythingOrIsToldSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := New(rapid.IntRange(1, 5).Draw(t, "capacity"))
		r, err := j.Open("r")
		require.NoError(t, err)
		var appended, seen uint64
		read := func(limit int) {
			events, missed := r.Read(nil, limit)
			seen += missed
			for _, e := range events {
				seen++
				assert.Equal(t, seen, e.Seq)
			}
			r.Ack(seen)
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "append") {
				appendN(j, 1)
				appended++
			} else {
				read(rapid.IntRange(1, 3).Draw(t, "limit"))
			}
		}
		read(100)
		assert.Equal(t, appended, seen)
	})
}
