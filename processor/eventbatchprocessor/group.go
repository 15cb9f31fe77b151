// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// groupState says which list a group is in. Every group is in exactly one state:
//
//	idle     nothing held                                 list engine.idle, may be forgotten
//	booked   items admitted but not yet put               no list
//	waiting  a batch fills                                list engine.waiting
//	ready    its turn comes                               list engine.ready
//	sending  the next consumer has a batch; more may fill no list
type groupState uint8

const (
	groupIdle groupState = iota
	groupBooked
	groupWaiting
	groupReady
	groupSending
)

// group is the queue of one type of event in one partition. All fields but the first three are guarded by engine.mu.
type group[T any] struct {
	part     *partition[T]
	key      string
	label    string
	overflow bool // the group of everything beyond max_groups
	pinned   bool // never forgotten: the only group, or an overflow group

	links    links[group[T]]
	state    groupState
	trigger  trigger // why it became ready
	held     int     // booked, pending and being sent
	pending  int     // sum of segments
	since    time.Time
	segments []segment[T]
}

// segment is a run of items in the order they came. Without acknowledgements requests are joined in one segment.
type segment[T any] struct {
	data T
	n    int
	ack  *ack // nil: nobody waits
}

// ack joins the outcomes of the batches that a request's items went with. Guarded by engine.mu but for done.
type ack struct {
	parts     int // segments without outcome
	err       error
	done      chan struct{} // closed when parts has come down to 0
	followers []*ack        // requests whose items became one batch, of which this is the outcome
}

func newAck() *ack { return &ack{done: make(chan struct{})} }

// settleLocked records the outcome of one part. A retry of the request may still succeed if any part failed for a
// passing reason, so such an error wins over a permanent one.
func (a *ack) settleLocked(err error) {
	if err != nil && (a.err == nil || consumererror.IsPermanent(a.err) && !consumererror.IsPermanent(err)) {
		a.err = err
	}
	a.parts--
	if a.parts == 0 {
		a.resolveLocked()
	}
}

func (a *ack) resolveLocked() {
	close(a.done)
	for _, f := range a.followers {
		f.settleLocked(a.err)
	}
}

// putLocked adds n booked items to the group's batch. owned says that data may be kept; otherwise it is emptied.
func (e *engine[T]) putLocked(g *group[T], data T, n int, a *ack, owned bool) {
	if g.pending == 0 {
		g.since = time.Now()
	}
	last := len(g.segments) - 1
	switch {
	case a == nil && last >= 0 && g.segments[last].ack == nil:
		e.signal.moveAll(data, g.segments[last].data)
		g.segments[last].n += n
	case owned:
		g.segments = append(g.segments, segment[T]{data, n, a})
	default:
		kept := e.signal.create()
		e.signal.moveAll(data, kept)
		g.segments = append(g.segments, segment[T]{kept, n, a})
	}
	if a != nil {
		a.parts++
	}
	g.pending += n
	e.scheduleLocked(g)
}

// takeLocked takes the next batch, the oldest items of the group and at most batchMax.
func (e *engine[T]) takeLocked(g *group[T]) batch[T] {
	b := batch[T]{group: g, trigger: g.trigger, since: g.since}
	want := g.pending
	if e.batchMax > 0 {
		want = min(want, e.batchMax)
	}
	if e.delivered && want < g.pending {
		want = wholeSegments(g.segments, want)
	}
	b.segments, b.n = e.cutLocked(g, want)
	return b
}

// wholeSegments is how many of the oldest n items are of segments that are all among them: if the rest of a request fails,
// all of it is sent again. A first segment that is larger is cut.
func wholeSegments[T any](segments []segment[T], n int) (whole int) {
	for i := range segments {
		if whole+segments[i].n > n {
			break
		}
		whole += segments[i].n
	}
	if whole == 0 {
		return n
	}
	return whole
}

// cutLocked removes the oldest n pending items.
func (e *engine[T]) cutLocked(g *group[T], n int) (cut []segment[T], taken int) {
	whole := 0
	for whole < len(g.segments) && taken+g.segments[whole].n <= n {
		taken += g.segments[whole].n
		whole++
	}
	if whole == len(g.segments) {
		cut, g.segments = g.segments, nil
	} else {
		cut = append(cut, g.segments[:whole]...)
		g.segments = append(g.segments[:0:0], g.segments[whole:]...)
		if rest := n - taken; rest > 0 {
			s := &g.segments[0]
			cut = append(cut, segment[T]{e.signal.split(s.data, rest), rest, s.ack})
			s.n -= rest
			if s.ack != nil {
				s.ack.parts++
			}
			taken = n
		}
	}
	g.pending -= taken
	return cut, taken
}

// discardLocked drops the oldest n pending items. Those who wait for them get err. The group must not be waiting: an
// emptied one that is ready is seen by the sender, while one that waits would be sent late when it fills again.
func (e *engine[T]) discardLocked(g *group[T], n int, err error) int {
	cut, taken := e.cutLocked(g, n)
	for _, s := range cut {
		if s.ack != nil {
			s.ack.settleLocked(err)
		}
	}
	e.releaseLocked(g, taken)
	return taken
}

// awaitOutcome returns the outcome of a request. If ctx ends before, what is not being sent is taken back, for nobody waits for
// it any more and the caller may offer it again; what is may still be delivered.
func (e *engine[T]) awaitOutcome(ctx context.Context, p *partition[T], a *ack) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, g := range p.allGroups() {
			if n := e.withdrawLocked(g, a); n > 0 {
				e.telemetry.refused(g.label, reasonCanceled, n)
			}
		}
		return context.Cause(ctx)
	}
}

// withdrawLocked removes the pending items of a request. Where there are requests that wait, groups do not: an emptied
// one is ready or being sent, and the sender sees it.
func (e *engine[T]) withdrawLocked(g *group[T], a *ack) (n int) {
	g.segments = slices.DeleteFunc(g.segments, func(s segment[T]) bool {
		if s.ack == a {
			n += s.n
		}
		return s.ack == a
	})
	if n == 0 {
		return 0
	}
	g.pending -= n
	e.releaseLocked(g, n)
	return n
}
