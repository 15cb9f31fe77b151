// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

var (
	// ErrHeld is returned by Attach if the lease is another living client's.
	ErrHeld = errors.New("the keeper's lease is held")
	// ErrVersion is returned by Attach if the keeper and this program have no version
	// of the protocol in common.
	ErrVersion = errors.New("the keeper speaks other versions of the protocol")
	// ErrLost is returned by every call after the connection to the keeper broke.
	ErrLost = errors.New("the keeper is lost")
)

// Options are how to attach to a keeper.
type Options struct {
	// Directory is the absolute path of the runtime directory: one keeper, one lease.
	// It is made, 0700, if it does not exist; it must be this user's own.
	Directory string
	// OrphanGrace is how long the processes outlive a lost client. 0: not at all;
	// negative: for ever. After Detach it is at least 10 s.
	OrphanGrace time.Duration
	// JournalLimit is how many journal records the keeper holds; the oldest go first.
	// 0: none.
	JournalLimit int
	// Warn is told what the log should say, in readable words: a holder that was killed,
	// a directory that was made again. It may be called by any goroutine. May be nil.
	Warn func(string)
	// Lost is called once, by a goroutine of the client, if the keeper died or the
	// connection to it broke; after it every call fails with ErrLost. Not after Detach or
	// Close. May be nil.
	Lost func(error)

	// What tests change: nil is the real thing.
	wire     *wire.Calls
	versions *hello
}

func (o Options) calls() wire.Calls {
	if o.wire != nil {
		return *o.wire
	}
	return wire.Kernel()
}

// State is what the last holder left in the keeper.
type State struct {
	// Fresh: this Attach started the keeper; there is nothing in it.
	Fresh bool
	// Reload: the last holder was this very process, and detached.
	Reload    bool
	KeeperPID int
	// OpenFiles is how many descriptors the keeper may have open.
	OpenFiles uint64
	// NoCgroups is why runs have no cgroups of their own; "" if they have, or if the keeper
	// is of a program that does not tell yet.
	NoCgroups string
	// Unattended is how long there was no holder that read what the processes say.
	Unattended time.Duration
	Values     map[string][]byte
	// Journal are the records, oldest first; JournalFirst is the number of the first of
	// them, or of the next one if there is none. The keeper numbers them from 1 in the
	// order of Commit.
	Journal      [][]byte
	JournalFirst uint64
	// Runs is every run that the keeper has not forgotten, in the order of their starts.
	Runs []Run
}

// Run is a run that the keeper has not forgotten: one whose Gone is not acknowledged.
type Run struct {
	ID  string
	Run uint64
	// Started has duplicates of the pipes' read ends, and of what was held.
	Started Started
	// Gone: nothing of it lives. Its events are still told.
	Gone bool
}

// Commit is a change of what survives in the keeper, applied all or nothing.
type Commit struct {
	// Values are set in this order.
	Values []Value
	// Journal records are appended.
	Journal [][]byte
	// Acknowledge are Event.Seq that need not be told again. Acknowledging the Gone of a
	// run makes the keeper forget the run and close what it holds of it.
	Acknowledge []uint64
}

// Value is a keyed value; Data nil deletes the key.
type Value struct {
	Key  string
	Data []byte
}
