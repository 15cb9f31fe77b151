// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAttach_RefusesADirectoryThatOthersCouldChange(t *testing.T) {
	top, err := canonical(t.TempDir())
	require.NoError(t, err)
	path := func(name string) string { return filepath.Join(top, name) }
	require.NoError(t, os.Mkdir(path("shared"), 0o700))
	require.NoError(t, os.Chmod(path("shared"), 0o770))
	require.NoError(t, os.Mkdir(path("real"), 0o700))
	require.NoError(t, os.Symlink(path("real"), path("link")))
	require.NoError(t, os.WriteFile(path("file"), nil, 0o600))
	tests := []struct{ name, give, want string }{
		{"a relative path", "run", `runtime directory "run": it must be an absolute path`},
		{"writable by the group", path("shared"), fmt.Sprintf(`runtime directory %q has mode 0770, owner %d: others may write to it; chmod 0700 it, or use another`, path("shared"), os.Geteuid())},
		{"a link", path("link"), fmt.Sprintf("runtime directory %q: it is a symbolic link: name the directory itself", path("link"))},
		{"a file", path("file"), fmt.Sprintf("runtime directory %q: not a directory", path("file"))},
		{"below a file", path("file/run"), fmt.Sprintf("make runtime directory %q: not a directory", path("file/run"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Attach(context.Background(), options(t, tt.give), ignoreEvents)
			assert.EqualError(t, err, tt.want)
		})
	}
}

func TestAttach_RefusesADirectoryOfAnotherUser(t *testing.T) {
	path := "/" // of root
	if os.Geteuid() == 0 {
		path = filepath.Join(t.TempDir(), "run")
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.Chown(path, 65534, 65534))
	}
	_, _, err := Attach(context.Background(), options(t, path), ignoreEvents)
	assert.ErrorContains(t, err, "belongs to user")
}

func TestAttach_MakesWhatIsMissingOfTheDirectory(t *testing.T) {
	directory := filepath.Join(runtimeDirectory(t), "deeper")
	t.Cleanup(func() { endKeeper(t, directory) })
	c, _ := attachTo(t, directory, ignoreEvents)
	for name, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, socketName: os.ModeSocket | 0o600, lockName: 0o600} {
		info, err := os.Stat(filepath.Join(directory, name))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode(), name)
	}
	lock, err := os.ReadFile(filepath.Join(directory, lockName))
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(c.KeeperPID())+"\n", string(lock))
	c.Close()
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	assert.Empty(t, left, "it tidies up")
}

func TestAttach_TakesAPathThatIsLongerThanASocketsAddress(t *testing.T) {
	directory := filepath.Join(runtimeDirectory(t), strings.Repeat("x", 200))
	t.Cleanup(func() { endKeeper(t, directory) })
	c, _ := attachTo(t, directory, ignoreEvents)
	require.NoError(t, c.Detach())
	_, state := attachTo(t, directory, ignoreEvents)
	assert.False(t, state.Fresh)
}

func TestAttach_ReplacesWhatADeadKeeperLeft(t *testing.T) {
	directory := runtimeDirectory(t)
	c, _ := attachTo(t, directory, ignoreEvents, func(o *Options) { o.Lost = nil })
	first := c.KeeperPID()
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	<-c.ended
	_, err := os.Lstat(filepath.Join(directory, socketName))
	require.NoError(t, err)
	second, state := attachTo(t, directory, ignoreEvents)
	assert.True(t, state.Fresh)
	assert.NotEqual(t, first, second.KeeperPID())
}

func TestKeeper_MakesItsFilesAgainWhenTheyVanish(t *testing.T) {
	vanish := map[string]func(t *testing.T, directory string){
		"the socket": func(t *testing.T, directory string) {
			require.NoError(t, os.Remove(filepath.Join(directory, socketName)))
		},
		"the lock": func(t *testing.T, directory string) {
			require.NoError(t, os.Remove(filepath.Join(directory, lockName)))
		},
		"everything": func(t *testing.T, directory string) {
			for os.RemoveAll(directory) != nil { // it may be filled again meanwhile
			}
		},
		"everything, moved away": func(t *testing.T, directory string) {
			require.NoError(t, os.Rename(directory, directory+".old"))
		},
	}
	for name, vanish := range vanish {
		t.Run(name, func(t *testing.T) {
			directory := runtimeDirectory(t)
			warned := make(chan string, 16)
			c, _ := attachTo(t, directory, ignoreEvents, func(o *Options) { o.Warn = func(text string) { warned <- text } })
			vanish(t, directory)
			patience := time.After(20 * time.Second)
			for again := false; !again; {
				select {
				case text := <-warned:
					// In the midst of a removal that is not possible yet.
					if again = strings.Contains(text, "had vanished and were made again"); !again {
						assert.Contains(t, text, "can not be watched or made again yet")
					}
				case <-patience:
					require.FailNow(t, "nothing is made again")
				}
			}
			_, err := c.Spawn(Spec{ID: "a", Run: 1, Argv: []string{"/bin/true"}})
			require.NoError(t, err, "the connection is not touched")
			pid := c.KeeperPID()
			require.NoError(t, c.Detach())
			c, state := attachTo(t, directory, ignoreEvents)
			assert.Equal(t, pid, c.KeeperPID())
			assert.Len(t, state.Runs, 1)
			lock, err := os.ReadFile(filepath.Join(directory, lockName))
			require.NoError(t, err)
			assert.Equal(t, strconv.Itoa(pid)+"\n", string(lock))
		})
	}
}

func TestAttach_OnAFullDiskFailsAndLeavesNothing(t *testing.T) {
	mount := t.TempDir()
	// Three inodes are those of the file system's top, a directory and one file.
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=64k,nr_inodes=3"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(mount, 0)) })
	directory := filepath.Join(mount, "run")
	t.Cleanup(func() { endKeeper(t, directory) })
	_, _, err := Attach(context.Background(), options(t, directory), ignoreEvents)
	assert.EqualError(t, err, fmt.Sprintf("start a keeper for %q: listen on %q: no space left on device: make room there, or use another runtime directory", directory, directory+"/keeper.sock"))
	left, err := os.ReadDir(mount)
	require.NoError(t, err)
	assert.Empty(t, left)

	require.NoError(t, os.WriteFile(filepath.Join(mount, "a"), nil, 0o600))
	_, _, err = Attach(context.Background(), options(t, directory), ignoreEvents)
	assert.EqualError(t, err, fmt.Sprintf("start a keeper for %q: lock %q: no space left on device: make room there, or use another runtime directory", directory, directory+"/keeper.lock"))

	require.NoError(t, os.WriteFile(filepath.Join(mount, "b"), nil, 0o600))
	_, _, err = Attach(context.Background(), options(t, directory), ignoreEvents)
	assert.EqualError(t, err, fmt.Sprintf("make runtime directory %q: no space left on device: make room there, or use another runtime directory", directory))
	pid, err := findKeeper(directory)
	require.NoError(t, err)
	assert.Zero(t, pid)
}

func TestHome_MakesNothingAgainOnceItIsLeft(t *testing.T) {
	directory := runtimeDirectory(t)
	h, err := moveIn(directory, func(int) {})
	require.NoError(t, err)
	h.moveOut()
	// A watch may see the files go before it hears that the home is left.
	left, err := h.repair()
	require.NoError(t, err)
	assert.True(t, left)
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	assert.Empty(t, entries)
}
