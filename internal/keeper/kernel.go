// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// system are the calls that a test may let fail.
type system struct {
	forkExec func(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error)
	pipe2    func(ends []int, flags int) error
}

func kernel() system { return system{forkExec: syscall.ForkExec, pipe2: syscall.Pipe2} }

// pollable makes a pidfd, or an epoll descriptor, a file of the runtime's poller, so
// that waiting for it costs a goroutine and no thread.
func pollable(fd int) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "pollable"), nil
}

// awaitDeath returns true when the process of a pidfd is dead, reaped or not, and
// false when the pidfd is closed.
func awaitDeath(pidfd *os.File) bool {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Read(func(fd uintptr) bool {
		dead, err := readable(int(fd), 0)
		return err != nil || dead
	})
	if err == nil {
		return true
	}
	if errors.Is(err, os.ErrClosed) {
		return false
	}
	// The poller did not take it, for want of memory.
	return conn.Control(func(fd uintptr) { _, _ = readable(int(fd), -1) }) == nil
}

// groupExists reports whether a process group has a member, alive or zombie.
// Members that became children of this process, because it is PID 1 or a
// subreaper, are reaped here.
func groupExists(pgid int) bool {
	for {
		if pid, err := waitID(pPGID, pgid, wExited|wNoHang); err != nil || pid == 0 {
			break
		}
	}
	return !errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH)
}

// groupLives reports whether a process group has a member that is not a zombie. It
// looks at every process.
func groupLives(pgid int) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := readStat(pid)
		if err == nil && stat.pgid == pgid && stat.living() {
			return true
		}
	}
	return false
}
