// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecoder_TakesWhatTheEncoderPut(t *testing.T) {
	var e Encoder
	e.Uint(1<<64 - 1)
	e.Int(-5)
	e.Bool(true)
	e.String("text")
	e.Bytes(nil)
	e.Strings([]string{"a", ""})
	e.Int(int64(-time.Second))
	d := NewDecoder(e.Buf)
	assert.Equal(t, uint64(1<<64-1), d.Uint())
	assert.Equal(t, int64(-5), d.Int())
	assert.True(t, d.Bool())
	assert.Equal(t, "text", d.String())
	assert.Empty(t, d.Bytes())
	assert.Equal(t, []string{"a", ""}, d.Strings())
	assert.Equal(t, -time.Second, d.Duration())
	assert.NoError(t, d.Err())

	for cut := range len(e.Buf) {
		d := NewDecoder(e.Buf[:cut])
		_, _, _, _, _, _, _ = d.Uint(), d.Int(), d.Bool(), d.String(), d.Bytes(), d.Strings(), d.Duration()
		assert.ErrorIs(t, d.Err(), ErrMalformed, "cut at %d", cut)
	}
	assert.ErrorIs(t, NewDecoder([]byte{1}).Err(), ErrMalformed, "something is left")
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{0, 1, 2, 3, 4, 5, 6})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, []byte{5, 4, 3})
	f.Fuzz(func(t *testing.T, payload, takes []byte) {
		d := NewDecoder(payload)
		for _, take := range takes {
			switch take % 7 {
			case 0:
				d.Uint()
			case 1:
				d.Int()
			case 2:
				d.Bool()
			case 3:
				assert.LessOrEqual(t, len(d.Bytes()), len(payload))
			case 4:
				assert.LessOrEqual(t, len(d.Strings()), len(payload))
			case 5:
				assert.LessOrEqual(t, d.Count(), len(payload))
			case 6:
				assert.Less(t, d.Byte(9), uint8(9))
			}
		}
	})
}

func FuzzSocket(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0, 2, 1, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 50_000 {
			return
		}
		a, b := pair(t)
		require.NoError(t, a.Control(func(fd int) error {
			_, err := syscall.Write(fd, stream)
			return err
		}))
		require.NoError(t, a.Close())
		total := 0
		for {
			f, err := b.Receive()
			if err != nil {
				break
			}
			assert.Empty(t, f.FDs)
			total += HeaderSize + len(f.Payload)
		}
		assert.LessOrEqual(t, total, len(stream))
	})
}
