// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"net"
	"slices"

	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/output"
	"github.com/otelwarden/warden/internal/tree"
)

// open begins with what there is: nothing, or what the last collector left.
func (e *engine) open() {
	if e.left == nil {
		e.keepConfigs()
		e.keep(specificationKey, encode(e.spec))
		for _, c := range e.roster.all() {
			e.roster.changed(c) // when it was created, to begin with
		}
		e.step(tree.Start{})
		return
	}
	before, _ := e.tree.Status("")
	// The last collector was ending everything and did not live to see it.
	e.startAgain = before.State == tree.StateStopping
	in := e.left
	e.left = nil
	e.kept = in.configs
	e.adopt(in)
	if before.State == tree.StateRunning {
		e.isStarted()
	}
	e.reconfigure(in)
	e.watchAdopted(in)
	if before.State == tree.StateStopped || before.State == tree.StateGaveUp {
		e.step(tree.Start{})
	}
}

// adopt takes over every run that the keeper has, and does what had been decided and
// not been done.
func (e *engine) adopt(in *inheritance) {
	// What follows from one run decides about others, so it is first seen how all are.
	var missing []*child
	for _, c := range e.roster.all() {
		if _, found := in.byRun[runKey{c.id, c.run}]; c.cfg != nil && !found && (c.alive || e.awaited(c)) {
			missing = append(missing, c)
		}
	}
	e.step(tree.Unattended{For: in.unattended})
	wanted := map[string]*ChildConfig{}
	e.roster.config.each("", func(id string, next *ChildConfig) { wanted[id] = next })
	for _, run := range in.runs {
		c := e.roster.current(run.ID, run.Run)
		switch {
		case run.Gone && (c == nil || !c.alive && !e.awaited(c)):
			e.readLeft(run, wanted)
		case c == nil || !c.alive && !e.awaited(c):
			// Nobody waits for it: its start was given up.
			run.Started.Close()
			e.later(func() { e.spawner.Kill(run.ID, run.Run) })
		case c.alive:
			e.adoptRun(c, run, wanted)
		default:
			// The last collector did not hear of what came of the start.
			c.spawning = true
			e.onSpawned(spawned{
				id: run.ID, run: run.Run, started: run.Started,
				socket: e.heldSocket(c, run), at: run.Started.At, mono: run.Started.Mono,
			})
		}
	}
	for _, c := range missing {
		if c.alive {
			// It can only be that the keeper is not the one that it was.
			e.onDied(c, keeper.Exit{PID: c.pid, Code: -1, Lost: true}, true)
			e.onGone(c)
			continue
		}
		if c.stopping {
			c.spawning = true
			e.abandon(c)
			continue
		}
		e.spawn(tree.Spawn{ID: c.id, Run: c.run})
	}
}

// awaited: the tree waits for what becomes of the start of c's latest run.
func (e *engine) awaited(c *child) bool {
	status, _ := e.tree.Status(c.id)
	return status.State == tree.StateStarting || status.State == tree.StateStopping
}

// adoptRun goes on with a run that the last collector knew.
func (e *engine) adoptRun(c *child, run keeper.Run, wanted map[string]*ChildConfig) {
	c.socket = e.heldSocket(c, run)
	m := c.adopted(run)
	if c.pid != 0 && !run.Gone {
		e.tellAdopted(c)
	}
	var watch func([]output.Line) bool
	if status, _ := e.tree.Status(c.id); status.State == tree.StateStarting {
		watch = e.lineWatcher(c, m)
	}
	c.streams = e.followOutput(c, m, c.readAs(wanted), watch)
	if c.stopping {
		e.stopBySignal(c)
	}
}

// readAs says how the output of a run is read that was adopted: as the configuration
// now has it, if that process is in it.
func (c *child) readAs(wanted map[string]*ChildConfig) *OutputConfig {
	if next := wanted[c.reports().id]; next != nil && next.Process != nil {
		return &next.Process.Output
	}
	return &c.cfg.Output
}

// adopted is the message that the run was spawned, as it would have been.
func (c *child) adopted(run keeper.Run) spawned {
	return spawned{id: run.ID, run: run.Run, started: run.Started, socket: c.socket, at: c.started, mono: c.startedMono}
}

// watchAdopted begins to watch the runs that were adopted, by the new configuration.
func (e *engine) watchAdopted(in *inheritance) {
	for _, run := range in.runs {
		c := e.roster.current(run.ID, run.Run)
		if c == nil || c.cfg == nil || !c.alive || c.pid == 0 || c.stopping || c.health != nil {
			continue
		}
		m := c.adopted(run)
		if c.runsCommands() {
			var err error
			if m.env, err = environment(c.cfg, e.environ, e.propagation(c.info)); err != nil {
				e.logger.Warn("the commands that go with a process get no environment", zap.String("process", run.ID), zap.Error(err))
			}
			c.env = m.env
		}
		e.watchHealth(c, m)
		if status, _ := e.tree.Status(c.id); status.State == tree.StateStarting {
			e.watchReadiness(c, m)
		} else {
			e.watchLiveness(c)
		}
	}
}

// runsCommands: commands go with the process, which have its environment.
func (c *child) runsCommands() bool {
	return c.cfg.Readiness != nil && c.cfg.Readiness.Exec != nil || c.cfg.Liveness != nil && c.cfg.Liveness.Exec != nil ||
		len(c.cfg.Stop.Command) > 0 || len(c.cfg.Reload.Command) > 0
}

// heldSocket is the notification socket that the keeper held for a run, nil if there
// is none.
func (e *engine) heldSocket(c *child, run keeper.Run) *net.UnixConn {
	if len(run.Started.Held) == 0 {
		return nil
	}
	file := run.Started.Held[0]
	defer file.Close()
	conn, err := net.FilePacketConn(file)
	if err != nil {
		e.logger.Warn("the notifications of a process can not be heard", zap.String("process", c.id), zap.Error(err))
		return nil
	}
	return conn.(*net.UnixConn)
}

// swept is the message that what was known of a lost keeper's processes is ended.
type swept struct {
	ended int
	err   error
}

// onLost ends what the keeper, which is no more, was the parent of.
func (e *engine) onLost(err error) {
	if e.lostErr != nil {
		return
	}
	e.lostErr = err
	e.logger.Error("the keeper is lost: stopping the processes, how they end will not be known", zap.Error(err))
	e.step(tree.Stop{})
	go func() {
		ended, err := e.memory.Sweep()
		e.mailbox.post(swept{ended, err})
	}()
}

func (e *engine) onSwept(m swept) {
	e.logger.Error("the processes of the lost keeper are stopped", zap.Int("processes", m.ended), zap.Error(m.err))
	// In the order in which the tree stops them, so that it has asked for each.
	for _, c := range slices.Backward(e.roster.all()) {
		switch {
		case c.spawning:
			e.abandon(c)
		case c.alive:
			if c.pid != 0 {
				c.stopping, c.stopWhy = true, tree.StopShutdown // the tree's turn had perhaps not come
				e.onDied(c, keeper.Exit{PID: c.pid, Code: -1, Lost: true}, false)
			}
			e.onGone(c)
		}
	}
}
