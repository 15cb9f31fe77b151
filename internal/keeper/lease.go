// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// The lease. One client holds it, and only its messages are carried out. It becomes
// free when its holder has detached, or when its process is dead and everything that
// it had sent is carried out. A newcomer does not wait for ever. If the holder
//
//	answers a ping                            the newcomer is refused
//	does not answer for holderPatience        the holder is killed
//	lives, but its connection broke           likewise: it can not be asked
//	is the newcomer's own process             it has as long to detach, then the newcomer
//	                                          is refused; if the connection broke, the
//	                                          newcomer has it at once
const holderPatience = 10 * time.Second

// acquire makes p the holder. notice is what its log should say of how.
func (s *server) acquire(p *peer) (notice string, err error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	for {
		h, own, err := s.take(p)
		if err != nil || h == nil {
			return notice, err
		}
		switch s.ask(h, own) {
		case leaseFree:
		case holderAnswers:
			return "", refusalError{refusedHeld, sprintf(
				"process %d holds the lease of the keeper of %q: use another runtime directory, or end that process first", h.pid, s.name)}
		case holderSilent:
			if own {
				return "", refusalError{refusedHeld, sprintf(
					"this process (PID %d) already holds the lease of the keeper of %q, and has not detached for %v", p.pid, s.name, holderPatience)}
			}
			if notice, err = s.evict(h, p); err != nil {
				return "", err
			}
		}
	}
}

// take makes p the holder if the lease is free, and returns the holder if it is not;
// own: that is of p's process.
func (s *server) take(p *peer) (holder *peer, own bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return nil, false, refusalError{refusedEnding, sprintf("the keeper of %q is about to end", s.name)}
	}
	h := s.holder
	own = h != nil && h.identity == p.identity
	if h != nil && !(own && isClosed(h.broken)) {
		return h, own, nil
	}
	if h != nil {
		s.releaseLocked(h)
	}
	s.holder = p
	s.adoptLocked()
	return nil, false, nil
}

// answer is what comes of asking the holder.
type answer uint8

const (
	leaseFree answer = iota // or to be had
	holderAnswers
	holderSilent
)

// ask waits for the lease to become free, or for a sign of life of the holder, unless
// that is the asker's own process.
func (s *server) ask(h *peer, own bool) answer {
	var pong, broken <-chan struct{}
	switch {
	case own:
		broken = h.broken
	case !isClosed(h.broken):
		select {
		case <-h.pong: // of an earlier ping
		default:
		}
		pong = h.pong
		_ = h.socket.Post(wire.Frame{Kind: kindPing})
	}
	passed, stop := s.clock.after(holderPatience)
	defer stop()
	select {
	case <-h.released:
		return leaseFree
	case <-broken:
		return leaseFree
	case <-pong:
		return holderAnswers
	case <-passed:
		return holderSilent
	}
}

// evict kills a holder for p's sake.
func (s *server) evict(h, p *peer) (notice string, err error) {
	if isClosed(p.dead) {
		return "", errorf("process %d asked for the lease and died", p.pid)
	}
	if conn, err := h.pidfd.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = pidfdSignal(int(fd), syscall.SIGKILL) })
	}
	passed, stop := s.clock.after(holderPatience)
	defer stop()
	select {
	case <-h.released:
		return sprintf("process %d held the lease of the keeper of %q and did not answer for %v: it was killed", h.pid, s.name, holderPatience), nil
	case <-passed:
		return "", refusalError{refusedHeld, sprintf(
			"process %d holds the lease of the keeper of %q, does not answer and does not die of KILL either: look at its state (D waits for a device) in /proc/%d/status", h.pid, s.name, h.pid)}
	}
}

// releaseLocked frees the lease of its holder.
func (s *server) releaseLocked(h *peer) {
	s.holder = nil
	h.live = false
	close(h.released)
}

// detachGrace is what the orphan grace is at least after a detach: a reload takes time.
const detachGrace = 10 * time.Second

// detach gives the lease of p back. The answer is the last that p hears.
func (s *server) detach(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != p {
		return
	}
	s.releaseLocked(p)
	s.last = p.identity
	grace := s.grace
	if grace >= 0 {
		grace = max(grace, detachGrace)
	}
	s.orphanLocked(grace)
	_ = p.socket.Post(wire.Frame{Kind: kindDetached})
}

// abandonedBy is told that nothing more comes from p. It returns when p has not the
// lease any longer.
func (s *server) abandonedBy(p *peer) {
	s.mu.Lock()
	if s.holder != p {
		s.mu.Unlock()
		return
	}
	p.live = false
	close(p.broken)
	s.store.replays() // what came while it attached too
	s.orphanLocked(s.grace)
	s.mu.Unlock()
	// If it lives, it shall know.
	_ = p.socket.Close()
	select {
	case <-p.dead:
	case <-p.released:
	case <-s.done:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder == p {
		s.releaseLocked(p)
	}
}
