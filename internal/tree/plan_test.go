// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPlan_NamesEveryChildOnce(t *testing.T) {
	supervisor := func(name string, children ...Child) Child {
		return Child{Name: name, Supervisor: &Supervisor{Children: children}}
	}
	template := func(name string, instance Child) Child {
		return Child{Name: name, Supervisor: &Supervisor{Template: &instance}}
	}
	root := func(children ...Child) Supervisor { return Supervisor{Children: children} }
	other := worker("a")
	other.Worker.AwaitReady = true
	data := worker("a")
	data.Data = func() {}
	for _, tt := range []struct {
		name      string
		now, next Supervisor
		restart   []string
		want      []Change
	}{
		{"nothing", root(worker("a")), root(worker("a")), nil, []Change{{"", ChangeKept}, {"a", ChangeKept}}},
		{"the caller's data", root(worker("a")), root(data), nil, []Change{{"", ChangeKept}, {"a", ChangeKept}}},
		{"its process", root(worker("a")), root(worker("a")), []string{"nobody", "a", "a"}, []Change{{"", ChangeKept}, {"a", ChangeRestarted}}},
		{"a supervisor has none", root(supervisor("a")), root(supervisor("a")), []string{"", "a"}, []Change{{"", ChangeKept}, {"a", ChangeKept}}},
		{"its specification", root(worker("a")), root(other), nil, []Change{{"", ChangeKept}, {"a", ChangeUpdated}}},
		{"both", root(worker("a")), root(other), []string{"a"}, []Change{{"", ChangeKept}, {"a", ChangeRestarted}}},
		{"the strategy", root(worker("a")), Supervisor{Strategy: OneForAll, Children: []Child{worker("a")}}, nil, []Change{{"", ChangeUpdated}, {"a", ChangeKept}}},
		{"the order", root(worker("a"), worker("b")), root(worker("b"), worker("a")), nil, []Change{{"", ChangeUpdated}, {"b", ChangeKept}, {"a", ChangeKept}}},
		{
			"what goes is in its old place", root(worker("a"), worker("b"), worker("c"), worker("d"), worker("e")), root(worker("n"), worker("b"), worker("e"), worker("m")), nil,
			[]Change{{"", ChangeKept}, {"a", ChangeStopped}, {"n", ChangeStarted}, {"b", ChangeKept}, {"c", ChangeStopped}, {"d", ChangeStopped}, {"e", ChangeKept}, {"m", ChangeStarted}},
		},
		{
			"supervisors come and go whole", root(supervisor("a", worker("x"))), root(supervisor("b", worker("x"))),
			[]string{"a.x"},
			[]Change{{"", ChangeKept}, {"a", ChangeStopped}, {"a.x", ChangeStopped}, {"b", ChangeStarted}, {"b.x", ChangeStarted}},
		},
		{
			"a supervisor becomes a worker", root(supervisor("a", worker("x"))), root(worker("a")), nil,
			[]Change{{"", ChangeKept}, {"a", ChangeRestarted}, {"a.x", ChangeStopped}},
		},
		{
			"a template becomes a supervisor", root(template("a", worker(""))), root(supervisor("a", worker("x"))), nil,
			[]Change{{"", ChangeKept}, {"a", ChangeRestarted}, {"a.x", ChangeStarted}},
		},
		{"instances become something else", root(template("a", worker(""))), root(template("a", supervisor(""))), nil, []Change{{"", ChangeKept}, {"a", ChangeRestarted}}},
		{"a template's instance", root(template("a", worker(""))), root(template("a", other)), nil, []Change{{"", ChangeKept}, {"a", ChangeUpdated}}},
		{
			"a child of a template's instance", root(template("a", supervisor("", worker("x")))), root(template("a", supervisor("", worker("y")))), nil,
			[]Change{{"", ChangeKept}, {"a", ChangeUpdated}},
		},
		{
			"the kind of a child of a template's instance", root(template("a", supervisor("", worker("x")))), root(template("a", supervisor("", supervisor("x")))), nil,
			[]Change{{"", ChangeKept}, {"a", ChangeUpdated}},
		},
		{"a template that is the same", root(template("a", supervisor("", worker("x")))), root(template("a", supervisor("", worker("x")))), nil, []Change{{"", ChangeKept}, {"a", ChangeKept}}},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, Plan(tt.now, tt.next, tt.restart)) })
	}
}

// What a Reconfigure does with a tree in which all is up, in a world where all goes
// well, is what Plan said.
func TestPlan_SaysWhatAReconfigureDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := chooseRoot(&rapidChooser{t: t})
		next := deriveSupervisor(&rapidChooser{t: t}, now, 0)
		tree := mustNew(t, now)
		playAll(t, tree, Start{})
		wasWorker := map[string]bool{}
		var workers []string
		tree.Walk(func(id string, s Status) bool {
			if !s.Supervisor {
				wasWorker[id] = true
				workers = append(workers, id)
			}
			return true
		})
		for _, id := range workers { // the Manual ones too
			playAll(t, tree, Command{Op: OpStart, ID: id})
		}
		var restart []string
		for len(workers) > 0 && len(restart) < 3 && rapid.Bool().Draw(t, "restart") {
			restart = append(restart, rapid.SampledFrom(workers).Draw(t, "which"))
		}
		actions := playAll(t, tree, Reconfigure{Root: next, Restart: restart})
		require.Equal(t, Reconfigured{}, actions[len(actions)-1])

		stopped, started, told := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, a := range actions[:len(actions)-1] {
			switch a := a.(type) {
			case StopProcess:
				require.Equal(t, StopConfig, a.Why)
				require.False(t, stopped[a.ID] || started[a.ID])
				stopped[a.ID] = true
			case Spawn:
				require.False(t, started[a.ID])
				started[a.ID] = true
			case Restarting:
				require.Equal(t, Restarting{ID: a.ID, Run: a.Run, Reason: RestartConfig}, a)
				told[a.ID] = true
			case Changed:
				told[a.ID] = true
			case Reconfigured:
				require.Fail(t, "there are two")
			}
		}
		var left, there []string
		for _, change := range Plan(now, next, restart) {
			id := change.ID
			starts := false
			if change.Kind != ChangeStopped {
				left = append(left, id)
				n := tree.nodes[id]
				require.NotNil(t, n, id)
				starts = n.sup == nil && (wasWorker[id] || !n.spec.Worker.Manual)
			}
			changes := change.Kind == ChangeRestarted || change.Kind == ChangeStarted
			require.Equal(t, changes && starts, started[id], "%s is %v", id, change.Kind)
			changes = change.Kind == ChangeRestarted || change.Kind == ChangeStopped
			require.Equal(t, changes && wasWorker[id], stopped[id], "%s is %v", id, change.Kind)
			if change.Kind == ChangeKept || change.Kind == ChangeUpdated {
				require.False(t, told[id], "%s is %v", id, change.Kind)
			}
			delete(stopped, id)
			delete(started, id)
		}
		require.Empty(t, stopped, "nobody planned that")
		require.Empty(t, started, "nobody planned that")
		tree.Walk(func(id string, s Status) bool {
			there = append(there, id)
			return true
		})
		require.Equal(t, left, there)
	})
}

// playAll is playWell that also makes processes ready, and returns all actions.
func playAll(t require.TestingT, tree *Tree, ev Event) (all []Action) {
	for queue := []Event{ev}; len(queue) > 0; {
		ev, queue = queue[0], queue[1:]
		for _, a := range tree.Step(0, ev) {
			all = append(all, a)
			switch a := a.(type) {
			case Spawn:
				queue = append(queue, Spawned(a), Ready(a))
			case StopProcess:
				queue = append(queue, Exited{a.ID, a.Run, ExitStopped})
			}
		}
	}
	return all
}
