// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadatatest"
)

var errBusy = errors.New("busy")

// taker is a consumer of events that answers as a test wants.
type taker struct {
	answer func(try int) error
	tries  []time.Duration // when, since the first
	first  time.Time
	got    []uint64
	missed uint64
}

func (c *taker) deliver(_ context.Context, events []journal.Event, missed uint64) error {
	if c.tries == nil {
		c.first = time.Now()
	}
	c.tries = append(c.tries, time.Since(c.first))
	if c.answer != nil {
		if err := c.answer(len(c.tries)); err != nil {
			return err
		}
	}
	for i := range events {
		c.got = append(c.got, events[i].Seq)
	}
	c.missed += missed
	return nil
}

// feeding is a feed under test with its log and telemetry.
type feeding struct {
	*feed
	fake      *fakeSupervisor
	logs      *observer.ObservedLogs
	telemetry *componenttest.Telemetry
}

func startTestFeed(t *testing.T, d deliver) *feeding {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	set := receivertest.NewNopSettings(metadata.Type)
	set.ID = componentID("process_monitor")
	set.TelemetrySettings = tel.NewTelemetrySettings()
	set.Logger = zap.New(core)
	r, err := newReport(set)
	require.NoError(t, err)
	fake := newFakeSupervisor()
	f, err := startFeed(fake.journal, "logs", r, defaultRetry, d, nil)
	require.NoError(t, err)
	return &feeding{feed: f, fake: fake, logs: logs, telemetry: tel}
}

func (f *feeding) assertDelivered(t *testing.T, n int64) {
	t.Helper()
	metadatatest.AssertEqualReceiverProcessMonitorEventsDelivered(t, f.telemetry, []metricdata.DataPoint[int64]{{Attributes: f.attributes(), Value: n}},
		metricdatatest.IgnoreTimestamp())
}

func (f *feeding) attributes() attribute.Set {
	return attribute.NewSet(attribute.String("receiver", "process_monitor"), attribute.String("signal", "logs"))
}

func sequence(first, last uint64) (s []uint64) {
	for n := first; n <= last; n++ {
		s = append(s, n)
	}
	return s
}

func TestFeed_DeliversInOrderAndMovesItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c taker
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 3)
		synctest.Wait()
		f.fake.append("web", 2)
		synctest.Wait()
		assert.Equal(t, sequence(1, 5), c.got)
		require.NoError(t, f.fake.journal.Drained(context.Background()))
		require.NoError(t, f.shutdown(context.Background()))
		f.assertDelivered(t, 5)
		assert.Zero(t, f.logs.Len())
	})
}

func TestFeed_OffersTheSameEventsAgainUntilTheyAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := taker{answer: func(try int) error {
			if try < 10 {
				return errBusy
			}
			return nil
		}}
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 1)
		synctest.Wait()
		f.fake.append("web", 2)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Empty(t, c.got)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.fake.journal.Drained(ctx), context.DeadlineExceeded, "the cursor must not move before the events are taken")

		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, sequence(1, 3), c.got)
		require.Len(t, c.tries, 11, "ten for the first event, one for those behind it")
		for i, mean := 1, defaultRetry.first; i < 10; i, mean = i+1, min(2*mean, defaultRetry.most) {
			pause := c.tries[i] - c.tries[i-1]
			assert.InDelta(t, float64(mean), float64(pause), retryJitter*float64(mean), "try %d", i)
		}
		require.NoError(t, f.fake.journal.Drained(context.Background()))
		require.NoError(t, f.shutdown(context.Background()))
		assert.Equal(t, 2, f.logs.Len(), "one warning, and one word when it is over")
		metadatatest.AssertEqualReceiverProcessMonitorEventsRefused(t, f.telemetry, []metricdata.DataPoint[int64]{{Attributes: f.attributes(), Value: 9}},
			metricdatatest.IgnoreTimestamp())
	})
}

func TestFeed_SkipsWhatIsRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := taker{answer: func(try int) error {
			if try == 1 {
				return consumererror.NewPermanent(errBusy)
			}
			return nil
		}}
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 1)
		synctest.Wait()
		f.fake.append("web", 3)
		synctest.Wait()
		assert.Equal(t, sequence(2, 4), c.got)
		require.NoError(t, f.shutdown(context.Background()))
		require.Equal(t, 1, f.logs.FilterMessageSnippet("skipped").Len())
		metadatatest.AssertEqualReceiverProcessMonitorEventsSkipped(t, f.telemetry, []metricdata.DataPoint[int64]{{Attributes: f.attributes(), Value: 1}},
			metricdatatest.IgnoreTimestamp())
	})
}

func TestFeed_TellsOfAGapOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := taker{answer: func(try int) error {
			if try <= 2 {
				return errBusy
			}
			return nil
		}}
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 1)
		synctest.Wait()
		f.fake.append("web", 149) // the journal keeps 100, the first event is on offer
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, append([]uint64{1}, sequence(51, 150)...), c.got)
		assert.EqualValues(t, 49, c.missed)
		require.NoError(t, f.shutdown(context.Background()))
		metadatatest.AssertEqualReceiverProcessMonitorEventsMissed(t, f.telemetry, []metricdata.DataPoint[int64]{{Attributes: f.attributes(), Value: 49}},
			metricdatatest.IgnoreTimestamp())
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("overwritten").Len())
	})
}

func TestFeed_ShutdownDeliversWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ready atomic.Bool
		c := taker{answer: func(int) error {
			if ready.Load() {
				return nil
			}
			return errBusy
		}}
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 60)
		time.Sleep(20 * time.Second)
		f.fake.append("web", 40)
		ready.Store(true)
		begun := time.Now()
		require.NoError(t, f.shutdown(context.Background()))
		assert.Equal(t, sequence(1, 100), c.got)
		assert.Zero(t, time.Since(begun), "the back-off is not waited out")
	})
}

func TestFeed_ShutdownTriesOnlyOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := taker{answer: func(int) error { return errBusy }}
		f := startTestFeed(t, c.deliver)
		f.fake.append("web", 1)
		synctest.Wait()
		require.Len(t, c.tries, 1)
		require.NoError(t, f.shutdown(context.Background()))
		assert.Len(t, c.tries, 2)
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("undelivered").Len())
		require.NoError(t, f.fake.journal.Drained(context.Background()), "nobody waits for a reader that is gone")
	})
}

func TestFeed_ShutdownEndsADeliveryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startTestFeed(t, func(ctx context.Context, _ []journal.Event, _ uint64) error {
			<-ctx.Done()
			return ctx.Err()
		})
		f.fake.append("web", 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		require.NoError(t, f.shutdown(ctx))
		assert.Equal(t, 3*time.Second, time.Since(begun))
	})
}

func TestFeed_HasAReaderOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startTestFeed(t, new(taker).deliver)
		_, err := startFeed(f.fake.journal, "logs", f.report, defaultRetry, new(taker).deliver, nil)
		require.EqualError(t, err, `journal: reader "process_monitor/logs" is open already`)
		require.NoError(t, f.shutdown(context.Background()))
	})
}

func TestJittered_StaysWithinItsShare(t *testing.T) {
	assert.Equal(t, 800*time.Millisecond, jittered(time.Second, 0))
	assert.Equal(t, time.Second, jittered(time.Second, 0.5))
	assert.InDelta(t, float64(1200*time.Millisecond), float64(jittered(time.Second, 0.999999)), float64(time.Millisecond))
}
