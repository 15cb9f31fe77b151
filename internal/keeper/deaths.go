// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// deaths waits for the death of processes, all of them in one goroutine: a goroutine
// for each would be most of what a process costs here.
type deaths struct {
	// epoll watches the pidfds, and is itself watched by the runtime's poller.
	epoll *os.File
	conn  syscall.RawConn
	ended chan struct{} // closed when nothing is told any more

	mu      sync.Mutex
	watched map[int32]func() // guarded by mu; by pidfd
}

// newDeaths must be closed.
func newDeaths() (*deaths, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	d := &deaths{ended: make(chan struct{}), watched: map[int32]func(){}}
	if d.epoll, err = pollable(fd); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	if d.conn, err = d.epoll.SyscallConn(); err != nil {
		_ = d.epoll.Close()
		return nil, err
	}
	go d.watch()
	return d, nil
}

// add has died called, once, when the process of a pidfd is dead. That is done by the
// goroutine that all of them share, so it must not wait for anything. The pidfd must
// stay open until then.
func (d *deaths) add(pidfd int, died func()) error {
	if pidfd < 0 {
		return errors.New("the kernel gave no pidfd (Linux 5.4 or newer is needed)")
	}
	d.mu.Lock()
	d.watched[int32(pidfd)] = died
	d.mu.Unlock()
	err := d.control(syscall.EPOLL_CTL_ADD, int32(pidfd))
	if err != nil {
		d.take(int32(pidfd))
	}
	return err
}

func (d *deaths) control(operation int, pidfd int32) error {
	var err error
	closed := d.conn.Control(func(epoll uintptr) {
		err = syscall.EpollCtl(int(epoll), operation, int(pidfd), &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: pidfd})
	})
	if closed != nil {
		return closed
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (d *deaths) take(pidfd int32) (died func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	died = d.watched[pidfd]
	delete(d.watched, pidfd)
	return died
}

func (d *deaths) watch() {
	defer close(d.ended)
	var events [64]syscall.EpollEvent
	for {
		n := 0
		err := d.conn.Read(func(epoll uintptr) bool {
			n, _ = syscall.EpollWait(int(epoll), events[:], 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			// Closing would not do: a child that is about to execute its program has
			// the pidfd too, for a moment.
			_ = d.control(syscall.EPOLL_CTL_DEL, event.Fd)
			if died := d.take(event.Fd); died != nil {
				died()
			}
		}
	}
}

// close ends the goroutine. Nothing is told of what still lives, whose pidfds are closed.
func (d *deaths) close() {
	_ = d.epoll.Close()
	<-d.ended
	for pidfd := range d.watched {
		_ = syscall.Close(int(pidfd))
	}
}
