// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// readOn reads with another reader what a detached one left, and returns the
// lines. They have to be numbered from after on.
func readOn(t *testing.T, pipe *os.File, after uint64) (texts []string) {
	t.Helper()
	seq := after
	reader, err := NewReader(pipe, Settings{Wait: Forever, After: after}, func(_ context.Context, lines []Line) error {
		for _, line := range lines {
			seq++
			assert.Equal(t, seq, line.Seq)
			texts = append(texts, string(line.Text))
		}
		return nil
	})
	require.NoError(t, err)
	lost, err := reader.Run(t.Context())
	require.NoError(t, err)
	assert.Zero(t, lost)
	return texts
}

func TestReader_DetachLeavesTheRestForTheNextReader(t *testing.T) {
	taken := func(context.Context) error { return nil }
	tests := []struct {
		name   string
		give   string
		handle func(context.Context) error
		// unfinished is how many bytes the reader waits behind when it is detached; -1 if
		// it is handing lines over.
		unfinished int
		want       []string // of what was given and "!\nlast"
	}{
		{"when it waits for the first line", "", taken, 0, []string{"!", "last"}},
		{"when it waits for another line", "a\nb\n", taken, 0, []string{"!", "last"}},
		{"when it waits for the rest of a line", "a\nb\nc", taken, 1, []string{"c!", "last"}},
		{
			"while lines are refused", "a\nb\nc",
			func(context.Context) error { return errors.New("never") },
			-1,
			[]string{"a", "b", "c!", "last"},
		},
		{
			"while lines are held up", "a\nb\nc",
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			-1,
			[]string{"a", "b", "c!", "last"},
		},
		{
			"while lines are held up and then taken after all", "a\nb\nc",
			func(ctx context.Context) error { <-ctx.Done(); return nil },
			-1,
			[]string{"c!", "last"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			read, write := pipe(t)
			next := again(t, read)
			entered := make(chan struct{}, 1)
			reader, err := NewReader(read, Settings{Wait: Forever}, func(ctx context.Context, _ []Line) error {
				select {
				case entered <- struct{}{}:
				default:
				}
				return tt.handle(ctx)
			})
			require.NoError(t, err)
			source := watch(reader)
			_, err = write.WriteString(tt.give)
			require.NoError(t, err)
			ended := make(chan int, 1)
			go func() {
				lost, err := reader.Run(context.Background())
				assert.NoError(t, err)
				ended <- lost
			}()
			if tt.unfinished < 0 {
				<-entered
			} else {
				source.awaitIdle(tt.unfinished)
			}
			reader.Detach()
			assert.ErrorContains(t, reader.conn.Control(func(uintptr) {}), "closed", "it surely reads no more")
			assert.Zero(t, <-ended, "nothing is lost")
			reader.Detach() // which does no harm

			_, err = write.WriteString("!\nlast")
			require.NoError(t, err)
			require.NoError(t, write.Close())
			assert.Equal(t, tt.want, readOn(t, next, reader.Taken()))
		})
	}
}

func TestReader_DetachLeavesAFullPipeFull(t *testing.T) {
	read, write := pipe(t)
	next := again(t, read)
	require.NoError(t, unix.SetNonblock(int(write.Fd()), true))
	line := append(bytes.Repeat([]byte{'x'}, 1000), '\n')
	var err error
	written := 0
	for ; err == nil; written++ {
		_, err = unix.Write(int(write.Fd()), line)
	}
	require.ErrorIs(t, err, unix.EAGAIN)
	written--
	entered := make(chan struct{})
	reader, wait := run(t, context.Background(), read, func([]Line) error {
		close(entered)
		return errors.New("never")
	})
	<-entered
	reader.Detach()
	assert.Zero(t, wait())
	_, err = unix.Write(int(write.Fd()), line)
	require.ErrorIs(t, err, unix.EAGAIN)
	require.NoError(t, write.Close())
	assert.Len(t, readOn(t, next, reader.Taken()), written)
}

func TestReader_DetachBeforeRunReadsNothing(t *testing.T) {
	read, write := pipe(t)
	next := again(t, read)
	_, err := write.WriteString("a\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	reader, err := NewReader(read, Settings{Wait: Forever}, func(context.Context, []Line) error { return errors.New("not to be called") })
	require.NoError(t, err)
	detached := make(chan struct{})
	go func() { reader.Detach(); close(detached) }()
	<-reader.detached.Done()
	lost, err := reader.Run(context.Background())
	require.NoError(t, err)
	assert.Zero(t, lost)
	<-detached
	assert.Equal(t, []string{"a"}, readOn(t, next, 0))
}

// However often and whenever readers are detached, each line is taken once.
func TestReader_DetachAtAnyTimeLosesAndRepeatsNothing(t *testing.T) {
	read, write := pipe(t)
	want := make([]string, 20_000)
	for i := range want {
		want[i] = strings.Repeat("x", i%90) + "."
	}
	go func() {
		_, err := write.WriteString(strings.Join(want, "\n"))
		assert.NoError(t, err)
		assert.NoError(t, write.Close())
	}()
	var got collector
	after := uint64(0)
	for detachAt := uint64(50); after < uint64(len(want)); detachAt += 700 {
		next := again(t, read)
		reached := make(chan struct{})
		reader, err := NewReader(read, Settings{Wait: Forever, After: after}, func(_ context.Context, lines []Line) error {
			last := lines[len(lines)-1].Seq
			if lines[0].Seq <= detachAt && detachAt <= last {
				close(reached)
			}
			return got.take(lines)
		})
		require.NoError(t, err)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			lost, err := reader.Run(context.Background())
			assert.NoError(t, err)
			assert.Zero(t, lost)
		}()
		select {
		case <-reached:
			reader.Detach()
		case <-ended:
		}
		<-ended
		after, read = reader.Taken(), next
	}
	require.NoError(t, read.Close())
	assert.Equal(t, want, got.texts)
}
