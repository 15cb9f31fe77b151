// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"reflect"

	"github.com/otelwarden/warden/internal/tree"
)

// change is what a new configuration means for one child.
type change struct {
	id   string
	kind tree.ChangeKind
	// keys are those that differ; of a child that is in both.
	keys []string
}

// compare says what it means for what was left that the configuration is now that of
// the roster: for every child, in the order of the tree, and which processes have to
// be replaced.
func (e *engine) compare(in *inheritance) (changes []change, replace []string) {
	keys := map[string][]string{}
	replaced := map[string]bool{}
	e.roster.config.each("", func(id string, next *ChildConfig) {
		before := in.configs[id]
		if before == nil || kindOf(before) != kindOf(next) {
			return
		}
		var must bool
		keys[id], must = changedKeys(before, next)
		replaced[id] = must && kindOf(next) != kindSupervisor
	})
	keys[""] = changedRootKeys(&in.spec.Root, &e.wanted)
	maps.DeleteFunc(replaced, func(_ string, must bool) bool { return !must })
	for _, c := range e.roster.all() {
		switch {
		case c.template != nil && replaced[c.template.id]:
			replace = append(replace, c.id)
		case c.cfg != nil && replaced[c.id]:
			replace = append(replace, c.id)
		}
	}
	for _, planned := range tree.Plan(in.spec.Root, e.wanted, replace) {
		one := change{planned.ID, planned.Kind, keys[planned.ID]}
		if one.kind == tree.ChangeKept && len(one.keys) > 0 {
			one.kind = tree.ChangeUpdated
		}
		changes = append(changes, one)
	}
	return changes, replace
}

// changedRootKeys is changedKeys for the root, which has no configuration of a child.
func changedRootKeys(from, to *tree.Supervisor) (keys []string) {
	for _, key := range []struct {
		name    string
		differs bool
	}{
		{"auto_shutdown", from.AutoShutdown != to.AutoShutdown},
		{"first_start", from.FirstStart != to.FirstStart},
		{"intensity", from.MaxRestarts != to.MaxRestarts || from.Period != to.Period},
		{"parallel", from.Parallel != to.Parallel},
		{"strategy", from.Strategy != to.Strategy},
	} {
		if key.differs {
			keys = append(keys, key.name)
		}
	}
	return keys
}

// reconfigure has the tree become what the configuration says, and tells what that
// means.
func (e *engine) reconfigure(in *inheritance) {
	changes, replace := e.compare(in)
	e.tellApplied(changes)
	e.spec.Root = e.wanted
	e.step(tree.Reconfigure{Root: e.wanted, Restart: replace})
	e.roster.drop(e.followTree())
	e.keep(specificationKey, encode(e.spec))
	for _, c := range e.roster.all() {
		before := in.configs[c.reports().id]
		if c.alive && c.cfg != nil && before != nil && before.Process != nil && !reflect.DeepEqual(before.Process.Stop, c.cfg.Stop) {
			how := keeperStop(c.cfg.Stop)
			e.later(func() { e.spawner.SetStop(c.id, c.run, how) })
		}
	}
}
