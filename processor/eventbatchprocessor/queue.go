// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// The queue is a count, engine.held, that never exceeds engine.capacity; the items themselves are in the groups.
//
// Fairness: a group that would come to hold more than its share, capacity ÷ (groups with items + 1), may fill the queue only
// up to capacity − reserve. Groups below their share have the reserve to themselves, and requests of theirs pass by blocked
// ones that are not. So a group that floods the queue finds it full while every other one still gets in.

var errDroppedFull = consumererror.NewPermanent(errors.New("event_batch: the queue is full and 'on_full' drops; items were dropped"))

// share is the part of a request that belongs to one group.
type share[T any] struct {
	key   string
	n     int       // items that are taken; less than came if some were dropped
	group *group[T] // set when it is booked

	droppedFirst, droppedLast int
}

// trim takes out of data the items of the share that were dropped.
func (s *share[T]) trim(sig signal[T], data T) T {
	switch {
	case s.droppedFirst > 0:
		sig.split(data, s.droppedFirst)
		return data
	case s.droppedLast > 0:
		return sig.split(data, s.n)
	default:
		return data
	}
}

// request is one that could not be booked at once, or that has groups.
type request[T any] struct {
	part   *partition[T]
	n      int
	shares []share[T]

	decided chan struct{} // closed when it is booked or refused; nil unless it waits
	err     error         // set before decided is closed
}

func (r *request[T]) decideLocked(err error) {
	r.err = err
	close(r.decided)
}

// dropError is what a caller that waits for delivery is told about items that were dropped.
func (r *request[T]) dropError(e *engine[T]) error {
	if !e.delivered {
		return nil
	}
	for i := range r.shares {
		if r.shares[i].droppedFirst+r.shares[i].droppedLast > 0 {
			return errDroppedFull
		}
	}
	return nil
}

// admit books room for the request, as on_full says. Items that are dropped are marked in its shares.
func (e *engine[T]) admit(ctx context.Context, r *request[T]) error {
	e.mu.Lock()
	switch {
	case e.closed:
		e.mu.Unlock()
		e.countRefused(r, reasonShutdown)
		return errShutdown
	case e.admitsLocked(r):
		e.bookRequestLocked(r)
		e.mu.Unlock()
		return nil
	}
	if e.newAbsorber != nil {
		e.mu.Unlock()
		e.closeWindows(triggerQueueFull)
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			e.countRefused(r, reasonShutdown)
			return errShutdown
		}
	}
	// What waits for its batch to fill keeps others out: it goes now.
	e.sendWaitingLocked(triggerQueueFull)
	held := e.held
	switch e.onFull {
	case OnFullReject:
		e.mu.Unlock()
		e.countRefused(r, reasonQueueFull)
		e.telemetry.warnFull(held, e.capacity, e.onFull)
		return fmt.Errorf("event_batch: the queue is full: %d of %d items are held and the request has %d; try again later or raise 'queue_size'",
			held, e.capacity, r.n)
	case OnFullDropNewest:
		e.dropNewestLocked(r)
		e.mu.Unlock()
		e.countDropped(r)
		e.telemetry.warnFull(held, e.capacity, e.onFull)
		return nil
	case OnFullDropOldest:
		evicted := e.dropOldestLocked(r)
		e.mu.Unlock()
		for _, l := range evicted {
			e.telemetry.dropped(l.label, reasonQueueFull, l.items)
		}
		e.countDropped(r)
		e.telemetry.warnFull(held, e.capacity, e.onFull)
		return nil
	}
	r.decided = make(chan struct{})
	e.waiters = append(e.waiters, r)
	e.grantLocked() // it may pass by those before it
	e.mu.Unlock()
	e.telemetry.warnFull(held, e.capacity, e.onFull)
	return e.await(ctx, r)
}

// await blocks until the request is booked or refused, or ctx ends.
func (e *engine[T]) await(ctx context.Context, r *request[T]) error {
	select {
	case <-r.decided:
	case <-ctx.Done():
		e.mu.Lock()
		at := slices.Index(e.waiters, r)
		if at >= 0 {
			e.waiters = slices.Delete(e.waiters, at, at+1)
			// It may have been what kept those behind it waiting.
			e.grantLocked()
		}
		e.mu.Unlock()
		if at >= 0 {
			e.countRefused(r, reasonCanceled)
			return fmt.Errorf("event_batch: no room for %d items in the queue of %d: %w", r.n, e.capacity, context.Cause(ctx))
		}
		<-r.decided
	}
	if r.err != nil {
		e.countRefused(r, reasonShutdown)
	}
	return r.err
}

// admitsAtOnceLocked is admitsLocked for the one group of a partition without grouping.
func (e *engine[T]) admitsAtOnceLocked(g *group[T], n int) bool {
	if e.closed || len(e.waiters) > 0 {
		return false
	}
	return e.held+n <= e.capacity-e.reserve || e.held+n <= e.capacity && e.belowShareLocked(g.held, n)
}

func (e *engine[T]) admitsLocked(r *request[T]) bool {
	if len(e.waiters) > 0 && e.onFull == OnFullBlock {
		return false
	}
	return e.held+r.n <= e.limitLocked(r)
}

// limitLocked is how full the queue may be with r in it.
func (e *engine[T]) limitLocked(r *request[T]) int {
	for i := range r.shares {
		s := &r.shares[i]
		held := 0
		if g := e.lookupLocked(r.part, s.key); g != nil {
			held = g.held
		}
		if !e.belowShareLocked(held, s.n) {
			return e.capacity - e.reserve
		}
	}
	return e.capacity
}

func (e *engine[T]) belowShareLocked(held, n int) bool {
	return held+n <= e.capacity/(e.busy+1)
}

// grantLocked books the waiting requests that fit, in their order. One that does not fit stops those behind it, except that
// a request that may not use the reserve does not stop one that may.
func (e *engine[T]) grantLocked() {
	blocked := false // requests that may not use the reserve
	kept := e.waiters[:0]
	for i, r := range e.waiters {
		limit := e.limitLocked(r)
		if limit < e.capacity && blocked {
			kept = append(kept, r)
			continue
		}
		if e.held+r.n <= limit {
			e.bookRequestLocked(r)
			r.decideLocked(nil)
			continue
		}
		if limit == e.capacity {
			kept = append(kept, e.waiters[i:]...)
			break
		}
		blocked = true
		kept = append(kept, r)
	}
	clear(e.waiters[len(kept):])
	e.waiters = kept
}

func (e *engine[T]) bookRequestLocked(r *request[T]) {
	for i := range r.shares {
		s := &r.shares[i]
		if s.n == 0 {
			continue
		}
		s.group = e.groupLocked(r.part, s.key)
		if s.group.overflow {
			e.totals.overflow += int64(s.n)
		}
		e.bookLocked(s.group, s.n)
	}
}

func (e *engine[T]) bookLocked(g *group[T], n int) {
	if g.held == 0 {
		e.busy++
	}
	if g.state == groupIdle {
		g.state = groupBooked
		if !g.pinned {
			e.idle.remove(g)
		}
	}
	g.held += n
	e.held += n
	e.totals.accepted += int64(n)
}

// releaseLocked gives n items of room back.
func (e *engine[T]) releaseLocked(g *group[T], n int) {
	if n == 0 {
		return
	}
	g.held -= n
	e.held -= n
	if g.held == 0 {
		e.busy--
		if g.state == groupBooked {
			e.idleLocked(g)
		}
	}
	if len(e.waiters) > 0 {
		e.grantLocked()
	}
	e.checkDrainedLocked()
}

// idleLocked makes a group one that may be forgotten when a new one needs its place.
func (e *engine[T]) idleLocked(g *group[T]) {
	g.state = groupIdle
	g.segments = nil
	if !g.pinned {
		e.idle.pushBack(g)
	}
}

func (e *engine[T]) checkDrainedLocked() {
	if e.closed && e.held == 0 {
		select {
		case <-e.drained:
		default:
			close(e.drained)
		}
	}
}

// lookupLocked finds the group that items with this key would go to, nil if it is yet to be made.
func (e *engine[T]) lookupLocked(p *partition[T], key string) *group[T] {
	if !e.grouping {
		return p.all
	}
	if g := p.groups[key]; g != nil {
		return g
	}
	if e.groupCount >= e.maxGroups && e.idle.head == nil {
		return p.overflow
	}
	return nil
}

// groupLocked finds or makes the group of a key. If there are too many, the one that has been idle longest gives way; if
// none is idle, the overflow group serves.
func (e *engine[T]) groupLocked(p *partition[T], key string) *group[T] {
	if !e.grouping {
		return p.all
	}
	if g := p.groups[key]; g != nil {
		return g
	}
	if e.groupCount >= e.maxGroups {
		old := e.idle.head
		if old == nil {
			if p.overflow == nil {
				p.overflow = &group[T]{part: p, label: labelOverflow, overflow: true, pinned: true}
			}
			return p.overflow
		}
		e.idle.remove(old)
		delete(old.part.groups, old.key)
		e.groupCount--
	}
	g := &group[T]{part: p, key: key, label: groupLabel(key)}
	e.idleLocked(g)
	p.groups[key] = g
	e.groupCount++
	return g
}

// dropNewestLocked takes of each share as many of its first items as there is room for.
func (e *engine[T]) dropNewestLocked(r *request[T]) {
	for i := range r.shares {
		s := &r.shares[i]
		one := request[T]{part: r.part, shares: r.shares[i : i+1]}
		take := min(s.n, max(0, e.limitLocked(&one)-e.held))
		s.droppedLast = s.n - take
		s.n = take
		e.bookRequestLocked(&one)
	}
}

// dropOldestLocked makes room for each share by dropping the oldest pending items of the fullest groups. If what is pending
// is not enough, because the rest is being sent, the oldest items of the share are dropped too.
func (e *engine[T]) dropOldestLocked(r *request[T]) []loss {
	var lost []loss
	for i := range r.shares {
		s := &r.shares[i]
		one := request[T]{part: r.part, shares: r.shares[i : i+1]}
		for need := e.held + s.n - e.limitLocked(&one); need > 0; {
			full, next := e.fullestLocked()
			if full == nil {
				s.droppedFirst = min(s.n, need)
				s.n -= s.droppedFirst
				break
			}
			n := e.discardLocked(full, min(need, full.pending-next+1), errDroppedFull)
			lost = append(lost, loss{full.label, n})
			need -= n
		}
		e.bookRequestLocked(&one)
	}
	return lost
}

// fullestLocked is the group with the most pending items, and how many the next one has. Of equal ones it is the one whose
// items have waited longest, so that the choice does not depend on the order of a map.
func (e *engine[T]) fullestLocked() (fullest *group[T], next int) {
	for _, p := range e.partitions.all() {
		for _, g := range p.allGroups() {
			switch {
			case g.pending == 0:
			case fullest == nil:
				fullest = g
			case g.pending > fullest.pending || g.pending == fullest.pending && g.since.Before(fullest.since):
				fullest, next = g, fullest.pending
			default:
				next = max(next, g.pending)
			}
		}
	}
	return fullest, next
}

func (e *engine[T]) countRefused(r *request[T], why reason) {
	for i := range r.shares {
		e.telemetry.refused(e.labelOf(r, i), why, r.shares[i].n)
	}
}

func (e *engine[T]) countDropped(r *request[T]) {
	for i := range r.shares {
		if n := r.shares[i].droppedFirst + r.shares[i].droppedLast; n > 0 {
			e.telemetry.dropped(e.labelOf(r, i), reasonQueueFull, n)
		}
	}
}

func (e *engine[T]) labelOf(r *request[T], i int) string {
	switch s := &r.shares[i]; {
	case s.group != nil:
		return s.group.label
	case !e.grouping:
		return labelAll
	default:
		return groupLabel(s.key)
	}
}
