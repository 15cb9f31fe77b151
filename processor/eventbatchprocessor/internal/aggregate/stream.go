// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// forgetAfter is how many windows a stream is remembered without a point.
const forgetAfter = 5

// point is what the data points of all kinds have in common.
type point[P any] interface {
	MoveTo(P)
	Attributes() pcommon.Map
	StartTimestamp() pcommon.Timestamp
	SetStartTimestamp(pcommon.Timestamp)
	Timestamp() pcommon.Timestamp
	SetTimestamp(pcommon.Timestamp)
	Flags() pmetric.DataPointFlags
}

// stream is the points of one identity within the window at hand.
//
//	done  points that are complete, in the order they go on: the last one before a reset, the aggregate before a marker,
//	      markers, and points that could not be merged
//	cur   the aggregate under way, if live
type stream[P point[P]] struct {
	keys  keys
	raw   string // the encoding of its attributes as they came first
	index int    // in family.order
	cur   P      // kept over windows: what it holds moves, its memory stays
	live  bool
	done  []P

	value    value    // of numbers: what cur's value will be
	coverage coverage // of delta points

	newest  pcommon.Timestamp // of all points taken so far
	sent    pcommon.Timestamp // of those that went on in an earlier window, and of markers
	touched bool              // a point was taken in this window
	idle    uint8             // windows without a point
}

// combiner is what one aggregation of one kind of point does.
type combiner[P point[P]] interface {
	// add takes p, which is no marker, into s, out of the slice it is in. It reports false for a point that is left out.
	add(s *stream[P], p P, c *counts) bool
	// finish makes cur what goes on.
	finish(s *stream[P])
	// join merges b into a, two points of one time of a stream, and reports whether b is now superfluous.
	join(a, b P) bool
	create() P
}

// counts are what a request added; the store sums them up.
type counts struct {
	held     int // points more than before
	merged   int64
	unmerged [numCauses]int64
	resets   int64
}

// begin makes p the aggregate under way.
func (s *stream[P]) begin(p P, c *counts) bool {
	p.MoveTo(s.cur)
	s.live = true
	c.held++
	return true
}

// replace makes p the aggregate under way in place of an older one.
func (s *stream[P]) replace(p P, c *counts) bool {
	p.MoveTo(s.cur)
	c.merged++
	return true
}

// setAside lets p go on beside the aggregate.
func (s *stream[P]) setAside(p, shell P, why Cause, c *counts) bool {
	p.MoveTo(shell)
	s.done = append(s.done, shell)
	c.held++
	c.unmerged[why]++
	return true
}

// complete ends the aggregate under way; points that follow begin a new one.
func (s *stream[P]) complete(b combiner[P]) {
	if !s.live {
		return
	}
	b.finish(s)
	shell := b.create()
	s.cur.MoveTo(shell)
	s.done = append(s.done, shell)
	s.live = false
}

// mark takes a point that says the stream has ended. It goes on behind what was before it.
func (s *stream[P]) mark(p P, b combiner[P], c *counts) bool {
	if t := p.Timestamp(); t != 0 && t <= s.newest {
		c.unmerged[OutOfOrder]++
		return false
	}
	s.complete(b)
	shell := b.create()
	p.MoveTo(shell)
	s.done = append(s.done, shell)
	c.held++
	// No gauge of that time or before comes behind it.
	s.sent = max(s.sent, shell.Timestamp())
	return true
}

// family is the streams of one metric. Every pointSlice of the request is taken under one hold of mu.
type family[P point[P], S pointSlice[P]] struct {
	descriptor pmetric.Metric // without points
	points     func(pmetric.Metric) S
	combiner   combiner[P]

	mu      sync.Mutex
	streams map[string]*stream[P] // guarded by mu
	order   []*stream[P]          // guarded by mu; in the order they came
	next    int                   // guarded by mu; in order, the stream that is expected to come next
	buf     []byte                // guarded by mu
}

type pointSlice[P any] interface {
	Len() int
	At(int) P
	AppendEmpty() P
	EnsureCapacity(int)
}

func (f *family[P, S]) absorb(m pmetric.Metric, c *counts) {
	points := f.points(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range points.Len() {
		p := points.At(i)
		f.buf = appendAttributes(f.buf[:0], p.Attributes())
		s := f.findLocked(p)
		t := p.Timestamp()
		taken := false
		if isMarker(p) {
			taken = s.mark(p, f.combiner, c)
		} else {
			taken = f.combiner.add(s, p, c)
		}
		// A stream of which nothing is taken is forgotten in the end: one time far in the future must not silence it for good.
		if taken {
			s.touched = true
			s.newest = max(s.newest, t)
		}
	}
}

// findLocked finds or makes the stream of the attributes in buf, those of p. Sources send their points in the same order
// every time, so the stream behind the last one is looked at first.
func (f *family[P, S]) findLocked(p P) *stream[P] {
	if f.next == len(f.order) {
		f.next = 0
	}
	if f.next < len(f.order) {
		if s := f.order[f.next]; s.raw == string(f.buf) {
			f.next++
			return s
		}
	}
	s, ok := f.streams[string(f.buf)]
	if !ok {
		s = f.internLocked(p)
	}
	f.next = s.index + 1
	return s
}

func (f *family[P, S]) internLocked(p P) *stream[P] {
	s, created := intern(f.streams, f.buf,
		func() []byte { return appendSorted(nil, p.Attributes()) },
		func(s *stream[P]) *keys { return &s.keys },
		func() *stream[P] { return &stream[P]{cur: f.combiner.create()} })
	if created {
		s.raw, s.index = string(f.buf), len(f.order)
		f.order = append(f.order, s)
	}
	return s
}

// flush moves the points of the window into metrics of dst and returns their number. It forgets streams that have been
// without points for long.
//
// A marker must not stand before other points of its metric: the Prometheus exporter ignores what follows one. So
// what comes up to a stream's first marker is one metric, the markers are a second one, what follows a third, and so on.
func (f *family[P, S]) flush(dst pmetric.MetricSlice) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var queues [][]P // what is left of each stream, for streams that had to be put in order
	plain := f.target(dst, len(f.order))
	n := 0
	for _, s := range f.order {
		if !s.touched {
			s.idle++
			continue
		}
		s.idle, s.touched = 0, false
		if s.live {
			f.combiner.finish(s)
		}
		if len(s.done) == 0 {
			if s.live {
				s.sent = max(s.sent, s.cur.Timestamp())
				s.live = false
				n += plain.put(s.cur)
			}
			continue
		}
		queue := s.drain(f.combiner)
		cut := slices.IndexFunc(queue, isMarker[P])
		if cut < 0 {
			cut = len(queue)
		} else {
			queues = append(queues, queue[cut:])
		}
		for _, p := range queue[:cut] {
			n += plain.put(p)
		}
	}
	for marker := true; len(queues) > 0; marker = !marker {
		to := f.target(dst, len(queues))
		left := queues[:0]
		for _, q := range queues {
			for len(q) > 0 && isMarker(q[0]) == marker {
				n += to.put(q[0])
				q = q[1:]
			}
			if len(q) > 0 {
				left = append(left, q)
			}
		}
		queues = left
	}
	f.forgetLocked()
	return n
}

func isMarker[P point[P]](p P) bool { return p.Flags().NoRecordedValue() }

// drain returns the stream's points in the order of time, one for each time, and leaves the stream empty. If a point has
// no time, they stay in the order they came.
func (s *stream[P]) drain(b combiner[P]) []P {
	queue := s.done
	if s.live {
		shell := b.create()
		s.cur.MoveTo(shell)
		queue = append(queue, shell)
		s.live = false
	}
	s.done = nil
	if !slices.ContainsFunc(queue, func(p P) bool { return p.Timestamp() == 0 }) {
		slices.SortStableFunc(queue, func(a, b P) int { return cmp.Compare(a.Timestamp(), b.Timestamp()) })
	}
	out := queue[:0]
	for _, p := range queue {
		s.sent = max(s.sent, p.Timestamp())
		if last := len(out) - 1; last >= 0 && p.Timestamp() != 0 && p.Timestamp() == out[last].Timestamp() &&
			isMarker(p) == isMarker(out[last]) && b.join(out[last], p) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// target makes its metric when the first point comes, so that no empty one goes on.
type target[P point[P], S pointSlice[P]] struct {
	family *family[P, S]
	dst    pmetric.MetricSlice
	size   int // expected
	points S
	used   bool
}

func (f *family[P, S]) target(dst pmetric.MetricSlice, size int) *target[P, S] {
	return &target[P, S]{family: f, dst: dst, size: size}
}

func (t *target[P, S]) put(p P) int {
	if !t.used {
		t.used = true
		m := t.dst.AppendEmpty()
		t.family.descriptor.CopyTo(m)
		t.points = t.family.points(m)
		t.points.EnsureCapacity(t.size)
	}
	p.MoveTo(t.points.AppendEmpty())
	return 1
}

func (f *family[P, S]) forgetLocked() {
	f.order = slices.DeleteFunc(f.order, func(s *stream[P]) bool {
		if s.idle <= forgetAfter {
			return false
		}
		for _, k := range s.keys {
			delete(f.streams, k)
		}
		return true
	})
	for i, s := range f.order {
		s.index = i
	}
	f.next = 0
}

// empty reports whether nothing is remembered any more.
func (f *family[P, S]) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.order) == 0
}
