// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestReader_ReadsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	text := strings.Repeat("\n", 2*maxLines) + strings.Repeat("a line of a file\n", 10_000) + strings.Repeat("x", 3*MaxLine)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	var got collector
	reader, wait := run(t, t.Context(), file, got.take)
	assert.Zero(t, wait())
	assert.False(t, reader.Peeks())
	assert.Equal(t, text, strings.Join(got.texts[:len(got.texts)-3], "\n")+"\n"+strings.Join(got.texts[len(got.texts)-3:], ""))
}

func socket(t testing.TB) (read, write *os.File) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	write = os.NewFile(uintptr(ends[1]), "write")
	t.Cleanup(func() { _ = write.Close() })
	return os.NewFile(uintptr(ends[0]), "read"), write
}

func TestReader_ReadsASocketInPieces(t *testing.T) {
	read, write := socket(t)
	var got collector
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error { return got.take(lines) })
	require.NoError(t, err)
	assert.False(t, reader.Peeks())
	source := watch(reader)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lost, err := reader.Run(t.Context())
		assert.NoError(t, err)
		assert.Zero(t, lost)
	}()
	for _, piece := range []string{"a", "b\nc", "d", "e"} {
		_, err := write.WriteString(piece)
		require.NoError(t, err)
		source.awaitIdle(0)
	}
	require.NoError(t, write.Close())
	<-ended
	assert.Equal(t, []string{"ab", "cde"}, got.texts)
}

func TestReader_DetachCountsWhatOnlyMemoryHolds(t *testing.T) {
	read, write := socket(t)
	entered := make(chan struct{})
	reader, err := NewReader(read, Settings{Wait: Forever}, func(ctx context.Context, _ []Line) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
	_, err = write.WriteString("a\nb\nunfinished")
	require.NoError(t, err)
	lost := make(chan int)
	go func() {
		n, err := reader.Run(context.Background())
		assert.NoError(t, err)
		lost <- n
	}()
	<-entered
	go reader.Detach()
	assert.Equal(t, 3, <-lost)
}
