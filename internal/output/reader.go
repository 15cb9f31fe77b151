// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
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
	set    Settings
	peek   int // how many bytes are looked at at once
	// How long an unfinished line is waited for before it is looked at again.
	shortestPause, longestPause time.Duration

	// taken is the Seq of the last line that is done with.
	taken atomic.Uint64
	// handing is true while handle has lines that it has not taken.
	handing atomic.Bool

	mu       sync.Mutex
	finished bool // guarded by mu, as is the pipe's deadline

	exit exitMark
	hold holdup

	detached context.Context
	detach   context.CancelFunc
	done     chan struct{} // closed when Run has returned

	// What follows belongs to Run.

	pace pace
	// known counts the bytes of an unfinished line that the stream begins with, see
	// source.
	known int
	// pause is the present one, armed that which the pipe's deadline was set for, 0
	// without a deadline.
	pause, armed time.Duration
	// last: what the stream holds now is all of it.
	last bool
	// held: among the known bytes are lines that more may belong to, until due. dueArmed:
	// the pipe's deadline is not after that.
	held, dueArmed bool
	due            time.Time
	// What lookAt found.
	next  *batch
	ended bool
	err   error
	// The methods lookAt and settleAt, as values: to make them anew is to allocate.
	lookFunc   func(fd uintptr) bool
	settleFunc func(fd uintptr)
}

// NewReader returns a reader of the read end of a pipe, which must be non-blocking
// and becomes the reader's to close. handle takes lines, which are valid until it
// returns; after an error it is given the same lines again. Its context ends when
// nobody waits for it any more.
//
// Lines stay in the pipe until handle has taken them. Should this process end before
// that, the next reader of the pipe finds them there; those that were taken just
// before come once more. A pipe that an incomplete line fills is made larger; where
// that is not allowed the line comes in pieces that are marked as truncated.
//
// What is not a pipe, or where tee(2) and splice(2) are not allowed, is read before
// it is handed over, see Peeks.
func NewReader(pipe *os.File, set Settings, handle func(context.Context, []Line) error) (*Reader, error) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return nil, err
	}
	set.MaxLine = cmp.Or(set.MaxLine, MaxLine)
	r := &Reader{
		pipe: pipe, conn: conn, handle: handle, set: set, peek: set.MaxLine + peekMargin,
		shortestPause: shortestPause, longestPause: longestPause,
		done: make(chan struct{}),
	}
	r.lookFunc, r.settleFunc = r.lookAt, r.settleAt
	r.taken.Store(set.After)
	r.detached, r.detach = context.WithCancel(context.Background())
	r.hold.init(set.Wait, r.isFull)
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

// Taken is the Seq of the last line that is done with, Settings.After of the next reader.
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
		read := b.used
		switch r.deliver(handing, b.lines) {
		case deliveryDropped:
			if r.set.Dropped != nil {
				r.set.Dropped(b.lines)
			}
		case deliveryEnded:
			if r.detached.Err() != nil {
				b.lines, b.used = nil, 0
			}
			lost += len(b.lines)
			untaken += b.used
		case deliveryTaken:
		}
		if err := r.settle(); err != nil {
			return lost + r.source.abandon(), err
		}
		if r.pace.lingers(read, time.Now()) {
			time.Sleep(lingerFor)
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
	return r.handing.Load() && r.isFull()
}

func (r *Reader) isFull() (full bool) {
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
		r.last = r.arm()
		var err error
		if r.last || r.overdue() {
			err = r.conn.Control(func(fd uintptr) { r.lookAt(fd) })
		} else {
			err = r.conn.Read(r.lookFunc)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.pause = min(2*r.pause, r.longestPause)
		case r.last || err != nil || r.err != nil || r.next != nil || r.ended:
			return r.next, errors.Join(err, r.err)
		}
	}
	return nil, nil
}

// overdue: what was held back has waited long enough.
func (r *Reader) overdue() bool { return r.held && !time.Now().Before(r.due) }

// arm sets when what is waited for is looked at again, and reports whether Finish was
// called.
func (r *Reader) arm() (finished bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.finished:
		return true
	case r.known > 0 || r.held:
		r.armed, r.dueArmed = r.pause, r.held
		deadline := time.Now().Add(r.pause)
		if r.held && r.due.Before(deadline) {
			deadline = r.due
		}
		_ = r.pipe.SetReadDeadline(deadline)
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
		overdue := r.overdue()
		b, state, err := r.source.peek(int(fd), r.peek, r.known, r.last || overdue)
		switch {
		case b != nil:
		case state != stateIdle || r.last:
			r.ended, r.err = true, err
			return true
		case overdue: // somebody else reads this pipe
			r.held = false
			continue
		default:
			return r.known > 0 && r.armed != r.pause || r.held && !r.dueArmed
		}
		r.next, r.pause = b, r.shortestPause
		switch {
		case state == stateEnded || state == stateIdle && r.last:
			r.cut(tailEnds)
			return true
		case overdue:
			r.cut(tailWaited)
		default:
			r.cut(tailStays)
		}
		if len(b.lines) > 0 {
			return true
		}
		if r.source.makeRoom(int(fd), b, r.set.MaxLine) == roomNone {
			r.cut(tailSplits)
			return true
		}
		// That the last writer is gone does not show in the bytes, so it is looked again.
		if r.settleAt(fd); r.err != nil {
			return true
		}
	}
}

// cut finds the lines of r.next.
func (r *Reader) cut(tail tail) {
	b, now := r.next, time.Now()
	b.cutting = cut(b.lines[:0], b.buffer[:b.n], tail, r.set.MaxLine, r.set.Join, r.taken.Load()+1, now)
	if b.held && (!r.held || b.used > 0) {
		r.due, r.dueArmed = now.Add(r.set.JoinTimeout), false
	}
	r.held = b.held
	if r.set.Plain {
		b.makePlain()
	}
	r.exit.mark(b.lines)
}

// makePlain takes escape sequences out of the lines.
func (b *batch) makePlain() {
	b.plain = slices.Grow(b.plain[:0], b.n) // so that the texts stay where they are
	for i := range b.lines {
		if text := b.lines[i].Text; bytes.IndexByte(text, escape) >= 0 {
			from := len(b.plain)
			b.plain = appendPlain(b.plain, text)
			b.lines[i].Text = b.plain[from:]
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
	r.exit.consume(b.buffer[:b.used], func() {
		r.known, r.err = r.source.consume(int(fd), b)
	})
	r.taken.Add(uint64(len(b.lines)))
	b.release()
}
