// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// orphaned is a time in which nobody commands. It ends with a client that takes the
// lease, or with the keeper.
type orphaned struct {
	stopTimer func()
	since     time.Duration // monotonic
	// over is closed when a client has taken the lease.
	over chan struct{}
	// ending: everything is being stopped. Guarded by server.mu.
	ending bool
}

// orphanLocked begins such a time, unless it is one already: in grace everything is
// stopped, never if that is negative.
func (s *server) orphanLocked(grace time.Duration) {
	if s.orphaned != nil {
		return
	}
	o := &orphaned{stopTimer: func() {}, since: monotonic(), over: make(chan struct{})}
	s.orphaned = o
	if grace >= 0 {
		o.stopTimer = s.clock.afterFunc(grace, func() { s.endOrphans(o) })
	}
}

// adoptLocked ends it.
func (s *server) adoptLocked() {
	if o := s.orphaned; o != nil {
		s.orphaned = nil
		s.unattended = monotonic() - o.since
		o.stopTimer()
		close(o.over)
	}
}

// terminate is SIGTERM: it counts only while nobody commands.
func (s *server) terminate() {
	s.mu.Lock()
	o := s.orphaned
	s.mu.Unlock()
	if o != nil {
		s.endOrphans(o)
	}
}

// endOrphans stops the runs in the reverse order of their starts, one after the
// other, each as it wants to be stopped, and then ends the keeper. It gives up as soon
// as a client has taken the lease.
func (s *server) endOrphans(o *orphaned) {
	s.mu.Lock()
	if o.ending {
		s.mu.Unlock()
		return
	}
	o.ending = true
	s.mu.Unlock()
	for {
		s.settle()
		k, ok := s.lastLiving(o)
		if !ok {
			return
		}
		s.parent.stop(k.key.id, k.key.run, StoppedByKeeper)
		select {
		case <-k.ended:
		case <-o.over:
			return
		}
	}
}

// lastLiving returns the run that was started last of those that live and can be
// killed. If there is none, the keeper ends; ok is false then, and if o is over.
func (s *server) lastLiving(o *orphaned) (k *kept, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orphaned != o {
		return nil, false
	}
	for _, candidate := range s.runs {
		if !isClosed(candidate.ended) && (k == nil || candidate.order > k.order) {
			k = candidate
		}
	}
	if k == nil {
		s.leaveLocked()
	}
	return k, k != nil
}

// dismissPatience is how long a dismissed keeper waits for what does not even die
// of KILL, or hangs in an exec.
const dismissPatience = UnkillableAfter + 5*time.Second

// dismiss kills what lives, answers p and ends the keeper.
func (s *server) dismiss(p *peer) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.parent.close()
	}()
	passed, stop := s.clock.after(dismissPatience)
	defer stop()
	select {
	case <-closed:
	case <-passed:
	}
	_ = p.socket.Post(wire.Frame{Kind: kindDismissed})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked()
}

// leaveLocked ends the keeper. Whoever still asks for the lease is sent away.
func (s *server) leaveLocked() {
	if !s.leaving {
		s.leaving = true
		close(s.done)
	}
}
