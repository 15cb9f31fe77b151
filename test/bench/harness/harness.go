// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package harness is what the benchmarks of the real binary have in common: programs to
// supervise that say when they began, and a collector with its keeper to look at.
package harness

import (
	"bufio"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

//go:embed programs/*.c
var programs embed.FS

// Compile builds one of the programs into a directory.
func Compile(b *testing.B, name, dir string) (path string) {
	source, err := programs.ReadFile("programs/" + name + ".c")
	require.NoError(b, err)
	path = filepath.Join(dir, name)
	require.NoError(b, os.WriteFile(path+".c", source, 0o600))
	output, err := exec.Command("cc", "-O2", "-static", "-o", path, path+".c").CombinedOutput()
	require.NoError(b, err, "a C compiler and a static C library are needed: %s", output)
	return path
}

// Beat is what the program beat says when it begins.
type Beat struct {
	PID int
	// At is raw CLOCK_MONOTONIC.
	At time.Duration
}

// Beats is a FIFO for beat.
type Beats struct {
	Path  string
	b     *testing.B
	file  *os.File
	lines *bufio.Reader
}

// NewBeats makes one in a directory.
func NewBeats(b *testing.B, dir string) *Beats {
	path := filepath.Join(dir, "beats")
	require.NoError(b, syscall.Mkfifo(path, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0) // for writing too, so that there is no end
	require.NoError(b, err)
	b.Cleanup(func() { _ = file.Close() })
	return &Beats{path, b, file, bufio.NewReaderSize(file, 64<<10)}
}

// Next waits for a process to begin, for two minutes.
func (f *Beats) Next() (beat Beat) {
	require.NoError(f.b, f.file.SetReadDeadline(time.Now().Add(2*time.Minute)))
	line, err := f.lines.ReadString('\n')
	require.NoError(f.b, err, "no further process came up")
	_, err = fmt.Sscan(line, &beat.PID, &beat.At)
	require.NoError(f.b, err, "%q", line)
	return beat
}

// Monotonic is raw CLOCK_MONOTONIC, the clock of Beat.
func Monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

// Percentile returns the value below which a part, from 0 to 1, of the sorted values is.
func Percentile(sorted []time.Duration, part float64) time.Duration {
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}
