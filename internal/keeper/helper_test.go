// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// helped is a host whose helper forks from so many descriptors on.
func helped(t *testing.T, threshold int) (h *host, used *helper) {
	h = newPreparedHost(t, func(s *server) { used = s.parent.useHelper(threshold) })
	return h, used
}

// pidOf is the helper's PID; 0 if there is none. No fork may be going on.
func (h *helper) pidOf(p *parent) int {
	p.forking.Lock()
	defer p.forking.Unlock()
	return h.pid
}

func TestHelper_ForksOnlyForAKeeperWithManyDescriptors(t *testing.T) {
	b := emptyBench(t)
	h, helper := helped(t, 60)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	first, s := b.shell("exec sleep 1000", captured)
	s.Close()
	assert.Zero(t, helper.pidOf(h.parent))
	var many []uint64
	for range 40 {
		run, s := b.shell("exec sleep 1000", captured)
		s.Close()
		many = append(many, run)
	}
	pid := helper.pidOf(h.parent)
	require.NotZero(t, pid)
	assert.Less(t, openFiles(t, pid), 20, "it has few itself")
	for _, run := range append(many, first) {
		b.Kill("sh", run)
		assert.Equal(t, syscall.SIGKILL, b.await(Died, run).Exit.Signal, "its children are the keeper's")
	}
}

func TestHelper_IsReplacedWhenItDies(t *testing.T) {
	b := emptyBench(t)
	h, helper := helped(t, 0)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	b.shell("exit 0")
	first := helper.pidOf(h.parent)
	require.NotZero(t, first)
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	for range 2 {
		run, s := b.shell("echo said", captured)
		assert.Equal(t, "said", firstLine(t, s.Stdout))
		s.Close()
		assert.Zero(t, b.await(Died, run).Exit.Code)
	}
	second := helper.pidOf(h.parent)
	assert.NotZero(t, second)
	assert.NotEqual(t, first, second)
	assert.ErrorIs(t, syscall.Kill(first, 0), syscall.ESRCH, "it is reaped")
	_, known := h.parent.known.Load(first)
	assert.False(t, known)
}

func TestHelper_WhatItForkedWithoutSayingSoIsKilled(t *testing.T) {
	directory := runtimeDirectory(t)
	mark := RunIDVariable + "=" + directory + ":a:1"
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: []string{"A=b", mark}, Sys: &syscall.SysProcAttr{Setsid: true}})
	require.NoError(t, err)
	other, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: []string{mark + "1"}, Sys: &syscall.SysProcAttr{Setsid: true}})
	require.NoError(t, err)
	killMarked([]string{"PATH=/bin", mark})
	var status syscall.WaitStatus
	_, err = syscall.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	assert.Equal(t, syscall.SIGKILL, status.Signal())
	assert.True(t, isLiving(other))
	require.NoError(t, syscall.Kill(other, syscall.SIGKILL))
	_, err = syscall.Wait4(other, nil, 0, nil)
	require.NoError(t, err)
}

func TestHelper_WithoutOneTheKeeperForksItself(t *testing.T) {
	var starts atomic.Int32
	h := newPreparedHost(t, func(s *server) {
		fork := s.parent.system.forkExec
		s.parent.system.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
			if argv[0] == helperName {
				starts.Add(1)
				return 0, syscall.EAGAIN
			}
			return fork(path, argv, attr)
		}
		s.parent.useHelper(0)
	})
	b := emptyBench(t)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	run, _ := b.shell("exit 3")
	assert.Equal(t, 3, b.await(Died, run).Exit.Code)
	assert.Equal(t, int32(1), starts.Load())
}

func TestHelper_SaysWhyAnExecFailed(t *testing.T) {
	b := emptyBench(t)
	h, helper := helped(t, 0)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	_, err := b.Spawn(Spec{ID: "a", Run: 1, Argv: []string{"/nonexistent"}, Stdout: StreamPipe})
	assert.ErrorIs(t, err, syscall.ENOENT)
	assert.NotZero(t, helper.pidOf(h.parent), "it was the helper's error")
	// What the exec failed in was the keeper's child.
	for _, child := range childrenOf(t, os.Getpid()) {
		pid, err := strconv.Atoi(child)
		require.NoError(t, err)
		if pid != helper.pidOf(h.parent) {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

func TestFiles_KeepTheirNumbers(t *testing.T) {
	files := []uintptr{7, 9, 9, closedFD, closedFD, 8, 7}
	var e wire.Encoder
	fds := appendFiles(&e, files)
	assert.Equal(t, []int{7, 9, 8}, fds)
	got, ok := takeFiles(wire.NewDecoder(e.Buf), []int{17, 19, 18})
	assert.True(t, ok)
	assert.Equal(t, []uintptr{17, 19, 19, closedFD, closedFD, 18, 17}, got)
	_, ok = takeFiles(wire.NewDecoder(e.Buf), []int{17})
	assert.False(t, ok, "there are fewer than are named")
}
