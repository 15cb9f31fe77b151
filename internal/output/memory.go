// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"
)

// memorySource reads what cannot be peeked and keeps in memory what is not yet
// consumed.
type memorySource struct {
	rest  []byte
	lines bool // rest holds more than what has to be waited for
}

func (s *memorySource) peek(fd, size, _ int, all bool) (*batch, state, error) {
	b := takeBatch(size)
	b.n = copy(b.buffer, s.rest)
	if s.lines {
		return b, stateMore, nil
	}
	for {
		n, err := unix.Read(fd, b.buffer[b.n:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && all && b.n > 0:
			return b, stateIdle, nil
		case err == nil && n == 0 && b.n > 0:
			return b, stateEnded, nil
		case err == unix.EAGAIN:
			b.release()
			return nil, stateIdle, nil
		case err != nil || n == 0:
			b.release()
			return nil, stateEnded, err
		default:
			b.n += n
			return b, stateMore, nil
		}
	}
}

func (s *memorySource) makeRoom(int, *batch, int) room { return roomThere }

func (s *memorySource) consume(_ int, b *batch) (known int, err error) {
	s.rest, s.lines = bytes.Clone(b.buffer[b.used:b.n]), !b.whole
	return 0, nil
}

func (s *memorySource) full(fd int) bool {
	_, full := pipeFull(fd)
	return full
}

// last implements source. What has not been read cannot be shown.
func (s *memorySource) last(fd, bytes int) (waiting int, last []byte) {
	waiting = len(s.rest) + pipeHolds(fd)
	return waiting, slices.Clone(s.rest[max(0, len(s.rest)-bytes):])
}

func (s *memorySource) abandon() int {
	lines := bytes.Count(s.rest, []byte{'\n'})
	if n := len(s.rest); n > 0 && s.rest[n-1] != '\n' {
		lines++
	}
	return lines
}
