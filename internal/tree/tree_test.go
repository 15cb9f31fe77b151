// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func worker(name string) Child { return Child{Name: name, Worker: &Worker{}} }

func mustNew(t require.TestingT, root Supervisor) *Tree {
	tree, err := New(root, 1)
	require.NoError(t, err)
	return tree
}

func TestEnums_HaveWordsAndSurviveUnknownValues(t *testing.T) {
	words := func(n int, word func(int) fmt.Stringer) (all []string) {
		for i := range n + 1 {
			all = append(all, word(i).String())
		}
		return all
	}
	for _, tt := range []struct {
		n    int
		word func(int) fmt.Stringer
		want []string
	}{
		{3, func(i int) fmt.Stringer { return Restart(i) }, []string{"permanent", "transient", "temporary", "Restart(3)"}},
		{3, func(i int) fmt.Stringer { return Strategy(i) }, []string{"one_for_one", "one_for_all", "rest_for_one", "Strategy(3)"}},
		{3, func(i int) fmt.Stringer { return AutoShutdown(i) }, []string{"never", "any_significant", "all_significant", "AutoShutdown(3)"}},
		{2, func(i int) fmt.Stringer { return FirstStart(i) }, []string{"strict", "retry", "FirstStart(2)"}},
		{5, func(i int) fmt.Stringer { return Op(i) }, []string{"start", "stop", "restart", "delete", "add", "Op(5)"}},
		{7, func(i int) fmt.Stringer { return StopReason(i) }, []string{"shutdown", "strategy", "gave_up", "auto_shutdown", "operator", "start_timeout", "config", "StopReason(7)"}},
		{2, func(i int) fmt.Stringer { return GiveUpReason(i) }, []string{"intensity_exceeded", "auto_shutdown", "GiveUpReason(2)"}},
		{int(NumChangeKinds), func(i int) fmt.Stringer { return ChangeKind(i) }, []string{"kept", "updated", "restarted", "started", "stopped", "ChangeKind(5)"}},
		{4, func(i int) fmt.Stringer { return Outcome(i) }, []string{"stopped", "gave_up", "start_failed", "auto_shutdown", "Outcome(4)"}},
		{int(NumStates), func(i int) fmt.Stringer { return State(i) }, []string{
			"stopped", "starting", "running", "stopping", "backoff", "exited", "failed", "unkillable", "gave_up", "State(9)",
		}},
		{int(NumExitReasons), func(i int) fmt.Stringer { return ExitReason(i) }, []string{
			"success", "exit", "signal", "oom", "start_failed", "start_timeout", "liveness", "stopped", "ExitReason(8)",
		}},
		{NumRestartReasons, func(i int) fmt.Stringer { return RestartReason(i) }, []string{
			"success", "exit", "signal", "oom", "start_failed", "start_timeout", "liveness", "strategy", "operator", "config", "RestartReason(10)",
		}},
	} {
		assert.Equal(t, tt.want, words(tt.n, tt.word))
	}
}

func TestNew_NamesEveryFault(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		name string
		root Supervisor
		want string
	}{
		{"strategy", Supervisor{Strategy: 7}, "root: strategy: Strategy(7) is not one of one_for_one, one_for_all, rest_for_one"},
		{"auto shutdown", Supervisor{AutoShutdown: 7}, "root: auto_shutdown: AutoShutdown(7) is not one of never, any_significant, all_significant"},
		{"first start", Supervisor{FirstStart: 7}, "root: first_start: FirstStart(7) is not one of strict, retry"},
		{"period below 0", Supervisor{Period: -1}, "root: period: -1ns must be above 0s, it is what max_restarts are counted in"},
		{"no name", Supervisor{Children: []Child{worker("")}}, `root: name: "" must be text without a ".", which separates the names of an id`},
		{"name not text", Supervisor{Children: []Child{worker("\xff")}}, "\xff: name: \"\\xff\" must be text without a \".\", which separates the names of an id"},
		{"restart", Supervisor{Children: []Child{{Name: "a", Restart: 7, Worker: &Worker{}}}}, "a: restart: Restart(7) is not one of permanent, transient, temporary"},
		{"neither", Supervisor{Children: []Child{{Name: "a"}}}, "a: exactly one of worker and supervisor must be given"},
		{"both", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Supervisor: &Supervisor{}}}}, "a: exactly one of worker and supervisor must be given"},
		{"start timeout", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{StartTimeout: -1}}}}, "a: start_timeout: -1ns must be 0s (none) or more"},
		{"backoff below 0", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{ResetAfter: -1}}}}, "a: backoff: initial 0s, max 0s and reset after -1ns must be 0s or more"},
		{"multiplier", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{Initial: 1, Multiplier: 0.5}}}}, "a: backoff: multiplier 0.5 must be a number from 1 up"},
		{"multiplier not a number", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{Multiplier: nan}}}}, "a: backoff: multiplier NaN must be a number from 1 up"},
		{"max", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{Initial: 2, Multiplier: 1, Max: 1}}}}, "a: backoff: max 1ns must not be below initial 2ns; use 0s for no bound"},
		{"jitter", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{Jitter: 1.5}}}}, "a: backoff: jitter 1.5 must be from 0 to 1"},
		{"jitter not a number", Supervisor{Children: []Child{{Name: "a", Worker: &Worker{}, Backoff: Backoff{Jitter: nan}}}}, "a: backoff: jitter NaN must be from 0 to 1"},
		{"deep", Supervisor{Children: []Child{{Name: "a", Supervisor: &Supervisor{Children: []Child{{Name: "b"}}}}}}, "a.b: exactly one of worker and supervisor must be given"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.root, 1)
			require.EqualError(t, err, tt.want)
		})
	}
}

func TestTree_CountsARestartWhileItIsYoungerThanThePeriod(t *testing.T) {
	for _, tt := range []struct {
		name string
		gap  time.Duration
		want State
	}{
		{"one nanosecond younger", time.Second - 1, StateGaveUp},
		{"as old", time.Second, StateRunning},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := mustNew(t, Supervisor{MaxRestarts: 1, Period: time.Second, Children: []Child{worker("a")}})
			tree.Step(0, Start{})
			tree.Step(0, Spawned{"a", 1})
			tree.Step(5, Exited{"a", 1, ExitCode})
			tree.Step(5, Spawned{"a", 2})
			tree.Step(5+tt.gap, Exited{"a", 2, ExitCode})
			s, _ := tree.Status("")
			require.Equal(t, tt.want, s.State)
		})
	}
}

func TestTree_RestartBudgetComesBackAsRestartsAge(t *testing.T) {
	tree := mustNew(t, Supervisor{MaxRestarts: 2, Period: time.Second, Children: []Child{worker("a")}})
	tree.Step(0, Start{})
	tree.Step(0, Spawned{"a", 1})
	budget := func(now time.Duration) int {
		n, ok := tree.RestartBudget("", now)
		require.True(t, ok)
		return n
	}
	require.Equal(t, 2, budget(0))
	tree.Step(0, Exited{"a", 1, ExitCode})
	tree.Step(0, Spawned{"a", 2})
	tree.Step(time.Second/2, Exited{"a", 2, ExitCode})
	require.Equal(t, 0, budget(time.Second-1))
	require.Equal(t, 1, budget(time.Second))
	require.Equal(t, 2, budget(2*time.Second))
	_, ok := tree.RestartBudget("a", 0)
	require.False(t, ok, "a worker has none")
	_, ok = tree.RestartBudget("nobody", 0)
	require.False(t, ok)
}

func TestWindow_NeverAllowsMoreThanTheIntensity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(0, 5).Draw(t, "most")
		period := time.Duration(rapid.IntRange(1, 20).Draw(t, "period"))
		var w window
		var allowed []time.Duration
		now := time.Duration(0)
		for _, gap := range rapid.SliceOf(rapid.IntRange(0, 15)).Draw(t, "gaps") {
			now += time.Duration(gap)
			young := 0
			for _, at := range allowed {
				if now-at < period {
					young++
				}
			}
			require.Equal(t, young, w.count(now, period))
			took := w.take(now, most, period)
			require.Equal(t, young < most, took)
			if took {
				allowed = append(allowed, now)
			}
			require.LessOrEqual(t, len(w.times), 2*most+1, "the window grows")
		}
	})
}

func TestBackoff_GrowsToItsBound(t *testing.T) {
	b := Backoff{Initial: 500 * time.Millisecond, Max: 3 * time.Second, Multiplier: 2}
	var got []time.Duration
	for row := range 7 {
		got = append(got, b.delay(row, 0))
	}
	require.Equal(t, []time.Duration{0, 0, 500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}, got)
	require.Zero(t, Backoff{Multiplier: 2}.delay(9, 0), "initial 0 is never a delay")
	b.Jitter = 0.25
	require.Equal(t, 750*time.Millisecond, b.delay(3, -1))
	require.Equal(t, 1250*time.Millisecond, b.delay(3, 1))
	require.Equal(t, 3750*time.Millisecond, b.delay(30, 1), "jitter comes after the bound")
	unbound := Backoff{Initial: time.Second, Multiplier: 10, Jitter: 1}
	require.Equal(t, longest, unbound.delay(1_000_000, 1))
	require.Equal(t, time.Duration(0), unbound.delay(1_000_000, -1))
}

func TestBackoff_JitterIsSpreadEvenlyAndDependsOnAllItHashes(t *testing.T) {
	var sum, low, high float64
	const n = 10_000
	for run := range uint64(n) {
		x := spread(1, "web", run)
		sum, low, high = sum+x, min(low, x), max(high, x)
	}
	require.InDelta(t, 0, sum/n, 0.03)
	require.InDelta(t, -1, low, 0.01)
	require.InDelta(t, 1, high, 0.01)
	require.NotEqual(t, spread(1, "web", 1), spread(2, "web", 1))
	require.NotEqual(t, spread(1, "web", 1), spread(1, "wec", 1))
	require.NotEqual(t, spread(1, "web", 1), spread(1, "web", 2))
	require.Equal(t, spread(1, "web", 1), spread(1, "web", 1))
}

func TestTree_ADeadlineBeyondTheClockIsItsEnd(t *testing.T) {
	tree := mustNew(t, Supervisor{Children: []Child{{Name: "a", Worker: &Worker{StartTimeout: math.MaxInt64}}}})
	tree.Step(time.Hour, Start{})
	at, ok := tree.NextDeadline()
	require.True(t, ok)
	require.Equal(t, time.Duration(math.MaxInt64), at)
}

func TestTree_TimeDoesNotGoBack(t *testing.T) {
	tree := mustNew(t, Supervisor{Children: []Child{{Name: "a", Worker: &Worker{StartTimeout: time.Second}}}})
	tree.Step(time.Hour, Start{})
	tree.Step(time.Minute, Spawned{"a", 1})
	s, _ := tree.Status("a")
	require.Equal(t, time.Hour, s.Since)
}

func TestTree_WalkEndsWhenTold(t *testing.T) {
	tree := mustNew(t, Supervisor{Children: []Child{{Name: "a", Supervisor: &Supervisor{Children: []Child{worker("b"), worker("c")}}}, worker("d")}})
	for n, want := range map[int][]string{0: {""}, 1: {"", "a"}, 2: {"", "a", "a.b"}, 9: {"", "a", "a.b", "a.c", "d"}} {
		var got []string
		tree.Walk(func(id string, s Status) bool {
			got = append(got, id)
			return len(got) <= n
		})
		require.Equal(t, want, got)
	}
}

func TestTree_AnswersCommandsThatCannotBe(t *testing.T) {
	tree := mustNew(t, Supervisor{Children: []Child{worker("a"), {Name: "t", Supervisor: &Supervisor{Template: &Child{Worker: &Worker{}}}}}})
	answer := func(cmd Command) error {
		cmd.Token = 7
		actions := tree.Step(0, cmd)
		require.Len(t, actions, 1)
		require.IsType(t, Answer{}, actions[0])
		require.Equal(t, uint64(7), actions[0].(Answer).Token)
		return actions[0].(Answer).Err
	}
	require.ErrorIs(t, answer(Command{Op: OpStart, ID: "a"}), ErrNoParent, "the tree is not started")
	playWell(t, tree, Start{})
	b := worker("b")
	for _, tt := range []struct {
		cmd  Command
		want error
	}{
		{Command{Op: OpStop, ID: ""}, ErrNoParent},
		{Command{Op: OpStop, ID: "nobody"}, ErrNotFound},
		{Command{Op: OpStop, ID: "a.b"}, ErrNoParent},
		{Command{Op: OpStop, ID: "no.body"}, ErrNoParent},
		{Command{Op: OpAdd, ID: "nobody", Child: &b}, ErrNoParent},
		{Command{Op: OpAdd, ID: "a", Child: &b}, ErrNoParent},
		{Command{Op: OpAdd, ID: ""}, ErrInvalid},
		{Command{Op: OpAdd, ID: "", Child: &Child{Name: "x"}}, ErrInvalid},
		{Command{Op: OpAdd, ID: "t", Child: &Child{Name: "x.y"}}, ErrInvalid},
		{Command{Op: 9, ID: "a"}, ErrInvalid},
	} {
		require.ErrorIs(t, answer(tt.cmd), tt.want, "%+v", tt.cmd)
	}
	require.EqualError(t, answer(Command{Op: OpAdd, Child: &Child{Name: "x"}}), "invalid child: x: exactly one of worker and supervisor must be given")
}

func TestTree_FirstStartThatTimesOutAndCannotBeEnded(t *testing.T) {
	for _, tt := range []struct {
		first FirstStart
		want  Action
	}{
		{Strict, Ended{OutcomeStartFailed, "a", ExitStartTimeout}},
		{Retry, Spawn{"b", 1}},
	} {
		t.Run(tt.first.String(), func(t *testing.T) {
			tree := mustNew(t, Supervisor{FirstStart: tt.first, Children: []Child{{Name: "a", Worker: &Worker{StartTimeout: 1}}, worker("b")}})
			tree.Step(0, Start{})
			require.Contains(t, tree.Step(1, Tick{}), Action(StopProcess{"a", 1, StopStartTimeout, ""}))
			require.Contains(t, tree.Step(1, Unkillable{"a", 1}), tt.want)
		})
	}
}

func TestTree_OperatorsStartThatTimesOutIsNotRetried(t *testing.T) {
	tree := mustNew(t, Supervisor{MaxRestarts: 9, Period: time.Hour, Children: []Child{{Name: "a", Worker: &Worker{Manual: true, StartTimeout: 1}}}})
	tree.Step(0, Start{})
	tree.Step(0, Command{Token: 1, Op: OpStart, ID: "a"})
	tree.Step(1, Tick{})
	require.Equal(t, []Action{Changed{"a", StateFailed}, Answer{1, ErrStartFailed}}, tree.Step(1, Exited{"a", 1, ExitSignal}))
}

func TestTree_RunsInsideATemplateAreNumberedOverAllOfIt(t *testing.T) {
	root := Supervisor{Children: []Child{{Name: "t", Supervisor: &Supervisor{Template: &Child{
		Restart: Temporary, Supervisor: &Supervisor{Children: []Child{worker("a"), worker("b")}},
	}}}}}
	tree := mustNew(t, root)
	playWell(t, tree, Start{})
	add := Command{Op: OpAdd, ID: "t", Child: &Child{Name: "x"}}
	playWell(t, tree, add) // x is run 1, x.a 2, x.b 3
	playWell(t, tree, Command{Op: OpStop, ID: "t.x"})
	_, ok := tree.Status("t.x")
	require.False(t, ok, "an instance that has ended is forgotten")

	saved := map[string][]byte{}
	tree.Save(func(key string, value []byte) { saved[key] = value })
	tree, err := Load(root, 1, maps.All(saved))
	require.NoError(t, err)
	playWell(t, tree, add)
	for id, run := range map[string]uint64{"t.x": 4, "t.x.a": 5, "t.x.b": 6} {
		s, _ := tree.Status(id)
		require.Equal(t, run, s.Run, id)
	}
}

func TestLoad_RefusesWhatDoesNotFit(t *testing.T) {
	root := Supervisor{Children: []Child{worker("a"), {Name: "s", Supervisor: &Supervisor{}}}}
	for _, tt := range []struct {
		key, value, want string
	}{
		{"clocks", "{}", `saved state: key "clocks" is neither "clock" nor begins with "child/"`},
		{"clock", "x", `saved state: key "clock": invalid character 'x' looking for beginning of value`},
		{"child/b", "{}", `saved state: child "b": the specification does not have it`},
		{"child/s", "{}", `saved state: child "s": a supervisor in one of state and specification, a worker in the other`},
		{"child/a", `{"state":99}`, `saved state: child "a": a state, exit reason or way to leave that does not exist`},
		{"child/a", `{"leaving":3}`, `saved state: child "a": a state, exit reason or way to leave that does not exist`},
		{"child/a", `{"exit":99}`, `saved state: child "a": a state, exit reason or way to leave that does not exist`},
		{"child/x.y", `{"spec":{"Name":"y","Worker":{}}}`, `saved state: child "x.y": no supervisor to add it to`},
		{"child/z", `{"spec":{"Name":"y","Worker":{}}}`, `saved state: child "z": no supervisor to add it to`},
		{"child/y", `{"spec":{"Name":"y"}}`, `saved state: child "y": invalid child: y: exactly one of worker and supervisor must be given`},
		{"child/", `{"supervisor":{"cursor":"b"}}`, `saved state: supervisor "": it has no child "b"`},
		{"child/", `{"supervisor":{"inbox":["b"]}}`, `saved state: supervisor "": it has no child "b"`},
		{"child/", `{"supervisor":{"phase":9}}`, `saved state: supervisor "": phase 9 makes no sense`},
		{"child/", `{"supervisor":{"phase":1}}`, `saved state: supervisor "": phase 1 makes no sense`},
	} {
		_, err := Load(root, 1, maps.All(map[string][]byte{tt.key: []byte(tt.value)}))
		require.EqualError(t, err, tt.want)
	}
	_, err := Load(Supervisor{MaxRestarts: -1}, 1, maps.All(map[string][]byte{}))
	require.Error(t, err)
}

func TestSaveChanges_SaysOnlyWhatChanged(t *testing.T) {
	tree := broad(t, 1000, Supervisor{})
	keys := func() (all []string) {
		tree.SaveChanges(func(key string, _ []byte) { all = append(all, key) })
		return all
	}
	require.Len(t, keys(), 1002, "all the first time")
	tree.Step(0, Exited{"w7", 1, ExitCode})
	require.ElementsMatch(t, []string{"clock", "child/", "child/w7"}, keys())
	require.Equal(t, []string{"clock"}, keys())
}

func TestTree_CrashCostsNoMoreAllocationsThanActions(t *testing.T) {
	tree := broad(t, 1000, Supervisor{})
	run, now, actions := uint64(1), time.Duration(0), 0
	allocations := testing.AllocsPerRun(100, func() {
		now += time.Hour
		actions = len(tree.Step(now, Exited{"w500", run, ExitSignal}))
		run++
		actions += len(tree.Step(now, Spawned{"w500", run}))
	})
	require.LessOrEqual(t, allocations, float64(actions))
}

func TestTree_StartAndStopTakeStepsInProportion(t *testing.T) {
	for _, n := range []int{1, 100, 10_000} {
		tree := broad(t, n, Supervisor{})
		require.Equal(t, n+1, playWell(t, tree, Stop{}))
		require.Equal(t, n+1, playWell(t, tree, Start{}))
	}
}

func TestErrors_AreDistinct(t *testing.T) {
	all := []error{ErrNotFound, ErrRunning, ErrRestarting, ErrAlreadyStarted, ErrAlreadyPresent, ErrNoParent, ErrStartFailed, ErrUnkillable, ErrInvalid}
	for i, a := range all {
		for j, b := range all {
			require.Equal(t, i == j, errors.Is(a, b))
		}
	}
}
