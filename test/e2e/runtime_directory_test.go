// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nobody is a user that is not this one.
const nobody = 65534

func TestRuntimeDirectory_ThatCanNotBeUsedIsNamedWithAWayOut(t *testing.T) {
	for _, tt := range []struct {
		name string
		// make returns the directory to use; skip is why it can not be made.
		make func(t *testing.T) (directory, skip string)
		want []string
	}{
		{
			"relative",
			func(*testing.T) (string, string) { return "run", "" },
			[]string{`runtime_directory: "run" is not an absolute path: write one such as /run/warden/supervisor`},
		},
		{
			"of somebody else",
			func(t *testing.T) (string, string) {
				if os.Geteuid() != 0 {
					return "/", ""
				}
				directory := t.TempDir()
				require.NoError(t, os.Chown(directory, nobody, nobody))
				return directory, ""
			},
			[]string{"runtime directory", "DIRECTORY", "belongs to user", "use another directory"},
		},
		{
			"below what can not be written to",
			func(t *testing.T) (string, string) {
				if os.Geteuid() == 0 {
					return "/sys/warden", "" // nobody can
				}
				directory := t.TempDir()
				require.NoError(t, os.Chmod(directory, 0o500))
				return filepath.Join(directory, "run"), ""
			},
			[]string{`make runtime directory "DIRECTORY": `, ": use another runtime directory, or let user "},
		},
		{
			"not writable itself",
			func(t *testing.T) (string, string) {
				if os.Geteuid() == 0 {
					return "", "root may write everywhere"
				}
				directory := t.TempDir()
				require.NoError(t, os.Chmod(directory, 0o500))
				return directory, ""
			},
			[]string{`lock "DIRECTORY/keeper.lock": permission denied: use another runtime directory, or let user `},
		},
		{
			"on a full disk",
			func(t *testing.T) (string, string) {
				disk, skip := smallDisk(t, "size=16k")
				if skip != "" {
					return "", skip
				}
				require.ErrorIs(t, os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 32<<10), 0o600), syscall.ENOSPC)
				return filepath.Join(disk, "run"), ""
			},
			[]string{`write "DIRECTORY/keeper.lock": no space left on device: make room there, or use another runtime directory`},
		},
		{
			"on a disk without room for a file",
			func(t *testing.T) (string, string) {
				disk, skip := smallDisk(t, "nr_inodes=2")
				return filepath.Join(disk, "run"), skip
			},
			[]string{`"DIRECTORY/keeper.lock": no space left on device: make room there, or use another runtime directory`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			directory, skip := tt.make(t)
			if skip != "" {
				t.Skip(skip)
			}
			c := prepare(t, polite)
			c.script("polite", politeScript)
			c.cmd.Args[len(c.cmd.Args)-1] = "extensions.supervisor.runtime_directory=" + directory
			c.start()
			assert.Equal(t, 1, c.wait())
			for _, want := range tt.want {
				assert.Contains(t, c.output(), strings.ReplaceAll(want, "DIRECTORY", directory))
			}
			c.requireNothingLeft()
			if filepath.IsAbs(directory) {
				left, err := filepath.Glob(filepath.Join(directory, "keeper.*"))
				require.NoError(t, err)
				assert.Empty(t, left)
			}
		})
	}
}

// smallDisk mounts a file system of memory with those options, or says why it can not.
func smallDisk(t *testing.T, options string) (path, skip string) {
	t.Helper()
	path = t.TempDir()
	if err := syscall.Mount("warden-e2e", path, "tmpfs", 0, options); err != nil {
		return "", "mount: " + err.Error()
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(path, 0)) })
	return path, ""
}

func TestRuntimeDirectory_OnADiskThatGetsFullUnderWayCostsNoProcess(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	require.NoError(t, os.Mkdir(c.path("run"), 0o700))
	if err := syscall.Mount("warden-e2e", c.path("run"), "tmpfs", 0, "size=64k,nr_inodes=32,mode=0700"); err != nil {
		t.Skip("mount: " + err.Error())
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(c.path("run"), 0)) })
	pids := c.startPolite()

	var filling []string
	var err error
	for err == nil {
		name := c.path(fmt.Sprintf("run/filling%d", len(filling)))
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			filling = append(filling, name)
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC, "no room for another file")
	require.ErrorIs(t, os.WriteFile(filling[0], make([]byte, 1<<20), 0o600), syscall.ENOSPC, "no room for another byte")
	// It is not where it was, and takes the room that it took.
	require.NoError(t, os.Rename(c.path("run/keeper.sock"), c.path("run/moved")))
	c.until("the trouble", func() bool {
		return strings.Contains(c.output(), fmt.Sprintf("the keeper's files in %q can not be watched or made again yet: ", c.path("run"))) &&
			strings.Contains(c.output(), "no space left on device")
	})
	require.NoError(t, syscall.Kill(pids[1], syscall.SIGKILL))
	pids[1] = c.started("b", 2)
	for _, pid := range pids {
		assert.True(t, alive(pid))
	}

	for _, name := range append(filling, c.path("run/moved")) {
		require.NoError(t, os.Remove(name))
	}
	c.until("the socket", func() bool { return c.exists("run/keeper.sock") })
	c.kill()
	next := c.successor()
	next.requireAdopted(pids)
	next.stop()
	next.requireTidy()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}
