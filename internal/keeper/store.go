// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"iter"
	"slices"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// store is what survives the clients besides the runs themselves: values, journal
// records and events that nobody has acknowledged. It does no I/O and has no lock.
type store struct {
	values map[string][]byte

	journal [][]byte // oldest first
	first   uint64   // number of journal[0], from 1
	limit   int

	events []Event // in the order of Seq
	seq    uint64  // of the last event
}

func newStore() *store { return &store{values: map[string][]byte{}, first: 1} }

// setLimit sets how many journal records are held.
func (s *store) setLimit(limit int) {
	s.limit = limit
	s.trim()
}

func (s *store) trim() {
	surplus := len(s.journal) - s.limit
	if surplus <= 0 {
		return
	}
	clear(s.journal[:surplus])
	s.journal = s.journal[surplus:]
	s.first += uint64(surplus)
}

// file numbers events and keeps them. It returns them as they are kept.
func (s *store) file(events []Event) (filed []Event) {
	for i := range events {
		s.seq++
		events[i].Seq = s.seq
	}
	s.events = append(s.events, events...)
	return s.events[len(s.events)-len(events):]
}

// replays: whoever is told the events from now on may not be the first, or they came
// while there was nobody.
func (s *store) replays() { markReplayed(s.events) }

func markReplayed(events []Event) {
	for i := range events {
		events[i].Replayed = true
	}
}

// apply carries a commit out and returns the runs whose Gone it acknowledges. It
// keeps nothing of the payload that the commit was decoded from.
func (s *store) apply(c Commit) (forgotten []runKey) {
	for _, value := range c.Values {
		if value.Data == nil {
			delete(s.values, value.Key)
		} else {
			s.values[value.Key] = slices.Clone(value.Data)
		}
	}
	if surplus := len(c.Journal) - s.limit; surplus > 0 {
		// Not even held: an allocation less for each.
		s.first += uint64(len(s.journal) + surplus)
		s.journal, c.Journal = nil, c.Journal[surplus:]
	}
	for _, record := range c.Journal {
		s.journal = append(s.journal, slices.Clone(record))
	}
	s.trim()
	for _, seq := range c.Acknowledge {
		i, found := slices.BinarySearchFunc(s.events, seq, func(e Event, seq uint64) int {
			switch {
			case e.Seq < seq:
				return -1
			case e.Seq > seq:
				return 1
			}
			return 0
		})
		if !found {
			continue
		}
		if e := &s.events[i]; e.Kind == Gone {
			forgotten = append(forgotten, runKey{e.ID, e.Run})
		}
		if i == 0 { // as a rule
			s.events[0] = Event{}
			s.events = s.events[1:]
		} else {
			s.events = slices.Delete(s.events, i, i+1)
		}
	}
	if len(s.events) == 0 {
		s.events = nil // lets go of an array that a storm has made long
	}
	return forgotten
}

// dumpSize is where a message of dump ends.
const dumpSize = 64 << 10

// dump yields the messages that tell a client what is in the store besides events.
// A payload is valid until the next.
func (s *store) dump() iter.Seq2[uint8, []byte] {
	return func(yield func(kind uint8, payload []byte) bool) {
		var e wire.Encoder
		flush := func(kind uint8, atLeast int) bool {
			if len(e.Buf) < atLeast {
				return true
			}
			ok := yield(kind, e.Buf)
			e.Buf = e.Buf[:0]
			return ok
		}
		for key, data := range s.values {
			e.String(key)
			e.Bytes(data)
			if !flush(kindValues, dumpSize) {
				return
			}
		}
		if !flush(kindValues, 1) {
			return
		}
		for _, record := range s.journal {
			e.Bytes(record)
			if !flush(kindRecords, dumpSize) {
				return
			}
		}
		flush(kindRecords, 1)
	}
}

// appendCommit encodes a commit.
func appendCommit(e *wire.Encoder, c Commit) {
	e.Uint(uint64(len(c.Values)))
	for _, value := range c.Values {
		e.String(value.Key)
		e.Bool(value.Data != nil)
		e.Bytes(value.Data)
	}
	appendRecords(e, c.Journal)
	e.Uint(uint64(len(c.Acknowledge)))
	for _, seq := range c.Acknowledge {
		e.Uint(seq)
	}
}

// decodeCommit returns a commit whose data are parts of the payload.
func decodeCommit(payload []byte) (Commit, error) {
	d := wire.NewDecoder(payload)
	var c Commit
	for range d.Count() {
		value := Value{Key: d.String()}
		present := d.Bool()
		if data := d.Bytes(); present {
			value.Data = data
		}
		c.Values = append(c.Values, value)
	}
	c.Journal = takeRecords(d)
	for range d.Count() {
		c.Acknowledge = append(c.Acknowledge, d.Uint())
	}
	return c, d.Err()
}

func appendRecords(e *wire.Encoder, records [][]byte) {
	e.Uint(uint64(len(records)))
	for _, record := range records {
		e.Bytes(record)
	}
}

func takeRecords(d *wire.Decoder) [][]byte {
	n := d.Count()
	if n == 0 {
		return nil
	}
	records := make([][]byte, n)
	for i := range records {
		records[i] = d.Bytes()
	}
	return records
}
