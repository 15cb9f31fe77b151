// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import "regexp"

// Joiner tells which lines belong together. Its methods are called with the lines of a
// block from the first one on, perhaps several times while the block grows, so all that
// they remember is the state that they return.
type Joiner interface {
	// Begin returns the state behind the first line of a block.
	Begin(line []byte) JoinState
	// Next returns the state behind the line if it belongs to the block.
	Next(state JoinState, line []byte) (next JoinState, belongs bool)
}

// JoinState is what a Joiner knows of a block.
type JoinState uint8

// JoinDone: nothing can follow.
const JoinDone JoinState = 0

// JoinFrom returns a Joiner of blocks that begin with a line that matches.
func JoinFrom(start *regexp.Regexp) Joiner { return startJoiner{start} }

type startJoiner struct{ start *regexp.Regexp }

func (j startJoiner) Begin([]byte) JoinState { return JoinDone + 1 }

func (j startJoiner) Next(state JoinState, line []byte) (JoinState, bool) {
	return state, !j.start.Match(line)
}

// joined adds to first, the line that data begins with, those that belong to it. held:
// more may come that does.
func joined(first piece, data []byte, tail tail, max int, join Joiner) (block piece, held bool) {
	block = first
	state := join.Begin(trimReturn(first.text))
	for state != JoinDone && block.bytes <= max {
		rest := data[block.bytes:]
		if len(rest) == 0 {
			return block, tail == tailStays
		}
		line, ok := nextLine(rest, tail, max-block.bytes)
		switch {
		case !ok: // what is waited for may be of this block, or not
			return block, tail == tailStays
		case line.truncated: // it may be of this block, but would not fit
			return block, false
		}
		next, belongs := join.Next(state, trimReturn(line.text))
		if !belongs {
			return block, false
		}
		state, block.text, block.bytes = next, data[:block.bytes+len(line.text)], block.bytes+line.bytes
	}
	return block, false
}
