// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// run runs a reader in the background; the returned function waits for its end.
func run(t *testing.T, ctx context.Context, read *os.File, handle func([]Line) error) (*Reader, func() int) {
	t.Helper()
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error { return handle(lines) })
	require.NoError(t, err)
	lost := make(chan int, 1)
	go func() {
		n, err := reader.Run(ctx)
		assert.NoError(t, err)
		lost <- n
	}()
	return reader, func() int { return <-lost }
}

// collector keeps what it is handed.
type collector struct {
	mu    sync.Mutex
	texts []string
}

func (c *collector) take(lines []Line) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range lines {
		c.texts = append(c.texts, string(line.Text))
	}
	return nil
}

func TestReader_ReadsToTheEndOfThePipe(t *testing.T) {
	read, write := pipe(t)
	var got collector
	_, wait := run(t, t.Context(), read, got.take)
	var want []string
	for i := range 50_000 {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	_, err := write.WriteString(strings.Join(want, "\n"))
	require.NoError(t, err)
	require.NoError(t, write.Close())
	assert.Zero(t, wait())
	assert.Equal(t, want, got.texts)
}

func TestReader_FinishReadsWhatIsThereAndWaitsForNoStranger(t *testing.T) {
	read, write := pipe(t)
	var got collector
	reader, wait := run(t, t.Context(), read, got.take)
	_, err := write.WriteString("last words\nwithout an end")
	require.NoError(t, err)
	reader.Finish() // write is still open, as by a process that was left behind
	assert.Zero(t, wait())
	assert.Equal(t, []string{"last words", "without an end"}, got.texts)
}

func TestReader_OffersTheSameLinesAgainUntilTheyAreTaken(t *testing.T) {
	read, write := pipe(t)
	var got collector
	refusals := 2
	_, wait := run(t, t.Context(), read, func(lines []Line) error {
		if refusals > 0 {
			refusals--
			return errors.New("not now")
		}
		return got.take(lines)
	})
	_, err := write.WriteString("a\nb\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	assert.Zero(t, wait())
	assert.Equal(t, []string{"a", "b"}, got.texts)
}

func TestReader_CountsWhatNobodyTookBeforeTheEnd(t *testing.T) {
	read, write := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	offered := make(chan struct{})
	var once sync.Once
	_, wait := run(t, ctx, read, func([]Line) error {
		once.Do(func() { close(offered) })
		return errors.New("never")
	})
	_, err := write.WriteString("a\nb\n")
	require.NoError(t, err)
	<-offered
	_, err = write.WriteString("c\nd")
	require.NoError(t, err)
	cancel()
	assert.Equal(t, 4, wait(), "those that were offered and those that were still in the pipe")
}

func TestReader_DoesNotReadAheadOfASlowTaker(t *testing.T) {
	read, write := pipe(t)
	require.NoError(t, unix.SetNonblock(int(write.Fd()), true))
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	reader, wait := run(t, t.Context(), read, func([]Line) error {
		once.Do(func() { close(entered) })
		<-leave
		return nil
	})
	line := []byte(strings.Repeat("x", 1023) + "\n")
	_, err := unix.Write(int(write.Fd()), line)
	require.NoError(t, err)
	<-entered
	assert.False(t, reader.Blocking(), "there is room")
	written := 0
	for err = nil; err == nil; written++ {
		_, err = unix.Write(int(write.Fd()), line)
	}
	assert.ErrorIs(t, err, unix.EAGAIN, "the writer is held up")
	assert.LessOrEqual(t, written, 65)
	assert.True(t, reader.Blocking())
	close(leave)
	require.NoError(t, write.Close())
	assert.Zero(t, wait())
	assert.False(t, reader.handing.Load(), "nothing is being handed over any more")
}
