// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inheritedPipe makes the pipe that init would, and sets Variable to its write end.
func inheritedPipe(t *testing.T) (readEnd, writeEnd int) {
	t.Helper()
	var ends [2]int
	require.NoError(t, syscall.Pipe(ends[:]))
	syscall.CloseOnExec(ends[0]) // the other is inherited
	t.Cleanup(func() {
		_ = syscall.Close(ends[0])
		_ = syscall.Close(ends[1])
	})
	t.Setenv(Variable, strconv.Itoa(ends[1]))
	return ends[0], ends[1]
}

func TestAnnouncer_WritesWhatTheReaderReads(t *testing.T) {
	readEnd, _ := inheritedPipe(t)
	a, err := inherit()
	require.NoError(t, err)
	require.NoError(t, a.Attached(4711))
	require.NoError(t, a.Ending(OwnStatus))
	require.NoError(t, a.Ending(137))

	buffer := make([]byte, 512)
	n, err := syscall.Read(readEnd, buffer)
	require.NoError(t, err)
	assert.Equal(t, "attached 4711\nending own\nending 137\n", string(buffer[:n]))
	var r Reader
	assert.Equal(t, []Announcement{
		{Kind: Attached, Keeper: 4711}, {Kind: Ending, Status: OwnStatus}, {Kind: Ending, Status: 137},
	}, r.Feed(buffer[:n]))
}

func TestInherited_LeavesNothingToTheProcessesThatAreStarted(t *testing.T) {
	_, writeEnd := inheritedPipe(t)
	a, err := inherit()
	require.NoError(t, err)
	require.NotNil(t, a)
	own, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(writeEnd))
	require.NoError(t, err)
	seen, err := exec.Command("sh", "-c", "env; ls -l /proc/self/fd").Output()
	require.NoError(t, err)
	assert.Contains(t, string(seen), "PATH=")
	assert.NotContains(t, string(seen), Variable)
	assert.NotContains(t, string(seen), own)
}

func TestInherited_IsNilWithoutInit(t *testing.T) {
	t.Setenv(Variable, "to be restored by the test")
	require.NoError(t, os.Unsetenv(Variable))
	a, err := inherit()
	require.NoError(t, err)
	require.Nil(t, a)
	assert.NoError(t, a.Attached(4711))
	assert.NoError(t, a.Ending(0))
	assert.Error(t, a.Ending(256), "what could never be announced is refused anyhow")
}

func TestInherited_IsTheSameForEveryCaller(t *testing.T) {
	inheritedPipe(t)
	first, err := Inherited()
	require.NoError(t, err)
	require.NotNil(t, first)
	again, err := Inherited()
	require.NoError(t, err)
	assert.Same(t, first, again)
}

func TestInherited_RefusesWhatInitDidNotGive(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	readEnd, _ := inheritedPipe(t)
	closed, err := syscall.Dup(readEnd)
	require.NoError(t, err)
	require.NoError(t, syscall.Close(closed))
	number := func(fd int) string { return strconv.Itoa(fd) }
	tests := []struct{ name, give, want string }{
		{"no number", "three", `WARDEN_INIT_FD="three" is not the number of a descriptor above 2`},
		{"empty", "", `WARDEN_INIT_FD="" is not the number of a descriptor above 2`},
		{"standard error", "2", `WARDEN_INIT_FD="2" is not the number of a descriptor above 2`},
		{"a closed one", number(closed), "bad file descriptor"},
		{"a file", number(int(file.Fd())), "it is no pipe"},
		{"the wrong end", number(readEnd), "it is not the end to write to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(Variable, tt.give)
			a, err := inherit()
			assert.Nil(t, a)
			assert.ErrorContains(t, err, tt.want)
			_, found := os.LookupEnv(Variable)
			assert.False(t, found, "the variable goes in any case")
		})
	}
}

func TestAnnouncer_IsNotHeldUpByAnInitThatDoesNotRead(t *testing.T) {
	inheritedPipe(t)
	a, err := inherit()
	require.NoError(t, err)
	for range 1 << 20 {
		if err = a.Ending(OwnStatus); err != nil {
			break
		}
	}
	assert.ErrorIs(t, err, syscall.EAGAIN)
	assert.ErrorContains(t, err, `tell warden init "ending own"`)
}

func TestAnnouncer_SaysThatInitHasGone(t *testing.T) {
	readEnd, _ := inheritedPipe(t)
	a, err := inherit()
	require.NoError(t, err)
	require.NoError(t, syscall.Close(readEnd))
	assert.ErrorIs(t, a.Ending(0), syscall.EPIPE)
}

func TestAnnouncer_RefusesWhatIsNoAnnouncement(t *testing.T) {
	readEnd, _ := inheritedPipe(t)
	a, err := inherit()
	require.NoError(t, err)
	for _, keeper := range []int{-1, 0, 1, 1 << 40} {
		assert.ErrorContains(t, a.Attached(keeper), "is not the PID of a keeper")
	}
	for _, status := range []int{-2, 256} {
		assert.ErrorContains(t, a.Ending(status), "is not an exit status from 0 to 255, nor OwnStatus (-1)")
	}
	require.NoError(t, syscall.SetNonblock(readEnd, true))
	_, err = syscall.Read(readEnd, make([]byte, 1))
	assert.ErrorIs(t, err, syscall.EAGAIN, "nothing was written")
}
