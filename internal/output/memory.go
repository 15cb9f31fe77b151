// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// memorySource reads what cannot be peeked and keeps in memory what is not yet
// consumed.
type memorySource struct {
	rest  []byte
	lines bool // rest holds more than an unfinished line
}

func (s *memorySource) peek(fd, _ int, all bool) (*batch, state, error) {
	b := takeBatch()
	b.n = copy(b.buffer[:], s.rest)
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

func (s *memorySource) full(int) bool { return false }

func (s *memorySource) abandon() int {
	lines := bytes.Count(s.rest, []byte{'\n'})
	if n := len(s.rest); n > 0 && s.rest[n-1] != '\n' {
		lines++
	}
	return lines
}
