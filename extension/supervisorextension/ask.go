// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// What is asked of a process that runs: to stop, and to read its configuration again;
// by a signal or by a command that goes with it.

// mainPID tells a command which process it goes with, as systemd does.
const mainPID = "MAINPID"

// asksByCommand: a command stops the process, unless it is killed at once.
func (s StopConfig) asksByCommand() bool { return len(s.Command) > 0 && !s.kills() }

// stopRun begins to stop the latest run of c. A command is given the whole grace, after
// which the keeper kills; if it fails the signal follows.
func (e *engine) stopRun(c *child) {
	id, run, cfg := c.id, c.run, c.cfg
	if !cfg.Stop.asksByCommand() || c.pid == 0 {
		e.later(func() { e.spawner.Stop(id, run) })
		return
	}
	env := append(c.env[:len(c.env):len(c.env)], mainPID+"="+strconv.Itoa(c.pid))
	e.later(func() {
		silent := keeperStop(cfg.Stop)
		silent.Signal = 0
		e.spawner.SetStop(id, run, silent)
		e.spawner.Stop(id, run)
		go func() {
			if err := e.runBeside(cfg, cfg.Stop.Command, env, cfg.Stop.Timeout); err != nil && !errors.Is(err, keeper.ErrClosed) {
				e.mailbox.post(stopCommandFailed{id, run, err})
			}
		}()
	})
}

// stopCommandFailed is the message that a process has to be asked by signal after all.
type stopCommandFailed struct {
	id  string
	run uint64
	err error
}

func (e *engine) onStopCommandFailed(m stopCommandFailed) {
	c := e.roster.current(m.id, m.run)
	if c == nil || !c.alive {
		return
	}
	e.logger.Warn("the command that was to stop a process failed, it is sent the signal", zap.String("process", m.id), zap.Error(m.err))
	e.stopBySignal(c)
}

// stopBySignal has a run stopped by its signal, even if its command was to do that.
func (e *engine) stopBySignal(c *child) {
	id, run, how := c.id, c.run, keeperStop(c.cfg.Stop)
	if c.cfg.Stop.asksByCommand() {
		e.later(func() { e.spawner.SetStop(id, run, how) })
	}
	e.later(func() { e.spawner.Stop(id, run) })
}

// runBeside runs a command with the rights of a process. A negative timeout is none.
func (e *engine) runBeside(cfg *ProcessConfig, argv, env []string, timeout time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	if timeout >= 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	j, err := jobOf(cfg, argv, env)
	if err != nil {
		return err
	}
	exit, err := e.runner.run(ctx, j)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%q did not end within %v", argv[0], timeout)
	case err != nil:
		return err
	case exit.Signal != 0 || exit.Code != 0:
		return fmt.Errorf("%q %s", argv[0], describe(exit))
	}
	return nil
}

// ErrNotRunning is the answer to a reload of what does not run.
var ErrNotRunning = errors.New("the process is not running")

// reloadTimeout is what the command of a reload is given.
const reloadTimeout = time.Minute

// reload is the request to have a process read its configuration again.
type reload struct {
	id     string
	answer chan error // has room for the one that comes
}

// Reload implements Operator.
func (s *supervisor) Reload(ctx context.Context, id string) error {
	e := s.commanded.Load()
	if e == nil || !e.begun.Load() {
		return fmt.Errorf("reload %q: %w", id, ErrClosed)
	}
	r := reload{id, make(chan error, 1)}
	e.mailbox.post(r)
	err := ErrClosed
	select {
	case err = <-r.answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
	}
	if err != nil {
		return fmt.Errorf("reload %q: %w", id, err)
	}
	return nil
}

func (e *engine) onReload(r reload) {
	c := e.roster.byID[r.id]
	switch {
	case c == nil:
		r.answer <- ErrNotFound
	case c.cfg == nil:
		r.answer <- fmt.Errorf("%w: it is no process", ErrInvalid)
	case c.state != tree.StateRunning:
		r.answer <- ErrNotRunning
	case c.cfg.Reload.Signal != 0:
		signal := c.cfg.Reload.Signal
		e.later(func() {
			e.spawner.Signal(c.id, c.run, signal)
			r.answer <- nil
		})
	case len(c.cfg.Reload.Command) > 0:
		cfg, env := c.cfg, append(c.env[:len(c.env):len(c.env)], mainPID+"="+strconv.Itoa(c.pid))
		e.later(func() {
			go func() { r.answer <- e.runBeside(cfg, cfg.Reload.Command, env, reloadTimeout) }()
		})
	default:
		r.answer <- fmt.Errorf("%w: it has no reload: write reload: {signal: SIGHUP} or a command", ErrInvalid)
	}
}
