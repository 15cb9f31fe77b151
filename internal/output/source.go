// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"math/bits"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// peekMargin is what a peek has room for beyond a line, so that what fills it without a
// line end is longer than one.
const peekMargin = 4 << 10

// batch is what was peeked at once.
type batch struct {
	buffer []byte
	n      int
	// size and staged are the capacities of the pipe and of the staging pipe; full
	// tells that the latter had no slot for more.
	size, staged int
	full         bool

	cutting // of the buffer
	plain   []byte
}

// batches, by the size of their buffers, are held only while there is something to
// read: a thousand silent processes hold none.
var batches [bits.UintSize + 1]sync.Pool

func takeBatch(size int) *batch {
	class := bits.Len(uint(size - 1))
	b, ok := batches[class].Get().(*batch)
	if !ok {
		b = &batch{buffer: make([]byte, 1<<class)}
	}
	b.buffer = b.buffer[:size]
	b.n, b.size, b.staged, b.full = 0, 0, 0, false
	b.cutting = cutting{lines: b.lines[:0], whole: true}
	return b
}

func (b *batch) release() { batches[bits.Len(uint(cap(b.buffer)-1))].Put(b) }

// state is what a source has beyond the bytes that are known already.
type state int

const (
	stateMore  state = iota // more bytes
	stateIdle               // none at the moment
	stateEnded              // none, and no writer is left
)

// source lets the first bytes of a stream be looked at before they are consumed.
// Its calls do not wait, and fd is always the stream's descriptor.
type source interface {
	// peek returns the first bytes. The first known ones were seen before: they hold no
	// line that need not be waited for, and leave a writer room. Without more there is no batch, unless there
	// are known ones and either all is set or the stream has ended. An error is the end.
	// A batch has at most size bytes.
	peek(fd, size, known int, all bool) (*batch, state, error)
	// makeRoom is called for a batch without a line to hand over, which is then peeked
	// again, or, if there can be no room for more of the line, split.
	makeRoom(fd int, b *batch, max int) room
	// consume takes the first b.used bytes, which may be none, out of the stream, and
	// returns how many of those that stay are known then. It is called for every batch.
	consume(fd int, b *batch) (known int, err error)
	// full reports whether a writer would have to wait.
	full(fd int) bool
	// last returns how many bytes are there, and as many of the last ones as are asked
	// for or can be had.
	last(fd, bytes int) (waiting int, last []byte)
	// abandon returns how many lines, an unfinished one included, the next reader will
	// miss.
	abandon() int
}

// room is what there is for more of an unfinished line.
type room int

const (
	roomThere room = iota // enough, so that more of it will be noticed
	roomMade              // perhaps: peek again
	roomNone              // none, and none can be made
)

// stagingPipes are shared by all readers of this process.
var stagingPipes = newStagingPool()

// newSource finds out how the stream can be read by trying it.
func newSource(conn syscall.RawConn) (source, error) {
	err := stagingPipes.prepare()
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return nil, err
	}
	if err != nil {
		return &memorySource{}, nil
	}
	source := pipeSource{stagingPipes}
	controlErr := conn.Control(func(fd uintptr) {
		var b *batch
		if b, _, err = source.peek(int(fd), peekMargin, 0, false); b != nil {
			b.release()
		}
	})
	if controlErr != nil {
		return nil, controlErr
	}
	if err != nil {
		return &memorySource{}, nil
	}
	return source, nil
}

// pipeSource peeks: it duplicates what is in the pipe into a staging pipe and reads
// it from there.
type pipeSource struct{ pool *stagingPool }

func (s pipeSource) peek(fd, max, known int, all bool) (*batch, state, error) {
	hungUp := false
	if known > 0 && !all {
		waiting, err := unix.IoctlGetUint32(fd, unix.TIOCINQ)
		if err != nil {
			return nil, stateEnded, err
		}
		if int(waiting) == known {
			events, err := poll(fd, unix.POLLIN)
			if err != nil {
				return nil, stateEnded, err
			}
			if hungUp = events&unix.POLLHUP != 0; !hungUp {
				return nil, stateIdle, nil
			}
		}
	}
	// The process at the other end may change the size at any time.
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, stateEnded, err
	}
	stage := s.pool.take(size)
	defer s.pool.give(stage)
	n, full, err := stage.tee(fd, max)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil, stateIdle, nil
	case err != nil:
		stage.empty(s.pool.null)
		return nil, stateEnded, err
	case n == 0:
		return nil, stateEnded, nil
	}
	b := takeBatch(max)
	if err := stage.load(b.buffer[:n]); err != nil {
		stage.empty(s.pool.null)
		b.release()
		return nil, stateEnded, err
	}
	b.n, b.size, b.staged, b.full = n, size, stage.size, full
	switch {
	case n > known || full: // full with no more than is known: this staging pipe is smaller
		return b, stateMore, nil
	case hungUp:
		return b, stateEnded, nil
	case all:
		return b, stateIdle, nil
	default: // somebody else reads this pipe
		b.release()
		return nil, stateIdle, nil
	}
}

// makeRoom implements source. The staging pipe has as many slots as the pipe, so it
// is full if the pipe was. A writer that finds no slot waits, and would for ever,
// since a line is not consumed before it is whole. With a slot left its next write
// adds bytes, and is noticed.
func (s pipeSource) makeRoom(fd int, b *batch, max int) room {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	switch {
	case err != nil:
		return roomNone
	case size != b.size:
		b.full = true // for all that is known
		return roomMade
	case !b.full:
		return roomThere
	case b.staged < size || size >= 2*max:
		return roomNone
	}
	// Ordinary users may be refused, see pipe(7).
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 2*size); err != nil {
		return roomNone
	}
	return roomMade
}

func (s pipeSource) consume(fd int, b *batch) (known int, err error) {
	if b.whole && !b.full {
		known = b.n - b.used
	}
	return known, consume(fd, s.pool.null, b.used)
}

func (s pipeSource) full(fd int) bool {
	size, full := pipeFull(fd)
	if full || size == 0 {
		return full
	}
	// The slots may have run out with fewer bytes.
	stage := s.pool.take(size)
	defer s.pool.give(stage)
	_, full, err := stage.tee(fd, size)
	stage.empty(s.pool.null)
	return err == nil && full && stage.size == size
}

// last implements source. Of a pipe that is larger than the staging pipe it may see
// only the first bytes, which are not the last.
func (s pipeSource) last(fd, bytes int) (waiting int, last []byte) {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if waiting = pipeHolds(fd); waiting == 0 || err != nil {
		return waiting, nil
	}
	stage := s.pool.take(size)
	defer s.pool.give(stage)
	n, _, err := stage.tee(fd, waiting)
	if err != nil || n < waiting {
		stage.empty(s.pool.null)
		return waiting, nil
	}
	last = make([]byte, min(n, bytes))
	if consume(stage.read, s.pool.null, n-len(last)) != nil || stage.load(last) != nil {
		stage.empty(s.pool.null)
		return waiting, nil
	}
	return waiting, last
}

func (s pipeSource) abandon() int { return 0 }

// pipeHolds is how many bytes are in a pipe, or a socket.
func pipeHolds(fd int) int {
	n, err := unix.IoctlGetUint32(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return int(n)
}

// pipeFull reports whether a pipe has no room for one more page, by its bytes; its
// slots may have run out before. size is 0 if it is no pipe.
func pipeFull(fd int) (size int, full bool) {
	size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 0, false
	}
	return size, pipeHolds(fd) > size-os.Getpagesize()
}
