// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// attempt is one attempt of a taker that takes nothing; it returns how long that lasted.
func attempt(t *testing.T, h *holdup) time.Duration {
	t.Helper()
	begun := time.Now()
	ctx, _ := h.begin(t.Context())
	<-ctx.Done()
	require.True(t, h.end(false))
	return time.Since(begun)
}

func TestHoldup_AWriterIsHeldUpForNoLongerThanItMayBe(t *testing.T) {
	for _, wait := range []time.Duration{0, 20 * time.Millisecond, time.Second, 5 * time.Second, time.Minute} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h holdup
				h.init(wait, func() bool { return true })
				lasted := attempt(t, &h)
				assert.LessOrEqual(t, lasted, max(wait, shortestTick))
				assert.GreaterOrEqual(t, lasted, wait-longestTick-shortestTick, "and not for much less")
			})
		})
	}
}

func TestHoldup_WhoHasRoomIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h holdup
		var full atomic.Bool
		h.init(time.Second, full.Load)
		ctx, once := h.begin(t.Context())
		assert.False(t, once)
		time.Sleep(time.Hour)
		require.NoError(t, ctx.Err())
		full.Store(true)
		begun := time.Now()
		<-ctx.Done()
		assert.LessOrEqual(t, time.Since(begun), time.Second)
		assert.True(t, h.end(false))
	})
}

func TestHoldup_OnceLinesWereDroppedTheWriterIsHardlyHeldUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h holdup
		h.init(5*time.Second, func() bool { return true })
		attempt(t, &h)
		assert.False(t, h.worthTrying(), "it is dropped at once")
		var held time.Duration
		begun := time.Now()
		for range 20 {
			time.Sleep(sparsest)
			require.True(t, h.worthTrying(), "but for an attempt now and then")
			held += attempt(t, &h)
			assert.False(t, h.worthTrying())
		}
		assert.LessOrEqual(t, held, time.Since(begun)/10)
		assert.LessOrEqual(t, held, 20*attemptLimit)

		time.Sleep(sparsest)
		require.True(t, h.worthTrying())
		_, once := h.begin(t.Context())
		assert.True(t, once)
		require.True(t, h.end(false), "a refusal is enough")
		time.Sleep(retryPause)
		require.True(t, h.worthTrying(), "and one that came at once is followed by the next attempt soon")

		h.begin(t.Context())
		require.False(t, h.end(true), "what was taken is not dropped")
		assert.True(t, h.worthTrying())
		assert.Greater(t, attempt(t, &h), 4*time.Second, "after that it has its patience again")
	})
}

func TestHoldup_WhatIsTakenInTheLastMomentIsNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h holdup
		h.init(0, func() bool { return true })
		ctx, _ := h.begin(t.Context())
		<-ctx.Done()
		assert.False(t, h.end(true))
	})
}

func TestReader_DropsAndCountsWhatNobodyTakesInTime(t *testing.T) {
	const lines = 100_000 // many pipes full
	read, write := pipe(t)
	var dropped, taken int
	var last uint64
	open := make(chan struct{})
	reader, err := NewReader(read, Settings{
		Wait: 0,
		Dropped: func(lines []Line) {
			assert.Equal(t, last+1, lines[0].Seq)
			last = lines[len(lines)-1].Seq
			dropped += len(lines)
		},
	}, func(ctx context.Context, lines []Line) error {
		select {
		case <-open:
			assert.Equal(t, last+1, lines[0].Seq)
			last = lines[len(lines)-1].Seq
			taken += len(lines)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	require.NoError(t, err)
	go func() {
		for i := range lines {
			_, _ = fmt.Fprintf(write, "line %d\n", i)
		}
		close(open)
		_ = write.Close()
	}()
	lost, err := reader.Run(t.Context())
	require.NoError(t, err)
	assert.Zero(t, lost)
	assert.Positive(t, dropped)
	assert.Positive(t, taken, "what was in the pipe when the taker came")
	assert.Equal(t, lines, dropped+taken)
}
