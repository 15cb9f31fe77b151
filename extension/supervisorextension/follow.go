// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"
	"time"

	"github.com/otelwarden/warden/internal/tree"
)

// follow has the roster know the children that the tree has now, and returns those
// that it has no more: what is still to be told of them is among the actions.
func (e *engine) follow(actions []tree.Action) (left []*child) {
	for _, action := range actions {
		var id string
		switch a := action.(type) {
		case tree.Changed:
			id = a.ID
		case tree.Answer:
			id = e.commands[a.Token].target
		case tree.Reconfigured:
			// What came without being started, and what was forgotten, was not told.
			return append(left, e.followTree()...)
		case tree.SupervisorStarting:
			// It returns to its original list, and need not say a word of what that changes.
			if c := e.roster.byID[a.ID]; e.roster.altered || c != nil && len(c.instances) > 0 {
				return append(left, e.followTree()...)
			}
			continue
		default:
			continue
		}
		if e.roster.agrees(e.tree, id) {
			continue
		}
		instance, ok := e.roster.followInstance(e.tree, id)
		if !ok {
			return append(left, e.followTree()...)
		}
		left = append(left, instance...)
	}
	return left
}

func (e *engine) followTree() (left []*child) {
	left = e.roster.follow(e.tree)
	e.keepConfigs()
	return left
}

// agrees says whether roster and tree know the same child under that id, or none.
func (r *roster) agrees(t *tree.Tree, id string) bool {
	s, exists := t.Status(id)
	c := r.byID[id]
	return exists == (c != nil) && (!exists || c.config == configOf(s))
}

// followInstance is follow for a child that came or went under a template, where many
// do: nothing else is looked at. It is false for all others.
func (r *roster) followInstance(t *tree.Tree, id string) (left []*child, ok bool) {
	template := r.byID[id[:max(0, strings.LastIndexByte(id, '.'))]]
	if template == nil || !template.info.Template {
		return nil, false
	}
	c := r.byID[id]
	if s, exists := t.Status(id); exists && (c != nil || configOf(s) != template.config) {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		c = newInstanceOf(template, id)
		r.byID[id] = c
		template.instances = append(template.instances, c)
		return nil, true
	}
	template.instances = slices.DeleteFunc(template.instances, func(one *child) bool { return one == c })
	return []*child{c}, true
}

func configOf(s tree.Status) *ChildConfig {
	config, _ := s.Data.(*ChildConfig)
	return config
}

// follow takes over the children of the tree and their order, and returns those that
// are there no more, which byID still has.
func (r *roster) follow(t *tree.Tree) (left []*child) {
	r.altered = true
	now := time.Now()
	before := r.all()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.children = make([]*child, 0, len(r.children))
	var template *child // the last one that was visited
	t.Walk(func(id string, s tree.Status) bool {
		c := r.byID[id]
		switch config := configOf(s); {
		case c != nil && c.config == config:
		case c != nil && c.isOf(config, s.Template):
			r.configure(c, config)
		case c != nil && (c.alive || c.spawning):
			// What it has been until now is still to be told the end of.
		default:
			if c != nil {
				r.retire(c)
			}
			if s.Template {
				c = newInstanceOf(template, id)
			} else {
				c = r.newChild(id, config, now)
			}
			r.changed(c)
			r.byID[id] = c
		}
		if c.template != nil {
			template.instances = append(template.instances, c)
			return true
		}
		if c.info.Template {
			template, c.instances = c, nil
		}
		r.children = append(r.children, c)
		return true
	})
	return slices.DeleteFunc(before, func(c *child) bool {
		_, exists := t.Status(c.id)
		return exists
	})
}

// childKind is what a child is by its configuration.
type childKind uint8

const (
	kindProcess childKind = iota
	kindTemplate
	kindSupervisor
)

func kindOf(c *ChildConfig) childKind {
	switch {
	case c == nil || c.Supervisor != nil:
		return kindSupervisor
	case c.Process.Template:
		return kindTemplate
	}
	return kindProcess
}

// isOf: with that configuration the child is still the kind of thing that it is.
func (c *child) isOf(config *ChildConfig, instance bool) bool {
	return (c.template != nil) == instance && kindOf(c.config) == kindOf(config)
}

// configure gives a child another configuration of the same kind. The roster is locked.
func (r *roster) configure(c *child, config *ChildConfig) {
	c.config = config
	if c.cfg != nil {
		c.cfg = config.Process
	}
	if c.template != nil {
		c.info = c.template.info
	} else {
		c.info = r.newInfo(c.id, config, c.info.Created)
	}
	for _, s := range c.streams {
		s.process.Store(c.info)
	}
}

// drop forgets children that are there no more.
func (r *roster) drop(left []*child) {
	if len(left) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range left {
		delete(r.byID, c.id)
		r.changed(c)
		r.retire(c)
	}
}

// retire remembers what a child counted; an instance counted for its template.
func (r *roster) retire(c *child) {
	if c.template == nil {
		r.retired[c.id] = c
	}
}
