// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const fixtures = "testdata/proc"

func TestFS_GrowsItsBufferForLargeFiles(t *testing.T) {
	dir := t.TempDir()
	long := "cpu " + strings.Repeat("0 ", 20*firstBuffer) + "\nbtime 5\nprocesses 6\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"), []byte(long), 0o600))

	got, err := New(dir).SystemStat()
	require.NoError(t, err)
	assert.Equal(t, SystemStat{BootTime: 5, Processes: 6}, got)
}

func TestFS_RefusesFilesWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stat"), make([]byte, maxFile+1), 0o600))

	_, err := New(dir).SystemStat()
	require.EqualError(t, err, "read "+dir+"/stat: more than 4194304 bytes")
}

func TestFS_MissingFileIsNamed(t *testing.T) {
	f := New(t.TempDir())
	for _, read := range []func() error{
		func() error { _, err := f.Loadavg(); return err },
		func() error { _, err := f.Meminfo(); return err },
		func() error { _, err := f.Uptime(); return err },
		func() error { _, err := f.SystemStat(); return err },
	} {
		var pathErr *fs.PathError
		require.ErrorAs(t, read(), &pathErr)
		assert.ErrorIs(t, pathErr, fs.ErrNotExist)
		assert.Contains(t, pathErr.Path, f.mount)
	}
}

func TestFS_ReadsDoNotAllocate(t *testing.T) {
	f := New("/proc")
	var st Stat
	pid := os.Getpid()
	for name, read := range map[string]func() error{
		"stat":        func() error { return f.Stat(pid, 0, &st) },
		"loadavg":     func() error { _, err := f.Loadavg(); return err },
		"meminfo":     func() error { _, err := f.Meminfo(); return err },
		"uptime":      func() error { _, err := f.Uptime(); return err },
		"system stat": func() error { _, err := f.SystemStat(); return err },
	} {
		require.NoError(t, read())
		assert.Zero(t, testing.AllocsPerRun(20, func() {
			if err := read(); err != nil {
				t.Error(err)
			}
		}), name)
	}
}

func TestFS_LeavesNoDescriptorOpen(t *testing.T) {
	f := New("/proc")
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	readAll := func() {
		var st Stat
		require.NoError(t, f.Stat(os.Getpid(), 0, &st))
		require.ErrorIs(t, f.Stat(1<<30, 0, &st), ErrGone)
		_, err := f.States(nil)
		require.NoError(t, err)
		_, err = f.Meminfo()
		require.NoError(t, err)
	}
	readAll()
	before := count()
	readAll()
	assert.Equal(t, before, count())
}

func TestFS_UnreadableIsNotGone(t *testing.T) {
	dir := t.TempDir()
	// A directory in the place of the file: it opens, and reading fails.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "7", "stat"), 0o700))

	var st Stat
	err := New(dir).Stat(7, 0, &st)
	require.Error(t, err)
	assert.False(t, errors.Is(err, ErrGone))
	assert.Contains(t, err.Error(), filepath.Join(dir, "7", "stat"))
}

func BenchmarkFS_Stat(b *testing.B) {
	f := New("/proc")
	var st Stat
	pid := os.Getpid()
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Stat(pid, 0, &st); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFS_States(b *testing.B) {
	f := New("/proc")
	var total int
	b.ReportAllocs()
	for b.Loop() {
		states, err := f.States(nil)
		if err != nil {
			b.Fatal(err)
		}
		total = states.Total()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(total), "ns/process")
}
