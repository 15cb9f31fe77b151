// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInProcess_SignalsNothingThatIsNoLongerItsOwn(t *testing.T) {
	b := newBench(t, inProcess)
	run, started := b.shell("echo up; exec sleep 1000", captured)
	firstLine(t, started.Stdout)
	started.Close()
	r := b.Spawner.(*InProcess).parent.lookup("sh", run)
	b.Stop("sh", run)
	b.await(Gone, run)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.True(t, r.over, "the number of the group may be somebody else's by now")
}

func TestInProcess_ProcessesInheritNoBlockedSignals(t *testing.T) {
	b := newBench(t, inProcess)
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	blocked := uint64(1 << (syscall.SIGUSR1 - 1))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&blocked)), 0, 8, 0, 0)
	require.Zero(t, errno)
	_, s := b.shell("", captured, func(s *Spec) { s.Argv = []string{"grep", "SigBlk", "/proc/self/status"} }) // a shell unblocks them itself
	defer s.Close()
	assert.Equal(t, "SigBlk:\t0000000000000000", firstLine(t, s.Stdout))
}
