// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package output turns the pipes of processes into lines and hands them over. What
// is handed over stays in its pipe until it was taken: the end of this process, even
// by SIGKILL, loses nothing, and a slow taker slows the writer rather than losing
// lines or filling memory.
package output

import (
	"bytes"
	"time"
)

// Line is one line of a stream, or several that belong together, without the last
// line end.
type Line struct {
	// Time is when the end of the line was read.
	Time time.Time
	// Seq numbers the lines of the stream from 1.
	Seq  uint64
	Text []byte
	// Truncated marks a piece of a longer line: the next Line continues it, possibly
	// with nothing, unless the stream ends there.
	Truncated bool
	// AfterExit: it was written when the process itself had ended, by one that it left.
	AfterExit bool

	at int // where it begins in what was peeked
}

// maxLines bounds a batch: the shortest lines would otherwise need some fifty times
// the memory of their bytes.
const maxLines = 4096

// tail says what becomes of bytes behind the last line end.
type tail int

const (
	// tailStays: they stay where they are, more of the line may come, and more lines
	// that belong to the last one.
	tailStays tail = iota
	// tailWaited: as before, but lines that belong to the last one have not come in time.
	tailWaited
	// tailSplits: they are a piece of a line, since more of it cannot be seen before.
	tailSplits
	// tailEnds: they are a line, since nothing follows.
	tailEnds
)

// cutting is what was found in some bytes.
type cutting struct {
	lines []Line // the texts lie in the bytes
	used  int    // how many of the bytes the lines take
	whole bool   // no line is left behind them, as far as can be told
	held  bool   // lines are left behind them that more may belong to
}

// cut appends to lines those that data begins with, numbered from seq on, at most
// maxLines in all. A line longer than max bytes comes in pieces of max bytes. join is
// nil, or says which lines come as one, of at most max bytes too.
func cut(lines []Line, data []byte, tail tail, max int, join Joiner, seq uint64, now time.Time) cutting {
	c := cutting{lines: lines, whole: true}
	for c.used < len(data) {
		if len(c.lines) == maxLines {
			c.whole = false
			return c
		}
		one, ok := nextLine(data[c.used:], tail, max)
		if ok && join != nil && one.ended {
			one, c.held = joined(one, data[c.used:], tail, max, join)
			ok = !c.held
		}
		if !ok {
			return c
		}
		line := Line{Time: now, Seq: seq + uint64(len(c.lines)), Text: one.text, Truncated: one.truncated, at: c.used}
		if !line.Truncated {
			line.Text = trimReturn(line.Text)
		}
		c.lines = append(c.lines, line)
		c.used += one.bytes
	}
	return c
}

// piece is what one Line is made of.
type piece struct {
	text      []byte
	bytes     int // with its line end
	truncated bool
	ended     bool // there is a line end
}

// nextLine finds the line that data begins with; false if it has to be waited for.
func nextLine(data []byte, tail tail, max int) (piece, bool) {
	end := bytes.IndexByte(data[:min(len(data), max+1)], '\n')
	switch {
	case end >= 0:
		return piece{text: data[:end], bytes: end + 1, ended: true}, true
	case len(data) > max:
		return piece{text: data[:max], bytes: max, truncated: true}, true
	case tail == tailStays || tail == tailWaited:
		return piece{}, false
	}
	return piece{text: data, bytes: len(data), truncated: tail == tailSplits}, true
}

func trimReturn(text []byte) []byte { return bytes.TrimSuffix(text, []byte{'\r'}) }
