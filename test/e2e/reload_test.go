// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reload changes the configuration, old and new texts in turn, and returns once it is
// applied.
func (c *collector) reload(changes ...string) {
	c.t.Helper()
	before := len(c.eventsOf("", "config.applied"))
	text := c.read("config.yaml")
	for i := 0; i < len(changes); i += 2 {
		require.Contains(c.t, text, changes[i])
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	c.write("config.yaml", text)
	c.signal(syscall.SIGHUP)
	c.until("the new configuration", func() bool { return len(c.eventsOf("", "config.applied")) > before })
}

func TestReload_TouchesOnlyWhatChanged(t *testing.T) {
	for _, tt := range []struct {
		name    string
		changes []string
		applied string
		after   string // what is told of the processes after that
	}{
		{
			name:    "nothing",
			applied: "kept: a, b, c",
		},
		{
			name:    "a command",
			changes: []string{"polite, b]", "polite, b, more]"},
			applied: "kept: a, c; restarted: b (command)",
			after:   "b restarting, " + down("b") + ", " + up("b"),
		},
		{
			name:    "an environment",
			changes: []string{"polite, c]", "polite, c], environment: {X: y}"},
			applied: "kept: a, b; restarted: c (environment)",
			after:   "c restarting, " + down("c") + ", " + up("c"),
		},
		{
			name:    "the name of its service",
			changes: []string{"polite, b]", "polite, b], service_name: other"},
			applied: "kept: a, c; restarted: b (service_name)",
			after:   "b restarting, " + down("b") + ", " + up("b"),
		},
		{
			name:    "how it is stopped",
			changes: []string{"polite, b]", "polite, b], stop: {timeout: 7s}"},
			applied: "kept: a, b (stop), c",
		},
		{
			name:    "the order",
			changes: []string{"name: a", "name: x", "polite, a]", "polite, x]", "name: c", "name: a", "polite, c]", "polite, a]", "name: x", "name: c", "polite, x]", "polite, c]"},
			applied: "kept: c, b, a",
		},
		{
			name:    "one removed",
			changes: []string{"- {name: a,", "# - {name: a,"},
			applied: "kept: b, c; stopped: a",
			after:   down("a"),
		},
		{
			name:    "one added",
			changes: []string{"  - {name: b,", "  - {name: new, command: [DIR/polite, new]}\n      - {name: b,"},
			applied: "kept: a, b, c; started: new",
			after:   up("new"),
		},
		{
			name:    "a strategy",
			changes: []string{"children:", "strategy: one_for_all\n    children:"},
			applied: "kept: a, b, c",
		},
		{
			name:    "only an intensity",
			changes: []string{"children:", "intensity: {max_restarts: 3}\n    children:"},
			applied: "kept: a, b, c",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := prepare(t, polite)
			for i := range tt.changes {
				tt.changes[i] = strings.ReplaceAll(tt.changes[i], "DIR", c.dir)
			}
			c.script("polite", politeScript)
			c.start()
			c.untilPrinted("a", "b", "c")
			pids := map[string]int{"a": c.started("a", 1), "b": c.started("b", 1), "c": c.started("c", 1)}
			c.reload(tt.changes...)
			applied := c.eventsOf("", "config.applied")
			assert.Equal(t, "the supervisor has its configuration applied; "+tt.applied, applied[0].body)
			if tt.after != "" {
				c.until(tt.after, func() bool { return strings.HasSuffix(strings.Join(c.story(), ", "), tt.after) })
			}
			for id, pid := range pids {
				touched := strings.Contains(tt.after, id+" stopping")
				assert.Equal(t, !touched, alive(pid), "%s", id)
			}
			c.stop()
		})
	}
}

func TestReload_OfABrokenConfigurationLeavesTheProcessesToTheNextCollector(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	c.script("polite", politeScript)
	c.start()
	c.untilPrinted("a", "b", "c")
	pid := c.started("a", 1)
	good := c.read("config.yaml")
	c.write("config.yaml", strings.ReplaceAll(good, "name: b", "nome: b"))
	c.signal(syscall.SIGHUP)
	assert.Equal(t, 1, c.wait())
	assert.Contains(t, c.output(), "nome")
	assert.True(t, alive(pid))

	c.write("config.yaml", good)
	next := c.again()
	next.until("the adoption", func() bool { return len(next.eventsOf("", "config.applied")) == 1 })
	assert.True(t, alive(pid))
	next.stop()
	assert.False(t, alive(pid))
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}

func TestReload_OfABrokenConfigurationEndsTheProcessesWhenTheGraceIsOver(t *testing.T) {
	t.Parallel()
	c := prepare(t, "orphan_grace: 0s\n"+strings.TrimPrefix(polite, "\n"))
	c.script("polite", politeScript)
	c.start()
	c.untilPrinted("a", "b", "c")
	c.write("config.yaml", strings.ReplaceAll(c.read("config.yaml"), "name: b", "nome: b"))
	c.signal(syscall.SIGHUP)
	assert.Equal(t, 1, c.wait())
	c.awaitNothingLeft()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}
