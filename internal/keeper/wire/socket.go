// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Calls are the system calls of a Socket, so that a test can let them fail.
type Calls struct {
	// Send is sendmsg(2) and Receive recvmsg(2), both with the descriptor, the data and
	// the control message.
	Send    func(fd int, data, control []byte) (n int, err error)
	Receive func(fd int, data, control []byte) (n, controlN, flags int, err error)
}

// Kernel are the real ones.
func Kernel() Calls {
	return Calls{
		Send: func(fd int, data, control []byte) (int, error) {
			return syscall.SendmsgN(fd, data, control, nil, syscall.MSG_NOSIGNAL)
		},
		Receive: func(fd int, data, control []byte) (n, controlN, flags int, err error) {
			n, controlN, flags, _, err = syscall.Recvmsg(fd, data, control, syscall.MSG_CMSG_CLOEXEC)
			return n, controlN, flags, err
		},
	}
}

// Socket is one end of a connection. One goroutine may Receive while others Send.
type Socket struct {
	file  *os.File
	raw   syscall.RawConn
	calls Calls

	in      []byte // what is received and not yet returned is in[start:end]
	start   int
	end     int
	batches []batch // of descriptors, in the order of their frames
	control []byte

	out sender
}

// batch are the descriptors of one frame.
type batch struct {
	fds       []int
	truncated bool
}

// bufferSize is enough for nearly every frame. Those that are longer get a buffer of
// their own.
const bufferSize = 16 << 10

// maxBatches is how many batches of descriptors may have come in for frames that are
// not complete: that of the next frame and, since a receive goes on until the first
// data with another batch, that of the one after it.
const maxBatches = 2

// NewSocket makes a Socket of a connected stream socket, which it owns from then on.
func NewSocket(fd int, calls Calls) (*Socket, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, os.NewSyscallError("socket", err)
	}
	s := &Socket{
		file: file, raw: raw, calls: calls,
		in:      make([]byte, bufferSize),
		control: make([]byte, syscall.CmsgSpace(4*MaxDescriptors)),
	}
	s.out.init(s)
	return s, nil
}

// Control calls f with the descriptor.
func (s *Socket) Control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Close closes the socket. A Receive or Send that waits returns an error. What was
// received and not returned is closed by the goroutine that receives, when Receive
// has returned an error, or by Close if no goroutine receives.
func (s *Socket) Close() error { return s.file.Close() }

// EndInput makes Receive return io.EOF once everything that has come in is read.
func (s *Socket) EndInput() {
	_ = s.Control(func(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_RD) })
}

// SetReadDeadline bounds the wait of Receive; the zero time is no bound.
func (s *Socket) SetReadDeadline(at time.Time) { _ = s.file.SetReadDeadline(at) }

// Waiting reports whether something has come in that Receive has not returned.
func (s *Socket) Waiting() bool {
	if s.end > s.start {
		return true
	}
	var n int32
	_ = s.Control(func(fd int) error {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
		return nil
	})
	return n > 0
}

// Receive returns the next frame, whose payload is valid until the next call. The
// error is io.EOF if the peer has ended between two frames, and io.ErrUnexpectedEOF
// within one, which is dropped. After an error the socket is of no use.
func (s *Socket) Receive() (Frame, error) {
	f, err := s.receive()
	if err != nil {
		for _, b := range s.batches {
			closeAll(b.fds)
		}
		s.batches = nil
	}
	return f, err
}

func (s *Socket) receive() (Frame, error) {
	if err := s.fill(HeaderSize); err != nil {
		return Frame{}, err
	}
	h, err := parseHeader(s.in[s.start:])
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: h.kind}
	if size := HeaderSize + int(h.length); size <= len(s.in) {
		if err := s.fill(size); err != nil {
			return Frame{}, within(err)
		}
		f.Payload = s.in[s.start+HeaderSize : s.start+size]
		s.start += size
	} else if f.Payload, err = s.long(int(h.length)); err != nil {
		return Frame{}, within(err)
	}
	if h.fds > 0 {
		if len(s.batches) == 0 {
			return Frame{}, errors.New("a frame without its descriptors")
		}
		b := s.batches[0]
		s.batches = s.batches[1:]
		if f.FDs = b.fds; b.truncated || len(b.fds) != int(h.fds) {
			closeAll(b.fds)
			f.FDs, f.Truncated = nil, true
		}
	}
	return f, nil
}

// fill reads until size bytes are in the buffer, which has room for them.
func (s *Socket) fill(size int) error {
	if s.start == s.end {
		s.start, s.end = 0, 0
	}
	if s.start+size > len(s.in) {
		s.end = copy(s.in, s.in[s.start:s.end])
		s.start = 0
	}
	for s.end-s.start < size {
		n, err := s.read(s.in[s.end:])
		if err != nil {
			if err == io.EOF && s.end > s.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		s.end += n
	}
	return nil
}

// long reads a payload that does not fit into the buffer.
func (s *Socket) long(length int) ([]byte, error) {
	payload := make([]byte, length)
	n := copy(payload, s.in[s.start+HeaderSize:s.end])
	s.start, s.end = 0, 0
	for n < length {
		m, err := s.read(payload[n:])
		if err != nil {
			return nil, err
		}
		n += m
	}
	return payload, nil
}

func within(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// read waits for data and keeps the descriptors that come with it.
func (s *Socket) read(p []byte) (n int, err error) {
	var controlN, flags int
	waitErr := s.raw.Read(func(fd uintptr) bool {
		for {
			n, controlN, flags, err = s.calls.Receive(int(fd), p, s.control)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case err != nil:
		return 0, os.NewSyscallError("recvmsg", err)
	case controlN > 0 || flags&syscall.MSG_CTRUNC != 0:
		b := batch{fds: parseRights(s.control[:controlN]), truncated: flags&syscall.MSG_CTRUNC != 0}
		if s.batches = append(s.batches, b); len(s.batches) > maxBatches {
			return 0, errors.New("descriptors that belong to no frame")
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func parseRights(control []byte) (fds []int) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range messages {
		got, err := syscall.ParseUnixRights(&messages[i])
		if err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}
