// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// configured is what a world knows about reconfigurations.
type configured struct {
	awaited bool            // a Reconfigured is
	touched map[string]bool // what was ever to be replaced or removed, by ID
	added   map[string]bool // what an operator ever tried to add
	deleted map[string]bool // what an operator ever tried to delete

	together map[string]bool // supervisors that stopped their children together before a Reconfigure
}

func newConfigured() configured {
	return configured{touched: map[string]bool{}, added: map[string]bool{}, deleted: map[string]bool{}, together: map[string]bool{}}
}

var invalid = Reconfigure{Root: Supervisor{MaxRestarts: -1}}

// reconfigure gives the tree another specification, now and then an invalid one.
func (w *world) reconfigure() {
	if odds(w.c, 12, "invalid") {
		w.feed(invalid)
		return
	}
	next := deriveSupervisor(w.c, w.root, 0)
	ids := map[string]bool{"nobody": true}
	w.tree.Walk(func(id string, _ Status) bool { ids[id] = true; return true })
	var restart []string
	for odds(w.c, 2, "restart") && len(restart) < 3 {
		restart = append(restart, pickID(w, ids))
	}
	w.reconfigureTo(next, restart)
}

func (w *world) reconfigureTo(next Supervisor, restart []string) {
	for _, c := range Plan(w.root, next, restart) {
		_, there := w.tree.Status(c.ID)
		n := w.tree.nodes[c.ID]
		template := n != nil && n.sup != nil && n.sup.spec.Template != nil
		if c.Kind == ChangeRestarted || c.Kind == ChangeStopped || c.Kind == ChangeStarted && there || c.Kind == ChangeUpdated && template {
			w.configured.touched[c.ID] = true
		}
	}
	for _, id := range restart {
		w.configured.touched[id] = true
	}
	w.forgetOldDecisions()
	waiting := map[string]bool{} // and so they may be started
	w.tree.Walk(func(id string, s Status) bool {
		waiting[id] = s.Waiting || w.tree.nodes[id].queued || id != "" && waiting[parentID(id)]
		if s.Supervisor && w.tree.nodes[id].sup.together() {
			w.configured.together[id] = true
		}
		return true
	})
	w.root, w.configured.awaited = next, true
	w.feed(Reconfigure{Root: next, Restart: restart})
	if slices.ContainsFunc(w.latest, func(a Action) bool {
		r, ok := a.(Restarting)
		return ok && r.Reason != RestartConfig
	}) {
		return // the turn of a failure has come
	}
	for _, a := range w.latest {
		spawn, ok := a.(Spawn)
		if _, known := waiting[spawn.ID]; ok && known && !w.wasTouched(spawn.ID) {
			require.True(w.t, waiting[spawn.ID], "%s is started by a Reconfigure that did not touch it", spawn.ID)
		}
	}
}

// forgetOldDecisions drops the restarts that count no more, before a longer period makes them count again.
func (w *world) forgetOldDecisions() {
	for id, times := range w.decisions {
		if n := w.tree.nodes[id]; n != nil && n.sup != nil {
			w.decisions[id] = slices.DeleteFunc(times, func(at time.Duration) bool { return w.now-at >= n.sup.spec.Period })
		}
	}
}

// wasTouched: it or a supervisor that it is in was.
func (w *world) wasTouched(id string) bool {
	for ; id != ""; id = parentID(id) {
		if w.configured.touched[id] {
			return true
		}
	}
	return false
}

func (w *world) reconfigured(a Reconfigured) {
	if a.Err != nil {
		require.Equal(w.t, invalid, w.event)
		return
	}
	require.True(w.t, w.configured.awaited, "nobody asked")
	w.configured.awaited = false
}

// checkLeaving: what leaves its supervisor's list, or is replaced, is asked to stop
// when all that leaves from behind it is down.
func (w *world) checkLeaving(id string) {
	n := w.tree.nodes[id]
	if n == nil || n.parent == nil || n.leaving != leavesConfig || n.why != StopConfig {
		return
	}
	for later := n.next; later != nil && !w.together(n.parent); later = later.next {
		if later.leaving != stays {
			w.requireDown(later, id)
		}
	}
}

func (w *world) together(n *node) bool { return n.sup.together() || w.configured.together[n.id] }

func (w *world) requireDown(n *node, stopped string) {
	for id, p := range w.processes {
		if (id == n.id || strings.HasPrefix(id, n.id+".")) && !p.survivor {
			require.Fail(w.t, "order of stops", "%s is stopped while %s lives", stopped, id)
		}
	}
}

// checkLists: where a Reconfigure has nothing left to do, the children are those of
// the specification in its order, and then what operators added.
func (w *world) checkLists(id string, s *Supervisor) {
	n := w.tree.nodes[id]
	if n == nil || n.sup == nil || n.sup.stale {
		return // deleted, on its way in or out, or ending
	}
	require.Equal(w.t, s.Strategy, n.sup.spec.Strategy)
	place := uint64(0)
	declared := map[string]bool{}
	for i := range s.Children {
		spec := &s.Children[i]
		declared[spec.Name] = true
		c := w.tree.nodes[join(id, spec.Name)]
		_, comes := n.sup.coming[spec.Name]
		if c == nil || !c.declared {
			missing := join(id, spec.Name)
			require.True(w.t, comes || w.configured.deleted[missing] || w.configured.added[missing], "%s is missing", missing)
			continue
		}
		require.False(w.t, comes)
		require.True(w.t, sameKind(spec, c.spec), "%s is of another kind", c.id)
		require.True(w.t, alike(spec, c.spec, true), "%s has another specification", c.id)
		require.Greater(w.t, c.place, place, "%s is out of place", c.id)
		place = c.place
		if spec.Supervisor != nil {
			w.checkLists(c.id, spec.Supervisor)
		}
	}
	for c := n.sup.first; c != nil; c = c.next {
		if !c.declared && n.sup.spec.Template == nil {
			require.True(w.t, w.configured.added[c.id] || haunted(c), "%s is still there", c.id)
			require.True(w.t, c.buried || c.place > place, "%s is out of place", c.id)
		}
	}
}

// checkSettling: a Reconfigure that is not done waits for something.
func (w *world) checkSettling(something bool) {
	count := 0
	for _, n := range w.tree.nodes {
		if n.sup != nil && n.sup.settling {
			count++
		}
	}
	require.Equal(w.t, count, w.tree.unsettled)
	require.Equal(w.t, count > 0, w.configured.awaited && w.rootLive() && w.tree.root.state != StateStopping)
	require.False(w.t, count > 0 && !something, "a Reconfigure is not done, and nothing is awaited")
}
