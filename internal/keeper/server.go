// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// server is the keeper process without its surroundings: the clients, the lease,
// what is kept, and when all of it ends.
//
//	server.go   a client from its first word to its last
//	lease.go    who may command
//	kept.go     the runs
//	orphans.go  what happens when nobody commands
type server struct {
	parent *parent
	calls  wire.Calls
	clock  clock
	// versions are those of the protocol that it speaks.
	versions hello
	// name is the directory, for messages.
	name string

	// turn is held by the newcomer that waits for the lease.
	turn chan struct{}
	// done is closed when there is nothing left to do.
	done chan struct{}

	mu       sync.Mutex
	store    *store             // guarded by mu; but for its events, the holder's connection may read it without
	runs     map[runKey]*kept   // guarded by mu
	started  uint64             // guarded by mu; numbers runs in the order of their starts
	starting int                // guarded by mu; runs that are being started
	settled  chan struct{}      // guarded by mu; if not nil: to be closed when starting is 0
	peers    map[*peer]struct{} // guarded by mu; all that are connected
	leaving  bool               // guarded by mu
	warnings []string           // guarded by mu; that no holder has been told

	holder   *peer         // guarded by mu; nil: the lease is free
	last     identity      // guarded by mu; who gave the lease back last, if it did
	held     bool          // guarded by mu; somebody has had the lease
	grace    time.Duration // guarded by mu; of the last holder
	orphaned *orphaned     // guarded by mu; nil: a client commands
	// unattended is how long the last time without one lasted; guarded by mu.
	unattended time.Duration
}

// clock is time that a test can make pass.
type clock struct {
	// afterFunc calls f in a goroutine once d has passed, unless it is stopped.
	afterFunc func(d time.Duration, f func()) (stop func())
}

func realClock() clock {
	return clock{afterFunc: func(d time.Duration, f func()) func() {
		timer := time.AfterFunc(d, f)
		return func() { timer.Stop() }
	}}
}

// after returns a channel that is closed once d has passed.
func (c clock) after(d time.Duration) (passed <-chan struct{}, stop func()) {
	ch := make(chan struct{})
	return ch, c.afterFunc(d, func() { close(ch) })
}

func newServer(name string, system system, calls wire.Calls, clock clock) (*server, error) {
	s := &server{
		calls: calls, clock: clock, name: name, versions: hello{minVersion, maxVersion},
		turn: make(chan struct{}, 1), done: make(chan struct{}),
		store: newStore(), runs: map[runKey]*kept{}, peers: map[*peer]struct{}{},
	}
	var err error
	if s.parent, err = newParent(system, s.notify); err != nil {
		return nil, err
	}
	s.parent.mark = name + ":"
	s.mu.Lock()
	defer s.mu.Unlock()
	// Whoever started it may die before it attaches.
	s.orphanLocked(detachGrace)
	return s, nil
}

// serve serves a connection until its end.
func (s *server) serve(fd int) {
	p, err := newPeer(fd, s.calls)
	if err != nil {
		s.warn(sprintf("a connection was refused: %v", err))
		return
	}
	defer p.close()
	s.mu.Lock()
	s.peers[p] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.peers, p)
		s.mu.Unlock()
	}()
	want, err := s.greet(p)
	if err != nil {
		s.refuse(p, err)
		return
	}
	notice, err := s.acquire(p)
	if err != nil {
		s.refuse(p, err)
		return
	}
	if s.handOver(p, want, notice) == nil {
		s.obey(p)
	}
	s.abandonedBy(p)
}

// greet agrees on a version and hears what the client wants.
func (s *server) greet(p *peer) (attach, error) {
	p.socket.SetReadDeadline(time.Now().Add(handshakeTime))
	defer p.socket.SetReadDeadline(time.Time{})
	payload, err := expect(p.socket, kindHello)
	if err != nil {
		return attach{}, err
	}
	theirs, err := decodeHello(payload)
	if err != nil {
		return attach{}, err
	}
	version, ok := negotiate(theirs, s.versions)
	if !ok {
		return attach{}, refusalError{refusedVersion, sprintf(
			"the keeper of %q (PID %d) speaks the protocol's versions %d to %d, this program %d to %d: nothing was changed; use a program that is closer to the one that started the keeper, or end the keeper with its processes by SIGTERM while nobody is attached",
			s.name, os.Getpid(), s.versions.min, s.versions.max, theirs.min, theirs.max)}
	}
	p.version = version
	if err := p.socket.Post(wire.Frame{Kind: kindWelcome, Payload: welcome{version, os.Getpid()}.encode()}); err != nil {
		return attach{}, err
	}
	if payload, err = expect(p.socket, kindAttach); err != nil {
		return attach{}, err
	}
	return decodeAttach(payload)
}

func expect(socket *wire.Socket, kind uint8) ([]byte, error) {
	frame, err := socket.Receive()
	if err != nil {
		return nil, err
	}
	closeFDs(frame.FDs)
	if frame.Kind != kind {
		return nil, errorf("%w: kind %d instead of %d", wire.ErrMalformed, frame.Kind, kind)
	}
	return frame.Payload, nil
}

// refusalError is an error that a client is to be told.
type refusalError refusal

func (e refusalError) Error() string { return e.text }

func (s *server) refuse(p *peer, err error) {
	r := refusal{refusedOther, err.Error()}
	if e, ok := errors.AsType[refusalError](err); ok {
		r = refusal(e)
	}
	_ = p.socket.Post(wire.Frame{Kind: kindRefused, Payload: r.encode()})
}

// handOver tells a new holder what is in the keeper and lets events go to it.
func (s *server) handOver(p *peer, want attach, notice string) error {
	s.settle()
	send := func(kind uint8, payload []byte, fds ...int) error {
		return p.socket.Send(wire.Frame{Kind: kind, Payload: payload, FDs: fds}, 0)
	}
	s.mu.Lock()
	s.grace = want.grace
	s.store.setLimit(want.journalLimit)
	fresh := !s.held
	s.held = true
	g := granted{fresh: fresh, reload: s.last == p.identity, unattended: s.unattended, notice: notice, journalFirst: s.store.first}
	s.last = identity{}
	runs := s.runsLocked()
	s.mu.Unlock()
	g.openFiles, _ = openFilesLimit() // 0 is not known
	if s.parent.cgroups == nil {
		g.noCgroups = s.parent.noCgroups.Error()
	}
	defer func() {
		for _, k := range runs {
			s.release(k)
		}
	}()

	if err := send(kindGranted, g.encode(p.version)); err != nil {
		return err
	}
	for kind, payload := range s.store.dump() {
		if err := send(kind, payload); err != nil {
			return err
		}
	}
	for _, k := range runs {
		if err := s.sendRun(p, kindAdopted, 0, k, true); err != nil {
			return err
		}
	}
	if err := send(kindAttached, nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for chunk := range slices.Chunk(s.store.events, 256) {
		if err := p.socket.Post(wire.Frame{Kind: kindEvents, Payload: encodeEvents(chunk)}); err != nil {
			return err
		}
	}
	s.store.replays() // for who comes next
	p.live = true
	warnings := s.warnings
	s.warnings = nil
	for _, text := range warnings {
		s.warnLocked(text)
	}
	return nil
}

// obey carries out what the holder says, until it detaches or its connection ends.
//
// A commit lets a spawn that came with it go first, which somebody waits for. Read is
// as safe as carried out: both last as long as this process.
func (s *server) obey(p *peer) {
	var late []byte // the payload of such a commit
	defer func() { _ = s.commitEncoded(late) }()
	for {
		frame, err := p.socket.Receive()
		if err != nil {
			return
		}
		if frame.Kind != kindSpawn && late != nil {
			err = s.commitEncoded(late)
			late = nil
		}
		switch {
		case err != nil:
		case frame.Kind == kindDetach:
			closeFDs(frame.FDs)
			s.detach(p)
			return
		case frame.Kind == kindCommit && len(frame.FDs) == 0 && p.socket.Waiting():
			late = bytes.Clone(frame.Payload)
		default:
			err = s.carryOut(p, frame)
		}
		if err == nil && late != nil && !p.socket.Waiting() {
			runtime.Gosched() // to the goroutine that starts the process
			err = s.commitEncoded(late)
			late = nil
		}
		if err != nil {
			s.warn(sprintf("the connection of process %d was closed: %v", p.pid, err))
			return
		}
	}
}

// carryOut carries out one message. An error means that the client does not speak
// the protocol.
func (s *server) carryOut(p *peer, frame wire.Frame) error {
	if frame.Kind == kindSpawn {
		return s.spawn(p, frame)
	}
	if len(frame.FDs) > 0 || frame.Truncated {
		closeFDs(frame.FDs)
		return errorf("%w: descriptors with kind %d", wire.ErrMalformed, frame.Kind)
	}
	switch frame.Kind {
	case kindStop, kindKill:
		key, err := decodeRef(frame.Payload)
		if err != nil {
			return err
		}
		if frame.Kind == kindStop {
			s.parent.stop(key.id, key.run, StoppedByStop)
		} else {
			s.parent.kill(key.id, key.run)
		}
	case kindSetStop:
		m, err := decodeSetStop(frame.Payload)
		if err != nil {
			return err
		}
		s.setStop(m)
	case kindSignal:
		m, err := decodeSendSignal(frame.Payload)
		if err != nil {
			return err
		}
		s.parent.signal(m.key.id, m.key.run, m.signal)
	case kindCommit:
		return s.commitEncoded(frame.Payload)
	case kindPong:
		select {
		case p.pong <- struct{}{}:
		default:
		}
	case kindDismiss:
		go s.dismiss(p)
	default:
		return errorf("%w: kind %d", wire.ErrMalformed, frame.Kind)
	}
	return nil
}

// commitEncoded carries out a commit; nil is none.
func (s *server) commitEncoded(payload []byte) error {
	if payload == nil {
		return nil
	}
	c, err := decodeCommit(payload)
	if err == nil {
		s.commit(c)
	}
	return err
}

func (s *server) commit(c Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.store.apply(c) {
		s.forgetLocked(key)
	}
}

// manages are the processes that go with this one: the holder, the init process that it
// runs under, and PID 1, which in a container may be another.
func (s *server) manages() []int {
	s.mu.Lock()
	h := s.holder
	s.mu.Unlock()
	pids := []int{1}
	if h == nil {
		return pids
	}
	pids = append(pids, h.pid)
	stat, err := readStat(h.pid)
	if err != nil {
		return pids
	}
	if above := (identity{pid: stat.ppid}); slices.Equal(namesOf([]identity{above}), []ProcessName{{stat.ppid, initName}}) {
		pids = append(pids, stat.ppid)
	}
	return pids
}

// initName is what the kernel calls the command line, one part of which is the init process.
const initName = "warden"

// notify files what happens to the runs and tells the holder.
func (s *server) notify(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		// A holder that is still being told what there is gets it as news.
		events[i].Replayed = s.holder == nil || isClosed(s.holder.broken)
	}
	filed := s.store.file(events)
	if h := s.holder; h != nil && h.live {
		_ = h.socket.Post(wire.Frame{Kind: kindEvents, Payload: encodeEvents(events)})
		markReplayed(filed) // for who comes next, since it may have been heard
	}
	for i := range events {
		s.noteLocked(&events[i])
	}
}

// warn tells the holder, or the next one, what its log should say.
func (s *server) warn(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnLocked(text)
}

// maxWarnings bounds what is kept while nobody is told.
const maxWarnings = 100

func (s *server) warnLocked(text string) {
	if h := s.holder; h != nil && h.live {
		_ = h.socket.Post(wire.Frame{Kind: kindWarning, Payload: []byte(text)})
	} else if len(s.warnings) < maxWarnings {
		s.warnings = append(s.warnings, text)
	}
}
