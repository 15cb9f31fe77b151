// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Reader reads one pipe to its end, or until it is detached.
type Reader struct {
	pipe   *os.File
	conn   syscall.RawConn
	source source
	handle func(context.Context, []Line) error
	max    int // of a line, in bytes
	// How long an unfinished line is waited for before it is looked at again.
	shortestPause, longestPause time.Duration

	// taken is the Seq of the last line that is done with.
	taken atomic.Uint64
	// handing is true while handle has lines that it has not taken.
	handing atomic.Bool

	mu       sync.Mutex
	finished bool // guarded by mu, as is the pipe's deadline

	detached context.Context
	detach   context.CancelFunc
	done     chan struct{} // closed when Run has returned

	// What follows belongs to Run.

	// known counts the bytes of an unfinished line that the stream begins with, see
	// source.
	known int
	// pause is the present one, armed that which the pipe's deadline was set for, 0
	// without a deadline.
	pause, armed time.Duration
	// last: what the stream holds now is all of it.
	last bool
	// What lookAt found.
	next  *batch
	ended bool
	err   error
	// The methods lookAt and settleAt, as values: to make them anew is to allocate.
	lookFunc   func(fd uintptr) bool
	settleFunc func(fd uintptr)
}

// NewReader returns a reader of the read end of a pipe, which must be non-blocking
// and becomes the reader's to close. after is the Seq of the last line that an
// earlier reader of this pipe was done with, 0 if there was none. handle takes lines,
// which are valid until it returns; after an error it is given the same lines again.
//
// Lines stay in the pipe until handle has taken them. Should this process end before
// that, the next reader of the pipe finds them there; those that were taken just
// before come once more. A pipe that an incomplete line fills is made larger; where
// that is not allowed the line comes in pieces that are marked as truncated.
//
// What is not a pipe, or where tee(2) and splice(2) are not allowed, is read before
// it is handed over, see Peeks.
func NewReader(pipe *os.File, after uint64, handle func(context.Context, []Line) error) (*Reader, error) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &Reader{
		pipe: pipe, conn: conn, handle: handle, max: MaxLine,
		shortestPause: shortestPause, longestPause: longestPause,
		done: make(chan struct{}),
	}
	r.lookFunc, r.settleFunc = r.lookAt, r.settleAt
	r.taken.Store(after)
	r.detached, r.detach = context.WithCancel(context.Background())
	if r.source, err = newSource(conn); err != nil {
		return nil, err
	}
	return r, nil
}

// Peeks reports whether lines stay in the pipe until they are taken. Where they
// cannot, those that were read but not taken are lost with the process.
func (r *Reader) Peeks() bool {
	_, peeks := r.source.(pipeSource)
	return peeks
}

// Taken is the Seq of the last line that is done with, the after of the next reader.
func (r *Reader) Taken() uint64 { return r.taken.Load() }

// Run reads until the last writer is gone, until Finish was called and the pipe is
// empty, or until Detach. Once ctx has ended lines are only counted. It closes the
// pipe and returns how many lines nobody took and nobody will, and what ended it too
// early. It must be called once.
func (r *Reader) Run(ctx context.Context) (lost int, err error) {
	defer close(r.done)
	defer r.pipe.Close()
	defer context.AfterFunc(ctx, r.Finish)()
	handing, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.detached, cancel)()
	for untaken := 0; untaken < maxUntaken; {
		b, err := r.await()
		if err != nil || b == nil {
			return lost + r.source.abandon(), err
		}
		if !r.deliver(handing, b.lines) {
			if r.detached.Err() != nil {
				b.lines, b.used = nil, 0
			}
			lost += len(b.lines)
			untaken += b.used
		}
		if err := r.settle(); err != nil {
			return lost + r.source.abandon(), err
		}
	}
	return lost, nil
}

// maxUntaken bounds the bytes that are read after ctx has ended: a pipe holds no more,
// and a writer that still lives would fill it for ever.
const maxUntaken = 2 << 20

// Finish tells that the writer is gone: what is in the pipe is still read, but
// nothing is waited for, even if some stranger holds the pipe open.
func (r *Reader) Finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
	// A deadline in the past ends the wait of Run, and does not matter to its reads.
	_ = r.pipe.SetReadDeadline(time.Unix(1, 0))
}

// Detach ends Run and leaves in the pipe whatever was not taken, an unfinished line
// included, for the next reader; a call of handle that is under way is cancelled. It
// returns when this reader reads no more and has closed the pipe. Run must have been
// called or be about to be.
func (r *Reader) Detach() {
	r.detach()
	r.Finish()
	<-r.done
}

// Blocking reports whether the writer is held up by the taker: lines wait to be
// taken, and the pipe has no room for one more write of a page.
func (r *Reader) Blocking() bool {
	if !r.handing.Load() {
		return false
	}
	var full bool
	_ = r.conn.Control(func(fd uintptr) { full = r.source.full(int(fd)) })
	return full
}

// The kernel announces the end of every write, and the beginning of one to an empty
// pipe. A long write that finds an unfinished line there, fills the pipe and waits is
// not announced; so unfinished lines are looked at again, by and by less often.
const (
	shortestPause = time.Millisecond
	longestPause  = time.Second
)

// await waits for lines. Without any the stream has ended or the reader is detached.
func (r *Reader) await() (*batch, error) {
	r.next, r.err = nil, nil
	for r.detached.Err() == nil {
		if r.last = r.arm(); r.last {
			err := r.conn.Control(func(fd uintptr) { r.lookAt(fd) })
			return r.next, errors.Join(err, r.err)
		}
		err := r.conn.Read(r.lookFunc)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.pause = min(2*r.pause, r.longestPause)
		case err != nil || r.err != nil || r.next != nil || r.ended:
			return r.next, errors.Join(err, r.err)
		}
	}
	return nil, nil
}

// arm sets when an unfinished line is looked at again, and reports whether Finish
// was called.
func (r *Reader) arm() (finished bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.finished:
		return true
	case r.known > 0:
		r.armed = r.pause
		_ = r.pipe.SetReadDeadline(time.Now().Add(r.pause))
	case r.armed > 0:
		r.armed = 0
		_ = r.pipe.SetReadDeadline(time.Time{})
	}
	return false
}

// lookAt peeks until it has lines, which it leaves in r.next, or knows that there will
// be none, which it leaves in r.ended, or the deadline has to be set. It returns false
// if it has to be called again once there is more.
func (r *Reader) lookAt(fd uintptr) bool {
	for {
		b, state, err := r.source.peek(int(fd), r.known, r.last)
		if state == stateIdle && !r.last {
			return r.known > 0 && r.armed != r.pause
		}
		if b == nil {
			r.ended, r.err = true, err
			return true
		}
		r.next, r.pause = b, r.shortestPause
		seq := r.taken.Load() + 1
		if state != stateMore {
			b.cut(tailEnds, r.max, seq)
			return true
		}
		b.cut(tailStays, r.max, seq)
		if len(b.lines) > 0 {
			return true
		}
		if r.source.makeRoom(int(fd), b, r.max) == roomNone {
			b.cut(tailSplits, r.max, seq)
			return true
		}
		// That the last writer is gone does not show in the bytes, so it is looked again.
		if r.settleAt(fd); r.err != nil {
			return true
		}
	}
}

// settle consumes the batch r.next, whose lines are done with, and gives it back.
func (r *Reader) settle() error {
	if err := r.conn.Control(r.settleFunc); err != nil {
		return err
	}
	return r.err
}

func (r *Reader) settleAt(fd uintptr) {
	b := r.next
	r.next = nil
	r.known, r.err = r.source.consume(int(fd), b)
	r.taken.Add(uint64(len(b.lines)))
	b.release()
}

// deliver hands lines over, again and again until they are taken or ctx ends.
func (r *Reader) deliver(ctx context.Context, lines []Line) (taken bool) {
	if len(lines) == 0 {
		return true
	}
	r.handing.Store(true)
	defer r.handing.Store(false)
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for pause := shortest; ctx.Err() == nil; pause = min(2*pause, longest) {
		if r.handle(ctx, lines) == nil {
			return true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return false
}
