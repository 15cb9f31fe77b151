// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// kept is a run that is not forgotten.
type kept struct {
	key  runKey
	held []int
	// ready is closed when the start has come to something: process or err are set then.
	// A run that failed to start is not kept.
	ready   chan struct{}
	process process
	err     error

	// These are guarded by server.mu.

	order uint64 // of its start
	how   Stop   // it is to be stopped
	// unwanted: who asked for it is gone, and who came after it does not know of it.
	unwanted bool
	gone     bool          // nothing of it lives
	ended    chan struct{} // closed when it is gone or unkillable
	users    int           // who starts it or sends its descriptors
	dropped  bool          // forgotten: they are to be closed
}

// spawn begins to carry out a spawn, and answers it later. An error means that the
// client does not speak the protocol.
func (s *server) spawn(p *peer, frame wire.Frame) error {
	m, err := decodeSpawn(frame.Payload)
	inherits := 0
	if m.inherits {
		inherits = 2
	}
	if err == nil && !frame.Truncated && len(frame.FDs) != m.holds+inherits {
		err = wire.ErrMalformed
	}
	if err != nil {
		closeFDs(frame.FDs)
		return errorf("spawn: %w", err)
	}
	if frame.Truncated {
		go s.answerFailure(p, m.request, errorf("the keeper could not receive the descriptors of the run: %w", syscall.EMFILE))
		return nil
	}
	k, r, err := s.keep(m, frame.FDs[:m.holds])
	switch {
	case err != nil:
		closeFDs(frame.FDs)
		go s.answerFailure(p, m.request, err)
	case r == nil:
		closeFDs(frame.FDs)
		go s.answer(p, m.request, k, true)
	default:
		go func() {
			s.start(k, r, frame.FDs[m.holds:])
			s.answer(p, m.request, k, false)
		}()
	}
	return nil
}

// keep returns the run that is asked for; r is nil if it is known already. It is
// known from now on, so that a stop that follows finds it. The caller uses it until
// it is answered.
func (s *server) keep(m spawn, hold []int) (k *kept, r *run, err error) {
	key := runKey{m.spec.ID, m.spec.Run}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.runs[key]; k != nil {
		k.unwanted = false
		k.users++
		return k, nil, nil
	}
	if r, err = s.parent.register(m.spec); err != nil {
		return nil, nil, err
	}
	s.started++
	s.starting++
	k = &kept{
		key: key, how: m.spec.Stop, held: hold,
		ready: make(chan struct{}), ended: make(chan struct{}), order: s.started, users: 1,
	}
	s.runs[key] = k
	return k, r, nil
}

// start starts a run that keep has made known.
func (s *server) start(k *kept, r *run, inherited []int) {
	own := [2]int{s.parent.null, s.parent.null}
	copy(own[:], inherited)
	process, err := s.parent.start(r, own)
	closeFDs(inherited)
	s.begin(k, r, process, err)
}

// begin is told what has come of a start. The run may be dead and forgotten by then.
func (s *server) begin(k *kept, r *run, process process, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.process, k.err = process, err
	close(k.ready)
	if k.err != nil {
		delete(s.runs, k.key)
		k.dropped = true
		close(k.ended)
	} else if k.unwanted {
		r.kill()
	}
	if s.starting--; s.starting == 0 && s.settled != nil {
		close(s.settled)
		s.settled = nil
	}
}

// answer answers a spawn once its run is ready. Who has started it has what is held.
func (s *server) answer(p *peer, request uint64, k *kept, held bool) {
	<-k.ready
	if k.err != nil {
		s.answerFailure(p, request, k.err)
	} else {
		_ = s.sendRun(p, kindSpawned, request, k, held)
	}
	s.release(k)
}

func (s *server) answerFailure(p *peer, request uint64, err error) {
	m := notSpawned{request: request, closed: errors.Is(err, ErrClosed), text: err.Error()}
	m.errno, _ = errors.AsType[syscall.Errno](err)
	_ = p.socket.Send(wire.Frame{Kind: kindNotSpawned, Payload: m.encode()}, 0)
}

// sendRun sends a run with its descriptors, for one of its users.
func (s *server) sendRun(p *peer, kind uint8, request uint64, k *kept, held bool) error {
	m := adopted{
		request: request, key: k.key, pid: k.process.pid, startTicks: k.process.startTicks,
		at: k.process.at, mono: k.process.mono,
	}
	s.mu.Lock()
	m.gone, m.how = k.gone, k.how
	s.mu.Unlock()
	fds := make([]int, 0, len(k.process.read)+len(k.held))
	for i, fd := range k.process.read {
		if m.pipes[i] = fd != noFD; m.pipes[i] {
			fds = append(fds, fd)
		}
	}
	if held {
		fds = append(fds, k.held...)
	}
	return p.socket.Send(wire.Frame{Kind: kind, Payload: m.encode(), FDs: fds}, 0)
}

// setStop changes how a run is stopped, by this keeper and by who adopts the run.
func (s *server) setStop(m setStop) {
	s.mu.Lock()
	if k := s.runs[m.key]; k != nil {
		k.how = m.how
	}
	s.mu.Unlock()
	s.parent.setStop(m.key.id, m.key.run, m.how)
}

// noteLocked keeps in mind what an event says of its run.
func (s *server) noteLocked(event *Event) {
	k := s.runs[runKey{event.ID, event.Run}]
	if k == nil {
		return
	}
	if event.Kind == Gone {
		k.gone = true
	}
	if (event.Kind == Gone || event.Kind == Unkillable) && !isClosed(k.ended) {
		close(k.ended)
	}
}

// forgetLocked lets go of a run of which nothing lives.
func (s *server) forgetLocked(key runKey) {
	k := s.runs[key]
	if k == nil || !k.gone {
		return
	}
	delete(s.runs, key)
	k.dropped = true
	k.closeUnusedLocked()
}

// release ends the use of a run.
func (s *server) release(k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.users--
	k.closeUnusedLocked()
}

// closeUnusedLocked closes what a forgotten run holds.
func (k *kept) closeUnusedLocked() {
	if !k.dropped || k.users > 0 {
		return
	}
	if k.err == nil {
		closeFDs(k.process.read[:])
	}
	closeFDs(k.held)
}

// settle waits until no run is being started, so that what is started is known; an
// exec may hang, so not for ever.
func (s *server) settle() {
	s.mu.Lock()
	if s.starting == 0 {
		s.mu.Unlock()
		return
	}
	if s.settled == nil {
		s.settled = make(chan struct{})
	}
	settled := s.settled
	s.mu.Unlock()
	passed, stop := s.clock.after(settlePatience)
	defer stop()
	select {
	case <-settled:
	case <-passed:
	}
}

const settlePatience = 10 * time.Second

// runsLocked returns the runs in the order of their starts, to be used. Those that are
// still being started are not wanted any longer.
func (s *server) runsLocked() []*kept {
	runs := make([]*kept, 0, len(s.runs))
	for _, k := range s.runs {
		if isClosed(k.ready) {
			k.users++
			runs = append(runs, k)
		} else {
			k.unwanted = true
		}
	}
	slices.SortFunc(runs, func(a, b *kept) int { return int(a.order) - int(b.order) })
	return runs
}
