// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What docs/supervision.md says of its configurations, and what these say of themselves.

// demonstration makes a collector of one of the repository's configurations, as it is
// but for its telemetry, which goes where the other tests have it.
func demonstration(t *testing.T, config string) *collector {
	t.Helper()
	c := ready(t, config)
	c.write("telemetry.yaml", fmt.Sprintf(pipelines, c.port, c.dir))
	c.cmd.Args = append(c.cmd.Args, "--config", c.path("telemetry.yaml"))
	return c
}

// adapt replaces parts of the demonstrated text (old, new, …), DIR in the new ones being
// the test's directory. Where a process's sleep says when something happens, or a period
// for how long it counts, a slow machine would have a story of its own.
func (c *collector) adapt(pairs ...string) {
	c.t.Helper()
	text, err := os.ReadFile(c.cmd.Args[2])
	require.NoError(c.t, err)
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(c.t, string(text), pairs[i])
		pairs[i+1] = strings.ReplaceAll(pairs[i+1], "DIR", c.dir)
	}
	c.write("adapted.yaml", strings.NewReplacer(pairs...).Replace(string(text)))
	c.cmd.Args[2] = c.path("adapted.yaml")
}

// upon is a shell command that waits until the test gives that word.
func upon(word string) string {
	return "while [ ! -e DIR/" + word + " ]; do sleep 0.05; done; rm DIR/" + word
}

// give lets one process that waits for the word go on, and returns a moment before that.
func (c *collector) give(word string) time.Time {
	c.t.Helper()
	before := time.Now()
	c.write(word, "")
	return before
}

// story is what happened, in order: the id of a process or supervisor, or "root", and
// the last word of the event's name.
func (c *collector) story() []string {
	c.t.Helper()
	told := []string{}
	for _, r := range c.inOrder() {
		id, _ := r.attrs["supervisor.process.id"].(string)
		_, verb, _ := strings.Cut(r.name, ".")
		told = append(told, cmp.Or(id, "root")+" "+verb)
	}
	return told
}

// told joins parts of a story, each "id verb, id verb, …".
func told(parts ...string) []string {
	return strings.Split(strings.Join(parts, ", "), ", ")
}

// up is the story of processes that start one after the other.
func up(processes ...string) string {
	parts := []string{}
	for _, p := range processes {
		parts = append(parts, p+" started, "+p+" ready")
	}
	return strings.Join(parts, ", ")
}

// down is the story of processes that are stopped one after the other.
func down(processes ...string) string {
	parts := []string{}
	for _, p := range processes {
		parts = append(parts, p+" stopping, "+p+" stopped")
	}
	return strings.Join(parts, ", ")
}

func TestSupervision_OfAPipelineRestartsTheRestAndWaitsForReadiness(t *testing.T) {
	t.Parallel()
	c := demonstration(t, "config/supervision-pipeline.yaml")
	c.adapt("sleep 1\n", upon("listen")+"\n", "sleep 2\n", upon("open")+"\n", "sleep 10\n", upon("crash")+"\n",
		"start_timeout: 10s", "start_timeout: 0s", "period: 1m", "period: 1h")
	c.start()
	// Each waits until the one before says that it is ready, at a restart too: had it
	// counted as ready when it started, that would have been before the word was given.
	readyUpon := func(word, process string, run int) int {
		t.Helper()
		pid := c.started(process, run)
		given := c.give(word)
		var ready []record
		c.until(process+" to be ready", func() bool { ready = c.eventsOf(process, "process.ready"); return len(ready) == run })
		assert.False(t, ready[run-1].time.Before(given), "%s, run %d", process, run)
		return pid
	}
	clock := c.started("clock", 1)
	source := readyUpon("listen", "pipeline.source", 1)
	readyUpon("open", "pipeline.filter", 1)
	c.started("pipeline.sink", 1)
	c.give("crash")
	readyUpon("open", "pipeline.filter", 2)
	c.until("the second sink", func() bool {
		return len(c.eventsOf("pipeline.sink", "process.ready")) == 2
	})
	assert.True(t, alive(clock))
	assert.True(t, alive(source))
	c.stop()

	assert.Equal(t, told(
		up("clock", "pipeline.source", "pipeline.filter", "pipeline.sink"),
		"pipeline started, root started",
		"pipeline.filter crashed, pipeline.filter restarting, pipeline.sink restarting",
		down("pipeline.sink"),
		up("pipeline.filter", "pipeline.sink"),
		down("pipeline.sink", "pipeline.filter", "pipeline.source"),
		"pipeline stopped",
		down("clock"),
		"root stopped",
	), c.story())

	restarting := c.eventsOf("pipeline.sink", "process.restarting")
	require.Len(t, restarting, 1)
	assert.Equal(t, "strategy", restarting[0].attrs["supervisor.restart.reason"])
	assert.Equal(t, "pipeline.filter", restarting[0].attrs["supervisor.restart.cause"])
}

func TestSupervision_OfAGroupRestartsAllAndEscalatesToTheEnd(t *testing.T) {
	t.Parallel()
	c := demonstration(t, "config/supervision-group.yaml")
	c.adapt("sleep 2\n", upon("crash")+"\n", "period: 30s", "period: 1h", "period: 1m", "period: 1h")
	c.start()
	for n := range 6 {
		c.until("the whole cluster", func() bool { return len(c.eventsOf("cluster.gateway", "process.ready")) == n+1 })
		c.give("crash")
	}
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()

	allUp := up("cluster.leader", "cluster.follower", "cluster.gateway")
	restarted := told(
		"cluster.follower crashed, cluster.follower restarting, cluster.leader restarting, cluster.gateway restarting",
		down("cluster.gateway", "cluster.leader"),
		allUp,
	)
	gaveUp := told("cluster.follower crashed, cluster gave_up", down("cluster.gateway", "cluster.leader"), "cluster stopped")
	assert.Equal(t, slices.Concat(
		told(up("audit"), allUp, "cluster started, root started"),
		restarted, restarted, gaveUp,
		// The root restarts the cluster, which begins with a clean slate.
		told("cluster.leader restarting, cluster.follower restarting, cluster.gateway restarting", allUp, "cluster started"),
		restarted, restarted, gaveUp,
		told("root gave_up", down("audit"), "root stopped"),
	), c.story())

	// Of each row the first restart is immediate.
	delays := []float64{}
	for _, r := range c.eventsOf("cluster.follower", "process.restarting") {
		delay, _ := r.attrs["supervisor.restart.delay"].(float64)
		delays = append(delays, delay)
	}
	require.Len(t, delays, 5)
	for i, n := range []float64{0, 0.5, 0, 0, 0.5} {
		assert.InDelta(t, n, delays[i], 0.2*n, "delay %d", i+1)
	}
	for _, r := range c.events("supervisor.gave_up") {
		assert.Equal(t, "intensity_exceeded", r.attrs["supervisor.stop.reason"])
		assert.Equal(t, "cluster.follower", r.attrs["supervisor.restart.cause"])
		assert.Equal(t, "shutdown", r.attrs["supervisor.report.context"])
	}
	assert.Contains(t, c.output(), `gave up, more than 1 restarts within 1h0m0s (intensity): process "cluster.follower": it exited with code 1`)
}

func TestSupervision_OfAJobEndsTheCollectorWithIt(t *testing.T) {
	end := told("root gave_up", down("proxy"), "root stopped")
	begin := told(up("proxy", "job"), "root started")
	again := told("job crashed, job restarting", up("job"))
	tests := []struct {
		name, restart, status string

		want       int
		wantReason string
		wantStory  []string
	}{
		{
			"one that ends well ends it well", "transient", "0",
			0, "auto_shutdown", slices.Concat(begin, told("job exited"), end),
		},
		{
			"one that fails is tried as often as the intensity allows", "transient", "3",
			1, "intensity_exceeded", slices.Concat(begin, again, again, told("job crashed"), end),
		},
		{
			"a temporary one that fails is tried once", "temporary", "3",
			1, "auto_shutdown", slices.Concat(begin, told("job exited"), end),
		},
		{
			"a temporary one that ends well ends it well", "temporary", "0",
			0, "auto_shutdown", slices.Concat(begin, told("job exited"), end),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := demonstration(t, "config/supervision-job.yaml")
			c.adapt("restart: transient", "restart: "+tt.restart, "period: 1m", "period: 1h")
			c.cmd.Env = append(c.cmd.Env, "JOB_STATUS="+tt.status)
			c.start()
			assert.Equal(t, tt.want, c.wait())
			c.requireNothingLeft()
			assert.Equal(t, tt.wantStory, c.story())
			gaveUp := c.events("supervisor.gave_up")
			require.Len(t, gaveUp, 1)
			assert.Equal(t, tt.wantReason, gaveUp[0].attrs["supervisor.stop.reason"])
		})
	}
}

func TestSupervision_EleventhFailureComesWhenBackOffSaysSo(t *testing.T) {
	t.Parallel()
	// The defaults, twenty times as fast and without jitter; the periods are not, since
	// the machine is not faster.
	const times = 20
	c := start(t, `
intensity: {max_restarts: 10, period: 1h}
children:
  - name: failing
    command: [/bin/sh, -c, "exit 1"]
    backoff: {initial_interval: 25ms, max_interval: 3s, reset_after: 1h, jitter: 0}
`)
	assert.Equal(t, 1, c.wait())
	require.Len(t, c.eventsOf("failing", "process.crashed"), 11)

	sum, delays := 0.0, []float64{}
	for _, r := range c.eventsOf("failing", "process.restarting") {
		delay, _ := r.attrs["supervisor.restart.delay"].(float64)
		delays = append(delays, delay*times)
		sum += delay * times
	}
	assert.InDeltaSlice(t, []float64{0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60}, delays, 1e-6)
	assert.InDelta(t, 183.5, sum, 1e-6, "the moment of the eleventh failure")
}

// What the page quotes.
const (
	unreachable = "children[0](web)::backoff: a process that always fails at once is restarted at most 10 times in 2m, so it alone never exceeds " +
		"intensity::max_restarts, 10, and is restarted for ever: lower max_restarts below 10, lower max_interval, or lengthen intensity::period"
	unreachableAbove = "children[0](pipeline)::intensity: if a process here always fails at once, this supervisor gives up after 2m26.8s, and so is " +
		"restarted at most 3 times in 5m, never more than intensity::max_restarts, 10, of the supervisor above it, and the process for ever: " +
		"lower max_restarts here to 6, or lengthen intensity::period above it"
)

func TestSupervision_WarnsIfAnIntensityIsOutOfReach(t *testing.T) {
	t.Parallel()
	const (
		flat   = `, children: [{name: web, command: [sleep, "1000"]}]}`
		nested = `children: [{name: web, command: [sleep, "1000"]}]}]}`
	)
	for _, tt := range []struct{ give, web, want string }{
		{"{intensity: {max_restarts: 10, period: 2m}" + flat, "web", unreachable},
		{"{intensity: {max_restarts: 9, period: 2m}" + flat, "web", ""},
		{"{intensity: {max_restarts: 10, period: 5m}" + flat, "web", ""},
		{"{children: [{name: pipeline, " + nested, "pipeline.web", unreachableAbove},
		{"{children: [{name: pipeline, intensity: {max_restarts: 3, period: 1m}, " + nested, "pipeline.web", ""},
		{"{children: [{name: pipeline, intensity: {max_restarts: 5, period: 1m}, " + nested, "pipeline.web", ""},
	} {
		c := prepare(t, tt.give)
		output, err := exec.Command(c.cmd.Path, "validate", "--config", c.path("config.yaml")).CombinedOutput()
		require.NoError(t, err)
		if tt.want == "" {
			assert.Empty(t, string(output), tt.give)
		} else {
			assert.Equal(t, "warning: supervisor: "+tt.want+"\n", string(output))
		}
		c.start()
		c.started(tt.web, 1)
		if tt.want == "" {
			assert.NotContains(t, c.output(), "restarted at most", tt.give)
		} else {
			assert.Contains(t, c.output(), tt.want, tt.give)
		}
		c.stop()
	}
}

func TestSupervision_AStartThatTakesTooLongIsStoppedAndTriedAgain(t *testing.T) {
	t.Parallel()
	c := start(t, `
first_start: retry
intensity: {max_restarts: 1000, period: 1s}
children:
  - name: slow
    command: [/bin/sh, -c, "[ -e DIR/second ] || { touch DIR/second; exec sleep 1000; }; echo up; exec sleep 1000"]
    readiness: {log: {pattern: up}}
    start_timeout: 2s
  - {name: next, command: [sleep, "1000"]}
`)
	c.started("next", 1)
	c.signal(syscall.SIGTERM)
	assert.Equal(t, 0, c.wait())
	// On a slow machine later tries may take too long as well.
	story := c.story()
	first, last := told("slow started, slow stopping, slow start_failed, slow restarting"), told(
		up("slow", "next"), "root started",
		down("next", "slow"), "root stopped",
	)
	require.GreaterOrEqual(t, len(story), len(first)+len(last))
	assert.Equal(t, first, story[:len(first)])
	assert.Equal(t, last, story[len(story)-len(last):])
	assert.Equal(t, "start_timeout", c.eventsOf("slow", "process.restarting")[0].attrs["supervisor.restart.reason"])
}
