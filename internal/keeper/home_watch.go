// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"syscall"
	"time"
)

// watch keeps the directory, the lock and the socket in place until the home is left:
// whoever tidies up in /run must not make the keeper unreachable. The kernel tells when
// one of them loses its name. warn is told what was made again, or why it could not be.
func (h *home) watch(warn func(string)) {
	const shortest, longest = 100 * time.Millisecond, 10 * time.Second
	for pause := shortest; ; {
		left, err := h.awaitLoss()
		if left {
			return
		}
		if err == nil {
			left, err = h.repair()
		}
		if left {
			return
		}
		if err == nil {
			warn(sprintf("the keeper's files in %q had vanished and were made again", h.path))
			pause = shortest
			continue
		}
		if pause == shortest {
			warn(sprintf("the keeper's files in %q can not be watched or made again yet: %v", h.path, err))
		}
		select {
		case <-h.left:
			return
		case <-time.After(pause):
			pause = min(2*pause, longest)
		}
	}
}

// awaitLoss returns when something is not in its place, or when the home is left.
func (h *home) awaitLoss() (left bool, err error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return false, os.NewSyscallError("inotify_init1", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	h.mu.Lock()
	select {
	case <-h.left:
		h.mu.Unlock()
		return true, nil
	default:
	}
	h.events = events
	// Each loses a name rather than an inode: we have them open. The directory can lose
	// its own only when it is empty, so after the files. What a file itself tells of the
	// loss of its name comes a moment before that is seen to be lost, so the directory,
	// which tells a moment after, is listened to as well.
	for _, path := range []string{h.dir.at("."), h.dir.at(lockName), h.dir.at(socketName)} {
		_, err = syscall.InotifyAddWatch(fd, path, syscall.IN_ATTRIB|syscall.IN_MOVE_SELF|syscall.IN_DELETE_SELF|syscall.IN_DELETE|syscall.IN_MOVED_FROM)
		if err != nil {
			break
		}
	}
	intact := h.intact()
	h.mu.Unlock()
	if intact && err != nil {
		return false, os.NewSyscallError("inotify_add_watch", err)
	}
	buf := make([]byte, 4096)
	for intact {
		if _, err := events.Read(buf); err != nil {
			select {
			case <-h.left:
				return true, nil
			default:
				return false, err
			}
		}
		h.mu.Lock()
		intact = h.intact()
		h.mu.Unlock()
	}
	return false, nil
}

// intact reports whether everything is in its place.
func (h *home) intact() bool {
	return h.dir.linked() && h.is(h.lock, lockName) && h.hasSocket()
}

// hasSocket: the address of the listener is still its own.
func (h *home) hasSocket() bool {
	there, err := os.Lstat(h.dir.at(socketName))
	return err == nil && os.SameFile(h.socket, there)
}

// repair makes again what is not in its place, unless that is because the home is left.
// Connections that exist are not touched.
func (h *home) repair() (left bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.left:
		return true, nil
	default:
	}
	if !h.dir.linked() {
		dir, err := openDirectory(h.path)
		if err != nil {
			return false, err
		}
		h.dir.close()
		h.dir = dir
	}
	if !h.is(h.lock, lockName) {
		old := h.lock
		if err := h.takeLock(); err != nil {
			return false, err
		}
		_ = old.Close()
	}
	if !h.hasSocket() {
		old := h.listener
		if err := h.listen(); err != nil {
			return false, err
		}
		_ = old.Close()
	}
	return false, nil
}
