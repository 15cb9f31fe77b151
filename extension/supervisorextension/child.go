// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"net"
	"time"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// child is one entry. The fields of the first part belong to the engine's goroutine.
type child struct {
	id     string
	info   *Info          // of an instance its template's
	config *ChildConfig   // nil for the root
	cfg    *ProcessConfig // nil for a supervisor, and for a template, which is one
	// template is what an instance reports as; nil for all others.
	template *child

	// spawning: from Spawn to its result; alive: from then until nothing of the run lives.
	spawning, alive bool
	// stopping: the tree has asked for the end of the run, because of stopWhy.
	stopping       bool
	stopWhy        tree.StopReason
	failedLiveness bool
	hurried        bool            // its grace was cut short by the end of everything
	exit           tree.ExitReason // of the run that died last
	startedMono    time.Duration
	env            []string // for the commands that ask whether the run works
	socket         *net.UnixConn
	health         *health
	streams        []*stream // of the run that was spawned last
	// early are events of a run that overtook the message that it was spawned.
	early []keeper.Event
	// changed: it is among roster.unsaved.
	changed bool
	// lastTrouble is a readable end of the sentence "process x: ...".
	lastTrouble string
	lastStatus  int // what a shell would say of the run that died last

	// Written by the engine under roster.mu, read by it without, by others with.
	state      tree.State
	run        uint64
	pid        int
	startTicks uint64
	started    time.Time
	totals     Totals     // of a template those of its instances, which have none
	history    []EndedRun // the latest last; of a template's instances their template's
	instances  []*child   // of a template, in the order of their start
}

// reports returns the child in whose name it reports.
func (c *child) reports() *child {
	if c.template != nil {
		return c.template
	}
	return c
}

// instance is the id of an instance, "" for all others.
func (c *child) instance() string {
	if c.template != nil {
		return c.id
	}
	return ""
}

func (c *child) picture() Process {
	return Process{
		Info: c.info, Instance: c.instance(), State: c.state, Run: c.run,
		PID: c.pid, StartTicks: c.startTicks, Started: c.started,
		Totals: c.totals,
	}
}
