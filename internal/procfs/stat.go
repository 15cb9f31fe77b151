// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"time"
)

// Stat is what /proc/PID/stat tells of one process.
type Stat struct {
	// State is the kernel's letter: R, S, D, T, t, Z, X, I …
	State byte
	PPID  int
	// User and System are the process's own CPU time, all its threads together.
	// ChildrenUser and ChildrenSystem are that of its ended and waited-for children.
	User, System, ChildrenUser, ChildrenSystem time.Duration
	Threads                                    int64
	// StartTicks is field 22, the start after boot in ticks. With the pid it names
	// the process for as long as the system runs.
	StartTicks uint64
	// VirtualBytes and RSSPages are 0 once the process is a zombie.
	VirtualBytes uint64
	RSSPages     int64
}

// Zombie reports whether the process has ended and waits to be reaped: its CPU
// time is final, its memory is gone.
func (s *Stat) Zombie() bool { return s.State == 'Z' || s.State == 'X' || s.State == 'x' }

// Stat reads /proc/PID/stat into st. startTicks is what field 22 has to be; for
// any other value, as for a process that is not there, the error is ErrGone. 0
// accepts every process.
func (f *FS) Stat(pid int, startTicks uint64, st *Stat) error {
	data, err := f.readProcess(pid, "stat")
	if err != nil {
		return err
	}
	if err := st.parse(data); err != nil {
		return fmt.Errorf("parse %s: %w", f.path, err)
	}
	if startTicks != 0 && st.StartTicks != startTicks {
		return ErrGone
	}
	return nil
}

// The fields of the file that are read, numbered from 1 as in proc(5).
const (
	fieldState      = 3
	fieldPPID       = 4
	fieldUser       = 14
	fieldSystem     = 15
	fieldChildUser  = 16
	fieldChildSys   = 17
	fieldThreads    = 20
	fieldStartTicks = 22
	fieldVirtual    = 23
	fieldRSS        = 24
)

// parse reads one line. The second field, the name in brackets, can hold brackets,
// blanks and line ends, so counting begins behind the last bracket.
func (s *Stat) parse(data []byte) error {
	nameEnd := bytes.LastIndexByte(data, ')')
	if nameEnd < 0 {
		return fmt.Errorf("%s has no name in brackets", quote(data))
	}
	*s = Stat{}
	rest := data[nameEnd+1:]
	for number := fieldState; number <= fieldRSS; number++ {
		var field []byte
		field, rest = cutField(rest)
		if len(field) == 0 {
			return fmt.Errorf("%s ends before field %d", quote(data), number)
		}
		if !s.set(number, field) {
			return fmt.Errorf("field %d is %s", number, quote(field))
		}
	}
	return nil
}

// set stores one field; false if it cannot be what the kernel writes there.
func (s *Stat) set(number int, field []byte) (ok bool) {
	var n int64
	switch number {
	case fieldState:
		s.State = field[0]
		return len(field) == 1
	case fieldPPID:
		n, ok = parseInt(field)
		s.PPID = int(n)
	case fieldUser:
		s.User, ok = parseTicks(field)
	case fieldSystem:
		s.System, ok = parseTicks(field)
	case fieldChildUser:
		s.ChildrenUser, ok = parseTicks(field)
	case fieldChildSys:
		s.ChildrenSystem, ok = parseTicks(field)
	case fieldThreads:
		s.Threads, ok = parseInt(field)
	case fieldStartTicks:
		s.StartTicks, ok = parseUint(field)
	case fieldVirtual:
		s.VirtualBytes, ok = parseUint(field)
	case fieldRSS:
		s.RSSPages, ok = parseInt(field)
	default:
		return true
	}
	return ok
}

const tick = time.Second / TicksPerSecond

func parseTicks(field []byte) (time.Duration, bool) {
	n, ok := parseUint(field)
	// 292 years of CPU time: more is not a time.
	if !ok || n > uint64((1<<63-1)/tick) {
		return 0, false
	}
	return time.Duration(n) * tick, true
}
