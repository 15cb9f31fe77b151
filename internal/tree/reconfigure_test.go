// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReconfigure_KeepsTheRestartsThatCount(t *testing.T) {
	root := func(most int) Supervisor {
		return Supervisor{MaxRestarts: most, Period: time.Hour, Children: []Child{worker("a")}}
	}
	tree := mustNew(t, root(3))
	playWell(t, tree, Start{})
	for run := range uint64(2) {
		tree.Step(0, Exited{"a", run + 1, ExitCode})
		tree.Step(0, Spawned{"a", run + 2})
	}
	for most, want := range map[int]int{5: 3, 2: 0, 1: 0} {
		require.Equal(t, []Action{Reconfigured{}}, tree.Step(0, Reconfigure{Root: root(most)}))
		budget, _ := tree.RestartBudget("", 0)
		require.Equal(t, want, budget)
	}
	tree.Step(0, Reconfigure{Root: root(2)})
	require.Contains(t, tree.Step(0, Exited{"a", 3, ExitCode}), Action(SupervisorGaveUp{"", "a", GiveUpIntensity}))
}

func TestReconfigure_GivesTheStatusItsNewData(t *testing.T) {
	root := func(data string) Supervisor {
		a, instance := worker("a"), worker("")
		a.Data, instance.Data = data, data
		return Supervisor{Children: []Child{a, {Name: "t", Supervisor: &Supervisor{Template: &instance}}}}
	}
	tree := mustNew(t, root("old"))
	playWell(t, tree, Start{})
	playWell(t, tree, Command{Op: OpAdd, ID: "t", Child: &Child{Name: "x"}})
	tree.Step(0, Reconfigure{Root: root("new")})
	for _, id := range []string{"a", "t.x"} {
		s, _ := tree.Status(id)
		require.Equal(t, "new", s.Data, id)
		require.Equal(t, StateRunning, s.State, id)
	}
}

// An operator's child was significant when it was added. It is in the tree, and a
// specification without automatic shutdown is no reason to refuse what was saved.
func TestReconfigure_LeavesAnOperatorsChildThatLoadAccepts(t *testing.T) {
	tree := mustNew(t, Supervisor{AutoShutdown: AnySignificant})
	playWell(t, tree, Start{})
	x := worker("x")
	x.Restart, x.Significant = Transient, true
	playWell(t, tree, Command{Op: OpAdd, Child: &x})
	playWell(t, tree, Reconfigure{})

	saved := map[string][]byte{}
	tree.Save(func(key string, value []byte) { saved[key] = value })
	loaded, err := Load(Supervisor{}, 1, maps.All(saved))
	require.NoError(t, err)
	s, ok := loaded.Status("x")
	require.True(t, ok)
	require.Equal(t, StateRunning, s.State)
}

// What is left of an instance for the sake of a process that cannot be ended is not
// an instance, and the template's new specification does not make it one.
func TestReconfigure_DoesNotRaiseWhatIsBuried(t *testing.T) {
	root := func(restart Restart) Supervisor {
		return Supervisor{Children: []Child{{Name: "t", Supervisor: &Supervisor{Template: &Child{
			Restart: restart, Supervisor: &Supervisor{Children: []Child{worker("w")}},
		}}}}}
	}
	tree := mustNew(t, root(Temporary))
	playWell(t, tree, Start{})
	playWell(t, tree, Command{Op: OpAdd, ID: "t", Child: &Child{Name: "x"}})
	tree.Step(0, Command{Op: OpStop, ID: "t.x"})
	tree.Step(0, Unkillable{"t.x.w", 2})
	tree.Step(0, Reconfigure{Root: root(Permanent)})
	require.Equal(t, []Action{Answer{1, ErrNotFound}}, tree.Step(0, Command{Token: 1, Op: OpStart, ID: "t.x"}))
	tree.Step(0, Exited{"t.x.w", 2, ExitSignal})
	_, ok := tree.Status("t.x")
	require.False(t, ok)
}
