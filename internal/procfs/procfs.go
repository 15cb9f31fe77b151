// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package procfs reads Linux's proc file system without allocating. Each file is
// read once and whole, so that the facts of one answer belong to one moment, and
// what cannot be parsed is an error that quotes it, never a silent zero.
//
// One source of facts is one file here, one type and one method of FS, all of the
// same name.
package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process is not there any longer, or that its pid belongs
// to another process by now.
var ErrGone = errors.New("the process is gone")

// TicksPerSecond is what the times in /proc count in. The kernel converts its own
// rate to this one for user space, on every architecture that Go runs on.
const TicksPerSecond = 100

const (
	firstBuffer = 4 << 10
	// maxFile bounds what is read of one file. /proc/stat, with a line for each CPU
	// and a column for each interrupt, is the largest one.
	maxFile   = 4 << 20
	dirBuffer = 32 << 10
)

// FS reads the proc file system at one mount point. It is for one goroutine: all
// reads share its buffers.
type FS struct {
	mount string
	path  []byte // the path of the read in progress
	buf   []byte
	dir   []byte // directory entries; apart from buf, which is in use while they are walked
}

// New returns a reader of the proc file system mounted at mount, usually /proc.
func New(mount string) *FS {
	return &FS{mount: mount, buf: make([]byte, firstBuffer), dir: make([]byte, dirBuffer)}
}

// read returns the content of the file called name at the top of the mount. The
// bytes are valid until the next read.
func (f *FS) read(name string) ([]byte, error) {
	f.path = append(append(append(f.path[:0], f.mount...), '/'), name...)
	return f.readPath()
}

// readProcess returns the content of the file called name of the process pid. The
// bytes are valid until the next read.
func (f *FS) readProcess(pid int, name string) ([]byte, error) {
	f.path = append(append(f.path[:0], f.mount...), '/')
	f.path = strconv.AppendInt(f.path, int64(pid), 10)
	f.path = append(append(f.path, '/'), name...)
	data, err := f.readPath()
	// A process that ends between open and read makes the read fail with ESRCH.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	return data, err
}

// readPath reads the file at f.path. The kernel produces these files whole if the
// buffer can hold them, so a full buffer means: again, with a larger one.
func (f *FS) readPath() ([]byte, error) {
	fd, err := f.open(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Pread(fd, f.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: string(f.path), Err: err}
		case n < len(f.buf):
			return f.buf[:n], nil
		case n >= maxFile:
			return nil, fmt.Errorf("read %s: more than %d bytes", f.path, maxFile)
		}
		f.buf = make([]byte, 2*len(f.buf))
	}
}

// open opens f.path. It makes the system call itself because unix.Open copies the
// path.
func (f *FS) open(flags int) (int, error) {
	cwd := unix.AT_FDCWD
	f.path = append(f.path, 0)
	defer func() { f.path = f.path[:len(f.path)-1] }()
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&f.path[0])),
			uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, &fs.PathError{Op: "open", Path: string(f.path[:len(f.path)-1]), Err: errno}
		}
	}
}
