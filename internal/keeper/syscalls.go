// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"math"
	"syscall"
	"time"
	"unsafe"
)

// The keeper is caught while the packages of the program are initialised, so it
// imports nothing that is initialised late: golang.org/x/sys/unix comes after a
// hundred packages of a collector. These are the system calls that package syscall
// lacks. The numbers are those of every architecture but alpha and mips, where the
// calls fail with ENOSYS.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
	sysCloseRange      = 436

	pAll, pPGID, pPIDFD              = 0, 2, 3
	wNoHang, wExited, wNoWait        = 1, 4, 0x01000000
	prSetName                        = 15
	prSetChildSubreaper              = 36
	prSetNoNewPrivs                  = 38
	prCapAmbient                     = 47
	prCapAmbientClearAll             = 4
	rlimitNproc                      = 6
	rlimitMemlock                    = 8
	closeRangeCloexec                = 4
	clockMonotonic                   = 1
	sigSetMask                       = 2
	oPath                            = 0x200000
	atFDCWD                          = -100
	atEAccess                        = 0x200
	soPeerPidfd                      = 77
	accessExecute             uint32 = 1
)

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func errnoOf(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// markCloseOnExec marks every open descriptor from the first on.
func markCloseOnExec(first int) error {
	_, _, errno := syscall.Syscall(sysCloseRange, uintptr(first), math.MaxInt32, closeRangeCloexec)
	if errno == syscall.ENOSYS {
		errno = 0
	}
	return errnoOf(errno)
}

// waitID is waitid(2); it returns the PID, 0 if there is nothing to tell.
func waitID(idType, id, options int) (pid int, err error) {
	// siginfo_t: three ints, padding to the size of a pointer, then the PID.
	var info struct {
		signo, errno, code int32
		rest               [29]int32
	}
	err = retry(func() error {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, uintptr(idType), uintptr(id), uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
		return errnoOf(errno)
	})
	if err != nil || info.signo == 0 {
		return 0, err
	}
	const pad = (unsafe.Sizeof(uintptr(0)) - 4) / 4
	return int(info.rest[pad]), nil
}

func pidfdOpen(pid int) (int, error) {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	return int(fd), errnoOf(errno)
}

func pidfdSignal(fd int, signal syscall.Signal) error {
	_, _, errno := syscall.Syscall6(sysPidfdSendSignal, uintptr(fd), uintptr(signal), 0, 0, 0, 0)
	return errnoOf(errno)
}

// readable waits until a descriptor can be read, or, of a pidfd, until the process
// is dead. It holds a thread as long as that takes; 0 does not wait, a negative
// timeout is none.
func readable(fd int, timeout time.Duration) (bool, error) {
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: 1 /* POLLIN */}
	var limit *syscall.Timespec
	if timeout >= 0 {
		t := syscall.NsecToTimespec(int64(timeout))
		limit = &t
	}
	var n uintptr
	err := retry(func() error {
		var errno syscall.Errno
		n, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(limit)), 0, 0, 0)
		return errnoOf(errno)
	})
	return n == 1, err
}

func prctl(option int, arg uintptr) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_PRCTL, uintptr(option), arg, 0, 0, 0, 0)
	return errnoOf(errno)
}

// monotonic is raw CLOCK_MONOTONIC, which Go's own monotonic time can not be turned into.
func monotonic() time.Duration {
	var t syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// unblockSignals lets the calling thread, and what it forks, receive every signal:
// whoever started this program may have blocked some.
func unblockSignals() {
	var none uint64
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}
