// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

func template(name, script string, change ...func(*ChildConfig)) ChildConfig {
	return sh(name, script, append(change, func(c *ChildConfig) { c.Process.Template = true })...)
}

func (st *stage) addInstances(template string, names ...string) {
	st.t.Helper()
	for _, name := range names {
		require.NoError(st.t, st.command(OpAdd, template, map[string]any{"name": name}))
	}
}

// instances are the instances there are, as "id state".
func (st *stage) instances() []string {
	ids := []string{}
	for _, p := range st.Processes(nil) {
		if p.Instance != "" {
			ids = append(ids, fmt.Sprintf("%s %v", p.Instance, p.State))
		}
	}
	return ids
}

func (st *stage) instance(id string) Process {
	st.t.Helper()
	all := st.Processes(nil)
	i := slices.IndexFunc(all, func(p Process) bool { return p.Instance == id })
	require.NotEqual(st.t, -1, i, "no such instance: %s", id)
	return all[i]
}

// ofInstance returns the events about an instance, as "event run".
func (st *stage) ofInstance(id string) (told []string) {
	all, _ := st.reader.Read(nil, journalCapacity)
	for _, e := range all {
		if attribute(e, journal.KeyInstanceID) == id {
			told = append(told, fmt.Sprintf("%s %d", strings.TrimPrefix(e.Name, "process."), e.Run))
		}
	}
	return told
}

func TestTemplate_IsUpAtOnceAndItsInstancesAreStartedOneByOne(t *testing.T) {
	st := newStage(t, nil, template("jobs", `echo "$0"; `+forever), sh("a", forever))
	require.NoError(t, st.Ready())
	assert.Equal(t, []string{"jobs supervisor.started", "a started", "a ready", "supervisor.started"}, st.told())
	assert.Empty(t, st.instances())
	jobs := st.process("jobs")
	assert.True(t, jobs.Info.Template)
	assert.Equal(t, tree.StateRunning, jobs.State)

	st.addInstances("jobs", "x", "y")
	assert.Equal(t, []string{"jobs.x running", "jobs.y running"}, st.instances())
	assert.Equal(t, []string{"", "jobs", "jobs", "jobs", "a"}, st.ids(), "they follow their template")
	x, y := st.instance("jobs.x"), st.instance("jobs.y")
	assert.Same(t, st.process("jobs").Info, x.Info)
	assert.NotEqual(t, x.PID, y.PID)
	assert.EqualValues(t, []uint64{1, 2}, []uint64{x.Run, y.Run}, "runs are numbered over the template")

	started := st.await("jobs", journal.ProcessStarted, 2)
	assert.Equal(t, "jobs.y", attribute(started, journal.KeyInstanceID))
	assert.Equal(t, fmt.Sprintf(`process "jobs.y" was started with pid %d`, y.PID), started.Body)
	assert.Nil(t, attribute(st.await("a", journal.ProcessStarted, 1), journal.KeyInstanceID))
	require.Eventually(t, func() bool { return len(st.captured()) == 2 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []string{"jobs stdout /bin/sh", "jobs stdout /bin/sh"}, st.captured())
}

func TestTemplate_AnInstanceThatCrashesIsRestartedAloneAndCountsForItsTemplate(t *testing.T) {
	st := newStage(t, nil, template("jobs", forever))
	require.NoError(t, st.Ready())
	st.addInstances("jobs", "x", "y", "z")
	x, y := st.instance("jobs.x"), st.instance("jobs.y")
	require.NoError(t, syscall.Kill(y.PID, syscall.SIGKILL))
	st.await("jobs", journal.ProcessReady, 4)
	assert.Equal(t, []string{"jobs.x running", "jobs.y running", "jobs.z running"}, st.instances())
	assert.EqualValues(t, 4, st.instance("jobs.y").Run)
	assert.Equal(t, x, st.instance("jobs.x"))
	assert.Equal(t, []string{"started 2", "ready 2", "crashed 2", "restarting 2", "started 4", "ready 4"}, st.ofInstance("jobs.y"))

	totals := st.process("jobs").Totals
	assert.EqualValues(t, 1, totals.Restarts[tree.RestartSignal])
	assert.EqualValues(t, 1, totals.Exits[tree.ExitSignal])
	assert.EqualValues(t, 1, totals.Lifetime.Count)
	assert.Zero(t, st.instance("jobs.y").Totals)
}

func TestTemplate_InstancesAreStoppedTogether(t *testing.T) {
	// Each ends once all three were asked to: one after the other they would have to be killed.
	dir := t.TempDir()
	st := newStage(t, nil, template("jobs", fmt.Sprintf(
		`trap 'touch %s/$$; while [ "$(ls %[1]s | wc -l)" -lt 3 ]; do sleep 0.01; done; exit 0' TERM; echo up; while :; do sleep 0.01; done`, dir)))
	require.NoError(t, st.Ready())
	st.addInstances("jobs", "x", "y", "z")
	require.Eventually(t, func() bool { return len(st.captured()) == 3 }, 10*time.Second, time.Millisecond)
	told, err := st.end()
	require.NoError(t, err)
	assert.NotContains(t, told, "jobs killed")
	assert.Equal(t, []string{"jobs stopping", "jobs stopping", "jobs stopping", "jobs stopped", "jobs stopped", "jobs stopped"}, told[len(told)-8:len(told)-2])
}

func TestTemplate_AnInstanceThatIsDoneIsForgotten(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, template("jobs", "", restarts(RestartTransient)))
	require.NoError(t, st.Ready())
	st.addInstances("jobs", "x", "y", "z")
	kernel.dies("jobs.x", 1, keeper.Exit{User: time.Second})
	st.await("jobs", journal.ProcessExited, 1)
	require.Eventually(t, func() bool { return len(st.instances()) == 2 }, 20*time.Second, time.Millisecond)
	assert.ErrorIs(t, st.command(OpStart, "jobs.x", nil), ErrNotFound)
	assert.ErrorIs(t, st.command(OpAdd, "jobs", map[string]any{"name": "y"}), ErrAlreadyStarted)

	require.NoError(t, st.command(OpStop, "jobs.y", nil))
	assert.Equal(t, []string{"jobs.y stopped", "jobs.z running"}, st.instances())
	require.NoError(t, st.command(OpDelete, "jobs.y", nil))
	assert.Equal(t, []string{"jobs.z running"}, st.instances())

	st.addInstances("jobs", "x")
	assert.EqualValues(t, 4, st.instance("jobs.x").Run)
	kernel.notify(keeper.Event{Kind: keeper.Died, ID: "jobs.x", Run: 1}) // of the one before
	require.NoError(t, st.command(OpRestart, "jobs.z", nil))
	assert.Equal(t, tree.StateRunning, st.instance("jobs.x").State)
	totals := st.process("jobs").Totals
	assert.EqualValues(t, 1, totals.Exits[tree.ExitSuccess])
	assert.EqualValues(t, 2, totals.Exits[tree.ExitStopped])
	assert.EqualValues(t, 1, totals.Restarts[tree.RestartOperator])
	assert.EqualValues(t, 3, totals.Lifetime.Count)
	assert.Equal(t, time.Second, totals.CPUUser)
	assert.Empty(t, st.roster.retired, "there may be any number of instances")
	assert.Len(t, st.roster.byID, 4)
}

func TestTemplate_OneThatCannotBeStartedLeavesNothing(t *testing.T) {
	st := newStage(t, nil, template("jobs", "", func(c *ChildConfig) { c.Process.Command = []string{"/nonexistent/program"} }))
	require.NoError(t, st.Ready())
	assert.EqualError(t, st.command(OpAdd, "jobs", map[string]any{"name": "x"}),
		`add to "jobs": the child did not start: it could not be started: execute "/nonexistent/program": no such file or directory`)
	assert.Empty(t, st.instances())
	assert.EqualValues(t, 1, st.process("jobs").Totals.Exits[tree.ExitStartFailed])
}

func TestTemplate_GivesUpByTheIntensityAroundItAndComesBackEmpty(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, func(c *Config) { c.Intensity.MaxRestarts = 1 }, template("jobs", "", immediate), sh("a", ""))
	require.NoError(t, st.Ready())
	st.addInstances("jobs", "x", "y")
	for run := uint64(1); run <= 3; run += 2 {
		kernel.dies("jobs.x", run, keeper.Exit{Code: 1})
		st.await("jobs", journal.ProcessCrashed, int(run+1)/2)
	}
	gaveUp := st.await("jobs", journal.SupervisorGaveUp, 1)
	assert.Equal(t, `supervisor "jobs" gives up because of "jobs.x" (intensity_exceeded), its children are stopped`, gaveUp.Body)
	st.await("jobs", journal.SupervisorStarted, 2)
	assert.Empty(t, st.instances())
	assert.EqualValues(t, 1, st.process("a").Run)
	restarts := st.process("jobs").Totals.Restarts
	assert.EqualValues(t, 1, restarts[tree.RestartCode], "the template itself is no process that could be restarted")
	st.addInstances("jobs", "x")
	assert.EqualValues(t, 4, st.instance("jobs.x").Run)
}

func TestTemplate_AnInstanceHasANameAndNothingElse(t *testing.T) {
	st := newStage(t, nil, template("jobs", forever))
	require.NoError(t, st.Ready())
	tests := []struct {
		give map[string]any
		want string
	}{
		{nil, `add to "jobs": invalid child: instance::name: missing: every child needs a name, such as web`},
		{
			map[string]any{"name": "a.b"},
			`add to "jobs": invalid child: instance::name: "a.b": a name has 1 to 63 lower-case letters, digits, - and _, and begins with a letter or digit, such as a-b`,
		},
		{
			map[string]any{"name": "x", "command": []any{"sh"}},
			`add to "jobs": invalid child: instance::command: unknown key; allowed are name`,
		},
	}
	for _, tt := range tests {
		err := st.command(OpAdd, "jobs", tt.give)
		assert.ErrorIs(t, err, ErrInvalid)
		assert.EqualError(t, err, tt.want)
	}
	assert.Empty(t, st.instances())
}

func TestTemplate_CanBeAddedAndDeletedWithItsInstances(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	jobs := shell("jobs", forever)
	jobs["template"] = true
	require.NoError(t, st.command(OpAdd, "", jobs))
	st.addInstances("jobs", "x")
	require.NoError(t, st.command(OpAdd, "", shell("b", forever)))
	assert.Equal(t, []string{"", "a", "jobs", "jobs", "b"}, st.ids())
	assert.Equal(t, []string{"jobs.x running"}, st.instances(), "another child that comes does not touch it")
	require.NoError(t, st.command(OpStop, "jobs", nil))
	require.NoError(t, st.command(OpDelete, "jobs", nil))
	assert.Equal(t, []string{"", "a", "b"}, st.ids())
	assert.Len(t, st.roster.byID, 3)
}

func TestTemplate_ManyInstancesComeAndGoAtOnce(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, template("jobs", "", restarts(RestartTemporary)))
	require.NoError(t, st.Ready())
	const clients, each = 8, 25
	var done sync.WaitGroup
	for i := range clients {
		done.Go(func() {
			for n := range each {
				name := fmt.Sprintf("job-%d-%d", i, n)
				assert.NoError(t, st.command(OpAdd, "jobs", map[string]any{"name": name}))
				st.Processes(nil)
				assert.NoError(t, st.command(OpStop, "jobs."+name, nil))
			}
		})
	}
	done.Wait()
	assert.Empty(t, st.instances())
	assert.Len(t, st.roster.byID, 2)
	totals := st.process("jobs").Totals
	assert.EqualValues(t, clients*each, totals.Exits[tree.ExitStopped])
	assert.EqualValues(t, clients*each, totals.Lifetime.Count)
}
