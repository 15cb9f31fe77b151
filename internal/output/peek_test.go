// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// again returns another descriptor of a pipe's read end, as the keeper has one.
func again(t require.TestingT, read *os.File) *os.File {
	conn, err := read.SyscallConn()
	require.NoError(t, err)
	var dup int
	require.NoError(t, conn.Control(func(fd uintptr) { dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }))
	require.NoError(t, err)
	return os.NewFile(uintptr(dup), "again")
}

func control(t require.TestingT, file *os.File, call func(fd int) (int, error)) int {
	conn, err := file.SyscallConn()
	require.NoError(t, err)
	var got int
	require.NoError(t, conn.Control(func(fd uintptr) { got, err = call(int(fd)) }))
	require.NoError(t, err)
	return got
}

// waiting is how many bytes are in a pipe.
func waiting(t require.TestingT, file *os.File) int {
	return control(t, file, func(fd int) (int, error) {
		n, err := unix.IoctlGetUint32(fd, unix.TIOCINQ)
		return int(n), err
	})
}

func capacity(t require.TestingT, file *os.File) int {
	return control(t, file, func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) })
}

func setCapacity(t require.TestingT, file *os.File, size int) {
	require.Equal(t, size, control(t, file, func(fd int) (int, error) {
		return unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
	}))
}

// watched is a source that counts how often it is asked, and tells how many bytes of
// an unfinished line were known whenever it had nothing more.
type watched struct {
	source
	peeks atomic.Int64
	idle  chan int // holds the last answer that was not asked for
}

func watch(r *Reader) *watched {
	w := &watched{source: r.source, idle: make(chan int, 1)}
	r.source = w
	return w
}

func (w *watched) peek(fd, size, known int, all bool) (*batch, state, error) {
	w.peeks.Add(1)
	b, state, err := w.source.peek(fd, size, known, all)
	if state == stateIdle {
		select {
		case <-w.idle:
		default:
		}
		w.idle <- known
	}
	return b, state, err
}

// awaitIdle returns once the reader waits behind that many bytes, or is about to
// without having seen more.
func (w *watched) awaitIdle(known int) {
	for <-w.idle != known {
	}
}

func TestReader_LeavesLinesInThePipeUntilTheyAreTaken(t *testing.T) {
	read, write := pipe(t)
	keeper := again(t, read)
	defer keeper.Close()
	entered, leave := make(chan struct{}), make(chan struct{})
	_, wait := run(t, t.Context(), read, func([]Line) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	_, err := write.WriteString("one\ntwo\nthr")
	require.NoError(t, err)
	<-entered
	assert.Equal(t, len("one\ntwo\nthr"), waiting(t, keeper))
	require.NoError(t, write.Close())
	leave <- struct{}{}
	<-entered
	assert.Equal(t, len("thr"), waiting(t, keeper))
	leave <- struct{}{}
	assert.Zero(t, wait())
	assert.Zero(t, waiting(t, keeper))
}

// The kernel's announcements alone, as the pauses are for ever, have to be enough for
// writes that do not fill the pipe, and for the end.
func TestReader_WaitsForTheRestOfALineWithoutAskingAgainAndAgain(t *testing.T) {
	read, write := pipe(t)
	var got collector
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error { return got.take(lines) })
	require.NoError(t, err)
	reader.shortestPause, reader.longestPause = time.Hour, time.Hour
	source := watch(reader)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lost, err := reader.Run(t.Context())
		assert.NoError(t, err)
		assert.Zero(t, lost)
	}()
	pieces := strings.SplitAfter("an,unfin,ished,li,ne\nand,the,last", ",")
	written := ""
	for _, piece := range pieces {
		_, err := write.WriteString(piece)
		require.NoError(t, err)
		written += piece
		source.awaitIdle(len(written) - 1 - strings.LastIndexByte(written, '\n'))
	}
	require.NoError(t, write.Close())
	<-ended
	assert.Equal(t, []string{"an,unfin,ished,li,ne", "and,the,last"}, got.texts)
	// Two for each piece, as it is looked again before the deadline is set, and one for a
	// line; and those at the beginning and the end.
	assert.LessOrEqual(t, source.peeks.Load(), int64(4*len(pieces)+6))
}

// A write that does not fit is announced only once it is over, if the pipe was not
// empty: and this one is not over before somebody reads.
func TestReader_NoticesALongWriteBehindAnUnfinishedLine(t *testing.T) {
	read, write := pipe(t)
	var got collector
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error { return got.take(lines) })
	require.NoError(t, err)
	source := watch(reader)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := reader.Run(t.Context())
		assert.NoError(t, err)
	}()
	_, err = write.WriteString("result: ")
	require.NoError(t, err)
	source.awaitIdle(len("result: "))
	_, err = write.WriteString(strings.Repeat("0123456789\n", 50_000))
	require.NoError(t, err)
	require.NoError(t, write.Close())
	<-ended
	require.Len(t, got.texts, 50_000)
	assert.Equal(t, "result: 0123456789", got.texts[0])
}

func TestReader_GrowsAPipeThatALineFills(t *testing.T) {
	read, write := pipe(t)
	setCapacity(t, read, 16<<10)
	keeper := again(t, read)
	defer keeper.Close()
	var got collector
	_, wait := run(t, t.Context(), read, got.take)
	line := strings.Repeat("x", MaxLine)
	_, err := write.WriteString("before\n" + line + "\n")
	require.NoError(t, err)
	assert.Greater(t, capacity(t, keeper), 16<<10)
	require.NoError(t, write.Close())
	assert.Zero(t, wait())
	assert.Equal(t, []string{"before", line}, got.texts)
}

func TestReader_SplitsALineForWhichNoRoomCanBeMade(t *testing.T) {
	read, write := pipe(t)
	setCapacity(t, read, 8<<10)
	var got []Line
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error {
		for _, line := range lines {
			line.Text = bytes.Clone(line.Text)
			got = append(got, line)
		}
		return nil
	})
	require.NoError(t, err)
	reader.source = cramped{reader.source}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := reader.Run(t.Context())
		assert.NoError(t, err)
	}()
	long := strings.Repeat("0123456789", 3000)
	_, err = write.WriteString("short\n" + long + "\nlast\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	<-ended
	var texts []string
	for _, line := range got {
		text := string(line.Text)
		if line.Truncated {
			text += "+"
		}
		texts = append(texts, text)
	}
	assert.Equal(t, "short\n"+long+"\nlast", unsplit(texts))
	assert.True(t, got[1].Truncated)
	assert.False(t, got[0].Truncated)
	assert.False(t, got[len(got)-1].Truncated)
}

// cramped is a source whose pipe may not grow, like that of an ordinary user who has
// many.
type cramped struct{ source }

func (c cramped) makeRoom(fd int, b *batch, _ int) room { return c.source.makeRoom(fd, b, 1) }

// Of a pipe whose capacity was changed after it was peeked nothing is known.
func TestPipeSource_MakesRoomOnlyWhereItKnowsThatThereIsNone(t *testing.T) {
	tests := []struct {
		name     string
		give     batch
		max      int
		want     room
		capacity int
	}{
		{"a slot is left", batch{size: 16 << 10, staged: 16 << 10}, MaxLine, roomThere, 16 << 10},
		{"none is left", batch{size: 16 << 10, staged: 16 << 10, full: true}, MaxLine, roomMade, 32 << 10},
		{"none is left, but the line is long enough", batch{size: 16 << 10, staged: 16 << 10, full: true}, 8 << 10, roomNone, 16 << 10},
		{"the staging pipe cannot show more", batch{size: 16 << 10, staged: 8 << 10, full: true}, MaxLine, roomNone, 16 << 10},
		{"the small staging pipe shows all", batch{size: 16 << 10, staged: 8 << 10}, MaxLine, roomThere, 16 << 10},
		{"the pipe was larger", batch{size: 64 << 10, staged: 64 << 10}, MaxLine, roomMade, 16 << 10},
		{"the pipe was smaller", batch{size: 8 << 10, staged: 8 << 10, full: true}, MaxLine, roomMade, 16 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			read, _ := pipe(t)
			defer read.Close()
			setCapacity(t, read, 16<<10)
			source := pipeSource{stagingPipes}
			tt.give.n, tt.give.whole = 5, true
			control(t, read, func(fd int) (int, error) {
				assert.Equal(t, tt.want, source.makeRoom(fd, &tt.give, tt.max))
				known, err := source.consume(fd, &tt.give)
				assert.Equal(t, tt.want == roomThere, known == 5)
				return 0, err
			})
			assert.Equal(t, tt.capacity, capacity(t, read))
		})
	}
}

func TestPipeSource_FindsLessThanIsKnownInASmallerStagingPipe(t *testing.T) {
	require.NoError(t, stagingPipes.prepare())
	small, err := newStaging()
	require.NoError(t, err)
	defer unix.Close(small.read)
	defer unix.Close(small.write)
	read, write := pipe(t)
	defer read.Close()
	small.resize(4 << 10)
	small.size = capacity(t, read) // or it would be made larger
	pool := newStagingPool()
	pool.made, pool.free, pool.null = maxStaging, []*staging{small}, stagingPipes.null
	_, err = write.WriteString(strings.Repeat("x", 10_000))
	require.NoError(t, err)
	control(t, read, func(fd int) (int, error) {
		b, state, err := pipeSource{pool}.peek(fd, MaxLine, 9000, false)
		assert.Equal(t, stateMore, state, "so that it is not waited for what cannot be seen")
		if assert.NotNil(t, b) {
			assert.Equal(t, 4<<10, b.n)
			b.release()
		}
		return 0, err
	})
}
