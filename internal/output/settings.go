// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import "time"

// MaxLine is the longest line, in bytes, that is handed over in one piece unless the
// settings say otherwise.
const MaxLine = 64 << 10

// Forever, as Settings.Wait, has a writer wait until its lines are taken.
const Forever = -time.Second

// Settings say how one pipe is read.
type Settings struct {
	// After is the Seq of the last line that an earlier reader of this pipe was done
	// with, 0 if there was none.
	After uint64
	// MaxLine bounds a line, or lines that were joined, in bytes; 0 is the constant.
	MaxLine int
	// Join tells which lines are handed over as one; nil: none. What may go on is held
	// back for JoinTimeout at most.
	Join        Joiner
	JoinTimeout time.Duration
	// Plain takes the escape sequences of terminals out.
	Plain bool
	// Wait bounds the time that the writer is held up from one line that is taken to the
	// next; what waits by then is dropped. Negative: it waits for ever.
	Wait time.Duration
	// Dropped, if not nil, is told of lines that were dropped because of Wait, whose
	// texts are valid until it returns. It is called by Run.
	Dropped func(lines []Line)
}
