// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/otelwarden/warden/internal/output"
	"github.com/otelwarden/warden/internal/tree"
)

// The messages of the goroutines that watch a run.
type (
	becameReady struct {
		id  string
		run uint64
	}
	// checked is the answer to one question whether the process works, nil is yes.
	checked struct {
		id  string
		run uint64
		err error
	}
)

// health is what watches one run. Its goroutines end with ctx and are not waited
// for: all they do is to post messages, which are stale by then.
type health struct {
	ctx      context.Context
	end      context.CancelFunc
	alive    probe // by notification; set where liveness is notify
	failures int   // in a row
}

// endHealth ends the watching of the present run.
func (c *child) endHealth() {
	if c.health != nil {
		c.health.end()
	}
}

// notifies reports whether the process may speak on a notification socket.
func (p *ProcessConfig) notifies() bool {
	return p.Readiness != nil && p.Readiness.Notify != nil || p.Liveness != nil && p.Liveness.Notify != nil
}

// notifyEnvironment tells the process of its socket, as systemd does.
func notifyEnvironment(cfg *ProcessConfig, socket *net.UnixConn) []string {
	env := []string{"NOTIFY_SOCKET=" + socket.LocalAddr().String()}
	if cfg.Liveness != nil && cfg.Liveness.Notify != nil {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(cfg.Liveness.Interval.Microseconds(), 10))
	}
	return env
}

// watchHealth begins to listen to a run.
func (e *engine) watchHealth(c *child, m spawned) {
	c.health = &health{}
	c.health.ctx, c.health.end = context.WithCancel(context.Background())
	if m.socket == nil {
		return
	}
	pinged := new(atomic.Bool)
	c.health.alive = func(context.Context) error {
		if pinged.Swap(false) {
			return nil
		}
		return errNoWatchdog
	}
	wantsReady := c.cfg.Readiness != nil && c.cfg.Readiness.Notify != nil
	e.listening.Go(func() {
		serveNotifications(m.socket, func(n notification) {
			if n.watchdog {
				pinged.Store(true)
			}
			if n.ready && wantsReady {
				e.mailbox.post(becameReady{m.id, m.run})
			}
		})
	})
}

// stopListening leaves what the processes say from now on to the next collector, which
// may be this very process.
func (e *engine) stopListening() {
	for _, c := range e.roster.byID {
		c.endHealth()
		if c.socket != nil {
			_ = c.socket.Close() // the keeper holds it too
		}
	}
	e.listening.Wait()
}

// watchReadiness begins to ask a run that was spawned whether it is ready.
func (e *engine) watchReadiness(c *child, m spawned) {
	ctx := c.health.ctx
	ready := func() { e.mailbox.post(becameReady{m.id, m.run}) }
	r := c.cfg.Readiness
	switch {
	case r == nil || r.Notify != nil || r.Exit != nil || r.Log != nil:
		// The first is ready already; the others are heard of elsewhere.
	case r.NotifyFD != 0:
		pipe := m.started.Notify
		context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Unix(1, 0)) })
		e.listening.Go(func() {
			defer pipe.Close()
			if awaitNewline(pipe) {
				ready()
			}
		})
	default:
		p := newProbe(r.HTTP, r.TCP, r.Exec, e.runner, c.cfg, m.env)
		go func() {
			if p.until(ctx, r.Interval, r.Timeout) {
				ready()
			}
		}()
	}
}

// lineWatcher returns a function that is shown every line before it is delivered,
// nil if nobody wants to see them. It returns false for lines that the next collector
// has to see, since this one does not heed them any more.
func (e *engine) lineWatcher(c *child, m spawned) func([]output.Line) bool {
	if c.cfg.Readiness == nil || c.cfg.Readiness.Log == nil {
		return nil
	}
	pattern := regexp.MustCompile(c.cfg.Readiness.Log.Pattern) // checked by Validate
	var found atomic.Bool
	return func(lines []output.Line) bool {
		if found.Load() {
			return true
		}
		if !slices.ContainsFunc(lines, func(line output.Line) bool { return pattern.Match(line.Text) }) || !found.CompareAndSwap(false, true) {
			return true
		}
		heard := e.mailbox.post(becameReady{m.id, m.run})
		found.Store(heard)
		return heard
	}
}

func (e *engine) onReady(m becameReady) {
	if c := e.roster.current(m.id, m.run); c != nil && c.alive {
		e.step(tree.Ready{ID: m.id, Run: m.run})
	}
}

// errNoWatchdog is the answer of a process that was to send WATCHDOG=1 and did not.
var errNoWatchdog = errors.New("no WATCHDOG=1 in time")

// watchLiveness begins to ask a process that is ready whether it works.
func (e *engine) watchLiveness(c *child) {
	l, h := c.cfg.Liveness, c.health
	if l == nil || h == nil || h.ctx.Err() != nil {
		return
	}
	p, delay := h.alive, l.InitialDelay
	if l.Notify != nil {
		delay += l.Interval // it has an interval to send the first in
	} else {
		p = newProbe(l.HTTP, l.TCP, l.Exec, e.runner, c.cfg, c.env)
	}
	id, run := c.id, c.run
	go func() {
		if sleep(h.ctx, delay) {
			p.watch(h.ctx, l.Interval, l.Timeout, func(err error) { e.mailbox.post(checked{id, run, err}) })
		}
	}()
}

// onChecked counts failures in a row and ends a run that has too many.
func (e *engine) onChecked(m checked) {
	c := e.roster.current(m.id, m.run)
	if c == nil || !c.alive || c.health == nil || c.health.ctx.Err() != nil {
		return
	}
	h, threshold := c.health, c.cfg.Liveness.FailureThreshold
	if m.err == nil {
		if h.failures > 0 {
			e.tellHealthy(c, h.failures)
		}
		h.failures = 0
		return
	}
	if slices.ContainsFunc(c.streams, func(s *stream) bool { return s.reader.Blocking() }) {
		// It stands still because its output is not taken. To end it for that would
		// be to punish it for our own fault.
		e.tellUnhealthy(c, m.err, "its output is held up, so it is left alone")
		return
	}
	h.failures++
	if h.failures < threshold {
		e.tellUnhealthy(c, m.err, fmt.Sprintf("%d of %d failures in a row", h.failures, threshold))
		return
	}
	e.tellUnhealthy(c, m.err, fmt.Sprintf("%d failures in a row, it is ended", h.failures))
	c.failedLiveness = true
	e.roster.changed(c)
	c.endHealth()
	e.later(func() { e.spawner.Stop(m.id, m.run) })
}

// closeSocket closes a notification socket and removes its name.
func closeSocket(socket *net.UnixConn) {
	if socket != nil {
		_ = socket.Close()
		_ = os.Remove(socket.LocalAddr().String())
	}
}
