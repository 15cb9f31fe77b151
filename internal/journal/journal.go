// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Journal keeps the newest events in a ring. Append never blocks and never
// fails: a reader that falls behind by more than the capacity is told how many
// events it missed, and nothing else waits for it.
type Journal struct {
	mu      sync.Mutex
	ring    []Event            // guarded by mu; see index
	offset  uint64             // guarded by mu; the number before that of the event that came first
	last    uint64             // guarded by mu; Seq of the newest event, 0: none
	staged  []Event            // guarded by mu; numbered from last+1 on
	counts  map[counter]uint64 // guarded by mu; of all events ever appended
	readers map[string]*Reader // guarded by mu; the open ones
	cursors map[string]uint64  // guarded by mu; of all readers there ever were
	moved   func(Cursor)       // guarded by mu; nil: nobody wants to know
	grown   chan struct{}      // guarded by mu; closed and replaced by whatever makes events readable
	acked   chan struct{}      // guarded by mu; closed and replaced by every move or end of a reader
}

type counter struct{ topic, name string }

// New returns an empty journal that keeps the newest capacity events.
func New(capacity int) *Journal {
	return &Journal{
		ring:    make([]Event, 0, capacity),
		counts:  map[counter]uint64{},
		readers: map[string]*Reader{},
		cursors: map[string]uint64{},
		grown:   make(chan struct{}),
		acked:   make(chan struct{}),
	}
}

// Append numbers the event, stores it, and returns its number.
func (j *Journal) Append(e Event) uint64 {
	seq := j.Stage(e)
	j.Publish()
	return seq
}

// Stage numbers the event and keeps it back until Publish: what readers tell the
// world has to be safe from a sudden end first.
func (j *Journal) Stage(e Event) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Seq = j.last + uint64(len(j.staged)) + 1
	j.staged = append(j.staged, e)
	return e.Seq
}

// Publish lets readers have what was staged.
func (j *Journal) Publish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.staged) == 0 {
		return
	}
	for _, e := range j.staged {
		j.storeLocked(e)
		j.counts[counter{e.Topic, e.Name}]++
	}
	clear(j.staged)
	j.staged = j.staged[:0]
	close(j.grown)
	j.grown = make(chan struct{})
}

func (j *Journal) storeLocked(e Event) {
	j.last = e.Seq
	if len(j.ring) < cap(j.ring) {
		j.ring = append(j.ring, e)
	} else {
		j.ring[j.index(e.Seq)] = e
	}
}

// Counts calls yield with how many events of each topic and name were ever
// appended, in order of topic and name. Readers that are behind do not matter to it.
func (j *Journal) Counts(yield func(topic, name string, n uint64) bool) {
	j.mu.Lock()
	type row struct {
		counter
		n uint64
	}
	rows := make([]row, 0, len(j.counts))
	for c, n := range j.counts {
		rows = append(rows, row{c, n})
	}
	j.mu.Unlock()
	slices.SortFunc(rows, func(a, b row) int {
		if a.topic != b.topic {
			return strings.Compare(a.topic, b.topic)
		}
		return strings.Compare(a.name, b.name)
	})
	for _, r := range rows {
		if !yield(r.topic, r.name, r.n) {
			return
		}
	}
}

// Drained waits until every open reader has acknowledged every event appended so
// far, and returns ctx's error, naming the slowest reader, if that does not come.
// Without a reader there is nothing to wait for.
func (j *Journal) Drained(ctx context.Context) error {
	for {
		j.mu.Lock()
		slowest := j.slowestLocked()
		acked := j.acked
		last := j.last
		j.mu.Unlock()
		if slowest == nil {
			return nil
		}
		select {
		case <-acked:
		case <-ctx.Done():
			j.mu.Lock()
			behind := last - min(last, slowest.cursor)
			j.mu.Unlock()
			return fmt.Errorf("journal: reader %q has not taken the last %d events: %w", slowest.name, behind, ctx.Err())
		}
	}
}

// slowestLocked returns the reader that is furthest behind, nil if none is behind.
func (j *Journal) slowestLocked() *Reader {
	var slowest *Reader
	for _, r := range j.readers {
		if r.cursor < j.last && (slowest == nil || r.cursor < slowest.cursor) {
			slowest = r
		}
	}
	return slowest
}

func (j *Journal) index(seq uint64) int {
	return int((seq - 1 - j.offset) % uint64(cap(j.ring)))
}

// oldestLocked is the number of the oldest event still held.
func (j *Journal) oldestLocked() uint64 { return j.last - uint64(len(j.ring)) + 1 }
