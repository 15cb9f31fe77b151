// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"pgregory.net/rapid"
)

// async consumes in a goroutine of its own and gives the outcome.
func (f *fixture) async(ctx context.Context, specs ...string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f.ConsumeLogs(ctx, records(specs...)) }()
	synctest.Wait()
	return done
}

func pending(t *testing.T, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("returned %v, but should wait", err)
	default:
	}
}

func returned(t *testing.T, done <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		return err
	default:
		t.Fatal("still waits")
		return nil
	}
}

func TestQueue_BlockWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy = 4, nil })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1", "2", "3", "4"))
		waits := f.async(t.Context(), "5")
		pending(t, waits)
		assert.Equal(t, 4, f.held())
		release()
		require.NoError(t, returned(t, waits))
		pass(time.Second)
		assert.Equal(t, [][]string{{"1", "2", "3", "4"}, {"5"}}, f.sink.got())
	})
}

func TestQueue_AFullQueueDoesNotWaitForTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy, c.Timeout = 4, nil, time.Hour })
		f.consume(t, records("1", "2", "3"))
		begin := time.Now()
		f.consume(t, records("4", "5"))
		assert.Zero(t, time.Since(begin))
	})
}

func TestQueue_BlockEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy = 4, nil })
		release := f.sink.block()
		defer release()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1", "2", "3"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ld := records("4", "5")
		err := f.ConsumeLogs(ctx, ld)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, consumererror.IsPermanent(err))
		assert.Equal(t, []string{"4", "5"}, bodies(ld), "a refused request is as it was")
		assert.Equal(t, 3, f.held())
		// A large request that gave up does not keep a small one waiting.
		large, cancelLarge := context.WithCancel(t.Context())
		first := f.async(large, "6", "7")
		second := f.async(t.Context(), "8")
		pending(t, second)
		cancelLarge()
		require.ErrorIs(t, returned(t, first), context.Canceled)
		require.NoError(t, returned(t, second))
	})
}

func TestQueue_BlockedRequestsAreTakenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy = 1, nil })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1"))
		for i := 2; i < 9; i++ {
			f.async(t.Context(), fmt.Sprint(i))
		}
		release()
		require.NoError(t, f.ConsumeLogs(t.Context(), records("9")))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}, slices.Concat(f.sink.got()...))
	})
}

func TestQueue_RejectIsRetryableAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull, c.Logs.GroupBy = 4, OnFullReject, nil })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1", "2", "3"))
		ld := records("4", "5")
		err := f.ConsumeLogs(t.Context(), ld)
		require.EqualError(t, err, "event_batch: the queue is full: 3 of 4 items are held and the request has 2; try again later or raise 'queue_size'")
		assert.False(t, consumererror.IsPermanent(err))
		assert.Equal(t, []string{"4", "5"}, bodies(ld))
		release()
		synctest.Wait()
		f.consume(t, ld)
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, 5, f.sink.count())
	})
}

func TestQueue_RejectRefusesForGoodWhatNeverFits(t *testing.T) {
	f := start(t, func(c *Config) { c.QueueSize, c.OnFull, c.Logs.GroupBy = 4, OnFullReject, nil })
	ld := records("1", "2", "3", "4", "5")
	err := f.ConsumeLogs(t.Context(), ld)
	require.ErrorContains(t, err, "a request of 5 items is larger than the 4")
	assert.True(t, consumererror.IsPermanent(err))
	assert.Len(t, bodies(ld), 5)
}

func TestQueue_OtherPoliciesTakeWhatNeverFitsInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy = 3, nil })
		highest := 0
		f.sink.before = func(context.Context, []string) error {
			highest = max(highest, f.held())
			return nil
		}
		f.consume(t, records("1", "2", "3", "4", "5", "6", "7", "8"))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, slices.Concat(f.sink.got()...))
		assert.LessOrEqual(t, highest, 3)
	})
}

func TestQueue_DropNewestKeepsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull, c.Logs.GroupBy = 4, OnFullDropNewest, nil })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1", "2", "3"))
		f.consume(t, records("4", "5"))
		f.consume(t, records("6"))
		assert.Equal(t, 4, f.held())
		release()
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, []string{"1", "2", "3", "4"}, slices.Concat(f.sink.got()...))
	})
}

func TestQueue_DropOldestMakesRoomInTheFullestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull = 8, OnFullDropOldest })
		f.consume(t, records("noise/1", "noise/2", "noise/3", "noise/4"))
		f.consume(t, records("quiet/5"))
		f.consume(t, records("noise/6", "noise/7", "noise/8"))
		f.consume(t, records("quiet/9", "other/10"))
		f.consume(t, records("noise/11"))
		assert.Equal(t, 7, f.held(), "the eighth is for groups below their share")
		require.NoError(t, f.Shutdown(t.Context()))
		assert.ElementsMatch(t, [][]string{{"6", "7", "8", "11"}, {"5", "9"}, {"10"}}, f.sink.got())
	})
}

func TestQueue_AGroupThatDropOldestEmptiedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.QueueSize, c.OnFull, c.SendBatchSize = 7, OnFullDropOldest, 3 })
		release := f.sink.block()
		f.consume(t, records("busy/1", "busy/2", "busy/3"))
		synctest.Wait() // being sent
		f.consume(t, records("a/4", "a/5"))
		f.consume(t, records("b/6", "b/7", "b/8", "b/9"))
		// Room for the next one, which would else be the oldest that is not being sent.
		release()
		synctest.Wait()
		f.consume(t, records("a/10"))
		pass(time.Second)
		assert.Zero(t, f.held())
		f.consume(t, records("a/11", "b/12"))
		require.NoError(t, f.Shutdown(t.Context()))
		got := slices.Concat(f.sink.got()...)
		assert.Contains(t, got, "10")
		assert.Contains(t, got, "11")
		assert.Contains(t, got, "12")
		assert.Equal(t, int64(12), int64(len(got))+f.counter(t, "otelcol_processor_event_batch_dropped_items"))
	})
}

func TestQueue_DropOldestNeverTouchesWhatIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull, c.Logs.GroupBy, c.Timeout = 4, OnFullDropOldest, nil, 0 })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1", "2", "3"))
		synctest.Wait() // now they are being sent
		f.consume(t, records("4", "5", "6"))
		assert.Equal(t, 4, f.held())
		release()
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, [][]string{{"1", "2", "3"}, {"6"}}, f.sink.got())
	})
}

func TestQueue_ANoisyGroupDoesNotKeepOthersOut(t *testing.T) {
	for _, policy := range []string{OnFullBlock, OnFullReject, OnFullDropNewest, OnFullDropOldest} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := build(t, func(c *Config) { c.QueueSize, c.OnFull = 80, policy })
				release := f.sink.block()
				require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for range 30 {
					go func() { _ = f.ConsumeLogs(ctx, repeated("noise", "n", 7)) }()
				}
				synctest.Wait()
				for i := range 5 {
					done := f.async(t.Context(), "quiet/q")
					require.NoError(t, returned(t, done), "quiet request %d", i)
				}
				cancel()
				release()
				require.NoError(t, f.Shutdown(t.Context()))
				quiet := 0
				for _, b := range f.sink.got() {
					for _, body := range b {
						if body == "q" {
							quiet++
						}
					}
				}
				assert.Equal(t, 5, quiet)
			})
		})
	}
}

func TestQueue_WarnsOnceWhenItFillsAndOnceWhenItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.OnFull, c.Logs.GroupBy = 10, OnFullDropNewest, nil })
		release := f.sink.block()
		defer release()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, repeated("", "x", 7))
		assert.Zero(t, f.logs.Len())
		f.consume(t, repeated("", "x", 1))
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("80 % full").Len())
		for range 5 {
			f.consume(t, repeated("", "x", 1))
		}
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("80 % full").Len())
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("queue is full").Len())
		pass(warnEvery)
		f.consume(t, repeated("", "x", 1))
		full := f.logs.FilterMessageSnippet("queue is full").All()
		require.Len(t, full, 2)
		assert.Equal(t, map[string]any{"held": int64(10), "queue_size": int64(10), "on_full": "drop_newest", "suppressed": int64(2)}, full[1].ContextMap())
	})
}

// Whatever comes, in whatever order: no more is held than allowed, and every item is sent, dropped or refused.
func TestQueue_HoldsItsBoundAndAccountsForEveryItem(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			capacity := rapid.IntRange(1, 40).Draw(rt, "queue_size")
			f := build(t, func(c *Config) {
				c.QueueSize = capacity
				c.OnFull = rapid.SampledFrom([]string{OnFullBlock, OnFullReject, OnFullDropNewest, OnFullDropOldest}).Draw(rt, "on_full")
				c.SendBatchSize = rapid.IntRange(0, 20).Draw(rt, "send_batch_size")
				if rapid.Bool().Draw(rt, "limited") {
					c.SendBatchMaxSize = c.SendBatchSize + 1
				}
				c.MaxGroups = rapid.IntRange(1, 4).Draw(rt, "max_groups")
				c.Acknowledge = rapid.SampledFrom([]string{AcknowledgeAccepted, AcknowledgeDelivered}).Draw(rt, "acknowledge")
			})
			slow := time.Duration(rapid.IntRange(0, 300).Draw(rt, "slow")) * time.Millisecond
			f.sink.before = func(context.Context, []string) error {
				if held := f.held(); held > capacity {
					t.Errorf("%d items held, %d allowed", held, capacity)
				}
				time.Sleep(slow)
				return nil
			}
			require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
			sizes := rapid.SliceOfN(rapid.IntRange(0, 50), 1, 20).Draw(rt, "sizes")
			results := make(chan int, len(sizes)) // refused items
			total := 0
			for i, n := range sizes {
				total += n
				specs := make([]string, n)
				for j := range specs {
					specs[j] = fmt.Sprintf("e%d/%d.%d", (i+j*j)%6, i, j)
				}
				go func() {
					refused := 0
					if err := f.ConsumeLogs(t.Context(), records(specs...)); err != nil && !dropped(err) {
						refused = n
					}
					results <- refused
				}()
				time.Sleep(time.Duration(rapid.IntRange(0, 100).Draw(rt, "pause")) * time.Millisecond)
			}
			refused := 0
			for range sizes {
				refused += <-results
			}
			require.NoError(t, f.Shutdown(t.Context()))
			lost := int(f.counter(t, "otelcol_processor_event_batch_dropped_items"))
			assert.Equal(t, total, f.sink.count()+lost+refused)
			assert.Zero(t, f.held())
			seen := map[string]bool{}
			for _, b := range f.sink.got() {
				require.NotEmpty(t, b)
				for _, body := range b {
					require.False(t, seen[body], "%s came twice", body)
					seen[body] = true
				}
			}
		})
	})
}

func dropped(err error) bool { return err == errDroppedFull }
