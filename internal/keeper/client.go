// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// sendPatience is how long the keeper may take to read what it is sent.
const sendPatience = 10 * time.Second

// Client is the holder of the lease of a keeper, a process of its own that is the
// parent of the runs: they outlive the client.
type Client struct {
	o      Options
	notify func(Event)
	socket *wire.Socket
	keeper keeperProcess
	dir    string // the working directory

	// ended is closed when nothing more comes from the keeper; answered before that if it
	// has answered a detach or a dismissal.
	ended, answered chan struct{}

	mu      sync.Mutex
	request uint64                 // guarded by mu; numbers the spawns
	waiting map[uint64]spawnWaiter // guarded by mu
	known   map[runKey]*knownRun   // guarded by mu; what may live
	leaving bool                   // guarded by mu; detached or closed: the end is no loss
	err     error                  // guarded by mu; why every call fails
}

// knownRun is what it takes to end a run without the keeper.
type knownRun struct {
	identity
	how Stop
}

// spawnWaiter waits for the answer to a spawn.
type spawnWaiter struct {
	key    runKey
	result chan<- spawnResult // has room for it
}

type spawnResult struct {
	started Started
	err     error
}

var _ Spawner = (*Client)(nil)

// KeeperPID returns the PID of the keeper.
func (c *Client) KeeperPID() int { return c.keeper.pid }

// Spawn implements Spawner. It is idempotent for (ID, Run): a run that the keeper has is
// returned as it is.
//
// A relative Spec.Dir means the client's working directory when it attached, StreamInherit
// its streams.
func (c *Client) Spawn(spec Spec) (Started, error) {
	if err := spec.check(); err != nil {
		return Started{}, err
	}
	if !path.IsAbs(spec.Dir) {
		spec.Dir = path.Join(c.dir, spec.Dir)
	}
	inherits := spec.Stdout == StreamInherit || spec.Stderr == StreamInherit
	fds, err := duplicates(spec.Hold)
	if err != nil {
		return Started{}, errorf("duplicate what is to be held: %w", err)
	}
	defer closeFDs(fds)
	m := spawn{spec: spec, holds: len(fds), inherits: inherits}
	sent := fds
	if inherits {
		sent = append(sent[:len(sent):len(sent)], syscall.Stdout, syscall.Stderr)
	}
	key := runKey{spec.ID, spec.Run}
	result := make(chan spawnResult, 1)
	if m.request, err = c.expectAnswer(key, spec, result); err != nil {
		return Started{}, err
	}
	var e wire.Encoder
	m.append(&e)
	if err := c.send(kindSpawn, e.Buf, sent...); err != nil {
		c.answer(m.request, spawnResult{err: err})
	}
	r := <-result
	return r.started, r.err
}

// expectAnswer registers a spawn that is about to be asked for.
func (c *Client) expectAnswer(key runKey, spec Spec, result chan spawnResult) (request uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.request++
	c.waiting[c.request] = spawnWaiter{key, result}
	if c.known[key] == nil {
		c.known[key] = &knownRun{how: spec.Stop}
	}
	return c.request, nil
}

// answer hands a result to who waits for it, if somebody does.
func (c *Client) answer(request uint64, result spawnResult) {
	c.mu.Lock()
	waiter, ok := c.waiting[request]
	delete(c.waiting, request)
	if run := c.known[waiter.key]; result.err != nil && run != nil && run.pid == 0 {
		delete(c.known, waiter.key)
	}
	c.mu.Unlock()
	if ok {
		waiter.result <- result
	} else {
		result.started.Close()
	}
}

// duplicates are close-on-exec.
func duplicates(files []*os.File) (fds []int, err error) {
	for _, file := range files {
		conn, err := file.SyscallConn()
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		var errno syscall.Errno
		err = conn.Control(func(fd uintptr) {
			var n uintptr
			if n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0); errno == 0 {
				fds = append(fds, int(n))
			}
		})
		if err = errors.Join(err, errnoOf(errno)); err != nil {
			closeFDs(fds)
			return nil, err
		}
	}
	return fds, nil
}

// Stop implements Spawner.
func (c *Client) Stop(id string, run uint64) { _ = c.send(kindStop, encodeRef(runKey{id, run})) }

// SetStop implements Spawner.
func (c *Client) SetStop(id string, run uint64, how Stop) {
	key := runKey{id, run}
	c.mu.Lock()
	if known := c.known[key]; known != nil {
		known.how = how
	}
	c.mu.Unlock()
	_ = c.send(kindSetStop, setStop{key, how}.encode())
}

// Signal implements Spawner.
func (c *Client) Signal(id string, run uint64, signal syscall.Signal) {
	_ = c.send(kindSignal, sendSignal{runKey{id, run}, signal}.encode())
}

// Kill implements Spawner.
func (c *Client) Kill(id string, run uint64) { _ = c.send(kindKill, encodeRef(runKey{id, run})) }

// Commit returns when the whole of it is in the keeper's socket: it will be applied
// even if this process dies now, after everything that was sent before. An error means
// that the keeper does not take it for 10 s, and that the client is lost; or, as
// wire.ErrTooLong, that it is over 8 MiB and nothing has happened.
func (c *Client) Commit(commit Commit) error {
	var e wire.Encoder
	appendCommit(&e, commit)
	return c.send(kindCommit, e.Buf)
}

// send puts a message into the socket, whole.
func (c *Client) send(kind uint8, payload []byte, fds ...int) error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.put(wire.Frame{Kind: kind, Payload: payload, FDs: fds})
}

// put is send past the look at whether it can be done. The client may be left, or lost,
// in between.
func (c *Client) put(frame wire.Frame) error {
	err := c.socket.Send(frame, sendPatience)
	if err == nil || errors.Is(err, wire.ErrTooLong) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return ErrClosed
	}
	return errorf("%w: %w", ErrLost, err)
}

// Detach gives the lease back; the runs live on. It returns when the keeper has taken
// it. Nobody may read the pipes of runs any more.
func (c *Client) Detach() error {
	err := c.leave(kindDetach)
	c.keeper.close()
	return err
}

// Close implements Spawner: when what lived is gone, or known to be unkillable, it
// dismisses the keeper and waits for its exit. After Detach, and after a loss, it does
// nothing.
func (c *Client) Close() {
	if c.leave(kindDismiss) == nil {
		c.keeper.awaitExit()
	}
	<-c.ended
	c.keeper.close()
}

// leave ends the connection in an orderly way.
func (c *Client) leave(kind uint8) error {
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return err
	}
	c.leaving, c.err = true, ErrClosed
	c.mu.Unlock()
	err := c.socket.Send(wire.Frame{Kind: kind}, sendPatience)
	if err == nil {
		patience := time.NewTimer(dismissPatience + sendPatience)
		defer patience.Stop()
		select {
		case <-c.ended:
			if !isClosed(c.answered) {
				err = io.ErrUnexpectedEOF
			}
		case <-patience.C:
			err = os.ErrDeadlineExceeded
		}
	}
	_ = c.socket.Close()
	<-c.ended
	if err != nil {
		return errorf("%w: %w", ErrLost, err)
	}
	return nil
}
