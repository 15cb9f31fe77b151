// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/journal"
)

const (
	// feedBatch is how many events are offered at once.
	feedBatch = 512

	// retryJitter spreads a delay by this share of it, either way.
	retryJitter = 0.2
)

// retry says when a refused delivery is offered again: after first, then after
// twice as long each time, up to most.
type retry struct{ first, most time.Duration }

// defaultRetry stays well below the supervisor's shutdown_timeout, which is also
// the time for the last events to be taken.
var defaultRetry = retry{first: 100 * time.Millisecond, most: 5 * time.Second}

// deliver offers events, which follow each other in the journal, to the next
// consumer; missed events before the first of them are lost.
type deliver func(ctx context.Context, events []journal.Event, missed uint64) error

// feed carries the journal to a consumer. Its cursor moves over events only when
// the consumer has accepted them, or has refused them for good.
type feed struct {
	*report
	reader  *journal.Reader
	deliver deliver
	retry   retry
	attrs   metric.MeasurementOption

	// ctx is that of all deliveries; cancel ends the one under way.
	ctx     context.Context
	cancel  context.CancelFunc
	closing chan struct{} // closed by shutdown
	done    chan struct{} // closed when run has returned
}

// recall, if not nil, is first told of the events that were delivered before.
func startFeed(j *journal.Journal, name string, r *report, again retry, d deliver, recall func([]journal.Event)) (*feed, error) {
	reader, err := j.Open(r.id.String() + "/" + name)
	if err != nil {
		return nil, err
	}
	f := &feed{
		report:  r,
		reader:  reader,
		deliver: d,
		retry:   again,
		attrs:   metric.WithAttributeSet(attribute.NewSet(attribute.String("receiver", r.id.String()), attribute.String("signal", name))),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go f.run(recall)
	return f, nil
}

// shutdown lets the feed deliver what the journal still holds, each batch tried
// once, and ends it when ctx ends.
func (f *feed) shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, f.cancel)
	defer stop()
	close(f.closing)
	<-f.done
	f.cancel()
	return nil
}

func (f *feed) run(recall func([]journal.Event)) {
	defer close(f.done)
	defer f.reader.Close()
	events := make([]journal.Event, 0, feedBatch)
	if recall != nil {
		for after := uint64(0); ; after = events[len(events)-1].Seq {
			if events = f.reader.Behind(events[:0], after, feedBatch); len(events) == 0 {
				break
			}
			recall(events)
		}
	}
	for {
		var missed uint64
		events, missed = f.reader.Read(events[:0], feedBatch)
		if len(events) == 0 {
			if !f.wait() {
				return
			}
			continue
		}
		if !f.offer(events, missed) {
			return
		}
		if missed > 0 {
			f.telemetry.ReceiverProcessMonitorEventsMissed.Add(f.ctx, int64(missed), f.attrs)
			f.logger.Warn("events were overwritten in the journal before they could be delivered", zap.Uint64("missed", missed))
		}
		// A gap always comes with the events behind it, so there is a last one.
		f.reader.Ack(events[len(events)-1].Seq)
		clear(events)
	}
}

// wait returns true once there is something to read, and false if there is
// nothing and never will be.
func (f *feed) wait() bool {
	grown := f.reader.Wait()
	select {
	case <-grown:
		return true
	default:
	}
	select {
	case <-grown:
		return true
	case <-f.closing:
		return false
	}
}

// offer offers the events until they are accepted or refused for good. It returns
// false if the feed ends with them undelivered.
func (f *feed) offer(events []journal.Event, missed uint64) bool {
	delay := f.retry.first
	for refusals := 0; ; refusals++ {
		err := f.deliver(f.ctx, events, missed)
		switch {
		case err == nil:
			f.telemetry.ReceiverProcessMonitorEventsDelivered.Add(f.ctx, int64(len(events)), f.attrs)
			if refusals > 0 {
				f.logger.Info("the next consumer takes events again", zap.Int("refusals", refusals))
			}
			return true
		case consumererror.IsPermanent(err):
			f.telemetry.ReceiverProcessMonitorEventsSkipped.Add(f.ctx, int64(len(events)), f.attrs)
			f.logger.Error("events are skipped: the next consumer refuses them for good",
				zap.Int("events", len(events)), zap.Uint64("first", events[0].Seq), zap.Error(err))
			return true
		}
		f.telemetry.ReceiverProcessMonitorEventsRefused.Add(f.ctx, 1, f.attrs)
		if f.isClosing() {
			f.logger.Error("the receiver ends with events undelivered: the next consumer does not take them",
				zap.Int("events", len(events)), zap.Uint64("first", events[0].Seq), zap.Error(err))
			return false
		}
		wait := jittered(delay, rand.Float64())
		if refusals == 0 {
			f.logger.Warn("the next consumer does not take events now; they are offered again until it does",
				zap.Int("events", len(events)), zap.Duration("next_try_in", wait), zap.Error(err))
		}
		f.pause(wait)
		delay = min(2*delay, f.retry.most)
	}
}

// pause returns after d, or when the feed has to end.
func (f *feed) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.closing:
	}
}

func (f *feed) isClosing() bool {
	select {
	case <-f.closing:
		return true
	default:
		return false
	}
}

// jittered spreads d, given a random number from [0, 1).
func jittered(d time.Duration, random float64) time.Duration {
	return time.Duration(float64(d) * (1 + retryJitter*(2*random-1)))
}
