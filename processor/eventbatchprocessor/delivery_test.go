// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
)

func delivered(c *Config) { c.Acknowledge, c.Timeout = AcknowledgeDelivered, time.Hour }

func TestDelivered_ASingleProducerNeverWaitsForTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, delivered)
		begin := time.Now()
		for range 10 {
			f.consume(t, records("a/1", "b/2"))
		}
		assert.Zero(t, time.Since(begin))
		assert.Equal(t, 20, f.sink.count())
	})
}

func TestDelivered_ReturnsWhenTheNextConsumerHasTheItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, delivered)
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		first := f.async(t.Context(), "1")
		second := f.async(t.Context(), "2")
		third := f.async(t.Context(), "3", "4")
		pending(t, first)
		release()
		for _, done := range []<-chan error{first, second, third} {
			require.NoError(t, returned(t, done))
		}
		// While the first batch was under way the others became one.
		assert.Equal(t, [][]string{{"1"}, {"2", "3", "4"}}, f.sink.got())
	})
}

func TestDelivered_AGroupThatIsHeldUpDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, delivered)
		gate := make(chan struct{})
		f.sink.before = func(_ context.Context, bodies []string) error {
			if bodies[0] == "slow" {
				<-gate
			}
			return nil
		}
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		slow := f.async(t.Context(), "a/slow")
		quick := f.async(t.Context(), "b/quick")
		require.NoError(t, returned(t, quick))
		pending(t, slow)
		close(gate)
		require.NoError(t, returned(t, slow))
	})
}

func TestDelivered_EachCallerGetsTheErrorOfItsOwnItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, delivered)
		f.sink.before = func(_ context.Context, bodies []string) error {
			if slices.Contains(bodies, "bad") {
				return errDown
			}
			return nil
		}
		bad := f.async(t.Context(), "x/bad", "y/good")
		good := f.async(t.Context(), "y/good")
		require.ErrorIs(t, returned(t, bad), errDown)
		require.NoError(t, returned(t, good))
		assert.Zero(t, f.counter(t, "otelcol_processor_event_batch_dropped_items"), "the caller knows, so nothing is lost here")
		assert.Equal(t, int64(1), f.counter(t, "otelcol_processor_event_batch_send_failures"))
	})
}

func TestDelivered_WaitsForEveryBatchOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) {
			delivered(c)
			c.SendBatchSize, c.SendBatchMaxSize = 2, 2
		})
		f.sink.before = func(_ context.Context, bodies []string) error {
			time.Sleep(time.Second)
			if bodies[0] == "5" {
				return errDown
			}
			return nil
		}
		begin := time.Now()
		require.ErrorIs(t, f.ConsumeLogs(t.Context(), records("1", "2", "3", "4", "5")), errDown)
		assert.Equal(t, 3*time.Second, time.Since(begin))
		assert.Equal(t, [][]string{{"1", "2"}, {"3", "4"}}, f.sink.got())
	})
}

func TestDelivered_APassingErrorWinsOverAPermanentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, delivered)
		f.sink.before = func(_ context.Context, bodies []string) error {
			if bodies[0] == "never" {
				return consumererror.NewPermanent(errors.New("malformed"))
			}
			return errDown
		}
		err := f.ConsumeLogs(t.Context(), records("a/never", "b/later"))
		require.ErrorIs(t, err, errDown)
		assert.False(t, consumererror.IsPermanent(err))
		err = f.ConsumeLogs(t.Context(), records("a/never"))
		assert.True(t, consumererror.IsPermanent(err))
	})
}

func TestDelivered_AnErrorCarriesNoItemsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, delivered)
		f.sink.before = func(context.Context, []string) error {
			return consumererror.NewLogs(errDown, records("somebody else's"))
		}
		err := f.ConsumeLogs(t.Context(), records("mine"))
		var partial consumererror.Logs
		assert.False(t, errors.As(err, &partial))
		require.EqualError(t, err, errDown.Error())

		f.sink.before = func(context.Context, []string) error {
			return consumererror.NewPermanent(consumererror.NewLogs(errDown, records("somebody else's")))
		}
		err = f.ConsumeLogs(t.Context(), records("mine"))
		assert.False(t, errors.As(err, &partial))
		assert.True(t, consumererror.IsPermanent(err))
	})
}

func TestDelivered_EndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, delivered)
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.ConsumeLogs(ctx, records("1")), context.DeadlineExceeded)
		release()
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, 1, f.sink.count(), "it was under way, and arrived")
	})
}

func TestDelivered_WhatNobodyWaitsForIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) {
			delivered(c)
			c.QueueSize, c.OnFull = 4, OnFullBlock
		})
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		sending := f.async(t.Context(), "a/1")
		ctx, cancel := context.WithCancel(t.Context())
		called := f.async(ctx, "a/2", "b/2") // b has nothing under way
		staying := f.async(t.Context(), "a/3")
		waiting := f.async(t.Context(), "a/4") // for room
		cancel()
		require.ErrorIs(t, returned(t, called), context.Canceled)
		assert.Equal(t, int64(1), f.counter(t, "otelcol_processor_event_batch_refused_items", "group", "a", "reason", "canceled"))
		release()
		for _, done := range []<-chan error{sending, staying, waiting} {
			require.NoError(t, returned(t, done))
		}
		require.NoError(t, f.Shutdown(t.Context()))
		var got []string
		for _, batch := range f.sink.got() {
			got = append(got, batch...)
		}
		slices.Sort(got)
		assert.Equal(t, []string{"1", "2", "3", "4"}, got, "b was being sent, and a's 2 was not")
	})
}

func TestDelivered_ARequestGoesInOneBatchIfItFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) {
			delivered(c)
			c.SendBatchSize, c.SendBatchMaxSize, c.Logs.GroupBy = 3, 3, nil
		})
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		all := []<-chan error{f.async(t.Context(), "1")}
		for _, request := range [][]string{{"2", "2"}, {"3", "3"}, {"4"}, {"5", "5", "5", "5"}} {
			all = append(all, f.async(t.Context(), request...))
		}
		release()
		for _, done := range all {
			require.NoError(t, returned(t, done))
		}
		assert.Equal(t, [][]string{{"1"}, {"2", "2"}, {"3", "3", "4"}, {"5", "5", "5"}, {"5"}}, f.sink.got())
	})
}

func TestDelivered_AGroupThatIsEmptiedSoStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, delivered)
		ctx, cancel := context.WithCancel(t.Context())
		called := f.async(ctx, "a/1", "a/2") // nothing leaves before Start
		cancel()
		require.ErrorIs(t, returned(t, called), context.Canceled)
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		require.NoError(t, f.ConsumeLogs(t.Context(), records("a/3")))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, [][]string{{"3"}}, f.sink.got())
	})
}

func TestDelivered_TellsTheCallerWhatWasDropped(t *testing.T) {
	for _, policy := range []string{OnFullDropNewest, OnFullDropOldest} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := build(t, func(c *Config) {
					delivered(c)
					c.QueueSize, c.OnFull, c.Logs.GroupBy = 2, policy, nil
				})
				release := f.sink.block()
				require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
				sending := f.async(t.Context(), "1")
				waiting := f.async(t.Context(), "2")
				late := f.async(t.Context(), "3")
				release()
				require.NoError(t, returned(t, sending))
				lucky, unlucky := waiting, late
				if policy == OnFullDropOldest {
					lucky, unlucky = late, waiting
				}
				require.NoError(t, returned(t, lucky))
				require.ErrorIs(t, returned(t, unlucky), errDroppedFull)
				assert.True(t, consumererror.IsPermanent(errDroppedFull))
			})
		})
	}
}

func TestAccepted_AFailedSendIsCountedAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.sink.before = func(context.Context, []string) error { return errDown }
		for range 3 {
			f.consume(t, records("crash/1", "crash/2"))
			pass(time.Second)
		}
		assert.Equal(t, int64(6), f.counter(t, "otelcol_processor_event_batch_dropped_items", "group", "crash", "reason", "send_failed"))
		assert.Equal(t, int64(3), f.counter(t, "otelcol_processor_event_batch_send_failures", "group", "crash"))
		logged := f.logs.FilterMessageSnippet("refused a batch").All()
		require.Len(t, logged, 1, "rate limited")
		assert.Subset(t, logged[0].ContextMap(), map[string]any{"group": "crash", "items": int64(2), "permanent": false, "error": errDown.Error()})
		assert.Zero(t, f.held())
	})
}

func TestShutdown_SendsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.Timeout = time.Hour })
		f.consume(t, records("a/1", "b/2"))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.ElementsMatch(t, [][]string{{"1"}, {"2"}}, f.sink.got())
	})
}

func TestShutdown_WithoutStartAndTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, nil)
		f.consume(t, records("1"))
		require.NoError(t, f.Shutdown(t.Context()))
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Equal(t, 1, f.sink.count())
	})
}

func TestShutdown_RefusesWhatComesAfterIt(t *testing.T) {
	for _, policy := range []string{OnFullBlock, OnFullReject, OnFullDropNewest, OnFullDropOldest} {
		t.Run(policy, func(t *testing.T) {
			f := start(t, func(c *Config) { c.OnFull = policy })
			require.NoError(t, f.Shutdown(t.Context()))
			ld := records("1")
			require.ErrorIs(t, f.ConsumeLogs(t.Context(), ld), errShutdown)
			assert.Equal(t, []string{"1"}, bodies(ld))
		})
	}
}

func TestShutdown_ReleasesBlockedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.QueueSize, c.Logs.GroupBy = 1, nil })
		release := f.sink.block()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("1"))
		waits := f.async(t.Context(), "2")
		pending(t, waits)
		ended := make(chan error, 1)
		go func() { ended <- f.Shutdown(t.Context()) }()
		require.ErrorIs(t, returned(t, waits), errShutdown)
		release()
		require.NoError(t, returned(t, ended))
		assert.Equal(t, [][]string{{"1"}}, f.sink.got())
	})
}

func TestShutdown_KeepsItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.SendBatchSize, c.SendBatchMaxSize = 2, 2 })
		release := f.sink.block()
		defer release()
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("a/1", "a/2", "a/3", "a/4", "a/5"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		err := f.Shutdown(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "3 items were dropped and 2 were still being sent")
		assert.Equal(t, 5*time.Second, time.Since(begin))
		assert.Equal(t, int64(3), f.counter(t, "otelcol_processor_event_batch_dropped_items", "group", "a", "reason", "shutdown"))
		synctest.Wait()
		assert.Zero(t, f.held(), "the one being sent ended with its context")
		require.NoError(t, f.Shutdown(t.Context()))
	})
}
