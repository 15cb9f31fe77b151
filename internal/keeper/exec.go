// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// defaultPath is searched when the environment of a process has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookUp finds the program for argv[0] as execvp(3) does, but in the PATH that the
// process will have. The result is relative to dir if it is relative.
func lookUp(name string, env []string, dir string) (string, error) {
	if hasSlash(name) {
		return name, nil
	}
	searched := defaultPath
	for _, entry := range env {
		if value, ok := cutPrefix(entry, "PATH="); ok {
			searched = value
		}
	}
	var denied error
	for _, directory := range splitList(searched) {
		if directory == "" {
			directory = "."
		}
		// Joined by hand: path.Join would make "./x" a name without a slash.
		candidate := directory + "/" + name
		err := executable(inDir(candidate, dir))
		if err == nil {
			return candidate, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = errorf("%q may not be executed: %w", candidate, err)
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", errorf("%q is in no directory of PATH %q: %w", name, searched, syscall.ENOENT)
}

func inDir(name, dir string) string {
	if path.IsAbs(name) || dir == "" {
		return name
	}
	return dir + "/" + name
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return syscall.EISDIR
	}
	return syscall.Faccessat(atFDCWD, path, accessExecute, atEAccess)
}

// spawnError says which of the things that exec needs was missing.
func spawnError(path, dir string, err error) error {
	if dir != "" {
		if info, statErr := os.Stat(dir); statErr != nil {
			return errorf("working directory %q: %w", dir, causeOf(statErr))
		} else if !info.IsDir() {
			return errorf("working directory %q: %w", dir, syscall.ENOTDIR)
		}
	}
	if errors.Is(err, syscall.ENOENT) && executable(inDir(path, dir)) == nil {
		return errorf("execute %q: its interpreter or loader is missing: %w", path, err)
	}
	if errors.Is(err, syscall.ENOEXEC) {
		return errorf("execute %q: it is neither a binary for this machine nor a script with a #! line: %w", path, err)
	}
	return errorf("execute %q: %w", path, err)
}

// noFD is the number of a descriptor that there is none of.
const noFD = -1

// streams are the descriptors of a process to be, and the read ends that stay here.
type streams struct {
	parent *parent
	// files are the descriptors by their numbers in the process.
	files     []uintptr
	read      [3]int // as in process
	childEnds []int
	owner     *syscall.Credential // whose the pipes are to be; nil: the spawner's
}

// closedFD in streams.files leaves a number unused.
const closedFD = ^uintptr(0)

func (p *parent) openStreams(spec Spec, inherited [2]int) (*streams, error) {
	null := uintptr(p.null)
	s := &streams{parent: p, files: []uintptr{null, closedFD, closedFD}, read: [3]int{noFD, noFD, noFD}, owner: spec.Rights.Credential.change()}
	if err := s.openAll(spec, inherited); err != nil {
		s.closeChildEnds()
		s.closeReadEnds()
		return nil, err
	}
	return s, nil
}

func (s *streams) openAll(spec Spec, inherited [2]int) (err error) {
	if s.files[1], err = s.open(spec.Stdout, inherited[0], &s.read[0]); err != nil {
		return err
	}
	if spec.Stderr == StreamJoin {
		s.files[2] = s.files[1]
	} else if s.files[2], err = s.open(spec.Stderr, inherited[1], &s.read[1]); err != nil {
		return err
	}
	if spec.NotifyFD == 0 {
		return nil
	}
	for len(s.files) < spec.NotifyFD {
		s.files = append(s.files, closedFD)
	}
	fd, err := s.pipe(&s.read[2])
	s.files = append(s.files, fd)
	return err
}

func (s *streams) open(stream Stream, inherited int, readEnd *int) (fd uintptr, err error) {
	switch stream {
	case StreamInherit:
		return uintptr(inherited), nil
	case StreamPipe:
		return s.pipe(readEnd)
	}
	return uintptr(s.parent.null), nil
}

// pipe opens a pipe whose write end blocks: os.Pipe would make that non-blocking as
// well, which most programs take badly, since they see EAGAIN when the pipe is full.
func (s *streams) pipe(readEnd *int) (writeEnd uintptr, err error) {
	var ends [2]int
	if err := s.parent.system.pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return closedFD, errorf("make a pipe: %w", err)
	}
	*readEnd = ends[0]
	s.childEnds = append(s.childEnds, ends[1])
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		return closedFD, errorf("make a pipe: %w", err)
	}
	if s.owner != nil {
		// So that it can be opened once more, as /dev/stdout. Where that right is missing the
		// process can still write to what it has.
		_ = syscall.Fchown(ends[1], int(s.owner.Uid), int(s.owner.Gid))
	}
	return uintptr(ends[1]), nil
}

func (s *streams) closeChildEnds() {
	closeFDs(s.childEnds)
	s.childEnds = nil
}

func (s *streams) closeReadEnds() { closeFDs(s.read[:]) }

func closeFDs(fds []int) {
	for _, fd := range fds {
		if fd != noFD {
			_ = syscall.Close(fd)
		}
	}
}
