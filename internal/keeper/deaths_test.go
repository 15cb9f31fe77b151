// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sleeper starts a process and returns what kills it, and its pidfd, which is the caller's.
func sleeper(t *testing.T) (kill func(), pidfd int) {
	cmd := exec.Command("sleep", "60")
	require.NoError(t, cmd.Start())
	kill = func() { _ = cmd.Process.Kill() }
	t.Cleanup(func() {
		kill()
		_ = cmd.Wait()
	})
	pidfd, err := pidfdOpen(cmd.Process.Pid)
	require.NoError(t, err)
	return kill, pidfd
}

func TestDeaths_TellsOfEveryDeathOnceAndOfNoOther(t *testing.T) {
	d, err := newDeaths()
	require.NoError(t, err)
	const n = 100 // more than come with one look
	told := make(chan int, 2*n)
	kills := make([]func(), n)
	for i := range n {
		kill, pidfd := sleeper(t)
		kills[i] = kill
		require.NoError(t, d.add(pidfd, func() {
			_ = syscall.Close(pidfd)
			told <- i
		}))
	}
	for _, kill := range kills[1:] {
		kill()
	}
	seen := map[int]int{}
	for range n - 1 {
		select {
		case i := <-told:
			seen[i]++
		case <-time.After(20 * time.Second):
			require.FailNow(t, "not told", "%d of %d deaths", len(seen), n-1)
		}
	}
	d.close()
	assert.Len(t, seen, n-1, "each once")
	assert.Zero(t, seen[0], "the one that lives")
	assert.Empty(t, told)
}

func TestDeaths_OfAProcessThatWasDeadBefore(t *testing.T) {
	d, err := newDeaths()
	require.NoError(t, err)
	defer d.close()
	kill, pidfd := sleeper(t)
	kill()
	require.Eventually(t, func() bool {
		dead, err := readable(pidfd, 0)
		return err == nil && dead
	}, 20*time.Second, time.Millisecond)
	told := make(chan struct{})
	require.NoError(t, d.add(pidfd, func() {
		_ = syscall.Close(pidfd)
		close(told)
	}))
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "not told")
	}
}

func TestDeaths_CloseClosesThePidfdsThatAreLeft(t *testing.T) {
	d, err := newDeaths()
	require.NoError(t, err)
	_, pidfd := sleeper(t)
	require.NoError(t, d.add(pidfd, func() { assert.Fail(t, "it lives") }))
	d.close()
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(pidfd), syscall.F_GETFD, 0)
	assert.Equal(t, syscall.EBADF, errno)
	assert.Error(t, d.add(pidfd, func() {}), "closed")
	assert.Empty(t, d.watched[int32(pidfd)])
}

func TestDeaths_RefusesWhatIsNoPidfd(t *testing.T) {
	d, err := newDeaths()
	require.NoError(t, err)
	defer d.close()
	assert.ErrorContains(t, d.add(-1, func() {}), "Linux 5.4")
	file := t.TempDir()
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	assert.ErrorIs(t, d.add(fd, func() {}), syscall.EPERM)
	assert.Empty(t, d.watched)
}
