// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxStaging bounds the staging pipes of the whole process, and so their
// descriptors. They are in use only during a few calls that do not wait, so that
// whoever finds none soon gets one.
const maxStaging = 8

// staging is a pipe into which the content of another is duplicated. It is empty
// whenever nobody uses it.
type staging struct {
	read, write int
	// size is the capacity, in bytes. It stands for a number of slots, one per page:
	// a write may take a slot for a single byte, and it is the slots that run out.
	size int
}

func newStaging() (*staging, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	size, err := unix.FcntlInt(uintptr(ends[0]), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, errors.Join(err, unix.Close(ends[0]), unix.Close(ends[1]))
	}
	return &staging{read: ends[0], write: ends[1], size: size}, nil
}

// resize sets the capacity. Where it may not grow, it stays as it is.
func (s *staging) resize(size int) {
	if s.size == size {
		return
	}
	if got, err := unix.FcntlInt(uintptr(s.read), unix.F_SETPIPE_SZ, size); err == nil {
		s.size = got
	}
}

// tee duplicates the first bytes of a pipe, at most max, and returns how many. full
// tells that there was no slot for more of them. With nothing to duplicate it is
// EAGAIN, or, if there is no writer any more, 0.
func (s *staging) tee(pipe, max int) (n int, full bool, err error) {
	for {
		var copied int64
		copied, err = unix.Tee(pipe, s.write, max, unix.SPLICE_F_NONBLOCK)
		n = int(copied)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil || n == 0 {
		return 0, false, err
	}
	writable, err := poll(s.write, unix.POLLOUT)
	return n, writable == 0, err
}

// load moves as many bytes into the buffer as fit, which must be there.
func (s *staging) load(buffer []byte) error {
	for len(buffer) > 0 {
		n, err := unix.Read(s.read, buffer)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read a staging pipe: %w", err)
		case n == 0:
			return errors.New("read a staging pipe: it is empty")
		default:
			buffer = buffer[n:]
		}
	}
	return nil
}

// empty throws away what is there.
func (s *staging) empty(null int) {
	for {
		if n, err := unix.Splice(s.read, nil, null, nil, s.size, unix.SPLICE_F_NONBLOCK); err != unix.EINTR && n <= 0 {
			return
		}
	}
}

// stagingPool shares staging pipes among all readers: a thousand silent processes
// need none.
type stagingPool struct {
	mu    sync.Mutex
	freed *sync.Cond
	free  []*staging // guarded by mu
	made  int        // guarded by mu
	null  int        // a descriptor of /dev/null, where bytes are consumed to; set with the first staging pipe
}

func newStagingPool() *stagingPool {
	p := &stagingPool{}
	p.freed = sync.NewCond(&p.mu)
	return p
}

// prepare makes the first staging pipe, so that take always gets one, and finds
// out whether this kernel, and a filter of system calls, allow what peeking needs.
func (p *stagingPool) prepare() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made > 0 {
		return nil
	}
	null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	s, err := newStaging()
	if err != nil {
		return errors.Join(fmt.Errorf("make a staging pipe: %w", err), unix.Close(null))
	}
	if err = try(s, null); err != nil {
		return errors.Join(err, unix.Close(null), unix.Close(s.read), unix.Close(s.write))
	}
	p.null, p.made, p.free = null, 1, append(p.free, s)
	return nil
}

// try consumes a byte as a reader does.
func try(s *staging, null int) error {
	if _, err := unix.Write(s.write, []byte{0}); err != nil {
		return fmt.Errorf("write to a staging pipe: %w", err)
	}
	if err := consume(s.read, null, 1); err != nil {
		return err
	}
	_, err := poll(s.write, unix.POLLOUT)
	return err
}

// take lends a staging pipe of the size, or of a smaller one if it may not be had.
func (p *stagingPool) take(size int) *staging {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if s := p.pickLocked(size); s != nil {
			s.resize(size)
			return s
		}
		p.freed.Wait()
	}
}

// pickLocked prefers to make one over changing the size of another, which cannot
// always be undone.
func (p *stagingPool) pickLocked(size int) *staging {
	last := len(p.free) - 1
	for i := last; i >= 0; i-- {
		if s := p.free[i]; s.size == size {
			p.free[i] = p.free[last]
			p.free = p.free[:last]
			return s
		}
	}
	if p.made < maxStaging {
		if s, err := newStaging(); err == nil {
			p.made++
			return s
		}
	}
	if last < 0 {
		return nil
	}
	s := p.free[last]
	p.free = p.free[:last]
	return s
}

// give takes an empty staging pipe back.
func (p *stagingPool) give(s *staging) {
	p.mu.Lock()
	p.free = append(p.free, s)
	p.mu.Unlock()
	p.freed.Signal()
}

// consume throws away the first n bytes of a pipe, which must be there. It splices:
// of a pipe in packet mode a read would take the rest of a packet with it.
func consume(pipe, null, n int) error {
	for n > 0 {
		done, err := unix.Splice(pipe, nil, null, nil, n, unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("consume what was taken: %w", err)
		case done == 0:
			return errors.New("consume what was taken: it is gone, somebody else reads this pipe")
		default:
			n -= int(done)
		}
	}
	return nil
}

// poll returns which of the events, or of errors and hang-up, hold now.
func poll(fd int, events int16) (int16, error) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(fds[:], 0); err != unix.EINTR {
			return fds[0].Revents, err
		}
	}
}
