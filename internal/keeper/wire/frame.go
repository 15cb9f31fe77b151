// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire carries frames with descriptors over a stream Unix socket. It knows
// nothing of what they mean.
//
// A frame is a header of HeaderSize bytes and a payload:
//
//	0  uint32  length of the payload, little endian
//	4  uint8   kind
//	5  uint8   number of descriptors
//	6  uint16  0
//
// Its descriptors travel as one SCM_RIGHTS message with the first byte of the
// header. So the n-th such message belongs to the n-th frame with descriptors,
// also if the kernel could not deliver all of it.
package wire

import (
	"errors"
)

const (
	HeaderSize = 8
	// MaxPayload is the greatest payload. It bounds the memory that a peer can ask for.
	MaxPayload = 8 << 20
	// MaxDescriptors is how many descriptors a frame may have.
	MaxDescriptors = 16
)

// ErrTooLong is what Send returns for a payload over MaxPayload; nothing was sent.
var ErrTooLong = errors.New("the message is longer than 8 MiB")

var errTooManyDescriptors = errors.New("the message has more than 16 descriptors")

// Frame is one message.
type Frame struct {
	Kind    uint8
	Payload []byte
	// FDs are its descriptors. Those of a received frame are the receiver's to close.
	FDs []int
	// Truncated, of a received frame: it had descriptors that could not be received;
	// FDs is nil.
	Truncated bool
}

// header is a decoded frame header.
type header struct {
	length uint32
	kind   uint8
	fds    uint8
}

func appendHeader(b []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > MaxPayload {
		return b, ErrTooLong
	}
	if len(f.FDs) > MaxDescriptors {
		return b, errTooManyDescriptors
	}
	n := uint32(len(f.Payload))
	return append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), f.Kind, uint8(len(f.FDs)), 0, 0), nil
}

// parseHeader decodes the first HeaderSize bytes of b.
func parseHeader(b []byte) (header, error) {
	h := header{length: uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24, kind: b[4], fds: b[5]}
	switch {
	case h.length > MaxPayload:
		return h, ErrTooLong
	case h.fds > MaxDescriptors:
		return h, errTooManyDescriptors
	case b[6] != 0 || b[7] != 0:
		return h, errors.New("a frame header that does not end in zeros")
	}
	return h, nil
}
