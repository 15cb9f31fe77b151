// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The real-time signals as the C library and systemd count them: glibc keeps the
// kernel's first two for itself.
const (
	signalRTMin syscall.Signal = 34
	signalRTMax syscall.Signal = 64
)

// parseSignal takes SIGTERM, TERM, sigterm, and SIGRTMIN+3 or RTMAX-1.
func parseSignal(text string) (syscall.Signal, bool) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	base, sign := syscall.Signal(0), 1
	switch {
	case strings.HasPrefix(name, "RTMIN"):
		base = signalRTMin
	case strings.HasPrefix(name, "RTMAX"):
		base, sign = signalRTMax, -1
	default:
		signal := unix.SignalNum("SIG" + name)
		return signal, signal != 0
	}
	offset := name[len("RTMIN"):]
	if offset == "" {
		return base, true
	}
	if (offset[0] == '+') != (sign > 0) {
		return 0, false
	}
	n, err := strconv.ParseUint(offset[1:], 10, 8)
	if err != nil || n > uint64(signalRTMax-signalRTMin) {
		return 0, false
	}
	return base + syscall.Signal(sign*int(n)), true
}

// signalName is what parseSignal takes back.
func signalName(signal syscall.Signal) string {
	if signal == signalRTMin {
		return "SIGRTMIN"
	}
	if signal > signalRTMin && signal <= signalRTMax {
		return fmt.Sprintf("SIGRTMIN+%d", signal-signalRTMin)
	}
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return strconv.Itoa(int(signal))
}

func isSignal(signal syscall.Signal) bool {
	return signal >= signalRTMin && signal <= signalRTMax || unix.SignalName(signal) != ""
}

// signalNames lists the signals that have a name of their own.
func signalNames() []string {
	var names []string
	for signal := syscall.Signal(1); signal < signalRTMin; signal++ {
		if name := unix.SignalName(signal); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// suspendsOrResumes is true for the signals of job control: a process that gets one
// stops running or runs on, but does not end, unless it has a handler for it.
func suspendsOrResumes(signal syscall.Signal) bool {
	switch signal {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGCHLD:
		return true
	}
	return false
}

// neverEnds is true for the signals that no process can die of.
func neverEnds(signal syscall.Signal) bool {
	return suspendsOrResumes(signal) || signal == unix.SIGURG || signal == unix.SIGWINCH
}
