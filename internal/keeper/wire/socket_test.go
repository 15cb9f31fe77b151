// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failer is what testing and rapid have in common.
type failer interface {
	require.TestingT
	Cleanup(func())
}

// pair returns two connected sockets; change are the faults of the first.
func pair(t failer, change ...func(*Calls)) (a, b *Socket) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	calls := Kernel()
	for _, c := range change {
		c(&calls)
	}
	a, err = NewSocket(fds[0], calls)
	require.NoError(t, err)
	b, err = NewSocket(fds[1], Kernel())
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// tempFile returns a descriptor of a file that holds a number.
func tempFile(t failer, number int) int {
	fd, err := syscall.Open("/tmp", syscall.O_RDWR|syscall.O_CLOEXEC|0o20200000 /* O_TMPFILE */, 0o600)
	require.NoError(t, err)
	_, err = syscall.Write(fd, []byte(strconv.Itoa(number)))
	require.NoError(t, err)
	return fd
}

func content(t failer, fd int) int {
	buf := make([]byte, 20)
	n, err := syscall.Pread(fd, buf, 0)
	require.NoError(t, err)
	number, err := strconv.Atoi(string(buf[:n]))
	require.NoError(t, err)
	return number
}

func descriptors(t failer) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestSocket_DeliversFramesWholeAndInOrderWithTheirDescriptors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		short := rapid.IntRange(1, 5000).Draw(t, "the most that one send takes")
		busy := rapid.IntRange(1, 10).Draw(t, "one in so many sends finds the socket full")
		sends := 0
		a, b := pair(t, func(c *Calls) {
			send := c.Send
			c.Send = func(fd int, data, control []byte) (int, error) {
				if sends++; sends%busy == 0 && busy > 1 {
					return 0, syscall.EINTR
				}
				return send(fd, data[:min(len(data), short)], control)
			}
		})
		type sent struct {
			payload []byte
			fds     int
		}
		var frames []sent
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			length := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(bufferSize-20, bufferSize+20), rapid.IntRange(0, 200_000)).Draw(t, "length")
			frames = append(frames, sent{bytes.Repeat([]byte{byte(len(frames))}, length), rapid.IntRange(0, 3).Draw(t, "descriptors")})
		}
		post := rapid.Bool().Draw(t, "post")
		var sending sync.WaitGroup
		sending.Go(func() {
			for i, f := range frames {
				frame := Frame{Kind: uint8(i + 1), Payload: f.payload}
				if post && f.fds == 0 {
					assert.NoError(t, a.Post(frame))
					continue
				}
				for j := range f.fds {
					frame.FDs = append(frame.FDs, tempFile(t, 10*i+j))
				}
				assert.NoError(t, a.Send(frame, time.Minute))
				closeAll(frame.FDs)
			}
		})
		for i, f := range frames {
			got, err := b.Receive()
			require.NoError(t, err)
			assert.Equal(t, uint8(i+1), got.Kind)
			assert.True(t, bytes.Equal(f.payload, got.Payload))
			assert.False(t, got.Truncated)
			require.Len(t, got.FDs, f.fds)
			for j, fd := range got.FDs {
				assert.Equal(t, 10*i+j, content(t, fd))
			}
			closeAll(got.FDs)
		}
		sending.Wait()
		require.NoError(t, a.Close())
		_, err := b.Receive()
		assert.Equal(t, io.EOF, err)
	})
}

func TestSocket_PostDoesNotWaitAndKeepsTheOrder(t *testing.T) {
	a, b := pair(t)
	const frames = 2000
	for i := range frames {
		require.NoError(t, a.Post(Frame{Kind: 1, Payload: bytes.Repeat([]byte{byte(i)}, 1000)}))
	}
	a.out.mu.Lock()
	assert.NotEmpty(t, a.out.queue, "the test is to fill the socket")
	a.out.mu.Unlock()
	for i := range frames {
		f, err := b.Receive()
		require.NoError(t, err)
		require.Equal(t, byte(i), f.Payload[0])
	}
}

func TestSocket_SendGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	a, b := pair(t)
	var err error
	for err == nil {
		err = a.Send(Frame{Kind: 1, Payload: make([]byte, 100_000)}, time.Millisecond)
	}
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.ErrorIs(t, a.Post(Frame{Kind: 1}), os.ErrDeadlineExceeded, "part of a frame was sent: nothing can follow it")
	for err = nil; err == nil; {
		_, err = b.Receive()
	}
	assert.Equal(t, io.ErrUnexpectedEOF, err, "the peer drops the part")
}

func TestSocket_ATornFrameIsDroppedAsAWhole(t *testing.T) {
	for cut := 1; cut < HeaderSize+100; cut += 7 {
		a, b := pair(t)
		frame, err := appendHeader(nil, Frame{Kind: 5, Payload: make([]byte, 100)})
		require.NoError(t, err)
		whole := append(frame, make([]byte, 100)...)
		require.NoError(t, a.Control(func(fd int) error {
			_, err := syscall.Write(fd, append(bytes.Clone(whole), whole[:cut]...))
			return err
		}))
		require.NoError(t, a.Close())
		_, err = b.Receive()
		require.NoError(t, err)
		_, err = b.Receive()
		assert.Equal(t, io.ErrUnexpectedEOF, err)
	}
}

func TestSocket_EndInputStillGivesWhatHasComeIn(t *testing.T) {
	a, b := pair(t)
	for i := range 3 {
		require.NoError(t, a.Post(Frame{Kind: uint8(i + 1)}))
	}
	b.EndInput()
	for i := range 3 {
		f, err := b.Receive()
		require.NoError(t, err)
		assert.Equal(t, uint8(i+1), f.Kind)
	}
	_, err := b.Receive()
	assert.Equal(t, io.EOF, err)
}

func TestSocket_RefusesWhatIsTooLongWithoutSendingAnyOfIt(t *testing.T) {
	a, b := pair(t)
	assert.ErrorIs(t, a.Send(Frame{Payload: make([]byte, MaxPayload+1)}, time.Second), ErrTooLong)
	assert.Error(t, a.Send(Frame{FDs: make([]int, MaxDescriptors+1)}, time.Second))
	require.NoError(t, a.Post(Frame{Kind: 9}))
	f, err := b.Receive()
	require.NoError(t, err)
	assert.Equal(t, uint8(9), f.Kind)
}

func TestSocket_AFailedSendIsTheEndForBothSides(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET, syscall.ENOMEM} {
		a, b := pair(t, func(c *Calls) {
			c.Send = func(int, []byte, []byte) (int, error) { return 0, errno }
		})
		assert.ErrorIs(t, a.Post(Frame{Kind: 1}), errno)
		assert.ErrorIs(t, a.Send(Frame{Kind: 1}, time.Second), errno)
		_, err := b.Receive()
		assert.Equal(t, io.EOF, err)
	}
}

func TestSocket_WaitsWhileTooManyDescriptorsAreInFlight(t *testing.T) {
	refusals := 3
	a, b := pair(t, func(c *Calls) {
		send := c.Send
		c.Send = func(fd int, data, control []byte) (int, error) {
			if len(control) > 0 && refusals > 0 {
				refusals--
				return 0, syscall.ETOOMANYREFS
			}
			return send(fd, data, control)
		}
	})
	fd := tempFile(t, 42)
	defer syscall.Close(fd)
	require.NoError(t, a.Send(Frame{Kind: 1, FDs: []int{fd}}, time.Minute))
	f, err := b.Receive()
	require.NoError(t, err)
	require.Len(t, f.FDs, 1)
	assert.Equal(t, 42, content(t, f.FDs[0]))
	closeAll(f.FDs)
}

func TestSocket_SaysWhichFramesDescriptorsWereLost(t *testing.T) {
	before := descriptors(t)
	b, a := pair(t, func(c *Calls) {
		receive := c.Receive
		batches := 0
		// The second and the third batch do not fit into the table of descriptors: the
		// kernel installs what fits, and sets the flag.
		c.Receive = func(fd int, data, control []byte) (n, controlN, flags int, err error) {
			n, controlN, flags, err = receive(fd, data, control)
			if err != nil || controlN == 0 {
				return n, controlN, flags, err
			}
			switch batches++; batches {
			case 2:
				closeAll(parseRights(control[:controlN])[1:])
				controlN = syscall.CmsgSpace(4)
				message := syscall.UnixRights(parseRights(control[:syscall.CmsgSpace(8)])[0])
				copy(control, message)
				flags |= syscall.MSG_CTRUNC
			case 3:
				closeAll(parseRights(control[:controlN]))
				controlN, flags = 0, flags|syscall.MSG_CTRUNC
			}
			return n, controlN, flags, err
		}
	})
	fds := []int{tempFile(t, 0), tempFile(t, 1)}
	for i := range 4 {
		require.NoError(t, a.Send(Frame{Kind: uint8(i + 1), FDs: fds}, time.Minute))
	}
	closeAll(fds)
	for i := range 4 {
		f, err := b.Receive()
		require.NoError(t, err)
		assert.Equal(t, uint8(i+1), f.Kind)
		lost := i == 1 || i == 2
		assert.Equal(t, lost, f.Truncated, i)
		if !lost {
			require.Len(t, f.FDs, 2)
			assert.Equal(t, 1, content(t, f.FDs[1]))
		}
		closeAll(f.FDs)
	}
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	assert.Equal(t, before, descriptors(t))
}

func TestSocket_DescriptorsThatNobodyAskedForAreClosed(t *testing.T) {
	before := descriptors(t)
	a, b := pair(t)
	fd := tempFile(t, 0)
	require.NoError(t, a.Control(func(socket int) error {
		header, err := appendHeader(nil, Frame{Kind: 1})
		for range 4 {
			if err == nil {
				err = syscall.Sendmsg(socket, header, syscall.UnixRights(fd), nil, 0)
			}
		}
		return err
	}))
	require.NoError(t, syscall.Close(fd))
	var err error
	for range 4 {
		if _, err = b.Receive(); err != nil {
			break
		}
	}
	assert.ErrorContains(t, err, "descriptors that belong to no frame")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	assert.Equal(t, before, descriptors(t))
}
