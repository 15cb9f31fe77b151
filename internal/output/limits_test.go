// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestReader_SilentProcessesNeedOnlyTheirPipes(t *testing.T) {
	const readers = 200
	before := descriptors(t)
	var running sync.WaitGroup
	var writers []*os.File
	var sources []*watched
	for range readers {
		read, write := pipe(t)
		reader, err := NewReader(read, Settings{Wait: Forever}, func(context.Context, []Line) error { return nil })
		require.NoError(t, err)
		sources = append(sources, watch(reader))
		writers = append(writers, write)
		running.Go(func() {
			_, err := reader.Run(t.Context())
			assert.NoError(t, err)
		})
	}
	for i, write := range writers {
		sources[i].awaitIdle(0)
		_, err := write.WriteString("a line, and then nothing")
		require.NoError(t, err)
		sources[i].awaitIdle(len("a line, and then nothing"))
	}
	// The pool, /dev/null and what the runtime polls with stay.
	const shared = 2*maxStaging + 1 + 2
	assert.LessOrEqual(t, descriptors(t), before+2*readers+shared)
	stagingPipes.mu.Lock()
	assert.Len(t, stagingPipes.free, stagingPipes.made, "all are given back")
	stagingPipes.mu.Unlock()
	for _, write := range writers {
		require.NoError(t, write.Close())
	}
	running.Wait()
	assert.LessOrEqual(t, descriptors(t), before+shared)
}

func TestStagingPool_PipesAreEmptyWhenGivenBack(t *testing.T) {
	passThrough(t, stream{bytes: bytes.Repeat([]byte("line\n"), 5000), chunk: 777, max: 100, size: 64 << 10})
	stagingPipes.mu.Lock()
	defer stagingPipes.mu.Unlock()
	require.NotEmpty(t, stagingPipes.free)
	for _, s := range stagingPipes.free {
		n, err := unix.IoctlGetUint32(s.read, unix.TIOCINQ)
		require.NoError(t, err)
		assert.Zero(t, n)
	}
}

func TestStagingPool_WhoFindsNoneGetsTheNextThatIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newStagingPool()
		var taken []*staging
		for range maxStaging {
			s := pool.take(8 << 10)
			defer unix.Close(s.read)
			defer unix.Close(s.write)
			taken = append(taken, s)
		}
		next := make(chan *staging)
		go func() { next <- pool.take(16 << 10) }()
		synctest.Wait()
		pool.give(taken[3])
		got := <-next
		assert.Same(t, taken[3], got)
		assert.Equal(t, 16<<10, got.size)
	})
}

func TestReader_WriterIsHeldUpWhenTheSlotsRunOutBeforeTheBytes(t *testing.T) {
	read, write := pipe(t)
	require.NoError(t, unix.SetNonblock(int(write.Fd()), true))
	entered, leave := make(chan struct{}), make(chan struct{})
	reader, wait := run(t, t.Context(), read, func([]Line) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	line := append(bytes.Repeat([]byte{'x'}, 2500), '\n') // two do not fit into a page
	_, err := unix.Write(int(write.Fd()), line)
	require.NoError(t, err)
	<-entered
	assert.False(t, reader.Blocking())
	for err = nil; err == nil; {
		_, err = unix.Write(int(write.Fd()), line)
	}
	require.ErrorIs(t, err, unix.EAGAIN)
	assert.True(t, reader.Blocking())
	leave <- struct{}{}
	<-entered
	require.NoError(t, write.Close())
	close(leave)
	assert.Zero(t, wait())
}

// endless is the source of a writer that is never slower than its reader.
type endless struct{ source }

func (endless) peek(_, size, _ int, _ bool) (*batch, state, error) {
	b := takeBatch(size)
	b.n = copy(b.buffer, strings.Repeat("for ever\n", maxLines))
	return b, stateMore, nil
}

func (endless) consume(int, *batch) (known int, err error) { return 0, nil }

func TestReader_EndsAlthoughAWriterGoesOnForEver(t *testing.T) {
	read, _ := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	reader, err := NewReader(read, Settings{Wait: Forever}, func(context.Context, []Line) error {
		cancel()
		return errors.New("never")
	})
	require.NoError(t, err)
	reader.source = endless{reader.source}
	lost, err := reader.Run(ctx)
	require.NoError(t, err)
	assert.Greater(t, lost, maxUntaken/len("for ever\n"))
}

// The lines of one read come in several batches; none waits for another write.
func TestReader_HandsManyShortLinesOverWithoutWaiting(t *testing.T) {
	const lines = 3*maxLines + 5
	for name, open := range map[string]func(testing.TB) (read, write *os.File){"pipe": pipe, "socket": socket} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			all := make(chan struct{})
			reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, got []Line) error {
				if got[len(got)-1].Seq == lines {
					close(all)
				}
				return nil
			})
			require.NoError(t, err)
			reader.shortestPause, reader.longestPause = time.Hour, time.Hour
			_, err = write.WriteString(strings.Repeat("\n", lines) + "x")
			require.NoError(t, err)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, err := reader.Run(t.Context())
				assert.NoError(t, err)
			}()
			<-all
			reader.Detach()
			<-ended
		})
	}
}

// smallPipes is what an ordinary user sees who has used up its pipe buffers: new
// pipes are small and none can be made larger. It reads lines through a large pipe
// with a small staging pipe and through a small one.
func smallPipes([]string) error {
	var large [2]int
	if err := unix.Pipe2(large[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	small, size := large, 0
	for range 5000 {
		if err := unix.Pipe2(small[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		var err error
		if size, err = unix.FcntlInt(uintptr(small[0]), unix.F_GETPIPE_SZ, 0); err != nil {
			return err
		}
		if size < 16<<10 {
			break
		}
	}
	if size >= 16<<10 {
		fmt.Println("unlimited")
		return nil
	}
	for _, ends := range [][2]int{large, small} {
		if err := unix.SetNonblock(ends[0], true); err != nil {
			return err
		}
		var got bytes.Buffer
		truncated := 0
		reader, err := NewReader(os.NewFile(uintptr(ends[0]), "pipe"), Settings{Wait: Forever}, func(_ context.Context, lines []Line) error {
			for _, line := range lines {
				if got.Write(line.Text); line.Truncated {
					truncated++
				} else {
					got.WriteByte('\n')
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		text := strings.Repeat("a line of a usual length\n", 5000) + strings.Repeat("x", 50_000) + "\n" + "end\n"
		go func() {
			write := os.NewFile(uintptr(ends[1]), "pipe")
			_, _ = write.WriteString(text)
			_ = write.Close()
		}()
		if _, err := reader.Run(context.Background()); err != nil {
			return err
		}
		if got.String() != text {
			return fmt.Errorf("%d bytes came out of %d", got.Len(), len(text))
		}
		fmt.Println("passed, truncated:", truncated > 0)
	}
	return nil
}

func TestReader_SplitsLinesOfAnUserWhosePipeBuffersAreUsedUp(t *testing.T) {
	helper := helperProcess(t, "small-pipes")
	if os.Getuid() == 0 {
		const nobody = 65534
		// A test binary lies where only its user may look.
		executable, err := os.Open(helper.Path)
		require.NoError(t, err)
		defer executable.Close()
		helper.ExtraFiles = []*os.File{executable}
		helper.Path = "/proc/self/fd/3"
		helper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	answer, err := helper.Output()
	require.NoError(t, err)
	if string(answer) == "unlimited\n" {
		t.Skip("this kernel does not limit the pipe buffers of a user, see pipe-user-pages-soft in pipe(7)")
	}
	assert.Equal(t, "passed, truncated: true\npassed, truncated: true\n", string(answer))
}
