// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/otelwarden/warden/internal/keeper"
)

// historyLength is how many ended runs of a process are remembered.
const historyLength = 100

// Historian tells of runs that have ended. Other components find it as they find a
// Supervisor.
type Historian interface {
	// History returns the latest ended runs of a child, at most 100, the oldest first;
	// those of a template's instances are their template's. It is empty for an id that
	// there never was. Histories survive the collector.
	History(id string) []EndedRun
}

// EndedRun is one run of a history.
type EndedRun struct {
	Run     uint64
	PID     int
	Started time.Time
	Ended   time.Time
	Lasted  time.Duration // by a clock that nobody sets

	// Reason is an ExitReason's word.
	Reason string
	// Code is the exit code; -1: a signal ended it, or Lost.
	Code int `json:",omitempty"`
	// Signal is the name of the one that ended it, "" for none.
	Signal string `json:",omitempty"`
	// Core: a core was dumped.
	Core bool `json:",omitempty"`
	// Lost: how it ended is not known.
	Lost bool `json:",omitempty"`
	// User and System are the CPU time of the process.
	User, System time.Duration `json:",omitempty"`
	// IO is nil where the kernel does not tell.
	IO *keeper.IO `json:",omitempty"`
	// By is who had asked for the end when it came.
	By keeper.StoppedBy `json:",omitempty"`
	// Late: it ended while there was no collector.
	Late bool `json:",omitempty"`
}

var _ Historian = (*supervisor)(nil)

// History implements Historian.
func (s *supervisor) History(id string) []EndedRun {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	c := s.roster.byID[id]
	if c == nil {
		c = s.roster.retired[id]
	}
	if c == nil {
		return nil
	}
	return slices.Clone(c.history)
}

// remember adds a run to the history of the child that it reports as. Each has one
// key of a number that comes round, so that one write forgets the oldest.
func (e *engine) remember(c *child, run EndedRun) {
	c = c.reports()
	e.roster.mu.Lock()
	c.history = append(c.history, run)
	c.history = slices.Delete(c.history, 0, max(0, len(c.history)-historyLength))
	e.roster.mu.Unlock()
	e.keep(historyPrefix+c.id+"/"+strconv.FormatUint(run.Run%historyLength, 10), encode(run))
}

// sortHistory orders what was kept.
func sortHistory(runs []EndedRun) []EndedRun {
	slices.SortFunc(runs, func(a, b EndedRun) int { return cmp.Compare(a.Run, b.Run) })
	return runs
}
