// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelwarden/warden/internal/keeper"
)

func TestUnread_TheEndOfARunIsAcknowledgedWhenItsOutputIsRead(t *testing.T) {
	first, second := runKey{"a", 1}, runKey{"a", 2}
	gone := func(of runKey, seq uint64) keeper.Event {
		return keeper.Event{Kind: keeper.Gone, ID: of.id, Run: of.run, Seq: seq}
	}
	e := &engine{unread: map[runKey]*unread{first: {open: 2}, second: {open: 1}}, waiting: map[string][]uint64{}}
	e.acknowledged(keeper.Event{Kind: keeper.Died, ID: "a", Run: 1, Seq: 1})
	assert.Equal(t, []uint64{1}, e.acknowledge, "another event need not wait")
	e.acknowledged(gone(first, 2))
	e.onRead(first)
	assert.Equal(t, []uint64{1}, e.acknowledge, "stderr is not read yet")
	e.onRead(first)
	assert.Equal(t, []uint64{1, 2}, e.acknowledge)
	e.onRead(second)
	e.acknowledged(gone(second, 3))
	assert.Equal(t, []uint64{1, 2, 3}, e.acknowledge, "all was read before")
	e.acknowledged(gone(runKey{"b", 1}, 4))
	assert.Equal(t, []uint64{1, 2, 3, 4}, e.acknowledge, "there is nothing to read")
	e.onRead(runKey{"c", 1})
	assert.Empty(t, e.unread)
}

func TestUnread_OfAProcessIsBounded(t *testing.T) {
	var gaveUp []uint64
	e := &engine{unread: map[runKey]*unread{}, waiting: map[string][]uint64{}}
	ends := func(id string, run uint64, bounded bool) {
		e.unread[runKey{id, run}] = &unread{open: 1, bounded: bounded, streams: []*stream{{giveUp: func() { gaveUp = append(gaveUp, run) }}}}
		e.acknowledged(keeper.Event{Kind: keeper.Gone, ID: id, Run: run, Seq: run})
	}
	for run := range uint64(100) {
		ends("never dropped", run+1, false)
	}
	for run := range uint64(maxUnread) {
		ends("a", run+1, true)
		ends("b", run+1, true)
	}
	assert.Empty(t, gaveUp)
	ends("a", maxUnread+1, true)
	assert.Equal(t, []uint64{1}, gaveUp, "the oldest")
	e.onRead(runKey{"a", 1})
	e.onRead(runKey{"a", 5})
	ends("a", maxUnread+2, true)
	assert.Equal(t, []uint64{1}, gaveUp, "one was read meanwhile")
	ends("a", maxUnread+3, true)
	assert.Equal(t, []uint64{1, 2}, gaveUp)
	for run := range uint64(maxUnread) {
		e.onRead(runKey{"b", run + 1})
	}
	assert.NotContains(t, e.waiting, "b", "nothing is kept of what was read")
}
