// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"syscall"
)

// InProcess is the Spawner that is itself the parent of the processes: they do
// not outlive it, and their exits are known only while it lives.
type InProcess struct{ parent *parent }

var _ Spawner = (*InProcess)(nil)

// NewInProcess returns a spawner that tells notify what happens. It must be closed.
func NewInProcess(notify func(Event)) (*InProcess, error) {
	p, err := newParent(kernel(), func(events ...Event) {
		for _, event := range events {
			notify(event)
		}
	})
	if err != nil {
		return nil, err
	}
	return &InProcess{p}, nil
}

// Spawn implements Spawner.
func (s *InProcess) Spawn(spec Spec) (Started, error) {
	r, err := s.parent.register(spec)
	if err != nil {
		return Started{}, err
	}
	started, err := s.parent.start(r, [2]int{1, 2})
	if err != nil {
		return Started{}, err
	}
	return Started{
		PID:        started.pid,
		StartTicks: started.startTicks,
		At:         started.at,
		Mono:       started.mono,
		Stdout:     pipeFile(started.read[0]),
		Stderr:     pipeFile(started.read[1]),
		Notify:     pipeFile(started.read[2]),
	}, nil
}

// pipeFile returns the file of the read end of a pipe, which is non-blocking; nil for noFD.
func pipeFile(fd int) *os.File {
	if fd == noFD {
		return nil
	}
	return os.NewFile(uintptr(fd), "pipe")
}

// Stop implements Spawner.
func (s *InProcess) Stop(id string, run uint64) { s.parent.stop(id, run, StoppedByStop) }

// SetStop implements Spawner.
func (s *InProcess) SetStop(id string, run uint64, how Stop) {
	s.parent.setStop(id, run, how)
}

// Signal implements Spawner.
func (s *InProcess) Signal(id string, run uint64, signal syscall.Signal) {
	s.parent.signal(id, run, signal)
}

// Kill implements Spawner.
func (s *InProcess) Kill(id string, run uint64) { s.parent.kill(id, run) }

// Close implements Spawner.
func (s *InProcess) Close() { s.parent.close() }
