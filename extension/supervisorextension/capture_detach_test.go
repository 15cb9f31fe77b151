// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/keeper"
)

// capturedPipe is a pipe with a descriptor of its read end for the capture and one for
// who reads it later.
func capturedPipe(t *testing.T) (captured, later, write *os.File) {
	t.Helper()
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	require.NoError(t, unix.SetNonblock(ends[0], true))
	dup, err := unix.FcntlInt(uintptr(ends[0]), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	captured, later, write = os.NewFile(uintptr(ends[0]), "read"), os.NewFile(uintptr(dup), "again"), os.NewFile(uintptr(ends[1]), "write")
	t.Cleanup(func() { _, _ = later.Close(), write.Close() })
	return captured, later, write
}

func capturesAll() *OutputConfig {
	cfg := newDefaultOutput()
	return &cfg
}

func TestCapture_DetachLeavesInThePipesWhatWasNotTaken(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	offered := make(chan struct{}, 10)
	_, err := c.claimOutput(component.MustNewID("slow"), func(ctx context.Context, _ Output) error {
		offered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
	require.True(t, c.begin())
	stdout, stdoutLater, stdoutWrite := capturedPipe(t)
	stderr, stderrLater, stderrWrite := capturedPipe(t)
	_, err = stdoutWrite.WriteString("a line that is held up\n")
	require.NoError(t, err)
	of := &child{info: &Info{ID: "web"}, id: "web"}
	c.follow(of, spawned{id: "web", run: 1, started: keeper.Started{Stdout: stdout, Stderr: stderr}}, capturesAll(), nil)
	<-offered

	c.detach()
	assert.Empty(t, c.running)
	assert.Zero(t, c.lost.Load())
	for _, later := range []struct {
		read, write *os.File
		want        string
	}{{stdoutLater, stdoutWrite, "a line that is held up\nand more"}, {stderrLater, stderrWrite, "and more"}} {
		_, err := later.write.WriteString("and more")
		require.NoError(t, err)
		require.NoError(t, later.write.Close())
		text, err := io.ReadAll(later.read)
		require.NoError(t, err)
		assert.Equal(t, later.want, string(text))
	}
}

func TestCapture_LinesAreNumberedOnByTheNextCollector(t *testing.T) {
	kept := map[string]position{}
	var mu sync.Mutex
	keep := func(key string, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		var p position
		require.NoError(t, json.Unmarshal(data, &p))
		kept[strings.TrimPrefix(key, positionPrefix)] = p
	}
	stdout, later, write := capturedPipe(t)
	numbers := make(chan uint64, 10)
	collect := func(left map[string]position, run uint64, read *os.File) *capture {
		c := newCapture(zap.NewNop())
		t.Cleanup(c.cancel)
		c.positions.start(left, keep)
		_, err := c.claimOutput(component.MustNewID("taker"), func(_ context.Context, o Output) error {
			for _, line := range o.Lines {
				numbers <- line.Seq
			}
			return nil
		})
		require.NoError(t, err)
		require.True(t, c.begin())
		c.follow(&child{info: &Info{ID: "web"}, id: "web"}, spawned{id: "web", run: run, started: keeper.Started{Stdout: read}}, capturesAll(), nil)
		return c
	}
	c := collect(nil, 1, stdout)
	_, err := write.WriteString("one\ntwo\nthr")
	require.NoError(t, err)
	assert.EqualValues(t, 1, <-numbers)
	assert.EqualValues(t, 2, <-numbers)
	c.detach()
	assert.Equal(t, map[string]position{"web/stdout": {1, 2}}, kept)

	c = collect(maps.Clone(kept), 1, later)
	_, err = write.WriteString("ee\n")
	require.NoError(t, err)
	assert.EqualValues(t, 3, <-numbers)
	c.detach()

	// Another run begins anew.
	stdout, _, write = capturedPipe(t)
	c = collect(maps.Clone(kept), 2, stdout)
	_, err = write.WriteString("one\n")
	require.NoError(t, err)
	assert.EqualValues(t, 1, <-numbers)
	c.detach()
}
