// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// startPatience is how long a keeper may take to be there: one that starts, one that
// lives and whose socket is missing, one that is about to end.
const startPatience = 10 * time.Second

// Attach connects to the keeper of a directory, starting one if none lives, and takes
// its lease. It returns what the last holder left. Then notify is told every event
// that is not acknowledged, in order, and then what happens; it is called by one
// goroutine and must not block for long: a holder that does not answer for 10 s while
// another asks for the lease is killed.
func Attach(ctx context.Context, o Options, notify func(Event)) (*Client, State, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Lost == nil {
		o.Lost = func(error) {}
	}
	if o.versions == nil {
		o.versions = &hello{minVersion, maxVersion}
	}
	var err error
	if o.Directory, err = canonical(o.Directory); err != nil {
		return nil, State{}, err
	}
	working, err := os.Getwd()
	if err != nil {
		return nil, State{}, errorf("working directory: %w", err)
	}
	c := &Client{o: o, dir: working, notify: notify, waiting: map[uint64]spawnWaiter{}, known: map[runKey]*knownRun{}, ended: make(chan struct{}), answered: make(chan struct{})}
	state, err := c.attach(ctx)
	if err != nil {
		return nil, State{}, err
	}
	if state.Fresh {
		c.sweepLeftovers()
	}
	go c.listen()
	return c, state, nil
}

// attach connects, starting a keeper if need be, and takes the lease. It tries again
// while a keeper comes or goes.
func (c *Client) attach(ctx context.Context) (State, error) {
	dir, err := openDirectory(c.o.Directory)
	if err != nil {
		return State{}, err
	}
	defer dir.close()
	deadline := time.Now().Add(startPatience)
	pause := 2 * time.Millisecond
	for {
		state, err := c.tryToAttach(ctx, dir)
		if !errors.Is(err, errNotYet) {
			return state, err
		}
		if time.Now().After(deadline) {
			return State{}, errorf("attach to the keeper of %q: %w for %v", c.o.Directory, err, startPatience)
		}
		select {
		case <-ctx.Done():
			return State{}, ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, 100*time.Millisecond)
		}
	}
}

// errNotYet: a keeper comes or goes, and it will be another thing in a moment.
var errNotYet = errors.New("not there yet")

func (c *Client) tryToAttach(ctx context.Context, dir *directory) (State, error) {
	fd, err := dial(dir)
	if err == nil {
		return c.takeLease(ctx, fd)
	}
	if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EAGAIN) {
		return State{}, errorf("connect to %q: %w", c.o.Directory+"/"+socketName, err)
	}
	living, findErr := findKeeper(c.o.Directory)
	switch {
	case findErr != nil:
		return State{}, findErr
	case living != 0:
		return State{}, errorf("%w: process %d is its keeper and does not take connections (%v); see what it does, or end it with SIGKILL: what it keeps running is then ended by the next start", errNotYet, living, err)
	}
	_, err = launch(ctx, c.o.Directory)
	switch {
	case errors.Is(err, errOccupied):
		return State{}, errorf("%w: its lock is held by a process that is not found; look for it with fuser %s/%s", errNotYet, c.o.Directory, lockName)
	case err != nil:
		dir.made.undo()
		return State{}, err
	}
	return State{}, errorf("%w: the keeper was started", errNotYet)
}

// dial connects to the keeper's socket.
func dial(dir *directory) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return noFD, err
	}
	address := &syscall.SockaddrUnix{Name: dir.at(socketName)}
	if err := retry(func() error { return syscall.Connect(fd, address) }); err != nil {
		_ = syscall.Close(fd)
		return noFD, err
	}
	return fd, nil
}

// takeLease takes the lease over a new connection and hears what the keeper has.
func (c *Client) takeLease(ctx context.Context, fd int) (state State, err error) {
	socket, err := wire.NewSocket(fd, c.o.calls())
	if err != nil {
		return State{}, err
	}
	c.socket = socket
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		for _, run := range state.Runs {
			run.Started.Close()
		}
		state = State{}
		_ = socket.Close()
		if c.keeper.pidfd != nil {
			_ = c.keeper.pidfd.Close()
		}
	}()
	if err := c.keeper.identify(socket); err != nil {
		return state, err
	}
	if err := socket.Send(wire.Frame{Kind: kindHello, Payload: c.o.versions.encode()}, sendPatience); err != nil {
		return state, errorf("%w: %w", errNotYet, err)
	}
	payload, err := c.expect(kindWelcome)
	if err != nil {
		return state, err
	}
	w, err := decodeWelcome(payload)
	if err != nil {
		return state, err
	}
	if !c.o.versions.speaks(w.version) {
		return state, errorf("%w: the keeper of %q (PID %d) chose version %d of the protocol, this program speaks %d to %d: nothing was changed",
			ErrVersion, c.o.Directory, w.pid, w.version, c.o.versions.min, c.o.versions.max)
	}
	want := attach{c.o.OrphanGrace, c.o.JournalLimit}
	if err := socket.Send(wire.Frame{Kind: kindAttach, Payload: want.encode()}, sendPatience); err != nil {
		return state, errorf("%w: %w", errNotYet, err)
	}
	payload, err = c.expect(kindGranted)
	if err != nil {
		return state, err
	}
	g, err := decodeGranted(payload, w.version)
	if err != nil {
		return state, err
	}
	if g.notice != "" {
		c.o.Warn(g.notice)
	}
	state = State{Fresh: g.fresh, Reload: g.reload, Unattended: g.unattended, OpenFiles: g.openFiles, KeeperPID: c.keeper.pid, Values: map[string][]byte{}, JournalFirst: g.journalFirst, NoCgroups: g.noCgroups}
	err = c.hearState(&state)
	return state, err
}

// expect receives the next message of the handshake. A keeper that ends instead is
// tried again.
func (c *Client) expect(kind uint8) ([]byte, error) {
	frame, err := c.receive()
	switch {
	case err == io.EOF || errors.Is(err, syscall.ECONNRESET):
		return nil, errorf("%w: the keeper ended the connection", errNotYet)
	case err != nil:
		return nil, err
	case frame.Kind == kind:
		return frame.Payload, nil
	case frame.Kind != kindRefused:
		return nil, errorf("the keeper of %q: %w: kind %d instead of %d", c.o.Directory, wire.ErrMalformed, frame.Kind, kind)
	}
	r, err := decodeRefusal(frame.Payload)
	if err != nil {
		return nil, err
	}
	switch r.reason {
	case refusedHeld:
		return nil, errorf("%w: %s", ErrHeld, r.text)
	case refusedVersion:
		return nil, errorf("%w: %s", ErrVersion, r.text)
	case refusedEnding:
		return nil, errorf("%w: %s", errNotYet, r.text)
	}
	return nil, errorf("the keeper of %q refused: %s", c.o.Directory, r.text)
}

// receive is Socket.Receive for a client that is not attached yet. It may hold the lease
// already, and be asked whether it lives.
func (c *Client) receive() (wire.Frame, error) {
	for {
		frame, err := c.socket.Receive()
		if err != nil || frame.Kind != kindPing {
			return frame, err
		}
		_ = c.socket.Post(wire.Frame{Kind: kindPong})
	}
}

// hearState receives what is in the keeper.
func (c *Client) hearState(state *State) error {
	for {
		frame, err := c.receive()
		if err != nil {
			return errorf("the keeper of %q: %w", c.o.Directory, err)
		}
		d := wire.NewDecoder(frame.Payload)
		switch frame.Kind {
		case kindValues:
			for d.More() {
				key := d.String()
				state.Values[key] = slices.Clone(d.Bytes())
			}
		case kindRecords:
			for d.More() {
				state.Journal = append(state.Journal, slices.Clone(d.Bytes()))
			}
		case kindAdopted:
			run, err := c.adopt(frame)
			if err != nil {
				return err
			}
			state.Runs = append(state.Runs, run)
			continue
		case kindAttached:
			return nil
		default:
			return errorf("the keeper of %q: %w: kind %d", c.o.Directory, wire.ErrMalformed, frame.Kind)
		}
		if err := d.Err(); err != nil {
			return errorf("the keeper of %q: %w", c.o.Directory, err)
		}
	}
}

// adopt makes a run of the keeper known here.
func (c *Client) adopt(frame wire.Frame) (Run, error) {
	m, err := decodeAdopted(frame.Payload)
	if err != nil {
		closeFDs(frame.FDs)
		return Run{}, err
	}
	if !m.gone {
		c.known[m.key] = &knownRun{identity{m.pid, m.startTicks}, m.how}
	}
	started, err := m.started(frame)
	if err != nil {
		c.o.Warn(sprintf("run %d of %q is killed: %v", m.key.run, m.key.id, err))
		c.Kill(m.key.id, m.key.run)
	}
	return Run{ID: m.key.id, Run: m.key.run, Started: started, Gone: m.gone}, nil
}

// started makes files of the descriptors of a run.
func (m adopted) started(frame wire.Frame) (Started, error) {
	s := Started{PID: m.pid, StartTicks: m.startTicks, At: m.at, Mono: m.mono}
	pipes := 0
	for _, pipe := range m.pipes {
		if pipe {
			pipes++
		}
	}
	if frame.Truncated {
		return s, errorf("the descriptors of its output could not be received: %w", syscall.EMFILE)
	}
	if len(frame.FDs) < pipes {
		closeFDs(frame.FDs)
		return s, wire.ErrMalformed
	}
	fds := frame.FDs
	for i, file := range []**os.File{&s.Stdout, &s.Stderr, &s.Notify} {
		if m.pipes[i] {
			*file = pipeFile(fds[0])
			fds = fds[1:]
		}
	}
	for _, fd := range fds {
		s.Held = append(s.Held, os.NewFile(uintptr(fd), "held"))
	}
	return s, nil
}
