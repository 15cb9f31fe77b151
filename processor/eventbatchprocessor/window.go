// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"sync"
	"time"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/aggregate"
)

// absorber joins items as they come. Absorb may be called from any number of goroutines, Flush only beside none.
type absorber[T any] interface {
	// Absorb takes over what it joins. It returns how many items more it holds, and what it does not join.
	Absorb(T) (held int, rest T, restItems int)
	// Flush gives back everything held.
	Flush() (T, int)
	// Stats may be called at any time.
	Stats() aggregate.Stats
}

// window is the aggregation of one partition. What it holds is booked in the queue; when the interval is over, or the
// queue full, it becomes one batch.
type window[T any] struct {
	store absorber[T]

	// closing keeps the batches of two windows in order.
	closing sync.Mutex
	// absorbing is held for reading while a request is absorbed, so that a window closes with whole requests.
	absorbing sync.RWMutex

	warned aggregate.Stats // what has been logged; guarded by closing

	held  int         // items in store; guarded by engine.mu, as everything below
	since time.Time   // when the first of them came
	acks  []*ack      // of requests that have items in store
	timer *time.Timer // ends the window
	armed bool
}

// takeJoined absorbs a request and queues what is left of it.
func (e *engine[T]) takeJoined(ctx context.Context, p *partition[T], data T, n int, a *ack) error {
	var dropped error
	if !e.bookAtOnce(p, n) {
		r := &request[T]{part: p, n: n, shares: []share[T]{{n: n}}}
		if err := e.admit(ctx, r); err != nil {
			return err
		}
		data = r.shares[0].trim(e.signal, data)
		n = r.shares[0].n
		dropped = r.dropError(e)
	}
	w := p.window
	w.absorbing.RLock()
	kept, rest, restItems := w.store.Absorb(data)

	e.mu.Lock()
	if w.held == 0 && kept > 0 {
		w.since = time.Now()
	}
	w.held += kept
	if a != nil {
		if w.held > 0 && restItems < n {
			a.parts++
			w.acks = append(w.acks, a)
		}
		if a.parts == 0 && restItems == 0 {
			a.resolveLocked()
		}
	}
	if restItems > 0 {
		e.putLocked(p.all, rest, restItems, a, true)
	}
	// Joined items need no room of their own.
	e.releaseLocked(p.all, n-kept-restItems)
	if w.held > 0 && !w.armed {
		e.armWindowLocked(p)
	}
	closed := e.closed
	held := e.held
	e.mu.Unlock()
	w.absorbing.RUnlock()

	if closed {
		e.closeWindow(p, triggerShutdown)
	}
	e.warn(held, false)
	return dropped
}

func (e *engine[T]) bookAtOnce(p *partition[T], n int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.admitsAtOnceLocked(p.all, n) {
		return false
	}
	e.bookLocked(p.all, n)
	return true
}

// armWindowLocked ends the window at the next multiple of the interval since Start, so that windows follow each other
// evenly however the requests come.
func (e *engine[T]) armWindowLocked(p *partition[T]) {
	d := e.interval - time.Since(e.startedAt)%e.interval
	w := p.window
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(d, func() { e.closeWindow(p, triggerInterval) })
	} else {
		w.timer.Reset(d)
	}
}

// closeWindow sends what the window holds as one batch.
func (e *engine[T]) closeWindow(p *partition[T], t trigger) {
	w := p.window
	w.closing.Lock()
	defer w.closing.Unlock()
	w.absorbing.Lock()
	data, n := w.store.Flush()
	e.warnUnmerged(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	held, acks := w.held, w.acks
	w.held, w.acks, w.armed = 0, nil, false
	if w.timer != nil {
		w.timer.Stop()
	}
	w.absorbing.Unlock()

	var a *ack
	if len(acks) > 0 {
		a = newAck()
		a.followers = acks
	}
	if n > 0 {
		e.putLocked(p.all, data, n, a, true)
		if p.all.state == groupWaiting {
			e.readyLocked(p.all, t)
		}
		// The queue's time is counted from the first point of the window.
		if p.all.pending == n {
			p.all.since = w.since
		}
	} else if a != nil {
		a.resolveLocked()
	}
	e.releaseLocked(p.all, held-n)
}

// warnUnmerged logs deltas that were sent on beside the aggregate: they tell of a second source of the same streams.
func (e *engine[T]) warnUnmerged(w *window[T]) {
	st := w.store.Stats()
	overlap := st.Unmerged[aggregate.Overlap] - w.warned.Unmerged[aggregate.Overlap]
	malformed := st.Unmerged[aggregate.Malformed] - w.warned.Unmerged[aggregate.Malformed]
	w.warned = st
	if overlap+malformed > 0 {
		e.telemetry.warnUnmerged(overlap, malformed)
	}
}

// closeWindows makes room: what is in windows is sent before its time.
func (e *engine[T]) closeWindows(t trigger) {
	if e.newAbsorber == nil {
		return
	}
	e.mu.Lock()
	parts := e.partitions.all()
	e.mu.Unlock()
	for _, p := range parts {
		e.closeWindow(p, t)
	}
}
