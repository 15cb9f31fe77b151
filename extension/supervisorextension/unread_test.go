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
	e := &engine{unread: map[runKey]*unread{first: {open: 2}, second: {open: 1}}}
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
	gaveUp := map[uint64]bool{}
	e := &engine{unread: map[runKey]*unread{{"b", 1}: {gone: 1}, {"a", 1}: {streams: []*stream{{giveUp: func() { gaveUp[1] = true }}}}}}
	for run := uint64(2); run < maxUnread+1; run++ {
		e.unread[runKey{"a", run}] = &unread{gone: run, streams: []*stream{{giveUp: func() { gaveUp[run] = true }}}}
		e.boundUnread("a")
		assert.Empty(t, gaveUp)
	}
	e.unread[runKey{"a", maxUnread + 1}] = &unread{gone: 9}
	e.boundUnread("a")
	assert.Equal(t, map[uint64]bool{2: true}, gaveUp, "the oldest that has ended")
}
