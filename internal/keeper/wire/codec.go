// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"time"
)

// Encoder builds a payload. Its zero value is ready.
type Encoder struct{ Buf []byte }

// maxUintBytes is the length of the greatest number: seven bits a byte, the lowest
// first, the eighth says that more follow.
const maxUintBytes = 10

func appendUint(b []byte, n uint64) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// Uint appends a number, in fewer bytes the smaller it is.
func (e *Encoder) Uint(n uint64) { e.Buf = appendUint(e.Buf, n) }

// Int appends a number that may be negative.
func (e *Encoder) Int(n int64) { e.Uint(uint64(n)<<1 ^ uint64(n>>63)) }

// Bool appends a truth value.
func (e *Encoder) Bool(b bool) {
	var n byte
	if b {
		n = 1
	}
	e.Buf = append(e.Buf, n)
}

// Bytes appends data and its length.
func (e *Encoder) Bytes(b []byte) {
	e.Uint(uint64(len(b)))
	e.Buf = append(e.Buf, b...)
}

// String appends text and its length.
func (e *Encoder) String(s string) {
	e.Uint(uint64(len(s)))
	e.Buf = append(e.Buf, s...)
}

// Strings appends a list of texts.
func (e *Encoder) Strings(list []string) {
	e.Uint(uint64(len(list)))
	for _, s := range list {
		e.String(s)
	}
}

// ErrMalformed is the error of a payload that does not hold what it should.
var ErrMalformed = errors.New("malformed message")

// Decoder takes a payload apart. After the first thing that is not there everything
// is zero, and Err says so: so a caller asks once, at the end.
type Decoder struct {
	buf []byte
	bad bool
}

// NewDecoder returns a decoder of a payload, which it does not change.
func NewDecoder(payload []byte) *Decoder { return &Decoder{buf: payload} }

func (d *Decoder) fail() {
	d.buf, d.bad = nil, true
}

// Uint takes a number.
func (d *Decoder) Uint() uint64 {
	var n uint64
	for i, b := range d.buf {
		if i == maxUintBytes-1 && b > 1 {
			break // over 64 bits
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			d.buf = d.buf[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

// Int takes a number that may be negative.
func (d *Decoder) Int() int64 {
	n := d.Uint()
	return int64(n>>1) ^ -int64(n&1)
}

// Duration takes an Int of nanoseconds.
func (d *Decoder) Duration() time.Duration { return time.Duration(d.Int()) }

// Byte takes a Uint that is less than limit.
func (d *Decoder) Byte(limit uint8) uint8 {
	n := d.Uint()
	if n >= uint64(limit) {
		d.fail()
		return 0
	}
	return uint8(n)
}

// Bool takes a truth value.
func (d *Decoder) Bool() bool { return d.Byte(2) == 1 }

// Bytes takes data. It is part of the payload, not a copy.
func (d *Decoder) Bytes() []byte {
	n := d.Uint()
	if n > uint64(len(d.buf)) {
		d.fail()
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

// String takes text.
func (d *Decoder) String() string { return string(d.Bytes()) }

// Count takes the length of a list, each element of which takes at least one byte:
// so no more memory can be asked for than what has been sent.
func (d *Decoder) Count() int {
	n := d.Uint()
	if n > uint64(len(d.buf)) {
		d.fail()
		return 0
	}
	return int(n)
}

// Strings takes a list of texts, which share one allocation.
func (d *Decoder) Strings() []string {
	n := d.Count()
	if n == 0 {
		return nil
	}
	begin := d.buf
	ends := *d
	for range n {
		ends.Bytes()
	}
	if ends.bad {
		d.fail()
		return nil
	}
	text := string(begin[:len(begin)-len(ends.buf)])
	list := make([]string, n)
	for i := range list {
		length := len(d.Bytes())
		at := len(begin) - len(d.buf)
		list[i] = text[at-length : at]
	}
	return list
}

// More reports whether something is left.
func (d *Decoder) More() bool { return len(d.buf) > 0 }

// Err returns ErrMalformed if something was not there, or if something is left.
func (d *Decoder) Err() error {
	if d.bad || len(d.buf) > 0 {
		return ErrMalformed
	}
	return nil
}
