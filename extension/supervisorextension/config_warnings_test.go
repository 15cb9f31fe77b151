// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/tree"
)

// A warning says that a process which always fails at once never makes the root give
// up. The tree is asked whether that is so, with up to two supervisors in between.
func TestWarnings_OfForEverAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := newDefaultConfig()
		cfg.Intensity = drawSmallIntensity(t)
		child := newDefaultProcess()
		child.Name, child.Process.Command = "p", []string{"./p"}
		child.Process.Stop.Timeout = 0
		child.Backoff = drawSmallBackoff(t)
		for range rapid.IntRange(0, 2).Draw(t, "levels") {
			above := newDefaultSupervisor()
			above.Intensity = drawSmallIntensity(t)
			above.Children = []ChildConfig{child}
			child = newDefaultChild()
			child.Name, child.Supervisor = "n", &above
			child.Backoff = drawSmallBackoff(t)
		}
		cfg.Children = []ChildConfig{child}
		require.NoError(t, cfg.Validate())
		warned := false
		for _, warning := range cfg.Warnings() {
			require.Contains(t, warning, "for ever")
			warned = true
		}
		assert.Equal(t, !givesUp(t, cfg), warned, "%v", cfg.Warnings())
	})
}

func drawSmallIntensity(t *rapid.T) Intensity {
	// Half a millisecond keeps away from the very end of a period.
	return Intensity{rapid.IntRange(0, 4).Draw(t, "max_restarts"), time.Duration(rapid.IntRange(1, 60).Draw(t, "period"))*time.Millisecond + 500*time.Microsecond}
}

func drawSmallBackoff(t *rapid.T) Backoff {
	ms := func(label string, least int) time.Duration {
		return time.Duration(rapid.IntRange(least, 20).Draw(t, label)) * time.Millisecond
	}
	b := Backoff{InitialInterval: ms("initial", 0), Multiplier: float64(rapid.IntRange(1, 3).Draw(t, "multiplier")), ResetAfter: ms("reset", 1)}
	b.MaxInterval = b.InitialInterval + ms("more", 1)
	return b
}

// givesUp plays a world in which every run fails at once.
func givesUp(t *rapid.T, cfg *Config) bool {
	machine, err := tree.New(treeSpec(&cfg.SupervisorConfig), 1)
	require.NoError(t, err)
	now := time.Duration(0)
	queue := machine.Step(now, tree.Start{})
	for range 2000 {
		if len(queue) == 0 {
			at, ok := machine.NextDeadline()
			require.True(t, ok, "nothing will happen any more")
			now = max(now, at)
			queue = machine.Step(now, tree.Tick{})
			continue
		}
		action := queue[0]
		queue = queue[1:]
		switch a := action.(type) {
		case tree.Spawn:
			queue = append(queue, machine.Step(now, tree.Spawned(a))...)
			queue = append(queue, machine.Step(now, tree.Exited{ID: a.ID, Run: a.Run, Reason: tree.ExitCode})...)
		case tree.Ended:
			require.Equal(t, tree.OutcomeGaveUp, a.Outcome)
			return true
		}
	}
	return false
}

func TestWarnings_NameAWayOutThatIsOne(t *testing.T) {
	const text = `
children:
  - name: n
    intensity: {max_restarts: %, period: 5m}
    children: [{name: a, command: [./a]}]
`
	warnings := loadGood(t, strings.ReplaceAll(text, "%", "10")).Warnings()
	require.Len(t, warnings, 1)
	assert.Equal(t, "children[0](n)::intensity: if a process here always fails at once, this supervisor gives up after 2m26.8s, and so is restarted at most 3 times in 5m, "+
		"never more than intensity::max_restarts, 10, of the supervisor above it, and the process for ever: lower max_restarts here to 6, or lengthen intensity::period above it", warnings[0])
	assert.Empty(t, loadGood(t, strings.ReplaceAll(text, "%", "6")).Warnings())
	assert.Len(t, loadGood(t, strings.ReplaceAll(text, "%", "7")).Warnings(), 1)
}

// The figures that the README tells of.
func TestBackoff_OfTheDefaults(t *testing.T) {
	b := newDefaultChild().Backoff
	most, never := b.restartsWithin(Intensity{MaxRestarts: 20, Period: 5 * time.Minute}, 0)
	assert.True(t, never)
	assert.Equal(t, 14, most)
	b.Jitter = 0
	assert.Equal(t, 183500*time.Millisecond, b.elapsed(10, 0))
	assert.Equal(t, 1500*time.Millisecond, b.elapsed(3, 0))
}

func TestConfig_ValidateTellsItsWarningsWhereAskedTo(t *testing.T) {
	cfg := newDefaultConfig()
	require.NoError(t, cfg.Validate())
	var told strings.Builder
	cfg.validating = &told
	require.NoError(t, cfg.Validate())
	assert.Equal(t, "warning: supervisor: children: there is no process to supervise\n", told.String())
}
