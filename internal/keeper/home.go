// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// home is what a keeper has in its directory: the lock, which says that it lives, and
// the socket.
type home struct {
	path  string
	serve func(fd int) // is given the connections
	// left is closed by moveOut.
	left chan struct{}

	mu       sync.Mutex
	dir      *directory  // guarded by mu
	lock     *os.File    // guarded by mu
	listener *os.File    // guarded by mu
	socket   os.FileInfo // guarded by mu; where listener is to be found
	events   *os.File    // guarded by mu; of watch
}

// errOccupied: another keeper lives in the directory.
var errOccupied = errors.New("another keeper lives there")

// moveIn takes the directory, or returns errOccupied. On an error it leaves nothing
// behind. Connections are given to serve, each in a goroutine of its own.
func moveIn(path string, serve func(fd int)) (h *home, err error) {
	h = &home{path: path, serve: serve, left: make(chan struct{})}
	if h.dir, err = openDirectory(path); err != nil {
		return nil, err
	}
	if err = h.takeLock(); err == nil {
		if err = h.listen(); err != nil {
			_ = os.Remove(h.dir.at(lockName))
		}
	}
	if err != nil {
		h.closeLocked()
		return nil, err
	}
	return h, nil
}

// takeLock makes and locks the lock file.
func (h *home) takeLock() error {
	for {
		lock, err := os.OpenFile(h.dir.at(lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return errorf("lock %q: %w", h.path+"/"+lockName, withWayOut(causeOf(err)))
		}
		err = retry(func() error { return syscall.Flock(fileFD(lock), syscall.LOCK_EX|syscall.LOCK_NB) })
		if err != nil {
			_ = lock.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return errOccupied
			}
			return errorf("lock %q: %w", h.path+"/"+lockName, err)
		}
		if !h.is(lock, lockName) {
			// The keeper that had it has removed it in the meantime.
			_ = lock.Close()
			continue
		}
		h.lock = lock
		return h.signLock()
	}
}

func (h *home) signLock() error {
	err := h.lock.Truncate(0)
	if err == nil {
		_, err = h.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = os.Remove(h.dir.at(lockName))
		return errorf("write %q: %w", h.path+"/"+lockName, withWayOut(causeOf(err)))
	}
	return nil
}

// is reports whether a name in the directory is that of an open file.
func (h *home) is(file *os.File, name string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(h.dir.at(name))
	return err == nil && os.SameFile(open, there)
}

// listen makes the socket, in place of one that a dead keeper may have left: the
// lock is ours.
func (h *home) listen() error {
	wrap := func(err error) error {
		return errorf("listen on %q: %w", h.path+"/"+socketName, withWayOut(err))
	}
	_ = os.Remove(h.dir.at(socketName))
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return wrap(err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: h.dir.at(socketName)}); err == nil {
		// The directory's mode keeps others away until this is done.
		if err = os.Chmod(h.dir.at(socketName), 0o600); err == nil {
			err = syscall.Listen(fd, 64)
		}
		if err == nil {
			h.socket, err = os.Lstat(h.dir.at(socketName))
		}
		if err != nil {
			_ = os.Remove(h.dir.at(socketName))
		}
	}
	if err != nil {
		_ = syscall.Close(fd)
		return wrap(err)
	}
	h.listener = os.NewFile(uintptr(fd), socketName)
	go accept(h.listener, h.serve)
	return nil
}

const acceptPause = 100 * time.Millisecond

// accept gives every connection to serve, until the listener is closed.
func accept(listener *os.File, serve func(fd int)) {
	conn, err := listener.SyscallConn()
	if err != nil {
		return
	}
	for {
		var fd int
		waitErr := conn.Read(func(l uintptr) bool {
			err = retry(func() (e error) {
				fd, _, e = syscall.Accept4(int(l), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
				return e
			})
			return err != syscall.EAGAIN
		})
		switch {
		case waitErr != nil:
			return
		case err == nil:
			go serve(fd)
		case errors.Is(err, syscall.ECONNABORTED):
		default:
			// For want of descriptors or memory. The connection stays in the queue.
			time.Sleep(acceptPause)
		}
	}
}

// moveOut removes the socket and, last, the lock: a successor may come from then on.
func (h *home) moveOut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.left)
	if h.hasSocket() {
		_ = os.Remove(h.dir.at(socketName))
	}
	if h.is(h.lock, lockName) {
		_ = os.Remove(h.dir.at(lockName))
	}
	h.closeLocked()
}

func (h *home) closeLocked() {
	for _, f := range []*os.File{h.events, h.listener, h.lock, h.dir.file} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// fileFD returns the descriptor of a file that is not to be changed to blocking, as
// File.Fd may do. The file must not be closed meanwhile.
func fileFD(f *os.File) (n int) {
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}
