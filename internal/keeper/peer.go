// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// identity is a process, for as long as the machine runs.
type identity struct {
	pid        int
	startTicks uint64
}

// peer is a client, seen from the keeper.
type peer struct {
	identity
	socket *wire.Socket
	pidfd  *os.File
	// version of the protocol that is spoken with it; set by its greeting.
	version uint64

	// dead is closed when its process is.
	dead chan struct{}
	// pong has room for one answer to a ping.
	pong chan struct{}
	// broken is closed when everything that came from it is carried out and it has not
	// detached.
	broken chan struct{}
	// released is closed when the lease is no longer its own.
	released chan struct{}

	// live: what is in the keeper has been sent, so events go to it. Guarded by server.mu.
	live bool
}

// handshakeTime is how long a client may take to say who it is.
const handshakeTime = 10 * time.Second

// newPeer takes a connection over.
func newPeer(fd int, calls wire.Calls) (*peer, error) {
	socket, err := wire.NewSocket(fd, calls)
	if err != nil {
		return nil, err
	}
	p := &peer{
		socket: socket,
		dead:   make(chan struct{}), pong: make(chan struct{}, 1), broken: make(chan struct{}), released: make(chan struct{}),
	}
	var pidfd int
	err = socket.Control(func(fd int) (err error) {
		p.pid, pidfd, err = peerProcess(fd)
		return err
	})
	if err == nil {
		p.pidfd, err = pollable(pidfd)
	}
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	// A process that has just died has none; the connection is read to its end all the same.
	if stat, err := readStat(p.pid); err == nil {
		p.startTicks = stat.startTicks
	}
	go p.watch()
	return p, nil
}

// watch ends the input once the process is dead: somebody may have inherited its
// end of the connection.
func (p *peer) watch() {
	if awaitDeath(p.pidfd) {
		close(p.dead)
		p.socket.EndInput()
	}
}

func (p *peer) close() {
	_ = p.socket.Close()
	_ = p.pidfd.Close()
}

// isClosed reports whether a channel that nothing is sent to is closed.
func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// peerProcess returns the process at the other end of a connection. Only this user
// and root are welcome.
func peerProcess(fd int) (pid, pidfd int, err error) {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return 0, noFD, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	if own := os.Geteuid(); cred.Uid != 0 && int(cred.Uid) != own {
		return 0, noFD, errorf("process %d is of user %d; only user %d and root are let in", cred.Pid, cred.Uid, own)
	}
	pid = int(cred.Pid)
	if pidfd, err = peerPidfd(fd); err == nil {
		return pid, pidfd, nil
	}
	if pidfd, err = pidfdOpen(pid); err != nil {
		return 0, noFD, errorf("pidfd of process %d: %w", pid, err)
	}
	return pid, pidfd, nil
}

// peerPidfd needs Linux 6.5. It names the process also if that is dead and its PID
// another's.
func peerPidfd(fd int) (int, error) {
	var pidfd int32
	size := uint32(unsafe.Sizeof(pidfd))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, soPeerPidfd,
		uintptr(unsafe.Pointer(&pidfd)), uintptr(unsafe.Pointer(&size)), 0)
	return int(pidfd), errnoOf(errno)
}
