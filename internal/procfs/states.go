// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// States is how many processes are in which state, named as in OpenTelemetry's
// process.state.
type States struct {
	Running, Sleeping, Stopped, Defunct int
}

// Total is the number of all processes.
func (s *States) Total() int { return s.Running + s.Sleeping + s.Stopped + s.Defunct }

func (s *States) add(letter byte) {
	switch letter {
	case 'R':
		s.Running++
	case 'T', 't':
		s.Stopped++
	case 'Z', 'X', 'x':
		s.Defunct++
	default: // S, D, I and what older kernels had: K, W, P
		s.Sleeping++
	}
}

// States counts all processes that can be seen. known gives the state letters of
// processes that have been read already and need not be read again, by pid. If
// some processes could not be read the counts are those of the others, and the
// error is that of the first.
func (f *FS) States(known map[int]byte) (States, error) {
	var states States
	var firstErr error
	err := f.pids(func(pid int) {
		if letter, ok := known[pid]; ok {
			states.add(letter)
			return
		}
		var st Stat
		switch err := f.Stat(pid, 0, &st); {
		case err == nil:
			states.add(st.State)
		case !errors.Is(err, ErrGone) && firstErr == nil:
			firstErr = err
		}
	})
	if err != nil {
		return States{}, err
	}
	return states, firstErr
}

// pids calls visit with the pid of every process.
func (f *FS) pids(visit func(pid int)) error {
	f.path = append(f.path[:0], f.mount...)
	fd, err := f.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Getdents(fd, f.dir)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return &fs.PathError{Op: "getdents", Path: f.mount, Err: err}
		case n == 0:
			return nil
		}
		if err := parseEntries(f.dir[:n], visit); err != nil {
			return fmt.Errorf("list %s: %w", f.mount, err)
		}
	}
}

// The layout of struct linux_dirent64.
const (
	entryLength = 16 // offset of the record's length, 16 bits
	entryName   = 19 // offset of the name, which ends at a NUL
)

// parseEntries calls visit for every directory entry whose name is a number.
func parseEntries(b []byte, visit func(pid int)) error {
	for len(b) > 0 {
		if len(b) < entryName {
			return fmt.Errorf("a directory entry is cut off after %d bytes", len(b))
		}
		length := int(binary.NativeEndian.Uint16(b[entryLength:]))
		if length <= entryName || length > len(b) {
			return fmt.Errorf("a directory entry of %d bytes claims %d", len(b), length)
		}
		if pid, ok := parsePID(b[entryName:length]); ok {
			visit(pid)
		}
		b = b[length:]
	}
	return nil
}

// parsePID reads a name that ends at a NUL; false unless it is a positive number.
func parsePID(name []byte) (int, bool) {
	pid := 0
	for i, c := range name {
		if c == 0 {
			return pid, i > 0 && pid > 0
		}
		if c < '0' || c > '9' || pid > 1<<30 {
			return 0, false
		}
		pid = pid*10 + int(c-'0')
	}
	return 0, false
}
