// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"fmt"
)

// Cursor is how far the reader of a name has come: everything up to Seq is
// delivered.
type Cursor struct {
	Name string
	Seq  uint64
}

// Count is how many events of a topic and name were ever appended.
type Count struct {
	Topic, Name string
	N           uint64
}

// Snapshot is what a journal is restored from.
type Snapshot struct {
	// Events are the newest ones, in order and without holes.
	Events  []Event
	Counts  []Count
	Cursors []Cursor
}

// Staged returns what Publish will add, and what the counts will be then: together
// with what was returned before all that Restore needs but for the cursors.
func (j *Journal) Staged() (events []Event, counts []Count) {
	j.mu.Lock()
	defer j.mu.Unlock()
	events = append(events, j.staged...)
	for _, e := range j.staged {
		at := -1
		for i := range counts {
			if counts[i].Topic == e.Topic && counts[i].Name == e.Name {
				at = i
			}
		}
		if at < 0 {
			at = len(counts)
			counts = append(counts, Count{e.Topic, e.Name, j.counts[counter{e.Topic, e.Name}]})
		}
		counts[at].N++
	}
	return events, counts
}

// Restore makes an empty journal go on where another one ended. More events than
// it has room for lose the oldest, of which readers are told.
func (j *Journal) Restore(s Snapshot) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.last != 0 || len(j.staged) != 0 {
		return fmt.Errorf("journal: it holds %d events already, only an empty one can be restored", len(j.ring)+len(j.staged))
	}
	for i, e := range s.Events {
		if e.Seq == 0 || i > 0 && e.Seq != s.Events[i-1].Seq+1 {
			return fmt.Errorf("journal: event %d of those to restore has the number %d, out of order", i, e.Seq)
		}
	}
	if over := len(s.Events) - cap(j.ring); over > 0 {
		s.Events = s.Events[over:]
	}
	if len(s.Events) > 0 {
		j.offset = s.Events[0].Seq - 1
	}
	for _, e := range s.Events {
		j.storeLocked(e)
	}
	for _, c := range s.Counts {
		j.counts[counter{c.Topic, c.Name}] = c.N
	}
	for _, c := range s.Cursors {
		j.cursors[c.Name] = min(c.Seq, j.last)
	}
	return nil
}

// OnMove has moved told of every move of a cursor, from the goroutine of the reader.
func (j *Journal) OnMove(moved func(Cursor)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.moved = moved
}

// Decode reads what Encode wrote, by this or another version.
func Decode(record []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(record, &e); err != nil {
		return Event{}, fmt.Errorf("journal record %.80q: %w", record, err)
	}
	return e, nil
}
