// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import "fmt"

// Reader is a cursor in a journal. It is for one goroutine.
type Reader struct {
	journal *Journal
	name    string
	cursor  uint64 // guarded by journal.mu; the newest acknowledged event
	missed  uint64 // guarded by journal.mu; overwritten since the last Ack, not yet acknowledged
}

// Open returns a reader that goes on where the last one of that name, of this
// journal or the one that it was restored from, had come to; a new name begins
// at the oldest event that is held. One name can be open once.
func (j *Journal) Open(name string) (*Reader, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, open := j.readers[name]; open {
		return nil, fmt.Errorf("journal: reader %q is open already", name)
	}
	cursor, known := j.cursors[name]
	if !known {
		cursor = j.oldestLocked() - 1
	}
	r := &Reader{journal: j, name: name, cursor: cursor}
	j.readers[name] = r
	return r, nil
}

// Read appends to dst up to limit events after the cursor, in order, and returns
// dst with the number of events that were overwritten before this reader came to
// them. It does not move the cursor: without an Ack the next Read returns the same.
func (r *Reader) Read(dst []Event, limit int) (events []Event, missed uint64) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	first := r.cursor + 1
	if oldest := j.oldestLocked(); first < oldest {
		r.missed += oldest - first
		r.cursor = oldest - 1
		first = oldest
	}
	for seq := first; seq <= j.last && limit > 0; seq, limit = seq+1, limit-1 {
		dst = append(dst, j.ring[j.index(seq)])
	}
	return dst, r.missed
}

// Behind appends to dst up to limit of the events that are held up to the cursor, in
// order, beginning with the first after the one with that number.
func (r *Reader) Behind(dst []Event, after uint64, limit int) []Event {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for seq := max(after+1, j.oldestLocked()); seq <= r.cursor && limit > 0; seq, limit = seq+1, limit-1 {
		dst = append(dst, j.ring[j.index(seq)])
	}
	return dst
}

// Ack moves the cursor to seq: everything up to it, and the gap that the last
// Read told of, has been delivered. It never moves back.
func (r *Reader) Ack(seq uint64) {
	j := r.journal
	j.mu.Lock()
	r.missed = 0
	r.cursor = min(max(r.cursor, seq), j.last)
	j.cursors[r.name] = r.cursor
	cursor, moved := Cursor{r.name, r.cursor}, j.moved
	j.wakeDrainLocked()
	j.mu.Unlock()
	if moved != nil {
		moved(cursor)
	}
}

// Wait returns a channel that is closed once there is an event after the cursor.
func (r *Reader) Wait() <-chan struct{} {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.cursor < j.last {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return j.grown
}

// Close ends the reader; nothing waits for it any longer. A second Close does nothing.
func (r *Reader) Close() {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.readers[r.name] == r {
		delete(j.readers, r.name)
		j.wakeDrainLocked()
	}
}

func (j *Journal) wakeDrainLocked() {
	close(j.acked)
	j.acked = make(chan struct{})
}
