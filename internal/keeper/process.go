// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// processName is argv[0] of a keeper process; its directory is argv[1].
const processName = "warden-keeper"

// A program that imports this package is the keeper if it was started as one. It is
// caught here, before the packages that need more are initialised: a keeper is then
// under a megabyte of memory of its own, whatever the program is otherwise.
func init() {
	var main func() int
	switch {
	case len(os.Args) == 2 && os.Args[0] == processName:
		main = func() int { return keeperMain(os.Args[1]) }
	case len(os.Args) == 1 && os.Args[0] == helperName:
		main = helperMain
	case len(os.Args) == 2 && os.Args[0] == stubName:
		// On the thread that it executes the program with.
		syscall.Exit(stubMain(os.Args[1]))
	default:
		return
	}
	nameProcess()
	// The goroutine of init is bound to the first thread: work done by it would cost
	// a change of threads at every turn.
	go func() { syscall.Exit(main()) }()
	select {}
}

// nameProcess sets what top calls the command: the kernel took "exe" from the path
// that was executed. It is the name of the thread.
func nameProcess() {
	name := [16]byte{}
	copy(name[:15], os.Args[0])
	_ = prctl(prSetName, uintptr(unsafe.Pointer(&name)))
}

// reportFD is where a keeper tells who starts it that it is ready, with reportReady, or
// why not, with one of the others and a text.
const (
	reportFD       = 3
	reportReady    = 'r'
	reportOccupied = 'o'
	reportFailed   = 'f'
)

// keeperMain is the keeper process. It returns the exit status.
func keeperMain(path string) int { return keep(path, openCgroups) }

// keep is keeperMain with what finds the place for cgroups.
func keep(path string, openCgroups func(directory string) (*cgroups, error)) int {
	closeInherited()
	report := os.NewFile(reportFD, "report")
	s, err := newServer(path, kernel(), wire.Kernel(), realClock())
	if err != nil {
		_, _ = report.Write(append([]byte{reportFailed}, err.Error()...))
		return 1
	}
	s.parent.useHelper(helperThreshold)
	// Where this fails orphans go to PID 1, and are not known here.
	s.parent.adopts = os.Getpid() == 1 || prctl(prSetChildSubreaper, 1) == nil
	s.parent.cgroups, s.parent.noCgroups = openCgroups(path)
	s.parent.manages = s.manages
	if s.parent.cgroups != nil {
		defer s.parent.cgroups.close()
	}
	reap := make(chan os.Signal, 1)
	s.parent.onPassed = func() {
		select {
		case reap <- syscall.SIGCHLD:
		default:
		}
	}
	signal.Notify(reap, syscall.SIGCHLD)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	outlive()
	h, err := moveIn(path, s.serve)
	if err != nil {
		kind := byte(reportFailed)
		if errors.Is(err, errOccupied) {
			kind = reportOccupied
		}
		_, _ = report.Write(append([]byte{kind}, err.Error()...))
		return 1
	}
	defer h.moveOut()
	go h.watch(s.warn)
	_, _ = report.Write([]byte{reportReady})
	_ = report.Close()
	for {
		select {
		case <-reap:
			s.parent.reapOrphans()
		case <-terminate:
			go s.terminate()
		case <-s.done:
			return 0
		}
	}
}

// closeInherited closes what whoever started this left open and is not for the keeper.
// What this program has opened is close-on-exec.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= reportFD {
			continue
		}
		const fdCloexec = 1
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&fdCloexec == 0 {
			_ = syscall.Close(fd)
		}
	}
}

// outlive makes the keeper survive signals that a terminal or an operator sends, and
// takes those that it was started to ignore, so that no process inherits that: a signal
// that has a handler is reset by exec, an ignored one is not.
func outlive() {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}
	for _, s := range ignoredSignals() {
		switch {
		case s == syscall.SIGCHLD || s == syscall.SIGTERM:
		case s >= firstReserved && s <= lastReserved:
			resetSignal(s)
		default:
			signals = append(signals, s)
		}
	}
	// Nobody reads it: what does not fit is dropped.
	signal.Notify(make(chan os.Signal, 1), signals...)
}

// C libraries have these for themselves, and Go's runtime leaves them alone. What glibc's
// posix_spawn starts, as make does, is started to ignore them.
const (
	firstReserved = syscall.Signal(32)
	lastReserved  = syscall.Signal(34)
)

// resetSignal makes what a signal does the default.
func resetSignal(s syscall.Signal) {
	var action [4]uint64 // of all zeros, in the shape of any architecture
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// ignoredSignals are those that this process ignores.
func ignoredSignals() (signals []syscall.Signal) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(text) {
		value, ok := bytes.CutPrefix(line, []byte("SigIgn:"))
		if !ok {
			continue
		}
		mask, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		for i := 0; err == nil && i < 64; i++ {
			if mask&(1<<i) != 0 {
				signals = append(signals, syscall.Signal(i+1))
			}
		}
	}
	return signals
}
