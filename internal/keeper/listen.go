// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"maps"
	"os"
	"slices"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// listen hears the keeper until the connection ends.
func (c *Client) listen() {
	err := c.hear()
	_ = c.socket.Close()
	c.mu.Lock()
	lost := !c.leaving
	if lost {
		c.err = errorf("%w: %w", ErrLost, c.keeper.explain(err))
	}
	err = c.err
	requests := slices.Collect(maps.Keys(c.waiting))
	c.mu.Unlock()
	for _, request := range requests {
		c.answer(request, spawnResult{err: err})
	}
	close(c.ended)
	if lost {
		c.keeper.close()
		go c.o.Lost(err)
	}
}

// hear handles what the keeper says. It returns why nothing more comes.
func (c *Client) hear() error {
	for {
		frame, err := c.socket.Receive()
		if err != nil {
			return err
		}
		switch frame.Kind {
		case kindEvents:
			events, err := decodeEvents(frame.Payload)
			if err != nil {
				return err
			}
			for _, event := range events {
				c.tell(event)
			}
		case kindSpawned:
			m, err := decodeAdopted(frame.Payload)
			if err != nil {
				closeFDs(frame.FDs)
				return err
			}
			c.spawned(m, frame)
		case kindNotSpawned:
			m, err := decodeNotSpawned(frame.Payload)
			if err != nil {
				return err
			}
			c.answer(m.request, spawnResult{err: m.asError()})
		case kindPing:
			_ = c.socket.Post(wire.Frame{Kind: kindPong})
		case kindWarning:
			c.o.Warn(string(frame.Payload))
		case kindDetached, kindDismissed:
			close(c.answered)
			return nil
		default:
			closeFDs(frame.FDs)
			return errorf("%w: kind %d", wire.ErrMalformed, frame.Kind)
		}
	}
}

func (c *Client) tell(event Event) {
	if event.Kind == Gone {
		c.mu.Lock()
		delete(c.known, runKey{event.ID, event.Run})
		c.mu.Unlock()
	}
	c.notify(event)
}

// spawned hands a run to who waits for it.
func (c *Client) spawned(m adopted, frame wire.Frame) {
	started, err := m.started(frame)
	c.mu.Lock()
	// Its Gone may have come first.
	if run := c.known[m.key]; run != nil {
		run.identity = identity{m.pid, m.startTicks}
	}
	c.mu.Unlock()
	if err != nil {
		c.Kill(m.key.id, m.key.run)
	}
	c.answer(m.request, spawnResult{started, err})
}

// remoteError is an error of the keeper. It is what the system call behind it
// returned, if there was one.
type remoteError struct {
	text  string
	cause error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.cause }

func (m notSpawned) asError() error {
	e := &remoteError{text: m.text}
	switch {
	case m.closed:
		e.cause = ErrClosed
	case m.errno != 0:
		e.cause = m.errno
	}
	return e
}

// keeperProcess is the process at the other end.
type keeperProcess struct {
	pid   int
	pidfd *os.File
}

func (k *keeperProcess) identify(socket *wire.Socket) error {
	return socket.Control(func(fd int) error {
		pid, pidfd, err := peerProcess(fd)
		if err != nil {
			return err
		}
		k.pid = pid
		k.pidfd, err = pollable(pidfd)
		return err
	})
}

// exitPatience is how long the keeper may take to exit when it has said that it does.
const exitPatience = 10 * time.Second

// awaitExit waits for the exit of the keeper and reaps it, if it is a child of this
// process.
func (k *keeperProcess) awaitExit() {
	timer := time.AfterFunc(exitPatience, func() { _ = k.pidfd.Close() })
	defer timer.Stop()
	if awaitDeath(k.pidfd) {
		k.reap()
	}
}

func (k *keeperProcess) close() { _ = k.pidfd.Close() }

func (k *keeperProcess) reap() {
	if conn, err := k.pidfd.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = waitID(pPIDFD, int(fd), wExited|wNoHang) })
	}
}

// explain says why the connection ended.
func (k *keeperProcess) explain(err error) error {
	if dead, pollErr := readable(fileFD(k.pidfd), time.Second); pollErr == nil && dead {
		k.reap()
		return errorf("the keeper (PID %d) died", k.pid)
	}
	return errorf("the connection to the keeper (PID %d) broke: %w", k.pid, err)
}
