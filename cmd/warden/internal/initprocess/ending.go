// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses of init itself; all others are the collector's, or announced.
const (
	exitFailure       = 1
	exitUsage         = 2
	exitNotExecutable = 126
	exitNotFound      = 127
)

// ending is how one run of the collector ended.
type ending struct {
	wait syscall.WaitStatus
	err  error // it could not be started at all
}

// status is what a shell would make of it: the exit code, or 128+n for signal n.
func (e ending) status() int {
	switch {
	case e.err != nil:
		return startFailure(e.err)
	case e.wait.Signaled():
		return 128 + int(e.wait.Signal())
	default:
		return e.wait.ExitStatus()
	}
}

func (e ending) String() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.wait.Signaled():
		name := unix.SignalName(e.wait.Signal())
		if name == "" {
			name = fmt.Sprintf("signal %d", int(e.wait.Signal()))
		}
		if e.wait.CoreDump() {
			name += ", core dumped"
		}
		return name
	default:
		return fmt.Sprintf("exit status %d, unannounced", e.wait.ExitStatus())
	}
}

// startFailure is the exit status that a shell has for a command it cannot start.
func startFailure(err error) int {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound), errors.Is(err, exec.ErrDot):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EISDIR):
		return exitNotExecutable
	default:
		return exitFailure
	}
}
