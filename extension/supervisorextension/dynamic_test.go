// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

func instanceOf(p Process) string {
	id, _ := p.Info.Resource.Attributes().Get("service.instance.id")
	return id.Str()
}

func TestDynamic_AChildThatIsAddedIsLikeTheOthers(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	require.NoError(t, st.command(OpAdd, "", shell("x", "echo here; "+forever)))
	added := st.process("x")
	assert.Equal(t, []string{"", "a", "x"}, st.ids())
	assert.Equal(t, tree.StateRunning, added.State)
	assert.Equal(t, InstanceID(HostIdentity(), st.roster.runtimeDirectory, "x"), instanceOf(added))
	assert.False(t, added.Info.Created.Before(st.process("a").Info.Created))
	require.Eventually(t, func() bool { return len(st.captured()) == 1 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []string{"x stdout here"}, st.captured())

	st.kill("x")
	st.await("x", journal.ProcessReady, 2)
	assert.EqualValues(t, 1, st.process("x").Totals.Restarts[tree.RestartSignal])
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"x stopping", "x stopped", "a stopping", "a stopped", "supervisor.stopped"}, told[len(told)-5:], "it is the last in order")
}

func TestDynamic_OneThatIsDeletedAndAddedAgainGoesOnCounting(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	for _, id := range []string{"x", "a"} {
		if id == "x" {
			require.NoError(t, st.command(OpAdd, "", shell("x", forever)))
		}
		st.kill(id)
		st.await(id, journal.ProcessReady, 2)
		before := st.process(id)
		require.NoError(t, st.command(OpStop, id, nil))
		require.NoError(t, st.command(OpDelete, id, nil))
		assert.NotContains(t, st.ids(), id)
		assert.ErrorIs(t, st.command(OpStart, id, nil), ErrNotFound)

		require.NoError(t, st.command(OpAdd, "", map[string]any{"name": id, "command": []any{"sleep", "1000"}}))
		after := st.process(id)
		assert.EqualValues(t, 3, after.Run)
		assert.Equal(t, instanceOf(before), instanceOf(after))
		assert.Equal(t, before.Info.Created, after.Info.Created)
		assert.EqualValues(t, 1, after.Totals.Restarts[tree.RestartSignal])
		assert.EqualValues(t, 1, after.Totals.Exits[tree.ExitSignal])
		assert.EqualValues(t, 1, after.Totals.Exits[tree.ExitStopped])
		executable, _ := after.Info.Resource.Attributes().Get("process.executable.name")
		assert.Equal(t, "sleep", executable.Str(), "it is what it is now")
	}
	assert.Equal(t, []string{"", "x", "a"}, st.ids())
}

func TestDynamic_ItHasTheDefaultsOfItsSupervisor(t *testing.T) {
	cfg := loadGood(t, `
defaults: {environment: {WHERE: above}}
children:
  - name: n
    defaults: {environment: {BELOW: "yes"}}
    children: [{name: x, command: [sleep, "1000"]}]
  - {name: plain, children: [{name: x, command: [sleep, "1000"]}]}
`)
	st := newStage(t, func(c *Config) { c.base = cfg.base }, cfg.Children...)
	require.NoError(t, st.Ready())
	say := shell("y", `echo "$WHERE $BELOW"; `+forever)
	for _, to := range []string{"n", "plain", ""} {
		require.NoError(t, st.command(OpAdd, to, say))
	}
	require.Eventually(t, func() bool { return len(st.captured()) == 3 }, 10*time.Second, time.Millisecond)
	assert.ElementsMatch(t, []string{"n.y stdout above yes", "plain.y stdout above ", "y stdout above "}, st.captured())
}

func TestDynamic_AWholeSupervisorComesAndGoes(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	require.NoError(t, st.command(OpAdd, "", map[string]any{
		"name": "n", "strategy": "one_for_all",
		"children": []any{
			shell("x", forever),
			map[string]any{"name": "deep", "children": []any{shell("z", forever)}},
		},
	}))
	assert.Equal(t, []string{"", "a", "n", "n.x", "n.deep", "n.deep.z"}, st.ids())
	require.NoError(t, st.command(OpAdd, "n.deep", shell("late", forever)))
	st.kill("n.x")
	st.await("n.deep.z", journal.ProcessReady, 2)
	st.await("n", journal.SupervisorStarted, 1)
	require.NoError(t, st.command(OpStop, "n", nil))
	require.NoError(t, st.command(OpDelete, "n", nil))
	assert.Equal(t, []string{"", "a"}, st.ids())
	assert.Equal(t, tree.StateRunning, st.process("a").State)
}

func TestDynamic_ARestartOfTheSupervisorBeginsWithTheOriginalList(t *testing.T) {
	st := newStage(t, nil, nested("n", func(c *ChildConfig) { c.Supervisor.Intensity.MaxRestarts = 0 },
		sh("x", forever), sh("y", forever, func(c *ChildConfig) { c.Process.Autostart = false }), sh("z", forever)))
	require.NoError(t, st.Ready())
	for _, id := range []string{"n.x", "n.y"} {
		require.NoError(t, st.command(OpStop, id, nil))
		require.NoError(t, st.command(OpDelete, id, nil))
	}
	require.NoError(t, st.command(OpAdd, "n", shell("w", forever)))
	require.NoError(t, st.command(OpAdd, "n", map[string]any{"name": "x", "command": []any{"sleep", "1000"}}))
	assert.Equal(t, []string{"", "n", "n.z", "n.w", "n.x"}, st.ids())
	lost := []int{st.process("n.w").PID, st.process("n.x").PID}

	st.kill("n.z") // one failure too many
	st.await("n", journal.SupervisorStarted, 2)
	assert.Equal(t, []string{"", "n", "n.x", "n.y", "n.z"}, st.ids())
	for _, pid := range lost {
		assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
	x := st.process("n.x")
	assert.EqualValues(t, 3, x.Run)
	executable, _ := x.Info.Resource.Attributes().Get("process.executable.name")
	assert.Equal(t, "sh", executable.Str(), "the one of the configuration")
	assert.Equal(t, tree.StateStopped, st.process("n.y").State)
	require.NoError(t, st.command(OpStart, "n.y", nil))
	assert.ErrorIs(t, st.command(OpStop, "n.w", nil), ErrNotFound)
}

func TestDynamic_ATemporaryChildThatEndedIsSeenUntilItsNameIsTaken(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	temporary := func(script string) map[string]any {
		child := shell("x", script)
		child["restart"] = "temporary"
		return child
	}
	require.NoError(t, st.command(OpAdd, "", temporary("exit 3")))
	st.awaitState("x", tree.StateExited)
	assert.ErrorIs(t, st.command(OpStart, "x", nil), ErrNotFound)
	require.NoError(t, st.command(OpAdd, "", temporary(forever)))
	assert.Equal(t, tree.StateRunning, st.process("x").State)
	assert.EqualValues(t, 2, st.process("x").Run)
	require.NoError(t, st.command(OpStop, "x", nil))
	assert.Equal(t, tree.StateStopped, st.process("x").State)
	assert.ErrorIs(t, st.command(OpDelete, "x", nil), ErrNotFound)
}

func TestDynamic_OneThatCannotBeStartedLeavesNothing(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	missing := map[string]any{"name": "x", "command": []any{"/nonexistent/program"}}
	assert.EqualError(t, st.command(OpAdd, "", missing),
		`add to "": the child did not start: it could not be started: execute "/nonexistent/program": no such file or directory`)
	assert.ErrorIs(t, st.command(OpAdd, "", map[string]any{"name": "n", "children": []any{shell("y", forever), missing}}), ErrStartFailed)
	assert.Equal(t, []string{"", "a"}, st.ids())
	stopped := st.await("n", journal.SupervisorStopped, 1)
	assert.Equal(t, `supervisor "n" could not be started because of "n.x", what was up has been stopped`, stopped.Body)
	require.NoError(t, st.command(OpAdd, "", shell("x", forever)))
	assert.EqualValues(t, 1, st.process("x").Totals.Exits[tree.ExitStartFailed])
	assert.EqualValues(t, 2, st.process("x").Run)
}

func TestDynamic_WhatIsWrongWithAChildIsSaidAllAtOnce(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	tests := []struct {
		name string
		give map[string]any
		want string
	}{
		{"nothing", nil, `add to "": invalid child: child::name: missing: every child needs a name, such as web
  child::command: missing: write the program and its arguments as a list, such as [sleep, "5"]`},
		{
			"several things",
			map[string]any{"name": "Web", "command": "sleep 5", "restart": "always"},
			`add to "": invalid child: child(Web)::command: "sleep 5" is one text and no shell splits it: write the list [sleep, "5"]
  child(Web)::name: "Web": a name has 1 to 63 lower-case letters, digits, - and _, and begins with a letter or digit, such as web
  child(Web)::restart: "always" is not one of permanent, transient, temporary`,
		},
		{
			"several children",
			map[string]any{"name": "web", "command": []any{"./web"}, "instances": 3},
			`add to "": invalid child: child(web)::instances: 3 are as many children: add them one by one, or add a supervisor that has them`,
		},
		{
			"what its supervisor makes useless",
			map[string]any{"name": "web", "command": []any{"./web"}, "restart": "transient", "significant": true},
			`add to "": invalid child: child(web)::significant: it means nothing while auto_shutdown of its supervisor is never: set that to any_significant or all_significant, or remove significant`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := st.command(OpAdd, "", tt.give)
			assert.ErrorIs(t, err, ErrInvalid)
			assert.EqualError(t, err, tt.want)
		})
	}
	assert.Equal(t, []string{"", "a"}, st.ids())
}

func TestDynamic_WhatComesOfAChildThatIsNoMoreIsIgnored(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	require.NoError(t, st.Ready())
	require.NoError(t, st.command(OpAdd, "", shell("x", "")))
	require.NoError(t, st.command(OpStop, "x", nil))
	require.NoError(t, st.command(OpDelete, "x", nil))
	before := len(st.told())
	for _, message := range []any{
		keeper.Event{Kind: keeper.Died, ID: "x", Run: 1},
		keeper.Event{Kind: keeper.Killed, ID: "x", Run: 1},
		keeper.Event{Kind: keeper.Unkillable, ID: "x", Run: 1},
		keeper.Event{Kind: keeper.Gone, ID: "x", Run: 1},
		spawned{id: "x", run: 1},
		abandon{"x", 1},
		becameReady{"x", 1},
		checked{"x", 1, nil},
		tree.Exited{ID: "x", Run: 1},
		tree.Ready{ID: "x", Run: 1},
	} {
		st.engine.mailbox.post(message)
	}
	require.NoError(t, st.command(OpRestart, "a", nil), "the engine goes on")
	assert.Equal(t, []string{"a restarting", "a stopping", "a stopped", "a started", "a ready"}, st.told()[before:])
	assert.Contains(t, kernel.called(), "kill x", "a start that came to something for nobody")
}

func TestDynamic_OneThatCannotBeKilledStaysUntilItEnds(t *testing.T) {
	kernel := &badKernel{onStop: func(k *badKernel, id string, run uint64, kill bool) {
		if id == "n.w" {
			k.notify(keeper.Event{Kind: keeper.Unkillable, ID: id, Run: run})
			return
		}
		stopsAtOnce(k, id, run, kill)
	}}
	st := newStageWith(t, kernel.make, nil, nested("n", nil, sh("x", "")))
	require.NoError(t, st.Ready())
	require.NoError(t, st.command(OpAdd, "n", shell("w", "")))
	require.NoError(t, st.command(OpRestart, "n", nil))
	assert.Equal(t, []string{"", "n", "n.w", "n.x"}, st.ids())
	assert.Equal(t, tree.StateUnkillable, st.process("n.w").State)
	assert.ErrorIs(t, st.command(OpStart, "n.w", nil), ErrNotFound)
	assert.ErrorIs(t, st.command(OpAdd, "n", shell("w", "")), ErrAlreadyStarted)

	kernel.dies("n.w", 1, keeper.Exit{Code: -1, Signal: syscall.SIGKILL})
	st.await("n.w", journal.ProcessStopped, 1)
	require.Eventually(t, func() bool { return len(st.ids()) == 3 }, 20*time.Second, time.Millisecond)
	require.NoError(t, st.command(OpAdd, "n", shell("v", "")))
	assert.Equal(t, []string{"", "n", "n.x", "n.v"}, st.ids())
}
