// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// The messages about a run that come from goroutines of the engine's own; what
// happens to it later comes as events of the keeper.
type (
	spawned struct {
		id      string
		run     uint64
		env     []string
		started keeper.Started
		socket  *net.UnixConn // nil unless the process may notify
		at      time.Time
		mono    time.Duration
		err     error
	}
	// abandon ends the wait for a spawn that hangs, if it still does.
	abandon struct {
		id  string
		run uint64
	}
)

// spawn starts a run on a goroutine of its own: an exec may hang on a slow file
// system, and the loop must hear of a stop all the same.
func (e *engine) spawn(a tree.Spawn) {
	c := e.roster.byID[a.ID]
	c.spawning, c.stopping, c.failedLiveness = true, false, false
	e.roster.setRun(c, a.Run)
	cfg, info := c.cfg, c.info
	e.later(func() {
		go func() {
			result := spawned{id: a.ID, run: a.Run}
			result.err = e.prepareAndSpawn(cfg, info, &result)
			result.at, result.mono = result.started.At, result.started.Mono
			if !e.mailbox.post(result) {
				result.leave()
			}
		}()
	})
}

func (e *engine) prepareAndSpawn(cfg *ProcessConfig, info *Info, s *spawned) (err error) {
	if s.env, err = environment(cfg, e.environ, e.propagation(info)); err != nil {
		return err
	}
	spec := keeperSpec(cfg, s)
	if spec.Rights.Credential, err = cfg.credential(); err != nil {
		return err
	}
	if cfg.notifies() {
		if s.socket, err = e.notify.listen(spec.Rights.Credential); err != nil {
			return err
		}
		s.env = append(s.env, notifyEnvironment(cfg, s.socket)...)
		// The keeper holds the socket too: what the process says while there is no
		// collector is read by the next one.
		held, err := s.socket.File()
		if err != nil {
			return fmt.Errorf("notify socket: %w", err)
		}
		defer held.Close()
		spec.Hold = []*os.File{held}
	}
	spec.Env = s.env
	s.started, err = e.spawner.Spawn(spec)
	return err
}

// keeperSpec is what the keeper is to start for one run.
func keeperSpec(cfg *ProcessConfig, s *spawned) keeper.Spec {
	stream := map[OutputMode]keeper.Stream{
		OutputCapture: keeper.StreamPipe, OutputInherit: keeper.StreamInherit, OutputNull: keeper.StreamNull, OutputStdout: keeper.StreamJoin,
	}
	spec := keeper.Spec{
		ID: s.id, Run: s.run,
		Argv: slices.Clone(cfg.Command), Dir: cfg.WorkingDirectory,
		Stdout: stream[cfg.Output.Stdout], Stderr: stream[cfg.Output.Stderr],
		Rights: cfg.rights(),
		Cgroup: cfg.Cgroup.settings(), CgroupOptional: cfg.Cgroup.Optional,
		Stop: keeperStop(cfg.Stop),
	}
	if cfg.Readiness != nil {
		spec.NotifyFD = cfg.Readiness.NotifyFD
	}
	return spec
}

func keeperStop(stop StopConfig) keeper.Stop {
	return keeper.Stop{Signal: stop.Signal, Grace: stop.Timeout, Scope: stop.Scope.keeper()}
}

func (e *engine) onSpawned(m spawned) {
	c := e.roster.current(m.id, m.run)
	if c == nil || !c.spawning {
		// An abandoned start has come to something.
		e.later(func() { e.spawner.Kill(m.id, m.run) })
		m.close()
		return
	}
	c.spawning = false
	if m.err != nil {
		m.close()
		c.lastTrouble = fmt.Sprintf("it could not be started: %v", m.err)
		e.roster.countExit(c, tree.ExitStartFailed)
		e.tellStartFailed(c, m.err)
		e.step(tree.StartFailed{ID: m.id, Run: m.run})
		return
	}
	e.roster.begin(c, m)
	e.tellStarted(c)
	// What these hear comes as messages, so after this one.
	e.watchHealth(c, m)
	e.watchReadiness(c, m)
	c.streams = e.followOutput(c, m, &c.cfg.Output, e.lineWatcher(c, m))
	e.step(tree.Spawned{ID: m.id, Run: m.run})
	if c.stopping {
		// The stop may have been asked for before the keeper knew of the run.
		e.stopBySignal(c)
	}
	// The keeper may have told of the death before this message came.
	early := c.early
	c.early = nil
	for _, event := range early {
		e.onKeeper(event)
	}
}

func (s *spawned) close() {
	s.started.Close()
	closeSocket(s.socket)
}

// leave is close for a run that the next collector may go on with: the process still
// finds the socket by its name.
func (s *spawned) leave() {
	s.started.Close()
	if s.socket != nil {
		_ = s.socket.Close()
	}
}

// abandon gives a start up that is still under way. Should a process come of it
// after all, it is killed at once.
func (e *engine) abandon(c *child) {
	if !c.spawning {
		return
	}
	e.onSpawned(spawned{id: c.id, run: c.run, err: errors.New("the start hung and was given up, since everything stops")})
}

func (e *engine) onKeeper(event keeper.Event) {
	c := e.roster.current(event.ID, event.Run)
	switch {
	case event.Kind == keeper.Stranger:
		e.acknowledged(event)
		e.tellStranger(event.Processes)
		return
	case c == nil || !c.spawning && !c.alive:
		e.acknowledged(event)
		return // of a run whose start was abandoned
	case c.spawning:
		c.early = append(c.early, event)
		return
	}
	e.acknowledged(event)
	switch event.Kind {
	case keeper.Died:
		e.onDied(c, event.Exit, event.Replayed)
	case keeper.Killed:
		e.tellKilled(c, event.Processes)
	case keeper.Unkillable:
		e.tellUnkillable(c)
		e.step(tree.Unkillable{ID: event.ID, Run: event.Run})
	case keeper.Gone:
		e.onGone(c)
	}
}

// onGone: nothing of the run lives.
func (e *engine) onGone(c *child) {
	c.alive = false
	e.roster.changed(c)
	closeSocket(c.socket)
	c.socket = nil
	for _, s := range c.streams {
		s.over.Store(true)
	}
	if c.cfg.Stop.Scope == StopScopeTree {
		finish(c.streams)
	} // otherwise what it left may have something to say
	e.step(tree.Exited{ID: c.id, Run: c.run, Reason: c.exit})
}

// acknowledged: what follows from the event goes into the commit that says so.
func (e *engine) acknowledged(event keeper.Event) {
	if event.Kind == keeper.Gone && e.isUnread(event) {
		return
	}
	if event.Seq != 0 {
		e.acknowledge = append(e.acknowledge, event.Seq)
	}
}

// onDied tells of the end of the process itself; the tree hears of it once
// nothing of its group lives. late: it died while there was no collector.
func (e *engine) onDied(c *child, exit keeper.Exit, late bool) {
	c.endHealth()
	if how := keeperStop(c.cfg.Stop); c.stopping && c.cfg.Stop.asksByCommand() {
		// What survives it did not hear of the command.
		e.later(func() { e.spawner.SetStop(c.id, c.run, how) })
	}
	c.exit = c.exitReason(exit)
	if exit.Mono == 0 { // nobody saw it
		exit.At, exit.Mono = time.Now(), monotonic()
	}
	lasted := exit.Mono - c.startedMono
	ended := EndedRun{
		Run: c.run, PID: c.pid, Started: c.started, Ended: exit.At, Lasted: lasted, Reason: c.exit.String(),
		Code: exit.Code, Signal: signalText(exit), Core: exit.Core, Lost: exit.Lost,
		User: exit.User, System: exit.System, IO: exit.IO, By: exit.By, Late: late,
	}
	e.roster.finish(c, exit, lasted)
	e.remember(c, ended)
	c.lastStatus = shellStatus(exit)
	c.lastTrouble = fmt.Sprintf("it %s after %v", describe(exit), lasted.Round(time.Millisecond))
	e.tellDied(c, exit, ended, c.lastWords())
	if c.exit == tree.ExitSuccess && c.readyByExit() {
		e.step(tree.Ready{ID: c.id, Run: c.run})
	}
}

// readyByExit: a good end is what makes it ready.
func (c *child) readyByExit() bool { return c.cfg.Readiness != nil && c.cfg.Readiness.Exit != nil }

// exitReason says why the run ended, by what was asked of it and by how it ended.
func (c *child) exitReason(exit keeper.Exit) tree.ExitReason {
	switch {
	case c.stopping && c.stopWhy == tree.StopStartTimeout:
		return tree.ExitStartTimeout
	case c.stopping:
		return tree.ExitStopped
	case c.failedLiveness:
		return tree.ExitLiveness
	}
	return classify(exit, c.cfg.Success)
}
