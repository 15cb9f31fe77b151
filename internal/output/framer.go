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

// Line is one line of a stream, without its line end.
type Line struct {
	// Time is when the end of the line was read.
	Time time.Time
	// Seq numbers the lines of the stream from 1.
	Seq  uint64
	Text []byte
	// Truncated marks a piece of a longer line: the next Line continues it, possibly
	// with nothing, unless the stream ends there.
	Truncated bool
}

// maxLines bounds a batch: the shortest lines would otherwise need some fifty times
// the memory of their bytes.
const maxLines = 4096

// tail says what becomes of bytes behind the last line end.
type tail int

const (
	// tailStays: they stay where they are, more of the line may come.
	tailStays tail = iota
	// tailSplits: they are a piece of a line, since more of it cannot be seen before.
	tailSplits
	// tailEnds: they are a line, since nothing follows.
	tailEnds
)

// cut appends to lines those that data begins with, numbered from seq on, at most
// maxLines in all. A line longer than max bytes comes in pieces of max bytes. The
// texts lie in data. used is how many bytes of data the lines take; whole tells that
// no line end is left behind them.
func cut(lines []Line, data []byte, tail tail, max int, seq uint64, now time.Time) (_ []Line, used int, whole bool) {
	for used < len(data) {
		if len(lines) == maxLines {
			return lines, used, false
		}
		rest := data[used:]
		line := Line{Time: now, Seq: seq + uint64(len(lines))}
		end := bytes.IndexByte(rest[:min(len(rest), max+1)], '\n')
		switch {
		case end >= 0:
			line.Text = rest[:end]
			used += end + 1
		case len(rest) > max:
			line.Text, line.Truncated = rest[:max], true
			used += max
		case tail == tailStays:
			return lines, used, true
		default:
			line.Text, line.Truncated = rest, tail == tailSplits
			used += len(rest)
		}
		if !line.Truncated {
			line.Text = bytes.TrimSuffix(line.Text, []byte{'\r'})
		}
		lines = append(lines, line)
	}
	return lines, used, true
}
