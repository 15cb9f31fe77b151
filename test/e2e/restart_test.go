// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRestart_OfAKilledProcessIsInLogsAndMetricsAndBreaksNoSeries(t *testing.T) {
	t.Parallel()
	c := start(t, `
children:
  - name: worker
    command: [/bin/sh, -c, "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.02; done"]
  - name: bystander
    command: [sleep, "1000"]
`)
	bystander := c.started("bystander", 1)
	first := c.started("worker", 1)

	// Every page from here on has to have both modes, once each, and never less.
	last := map[string]sample{}
	cpu := func() (total float64) {
		for _, mode := range []string{"user", "system"} {
			found := c.page().find("process_cpu_time_seconds_total", "job", "worker", "cpu_mode", mode)
			require.Len(t, found, 1, "series of the worker's %s time", mode)
			if before, ok := last[mode]; ok {
				require.Equal(t, before.series(), found[0].series(), "a restart began a new series")
				require.GreaterOrEqual(t, found[0].value, before.value, "%s time fell", mode)
			}
			last[mode] = found[0]
			total += found[0].value
		}
		return total
	}
	c.until("the worker's CPU time", func() bool {
		return len(c.page().find("process_cpu_time_seconds_total", "job", "worker")) == 2
	})
	c.until("some CPU time", func() bool { return cpu() > 0.2 })

	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	before := cpu()
	second := 0
	c.until("the second run", func() bool {
		cpu()
		for _, r := range c.eventsOf("worker", "process.started") {
			if r.run() == 2 {
				second = r.pid()
			}
		}
		return second != 0
	})
	assert.NotEqual(t, first, second)
	assert.True(t, alive(second))
	c.until("CPU time of the second run on top of the first's", func() bool { return cpu() > before+0.1 })
	c.until("the restart to be counted", func() bool {
		count, _ := c.page().value("process_restarts_total", "reason", "signal", "module", "worker")
		return count == 1
	})

	names := []string{}
	for _, r := range c.eventsOf("worker") {
		names = append(names, r.name)
	}
	assert.Subset(t, names, []string{"process.started", "process.crashed", "process.restarting"})
	crashes := c.eventsOf("worker", "process.crashed")
	require.Len(t, crashes, 1)
	assert.Equal(t, first, crashes[0].pid())
	assert.Equal(t, "SIGKILL", crashes[0].attrs["supervisor.exit.signal"])
	assert.Equal(t, "signal", crashes[0].attrs["supervisor.exit.reason"])

	assert.Empty(t, c.page().find("process_restarts_total", "module", "bystander"))
	assert.True(t, alive(bystander), "a sibling was touched")
	c.stop()

	runs := 0
	for _, s := range c.spans() {
		if s.name == "process.run" && s.process == "worker" {
			runs++
			assert.Equal(t, runs == 1, s.failed, "only the crash is an error")
		}
	}
	assert.Equal(t, 2, runs, "one span per run")
}

func TestRestart_TakesTheRestOfTheGroupAlongFirst(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - name: family
    command: [DIR/family]
    stop: {timeout: 200ms}
`)
	// The grandchild ignores TERM, so that only KILL ends it, and its parent's death
	// leaves it without anybody who waits.
	c.script("family", `
sh -c 'trap "" TERM; echo $$ >> DIR/grandchildren; while :; do sleep 1000; done' &
while :; do sleep 1000; done
`)
	c.start()
	first := c.started("family", 1)
	c.until("the grandchild", func() bool { return len(c.lines("grandchildren")) == 1 })
	grandchild := number(t, c.lines("grandchildren")[0])

	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	c.started("family", 2)
	assert.False(t, alive(grandchild), "a restart overlaps the run before")

	c.until("the second grandchild", func() bool { return len(c.lines("grandchildren")) == 2 })
	c.stop()
}

func TestRestart_FollowsThePolicyAfterAGoodEnd(t *testing.T) {
	t.Parallel()
	c := start(t, `
intensity: {max_restarts: 1000, period: 1s}
children:
  - {name: permanent, command: [/bin/sh, -c, "sleep 0.3"], backoff: {initial_interval: 0s}}
  - {name: transient, command: [/bin/sh, -c, "exit 0"], restart: transient}
  - {name: temporary, command: [/bin/sh, -c, "exit 3"], restart: temporary}
`)
	c.started("permanent", 2)
	c.until("both ends", func() bool {
		return len(c.eventsOf("transient", "process.exited")) == 1 && len(c.events("process.exited", "process.crashed")) >= 3
	})
	c.until("their states", func() bool {
		p := c.page()
		transient, _ := p.value("supervisor_process_state", "job", "transient", "state", "exited")
		temporary, _ := p.value("supervisor_process_state", "job", "temporary", "state", "exited")
		restarts, _ := p.value("process_restarts_total", "module", "permanent", "reason", "success")
		return transient == 1 && temporary == 1 && restarts >= 1
	})
	assert.Len(t, c.eventsOf("transient", "process.started"), 1)
	assert.Len(t, c.eventsOf("temporary", "process.started"), 1)
	c.stop()
}

func TestRestart_OfACommandThatVanishedBacksOffAndGivesUp(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
intensity: {max_restarts: 3, period: 1h}
children:
  - name: other
    command: [sleep, "1000"]
  - name: fading
    command: [DIR/fading]
    backoff: {initial_interval: 200ms, multiplier: 2, max_interval: 10s, jitter: 0}
`)
	c.script("fading", "exec sleep 1000\n")
	c.start()
	pid := c.started("fading", 1)
	require.NoError(t, os.Remove(c.path("fading")))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))

	assert.Equal(t, 1, c.wait(), "the status after a give-up")
	c.requireNothingLeft()

	// The crash costs one restart and every failed start one more; the third is the
	// last that is allowed.
	failures := c.eventsOf("fading", "process.start_failed")
	require.Len(t, failures, 3)
	for _, r := range failures {
		assert.Contains(t, r.body+" "+attribute(r, "error.message"), c.path("fading"))
	}
	delays := []any{}
	for _, r := range c.eventsOf("fading", "process.restarting") {
		delays = append(delays, r.attrs["supervisor.restart.delay"])
	}
	assert.Equal(t, []any{0.0, 0.2, 0.4}, delays)
	assert.Len(t, c.events("supervisor.gave_up"), 1)
	assert.Len(t, c.eventsOf("other", "process.stopped"), 1, "the rest is stopped in order")
	assert.Contains(t, c.output(), "fading", "the reason is said on the terminal too")
}

func TestGiveUp_StayKeepsTheCollectorAndItsPage(t *testing.T) {
	t.Parallel()
	c := start(t, `
on_give_up: stay
intensity: {max_restarts: 1, period: 1h}
children:
  - {name: other, command: [sleep, "1000"]}
  - {name: failing, command: [/bin/sh, -c, "exit 7"], backoff: {initial_interval: 0s}}
`)
	other := c.started("other", 1)
	c.until("the give-up", func() bool { return len(c.events("supervisor.gave_up")) == 1 })
	c.until("the sibling's stop", func() bool { return !alive(other) })
	c.until("the page to say so", func() bool {
		count, _ := c.page().value("event_total", "topic", "supervisor", "event", "supervisor.gave_up")
		return count == 1
	})
	c.stop()
}
