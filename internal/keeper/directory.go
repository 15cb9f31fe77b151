// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"path"
	"strconv"
	"syscall"
)

// directory is an open runtime directory. Its files are reached through its
// descriptor: it stays the one that was checked, and its path may be longer than the
// 107 bytes of a socket's address.
type directory struct {
	path string
	file *os.File
	made madeDirectories
}

const (
	socketName = "keeper.sock"
	lockName   = "keeper.lock"
)

// canonical returns a path without links in the way to its last element, so that a
// keeper is found by its directory.
func canonical(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", errorf("runtime directory %q: it must be an absolute path", name)
	}
	name = path.Clean(name)
	fd, err := syscall.Open(path.Dir(name), oPath|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.ENOENT) {
		return name, nil // to be made
	}
	if err != nil {
		return "", errorf("runtime directory %q: %w", name, err)
	}
	defer syscall.Close(fd)
	parent, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", errorf("runtime directory %q: %w", name, causeOf(err))
	}
	return path.Join(parent, path.Base(name)), nil
}

// openDirectory opens a runtime directory, making it if it is not there, and refuses
// one that somebody else could change.
func openDirectory(name string) (*directory, error) {
	made, err := makeDirectory(name)
	if err != nil {
		return nil, errorf("make runtime directory %q: %w", name, withWayOut(causeOf(err)))
	}
	fd, err := syscall.Open(name, syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		made.undo()
		return nil, errorf("runtime directory %q: %w", name, explainOpen(name, err))
	}
	d := &directory{path: name, file: os.NewFile(uintptr(fd), name), made: made}
	if err := d.check(); err != nil {
		_ = d.file.Close()
		return nil, err
	}
	return d, nil
}

// withWayOut adds to why something could not be made in the directory, or above it, what
// can be done.
func withWayOut(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errorf("%w: make room there, or use another runtime directory", err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return errorf("%w: use another runtime directory, or let user %d write there", err, os.Geteuid())
	}
	return err
}

func explainOpen(path string, err error) error {
	if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&os.ModeSymlink != 0 {
		return errors.New("it is a symbolic link: name the directory itself")
	}
	return err
}

// check refuses a directory that others own or may write to: they could put a socket
// of their own there.
func (d *directory) check() error {
	info, err := d.file.Stat()
	if err != nil {
		return errorf("runtime directory %q: %w", d.path, err)
	}
	owner, own := info.Sys().(*syscall.Stat_t).Uid, os.Geteuid()
	if int(owner) != own {
		return errorf("runtime directory %q belongs to user %d (mode %s), and this is user %d: use another directory, or give it to user %d", d.path, owner, octal(info.Mode()), own, own)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return errorf("runtime directory %q has mode %s, owner %d: others may write to it; chmod 0700 it, or use another", d.path, octal(mode), owner)
	}
	return nil
}

// at is the path of a file in the directory.
func (d *directory) at(name string) string {
	return "/proc/self/fd/" + strconv.Itoa(fileFD(d.file)) + "/" + name
}

// linked reports whether the path still leads to the directory.
func (d *directory) linked() bool {
	open, err := d.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(d.path)
	return err == nil && os.SameFile(open, there)
}

func (d *directory) close() { _ = d.file.Close() }

// madeDirectories are the directories that had to be made, the outermost first.
type madeDirectories []string

// makeDirectory makes a directory and what is missing above it.
func makeDirectory(name string) (made madeDirectories, err error) {
	err = os.Mkdir(name, 0o700)
	if errors.Is(err, os.ErrNotExist) && name != "/" {
		if made, err = makeDirectory(path.Dir(name)); err != nil {
			return nil, err
		}
		err = os.Mkdir(name, 0o700)
	}
	switch {
	case err == nil:
		return append(made, name), nil
	case errors.Is(err, os.ErrExist):
		return made, nil
	}
	made.undo()
	return nil, err
}

func (m madeDirectories) undo() {
	for i := len(m) - 1; i >= 0; i-- {
		_ = os.Remove(m[i])
	}
}
