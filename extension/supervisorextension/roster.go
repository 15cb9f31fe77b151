// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// roster is what is known of all children. The engine changes it, anybody may ask
// for a picture of it.
type roster struct {
	runtimeDirectory string
	// config is the root's, which is of no child.
	config *SupervisorConfig
	root   *child

	// altered: the children are, or have been, others than those of the configuration.
	altered bool

	// mu guards what the engine alone writes, and so reads without it.
	mu   sync.Mutex
	byID map[string]*child
	// retired are children that are no more, by id: one that comes under that id
	// later reports as the same one, and no counter begins anew.
	retired  map[string]*child
	children []*child // the root first, then in the order of the tree, without instances

	// unsaved are those of which something changed since it was kept last. The engine's.
	unsaved []*child
}

func newRoster(cfg *Config, runtimeDirectory string, now time.Time) *roster {
	r := &roster{
		runtimeDirectory: runtimeDirectory, config: &cfg.SupervisorConfig,
		byID: map[string]*child{}, retired: map[string]*child{},
	}
	r.root = r.newChild("", nil, now)
	r.add(r.root)
	r.addAll(r.config, "", now)
	return r
}

// addAll adds the children of a supervisor, depth first.
func (r *roster) addAll(s *SupervisorConfig, id string, now time.Time) {
	for i := range s.Children {
		config := &s.Children[i]
		c := r.newChild(childID(id, config.Name), config, now)
		r.add(c)
		if config.Supervisor != nil {
			r.addAll(config.Supervisor, c.id, now)
		}
	}
}

func (r *roster) add(c *child) {
	r.children = append(r.children, c)
	r.byID[c.id] = c
}

// newChild makes an entry; it goes on where the last one of that id ended.
func (r *roster) newChild(id string, config *ChildConfig, now time.Time) *child {
	c := &child{id: id, config: config}
	if earlier := r.retired[id]; earlier != nil {
		delete(r.retired, id)
		c.run, c.totals, c.history = earlier.run, earlier.totals, earlier.history
		now = earlier.info.Created
	}
	if config != nil && kindOf(config) == kindProcess {
		c.cfg = config.Process
	}
	c.info = r.newInfo(id, config, now)
	return c
}

func (r *roster) newInfo(id string, config *ChildConfig, created time.Time) *Info {
	if config == nil || config.Supervisor != nil {
		return newInfo(id, TypeSupervisor, nil, r.runtimeDirectory, created)
	}
	if config.Process.Template {
		info := newInfo(id, TypeSupervisor, config.Process, r.runtimeDirectory, created)
		info.Template = true
		return info
	}
	return newInfo(id, TypeService, config.Process, r.runtimeDirectory, created)
}

func newInstanceOf(template *child, id string) *child {
	return &child{id: id, template: template, info: template.info, config: template.config, cfg: template.config.Process}
}

// childID is the id of a supervisor's child of that name.
func childID(supervisor, name string) string {
	if supervisor == "" {
		return name
	}
	return supervisor + "." + name
}

// current returns the child whose latest run is that one, nil if there is none: what
// comes from elsewhere may be about a run, or a child, that is no more.
func (r *roster) current(id string, run uint64) *child {
	if c := r.byID[id]; c != nil && c.run == run {
		return c
	}
	return nil
}

// describe returns what is known of the child of that id, or of the last one, nil if
// there never was one.
func (r *roster) describe(id string) *Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[id]; c != nil {
		return c.info
	}
	if c := r.retired[id]; c != nil {
		return c.info
	}
	return nil
}

// supervisorOf returns the configuration of a supervisor, nil if there is none of that id.
func (r *roster) supervisorOf(id string) *SupervisorConfig {
	switch c := r.byID[id]; {
	case c == nil:
		return nil
	case c == r.root:
		return r.config
	default:
		return c.config.Supervisor
	}
}

// base is a process with the defaults that hold below a supervisor.
func (r *roster) base(id string) ChildConfig {
	for {
		if s := r.supervisorOf(id); s != nil && s.base != nil {
			return s.base.clone()
		}
		if id == "" {
			return newDefaultProcess()
		}
		id = id[:max(0, strings.LastIndexByte(id, '.'))]
	}
}

// all are the children there are, in their order.
func (r *roster) all() (all []*child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.children {
		all = append(append(all, c), c.instances...)
	}
	return all
}

// captures reports whether some process has a stream that somebody should take.
func (r *roster) captures() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.children, func(c *child) bool {
		if c.config == nil || c.config.Process == nil {
			return false
		}
		return c.config.Process.Output.captures()
	})
}

// snapshot appends the present state of all children to dst.
func (r *roster) snapshot(dst []Process) []Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.children)
	for _, c := range r.children {
		n += len(c.instances)
	}
	dst = slices.Grow(dst, n)
	for _, c := range r.children {
		dst = append(dst, c.picture())
		for _, instance := range c.instances {
			dst = append(dst, instance.picture())
		}
	}
	return dst
}

func (r *roster) setState(c *child, state tree.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.state = state
}

func (r *roster) setRun(c *child, run uint64) {
	r.changed(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.run = run
}

// begin notes that a run is there.
func (r *roster) begin(c *child, m spawned) {
	r.changed(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.alive = true
	c.pid, c.startTicks = m.started.PID, m.started.StartTicks
	c.started, c.startedMono = m.at, m.mono
	c.socket = m.socket
	if c.runsCommands() {
		c.env = m.env
	}
}

// finish notes the end of a run's process. What it used moves from the process to
// the totals at one moment, so that no picture has it twice or not at all.
func (r *roster) finish(c *child, exit keeper.Exit, lasted time.Duration) {
	r.changed(c)
	r.changed(c.reports())
	r.mu.Lock()
	defer r.mu.Unlock()
	c.pid = 0
	totals := &c.reports().totals
	totals.CPUUser += exit.User
	totals.CPUSystem += exit.System
	totals.Exits[c.exit]++
	totals.Lifetime.observe(lasted)
}

func (r *roster) countExit(c *child, reason tree.ExitReason) {
	r.changed(c)
	r.changed(c.reports())
	r.mu.Lock()
	defer r.mu.Unlock()
	c.reports().totals.Exits[reason]++
}

func (r *roster) countRestart(c *child, a tree.Restarting, now time.Time) {
	r.changed(c)
	r.changed(c.reports())
	r.mu.Lock()
	defer r.mu.Unlock()
	totals := &c.reports().totals
	totals.Restarts[a.Reason]++
	if a.Reason == tree.RestartStrategy {
		totals.LastStrategy = StrategyRestart{a.Cause, now}
	}
}

func (l *Lifetime) observe(lasted time.Duration) {
	l.Count++
	l.Sum += lasted
	for i, bound := range LifetimeBounds {
		if lasted.Seconds() <= bound {
			l.Buckets[i]++
			return
		}
	}
	l.Buckets[len(LifetimeBounds)]++
}
