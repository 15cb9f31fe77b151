// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// batch is what one call of the next consumer gets: items of one group.
type batch[T any] struct {
	group    *group[T]
	segments []segment[T]
	n        int
	trigger  trigger
	since    time.Time // when its first item came
}

// scheduleLocked puts a group with pending items where it belongs.
func (e *engine[T]) scheduleLocked(g *group[T]) {
	if g.state == groupReady || g.state == groupSending {
		return
	}
	switch {
	case e.closed:
		e.readyLocked(g, triggerShutdown)
	case g.pending >= e.batchSize && e.batchSize > 0:
		e.readyLocked(g, triggerSize)
	case e.immediate:
		e.readyLocked(g, triggerImmediate)
	case len(e.waiters) > 0:
		e.readyLocked(g, triggerQueueFull)
	case g.state != groupWaiting:
		e.waitLocked(g)
	}
}

// waitLocked keeps waiting sorted by since. A group mostly comes with the newest; one that was being sent may be older.
func (e *engine[T]) waitLocked(g *group[T]) {
	g.state = groupWaiting
	at := e.waiting.tail
	for at != nil && at.since.After(g.since) {
		at = at.links.prev
	}
	e.waiting.insertAfter(at, g)
	if !e.timerArmed || at == nil {
		e.armLocked()
	}
}

// armLocked sets the timer for the head of waiting. It is left to fire when that group leaves before: firing for nothing
// is cheaper than setting the timer at every batch.
func (e *engine[T]) armLocked() {
	d := e.timeout - time.Since(e.waiting.head.since)
	e.timerArmed = true
	if e.timer == nil {
		e.timer = time.AfterFunc(d, e.timeoutOver)
	} else {
		e.timer.Reset(d)
	}
}

func (e *engine[T]) timeoutOver() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timerArmed = false
	for g := e.waiting.head; g != nil; g = e.waiting.head {
		if time.Since(g.since) < e.timeout {
			e.armLocked()
			return
		}
		e.readyLocked(g, triggerTimeout)
	}
}

// sendWaitingLocked lets every batch go that is still filling.
func (e *engine[T]) sendWaitingLocked(t trigger) {
	for g := e.waiting.head; g != nil; g = e.waiting.head {
		e.readyLocked(g, t)
	}
	if e.timerArmed && e.timer.Stop() {
		e.timerArmed = false
	}
}

func (e *engine[T]) readyLocked(g *group[T], t trigger) {
	if g.state == groupWaiting {
		e.waiting.remove(g)
	}
	g.state, g.trigger = groupReady, t
	e.ready.pushBack(g)
	e.dispatchLocked()
}

// dispatchLocked starts a sender for a group that has become ready.
func (e *engine[T]) dispatchLocked() {
	if e.started && e.ready.head != nil && e.senders < maxSenders {
		e.senders++
		e.sending.Go(e.sendLoop)
	}
}

// openLocked lets batches go, among them those that have become ready before.
func (e *engine[T]) openLocked() {
	if e.started {
		return
	}
	e.started = true
	for g := e.ready.head; g != nil; g = g.links.next {
		e.dispatchLocked()
	}
}

// sendLoop sends the batches of ready groups, each group in its turn, until there are none.
func (e *engine[T]) sendLoop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for g := e.ready.head; g != nil; g = e.ready.head {
		e.ready.remove(g)
		g.state = groupSending
		// drop_oldest may have emptied it.
		if g.pending > 0 {
			b := e.takeLocked(g)
			e.mu.Unlock()
			err := e.send(b)
			e.mu.Lock()
			e.settleLocked(b, err)
		}
		e.afterSendLocked(g)
	}
	e.senders--
}

func (e *engine[T]) send(b batch[T]) error {
	data := b.segments[0].data
	for _, s := range b.segments[1:] {
		e.signal.moveAll(s.data, data)
	}
	if e.compact {
		e.signal.compact(data)
	}
	start := time.Now()
	err := e.signal.send(b.group.part.ctx, data)
	e.telemetry.batchSent(b.n, b.trigger, start.Sub(b.since), time.Since(start))
	if err != nil {
		e.telemetry.sendFailed(b.group.label, b.n, err, e.delivered)
	}
	return err
}

// settleLocked gives the room of a batch back and tells those who wait for it.
func (e *engine[T]) settleLocked(b batch[T], err error) {
	if err == nil {
		e.totals.sent += int64(b.n)
	} else {
		err = withoutData(err)
	}
	for _, s := range b.segments {
		if s.ack != nil {
			s.ack.settleLocked(err)
		}
	}
	e.releaseLocked(b.group, b.n)
}

func (e *engine[T]) afterSendLocked(g *group[T]) {
	g.state = groupBooked
	switch {
	case g.held == 0:
		e.idleLocked(g)
	case g.pending == 0:
	case !e.closed && !e.immediate && time.Since(g.since) >= e.timeout:
		e.readyLocked(g, triggerTimeout)
	default:
		e.scheduleLocked(g)
	}
}

// withoutData strips the data that an error of the next consumer may carry: it is a batch's, not one request's, and a
// caller that sent it again would send items of others.
func withoutData(err error) error {
	var (
		logs    consumererror.Logs
		metrics consumererror.Metrics
		traces  consumererror.Traces
	)
	if !errors.As(err, &logs) && !errors.As(err, &metrics) && !errors.As(err, &traces) {
		return err
	}
	text := errors.New(err.Error())
	if consumererror.IsPermanent(err) {
		return consumererror.NewPermanent(text)
	}
	return text
}

// exportContext carries the metadata of a partition. The contexts of the requests, with their deadlines and spans, end
// with the requests: a batch has items of many.
func exportContext(parent context.Context, metadata map[string][]string) context.Context {
	if metadata == nil {
		return parent
	}
	return withMetadata(parent, metadata)
}
