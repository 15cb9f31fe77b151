// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replaceProgram gives the collector's program a new file, at the same path.
func (c *collector) replaceProgram() {
	c.t.Helper()
	program, err := os.ReadFile(binary(c.t))
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(c.path("program.new"), program, 0o700))
	require.NoError(c.t, os.Rename(c.path("program.new"), c.path("program")))
}

// requireTidy requires that the runtime directory holds nothing any more.
func (c *collector) requireTidy() {
	c.t.Helper()
	left, err := filepath.Glob(c.path("run/*"))
	require.NoError(c.t, err)
	assert.Empty(c.t, left, "left in the runtime directory")
}

// keeper is the PID of the keeper, which it writes to its lock.
func (c *collector) keeper() int {
	c.t.Helper()
	return number(c.t, c.read("run/keeper.lock"))
}

// pause waits for a random time, so that what comes next may meet anything. Nothing
// depends on how long it is.
func pause(longest time.Duration) { time.Sleep(rand.N(longest)) }

func flip() bool { return rand.N(2) == 0 }

// running: the collector has not ended yet, as far as the test knows.
func (c *collector) running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// tail returns the last n parts of a story, all if it is shorter.
func tail(story []string, n int) []string { return story[max(0, len(story)-n):] }

// reported counts the events of a name that the present collector has delivered, without
// taking the time to understand them.
func (c *collector) reported(event string) int {
	return strings.Count(c.read("logs.json"), `"eventName":"`+event+`"`)
}

func TestSurvival_OfTwentyKillsAndThreeUpgrades(t *testing.T) {
	t.Parallel()
	c := prepareCrew(t, 50)
	c.replaceProgram()
	c.cmd.Path, c.cmd.Args[0] = c.path("program"), c.path("program")
	c.start()
	c.until("a keeper", func() bool { return c.read("run/keeper.lock") != "" })
	keeper := c.keeper()
	counters := floor{}
	for i := range 20 {
		// Some are killed while they start, and some when all is up.
		if i%3 == 0 {
			c.until("the processes", func() bool { return c.reported("supervisor.started")+c.reported("config.applied") > 0 })
			c.until("a page", func() bool { return len(c.page().find("process_uptime_seconds")) > 0 })
			counters.hold(t, c.page())
		}
		pause(800 * time.Millisecond)
		c.kill()
		if i%6 == 5 {
			c.replaceProgram()
		}
		c = c.successor()
	}
	c.until("the adoption", func() bool { return c.reported("config.applied") > 0 })
	c.until("a page", func() bool { return len(c.page().find("process_uptime_seconds")) > 0 })
	counters.hold(t, c.page())
	assert.Equal(t, keeper, c.keeper())
	// A process that is being started is a copy of the keeper for a moment.
	c.until("one keeper", func() bool { return len(c.keepers()) == 1 })
	c.untilEnded(100)
	c.stop()
	c.requireTidy()
	c.requireCrewsStory()
	c.requireAllKept()
}

// requireAllKept requires that no process was touched for a collector's or a
// configuration's sake.
func (c *collector) requireAllKept() {
	c.t.Helper()
	for _, r := range c.events("config.applied") {
		for _, not := range []string{"restarted", "started:", "stopped"} {
			assert.NotContains(c.t, r.body, not)
		}
	}
}

func TestSurvival_OfTwentyReloads(t *testing.T) {
	t.Parallel()
	c := prepareCrew(t, 50)
	c.start()
	c.until("the processes", func() bool { return c.reported("supervisor.started") > 0 })
	keeper := c.keeper()
	counters := floor{}
	for i := range 20 {
		pause(300 * time.Millisecond)
		counters.hold(t, c.page())
		c.signal(syscall.SIGHUP)
		c.until("the reload", func() bool { return c.reported("config.applied") > i })
	}
	counters.hold(t, c.page())
	assert.Equal(t, keeper, c.keeper())
	c.untilEnded(100)
	c.stop()
	c.requireTidy()
	c.requireCrewsStory()
	c.requireAllKept()
}
