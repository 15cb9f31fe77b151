// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/tree"
)

// nested is a supervisor below another.
func nested(name string, change func(*ChildConfig), children ...ChildConfig) ChildConfig {
	c, s := newDefaultChild(), newDefaultSupervisor()
	c.Name, c.Supervisor = name, &s
	s.Children = children
	if change != nil {
		change(&c)
	}
	return c
}

func strategy(s Strategy) func(*Config) { return func(c *Config) { c.Strategy = s } }

func restarts(policy RestartPolicy) func(*ChildConfig) {
	return func(c *ChildConfig) { c.Restart = policy }
}

func significant(c *ChildConfig) { c.Significant = true }

func immediate(c *ChildConfig) { c.Backoff.InitialInterval = 0 }

func (st *stage) kill(process string) {
	st.t.Helper()
	require.NoError(st.t, syscall.Kill(st.process(process).PID, syscall.SIGKILL))
}

func TestStrategy_RestForOneRestartsWhatComesAfterInOrder(t *testing.T) {
	st := newStage(t, strategy(StrategyRestForOne), sh("a", forever), sh("b", forever), sh("c", forever), sh("d", forever))
	require.NoError(t, st.Ready())
	before := len(st.told())
	st.kill("b")
	st.await("d", journal.ProcessReady, 2)
	assert.Equal(t, []string{
		"b crashed", "b restarting", "c restarting", "d restarting",
		"d stopping", "d stopped", "c stopping", "c stopped",
		"b started", "b ready", "c started", "c ready", "d started", "d ready",
	}, st.told()[before:])
	assert.EqualValues(t, 1, st.process("a").Run, "it stands before the one that failed")
	assert.EqualValues(t, 1, st.process("b").Totals.Restarts[tree.RestartSignal])
	restart := st.await("c", journal.ProcessRestarting, 1)
	assert.Equal(t, "strategy", attribute(restart, journal.KeyRestartReason))
	assert.Equal(t, "b", attribute(restart, journal.KeyRestartCause))
	last := st.process("c").Totals.LastStrategy
	assert.Equal(t, "b", last.Cause)
	assert.False(t, last.Time.After(restart.Time), "it was counted before it was told")
	assert.False(t, last.Time.Before(st.await("b", journal.ProcessCrashed, 1).Time))
	assert.Zero(t, st.process("b").Totals.LastStrategy, "its own failure needs no other cause")
}

func TestStrategy_OneForAllRestartsEverythingInOrder(t *testing.T) {
	st := newStage(t, strategy(StrategyOneForAll), sh("a", forever), sh("b", forever), sh("c", forever))
	require.NoError(t, st.Ready())
	before := len(st.told())
	st.kill("b")
	st.await("c", journal.ProcessReady, 2)
	told := st.told()[before:]
	assert.Equal(t, []string{
		"c stopping", "c stopped", "a stopping", "a stopped",
		"a started", "a ready", "b started", "b ready", "c started", "c ready",
	}, slices.DeleteFunc(told, func(event string) bool {
		return strings.HasSuffix(event, " restarting") || event == "b crashed"
	}))
}

func TestNested_ItStartsAndStopsInItsPlace(t *testing.T) {
	st := newStage(t, nil, sh("a", forever),
		nested("n", nil, sh("x", forever), nested("deep", nil, sh("y", forever))),
		sh("b", forever))
	require.NoError(t, st.Ready())
	started := func(events []string) []string {
		return slices.DeleteFunc(events, func(event string) bool {
			return !strings.HasSuffix(event, " ready") && !strings.HasSuffix(event, " stopped") && !strings.HasSuffix(event, "supervisor.started")
		})
	}
	assert.Equal(t, []string{"a ready", "n.x ready", "n.deep.y ready", "n.deep supervisor.started", "n supervisor.started", "b ready", "supervisor.started"}, started(st.told()))
	assert.Equal(t, tree.StateRunning, st.process("n.deep").State)
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"b stopped", "n.deep.y stopped", "n.x stopped", "a stopped"}, started(told)[7:])
}

func TestNested_OneThatGivesUpIsRestartedByItsParent(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	st := newStage(t, nil, sh("a", forever),
		nested("n", func(c *ChildConfig) { c.Supervisor.Intensity.MaxRestarts = 1 },
			sh("x", forever),
			sh("y", fmt.Sprintf(`echo >> %s; [ "$(wc -l < %[1]s)" -ge 3 ] || exit 9; %s`, runs, forever), immediate)))
	require.NoError(t, st.Ready())
	gaveUp := st.await("n", journal.SupervisorGaveUp, 1)
	assert.Equal(t, `supervisor "n" gives up because of "n.y" (intensity_exceeded), its children are stopped`, gaveUp.Body)
	st.await("n.y", journal.ProcessReady, 3)
	st.await("n", journal.SupervisorStarted, 2)
	assert.EqualValues(t, 1, st.process("n").Totals.Restarts[tree.RestartCode])
	assert.EqualValues(t, 2, st.process("n.x").Run, "it went down with its supervisor")
	assert.EqualValues(t, 1, st.process("a").Run)
	assert.Empty(t, st.raised)
	_, err := st.end()
	assert.NoError(t, err)
}

func TestNested_GivingUpAtEveryLevelEndsTheCollector(t *testing.T) {
	none := func(c *ChildConfig) { c.Supervisor.Intensity.MaxRestarts = 0 }
	st := newStage(t, func(c *Config) { c.Intensity.MaxRestarts = 0 },
		sh("a", forever), nested("n", none, nested("deep", none, sh("x", "exit 9"))))
	require.NoError(t, st.Ready())
	<-st.raised
	_, err := st.end()
	assert.ErrorContains(t, err, `gave up, more than 0 restarts within 5m0s (intensity): process "n.deep.x": it exited with code 9 after `)
}

func TestAutoShutdown_TheEndOfASignificantChildEndsTheCollector(t *testing.T) {
	shutdown := func(s AutoShutdown) func(*Config) { return func(c *Config) { c.AutoShutdown = s } }
	tests := []struct {
		name string
		give AutoShutdown
		// children beside one that runs on, and what the collector's error holds, "" for none.
		children []ChildConfig
		want     string
	}{
		{
			"one that ended well ends it well", AutoShutdownAnySignificant,
			[]ChildConfig{sh("main", "exit 0", restarts(RestartTransient), significant)},
			"",
		},
		{
			"one that did not makes the status one that is not 0", AutoShutdownAnySignificant,
			[]ChildConfig{sh("main", "exit 9", restarts(RestartTemporary), significant)},
			`auto_shutdown is "any_significant", and a significant child did not end well: process "main": it exited with code 9 after`,
		},
		{
			"what counts is the list of what is a good end", AutoShutdownAnySignificant,
			[]ChildConfig{sh("main", "exit 9", restarts(RestartTemporary), significant, func(p *ChildConfig) { p.Process.Success.Codes = []int{9} })},
			"",
		},
		{
			"a supervisor whose own significant child ended well", AutoShutdownAnySignificant,
			[]ChildConfig{nested("n", func(c *ChildConfig) {
				c.Restart, c.Significant, c.Supervisor.AutoShutdown = RestartTransient, true, AutoShutdownAnySignificant
			}, sh("x", forever), sh("main", "exit 0", restarts(RestartTransient), significant))},
			"",
		},
		{
			"a supervisor that gave up has not ended well", AutoShutdownAnySignificant,
			[]ChildConfig{nested("n", func(c *ChildConfig) {
				c.Restart, c.Significant, c.Supervisor.Intensity.MaxRestarts = RestartTransient, true, 0
			}, sh("main", "exit 9"))},
			`process "n.main": it exited with code 9 after`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// With stay it would be told as a giving up, which it is not.
			for _, onGiveUp := range onGiveUps {
				st := newStage(t, func(c *Config) { shutdown(tt.give)(c); c.OnGiveUp = onGiveUp },
					append([]ChildConfig{sh("aside", forever)}, tt.children...)...)
				require.NoError(t, st.Ready())
				select {
				case <-st.raised:
				case <-time.After(20 * time.Second):
					require.Fail(t, "the collector was not ended", "told: %v", st.told())
				}
				assert.Empty(t, st.statuses)
				told, err := st.end()
				assert.Contains(t, told, "aside stopped")
				if tt.want == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, tt.want)
				}
			}
		})
	}
}

func TestAutoShutdown_OfAllSignificantChildrenTheLastEndsTheCollector(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	st := newStage(t, func(c *Config) { c.AutoShutdown = AutoShutdownAllSignificant },
		sh("main", "while [ ! -e "+flag+" ]; do sleep 0.01; done", restarts(RestartTransient), significant),
		sh("first", "exit 9", restarts(RestartTemporary), significant),
		sh("aside", forever))
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool { return st.process("first").State == tree.StateExited }, 10*time.Second, time.Millisecond)
	assert.Empty(t, st.raised, "main runs on")
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	<-st.raised
	_, err := st.end()
	assert.NoError(t, err, "how the last one ended counts")
}

func TestAutoShutdown_ARestartOfASignificantChildEndsNothing(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	st := newStage(t, func(c *Config) { c.AutoShutdown = AutoShutdownAnySignificant },
		sh("main", fmt.Sprintf(`echo >> %s; [ "$(wc -l < %[1]s)" -ge 2 ] || exit 9; %s`, runs, forever), restarts(RestartTransient), significant))
	require.NoError(t, st.Ready())
	st.await("main", journal.ProcessReady, 2)
	assert.Empty(t, st.raised)
}

func TestParallel_ChildrenStartTogether(t *testing.T) {
	// Each is ready once the other runs: one after the other they never would be.
	dir := t.TempDir()
	mutual := func(name, other string) ChildConfig {
		return sh(name, fmt.Sprintf("touch %s/%s; %s", dir, name, forever),
			readiness(Readiness{Exec: &ExecCheck{Command: []string{"test", "-e", filepath.Join(dir, other)}}}))
	}
	st := newStage(t, func(c *Config) { c.Parallel = true }, mutual("a", "b"), mutual("b", "a"))
	require.NoError(t, st.Ready())
	for _, name := range []string{"a", "b"} {
		assert.Equal(t, tree.StateRunning, st.process(name).State)
	}
}

func TestInstances_EachKnowsItsNumber(t *testing.T) {
	cfg := loadGood(t, `
children:
  - name: pool
    children:
      - {name: worker, command: [sh, -c, "echo number $$WARDEN_INSTANCE; exec sleep 1000"], instances: 3}
`)
	st := newStage(t, nil, cfg.Children...)
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool { return len(st.captured()) == 3 }, 10*time.Second, time.Millisecond)
	assert.ElementsMatch(t, []string{"pool.worker-0 stdout number 0", "pool.worker-1 stdout number 1", "pool.worker-2 stdout number 2"}, st.captured())
	st.kill("pool.worker-1")
	st.await("pool.worker-1", journal.ProcessReady, 2)
	assert.EqualValues(t, 1, st.process("pool.worker-0").Run)
}
