// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/announce"
)

// forwarded are the signals that init passes on. SIGTSTP and its like are not among
// them: the terminal stops and continues init and the collector together, since they
// are in one process group.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// signals makes signals readable from a descriptor, so that one poll waits for them
// and for everything else. A signalfd would not do: Go keeps most of these signals
// unblocked in all its threads.
type signals struct {
	fd int // the read end of a pipe: one byte for each signal, its number
}

func listen() (*signals, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(ends[0], true); err != nil {
		return nil, err
	}
	// SIGCHLD has a channel of its own: however many come, they displace no other, and
	// one in the channel stands for all.
	commands, deaths := make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(commands, forwarded...)
	signal.Notify(deaths, syscall.SIGCHLD)
	go func() {
		for {
			var s os.Signal
			select {
			case s = <-commands:
			case s = <-deaths:
			}
			// The pipe blocks while it is full; the loop that empties it never waits for this.
			number := []byte{byte(s.(syscall.Signal))}
			for {
				if _, err := unix.Write(ends[1], number); err != unix.EINTR {
					break
				}
			}
		}
	}()
	return &signals{fd: ends[0]}, nil
}

// take returns the signals that have come, in their order.
func (s *signals) take() []syscall.Signal {
	var buffer [64]byte
	n, err := unix.Read(s.fd, buffer[:])
	if err != nil {
		return nil
	}
	came := make([]syscall.Signal, n)
	for i, number := range buffer[:n] {
		came[i] = syscall.Signal(number)
	}
	return came
}

// spawn starts the collector: in the process group of init and with everything else
// that init has, and the write end of a new pipe in announce.Variable.
func spawn(path string, command, env []string) (collector, error) {
	none := collector{pidfd: absent, pipe: absent}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return none, fmt.Errorf("make a pipe for %q: %w", path, err)
	}
	defer unix.Close(ends[1])
	err := unix.SetNonblock(ends[0], true)
	if err == nil {
		// It keeps its number in the collector: the low ones may have been inherited and
		// meant for it. Nothing else in this process starts another that could get it.
		_, err = unix.FcntlInt(uintptr(ends[1]), unix.F_SETFD, 0)
	}
	pidfd := absent
	var pid int
	if err == nil {
		pid, err = syscall.ForkExec(path, command, &syscall.ProcAttr{
			Files: []uintptr{0, 1, 2},
			Env:   append(env[:len(env):len(env)], announce.Variable+"="+strconv.Itoa(ends[1])),
			Sys:   &syscall.SysProcAttr{PidFD: &pidfd},
		})
	}
	if err == nil && pidfd < 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		err = errors.New("the kernel gave no pidfd (Linux 5.4 or newer is needed)")
	}
	if err != nil {
		_ = unix.Close(ends[0])
		return none, fmt.Errorf("start %q: %w", path, err)
	}
	return collector{pid: pid, pidfd: pidfd, pipe: ends[0]}, nil
}

// findZombie returns the PID of a dead child, which stays one; 0: there is none.
func findZombie() int {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0
		}
		return childOf(&info)
	}
}

// childOf is si_pid, which package unix does not name. It follows three ints, at the
// alignment of a pointer.
func childOf(info *unix.Siginfo) int {
	const align = unsafe.Alignof(uintptr(0))
	const offset = (3*unsafe.Sizeof(int32(0)) + align - 1) &^ (align - 1)
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), offset)))
}

// reap takes the exit status of a child if it is dead.
func reap(pid int) (status syscall.WaitStatus, dead bool) {
	for {
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		return status, err == nil && got == pid
	}
}

// readable reports whether a descriptor is, without waiting: a pidfd when its
// process is dead, reaped or not.
func readable(fd int) bool { return poll(fd, unix.POLLIN) }

func poll(fd int, events int16) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 1 && fds[0].Revents&events != 0
	}
}

// fromKeyboard reports whether a signal is one that a key of a terminal sends, and
// init, and with it the collector, in the foreground of one: then both have got it.
func fromKeyboard(signal syscall.Signal) bool {
	if signal != syscall.SIGINT && signal != syscall.SIGQUIT {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// tell writes a line to standard error if that takes it at once. What has stopped
// reading init's words must not stop init, nor must what has gone: a write through
// os.Stderr would then end this process.
func tell(line string) {
	const standardError = 2
	if poll(standardError, unix.POLLOUT) {
		_, _ = unix.Write(standardError, []byte("warden: init: "+line+"\n"))
	}
}
