// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// sender puts frames into a socket, whole and in the order of its calls. A frame
// that does not fit waits in a queue, which a goroutine works off for as long as there
// is one.
type sender struct {
	socket *Socket

	mu      sync.Mutex
	queue   []parcel   // guarded by mu
	queued  int        // guarded by mu; bytes in queue
	sent    uint64     // guarded by mu; parcels that are in the socket
	posted  uint64     // guarded by mu; parcels taken
	err     error      // guarded by mu; after it nothing is sent
	moved   *sync.Cond // sent or err have changed
	scratch []byte     // guarded by mu
}

// parcel is what is left to be sent of a frame.
type parcel struct {
	data    []byte
	control []byte
}

func (o *sender) init(s *Socket) {
	o.socket = s
	o.moved = sync.NewCond(&o.mu)
}

// Post sends a frame without waiting: what the socket does not take at once is sent
// later. The error says that the connection is broken or the frame too long. A frame
// with descriptors is sent with Send, since they must stay open until it is sent.
func (s *Socket) Post(f Frame) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	_, err := s.out.post(f)
	return err
}

// Send sends a frame and returns when all of it is in the socket. If that takes
// longer than timeout the connection is broken: part of the frame may have been sent.
// 0 is no limit.
func (s *Socket) Send(f Frame, timeout time.Duration) error {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	number, err := o.post(f)
	if err != nil || o.sent >= number {
		return err
	}
	if timeout > 0 {
		timer := time.AfterFunc(timeout, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.sent < number {
				o.fail(os.ErrDeadlineExceeded)
			}
		})
		defer timer.Stop()
	}
	for o.sent < number {
		if o.err != nil {
			return o.err
		}
		o.moved.Wait()
	}
	return nil
}

// Unsent returns how many bytes wait to be sent.
func (s *Socket) Unsent() int {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.queued
}

// post returns the number of the frame: it is sent when sent has reached it.
func (o *sender) post(f Frame) (number uint64, err error) {
	if o.err != nil {
		return 0, o.err
	}
	data, err := appendHeader(o.scratch[:0], f)
	if err != nil {
		return 0, err
	}
	data = append(data, f.Payload...)
	if o.scratch = data; cap(data) > bufferSize {
		o.scratch = nil
	}
	var control []byte
	if len(f.FDs) > 0 {
		control = syscall.UnixRights(f.FDs...)
	}
	o.posted++
	if len(o.queue) > 0 {
		o.enqueue(parcel{append([]byte(nil), data...), control})
		return o.posted, nil
	}
	n, err := o.try(data, control)
	switch {
	case err != nil:
		return 0, err
	case n == len(data):
		o.sent++
	default:
		if n > 0 {
			control = nil // went with the first byte
		}
		o.enqueue(parcel{append([]byte(nil), data[n:]...), control})
		go o.flush()
	}
	return o.posted, nil
}

func (o *sender) enqueue(p parcel) {
	o.queue = append(o.queue, p)
	o.queued += len(p.data)
}

// try sends what the socket takes at once.
func (o *sender) try(data, control []byte) (n int, err error) {
	var callErr error
	err = o.socket.raw.Control(func(fd uintptr) { n, callErr = o.write(int(fd), data, control) })
	if err == nil {
		err = callErr
	}
	if err == errBusy {
		return n, nil
	}
	if err != nil {
		o.fail(err)
	}
	return n, err
}

// write sends until the socket takes no more.
func (o *sender) write(fd int, data, control []byte) (sent int, err error) {
	for sent < len(data) {
		n, err := o.socket.calls.Send(fd, data[sent:], control)
		switch err {
		case nil:
			sent += n
			control = nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return sent, nil
		case errBusy:
			return sent, errBusy
		default:
			return sent, os.NewSyscallError("sendmsg", err)
		}
	}
	return sent, nil
}

// flush sends what is queued, until nothing is.
func (o *sender) flush() {
	for o.flushed() == errBusy {
		time.Sleep(busyPause)
	}
}

// errBusy: the kernel holds as many descriptors in flight as this user may have open.
// Nothing tells when there are fewer.
const (
	errBusy   = syscall.ETOOMANYREFS
	busyPause = 5 * time.Millisecond
)

func (o *sender) flushed() (err error) {
	waitErr := o.socket.raw.Write(func(fd uintptr) bool {
		var done bool
		done, err = o.sendQueue(int(fd))
		return done
	})
	if waitErr != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.fail(waitErr)
	}
	return err
}

// sendQueue sends until nothing is queued, or the socket takes no more: then it is
// not done.
func (o *sender) sendQueue(fd int) (done bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && len(o.queue) > 0 {
		p := &o.queue[0]
		n, err := o.write(fd, p.data, p.control)
		o.queued -= n
		if p.data = p.data[n:]; n > 0 {
			p.control = nil
		}
		switch {
		case err == errBusy:
			return true, errBusy
		case err != nil:
			o.fail(err)
			return true, nil
		case len(p.data) > 0:
			return false, nil
		}
		o.queue[0] = parcel{}
		o.queue = o.queue[1:]
		o.sent++
		o.moved.Broadcast()
	}
	if len(o.queue) == 0 {
		o.queue = nil
	}
	return true, nil
}

// fail ends the sending for good. The peer sees the end of the stream, within a
// frame perhaps, and so does Receive: the connection is of no use to either side.
func (o *sender) fail(err error) {
	if o.err == nil {
		o.err = err
		o.queue, o.queued = nil, 0
		_ = o.socket.Control(func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RDWR) })
		o.moved.Broadcast()
	}
}
