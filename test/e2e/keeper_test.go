// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startPolite starts a collector of polite processes and returns their PIDs once they listen.
func (c *collector) startPolite() (pids []int) {
	c.t.Helper()
	c.script("polite", politeScript)
	c.start()
	c.untilPrinted("a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		pids = append(pids, c.started(name, 1))
	}
	return pids
}

// rival prepares a second collector of the same processes and the same keeper, which
// writes to files of its own.
func (c *collector) rival() *collector {
	c.t.Helper()
	r := prepare(c.t, "children: []")
	r.mark = c.mark
	r.write("config.yaml", strings.NewReplacer(
		c.path("logs.json"), r.path("logs.json"), c.path("traces.json"), r.path("traces.json"),
		fmt.Sprintf("localhost:%d", c.port), fmt.Sprintf("localhost:%d", r.port),
	).Replace(c.read("config.yaml")))
	r.cmd.Args = slices.Concat(r.cmd.Args[:len(r.cmd.Args)-1], []string{c.runtimeDirectory()})
	return r
}

// requireAdopted requires that the collector has taken over exactly those processes.
func (c *collector) requireAdopted(pids []int) {
	c.t.Helper()
	var adopted []int
	c.until("the adoption", func() bool {
		adopted = nil
		for _, r := range c.events("process.adopted") {
			adopted = append(adopted, r.pid())
		}
		slices.Sort(adopted)
		adopted = slices.Compact(adopted)
		return len(adopted) >= len(pids)
	})
	slices.Sort(pids)
	assert.Equal(c.t, pids, adopted)
	assert.Empty(c.t, c.events("process.restarting"))
}

func TestKeeper_RefusesASecondCollectorAndLeavesTheFirstAlone(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	pids := c.startPolite()
	second := c.rival()
	second.start()
	assert.Equal(t, 1, second.wait())
	assert.Contains(t, second.output(), fmt.Sprintf("process %d holds the lease of the keeper of %q: use another runtime directory, or end that process first", c.cmd.Process.Pid, c.path("run")))
	assert.Empty(t, second.records())

	for _, pid := range pids {
		assert.True(t, alive(pid))
	}
	c.stop()
	c.requireTidy()
	assert.Equal(t, told(up("a", "b", "c"), "root started", down("c", "b", "a"), "root stopped"), c.story())
}

func TestKeeper_KillsACollectorThatHangsWhenAnotherAsksForItsPlace(t *testing.T) {
	t.Parallel()
	c := prepareCrew(t, 5)
	c.start()
	c.until("the processes", func() bool { return c.reported("supervisor.started") > 0 })
	c.untilEnded(5)
	c.signal(syscall.SIGSTOP)
	second := c.rival()
	second.start()
	assert.Equal(t, -1, c.wait())
	second.until("the adoption", func() bool { return second.reported("config.applied") > 0 })
	notice := fmt.Sprintf("process %d held the lease of the keeper of %q and did not answer for 10s: it was killed", c.cmd.Process.Pid, c.path("run"))
	assert.Contains(t, strings.ReplaceAll(second.output(), `\"`, `"`), notice)
	c.untilEndedWith(second, 20)
	second.stop()
	c.requireNothingLeft()
	c.requireTidy()

	// Only one of them reads: what the second has delivered, it has delivered once, but
	// the first may have delivered what it was not able to take from the pipe any more.
	seen := map[string]bool{}
	for _, r := range second.records() {
		if r.name == "" {
			line := r.process() + " " + r.body
			assert.False(t, seen[line], "%q twice", line)
			seen[line] = true
		}
	}
	require.NoError(t, os.Rename(second.path("logs.json"), c.path("logs.json.second")))
	c.requireCrewsStory()
}

func TestKeeper_ThatIsKilledTakesItsProcessesAlongAndTheCollectorSaysSo(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	pids := c.startPolite()
	keeper := c.keeper()
	require.NoError(t, syscall.Kill(keeper, syscall.SIGKILL))
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	for _, pid := range pids {
		assert.False(t, alive(pid))
	}
	assert.ElementsMatch(t, []string{"a", "b", "c"}, c.lines("order"), "they are asked to end")
	assert.Contains(t, c.output(), fmt.Sprintf("the keeper (PID %d) died", keeper))
	assert.Equal(t, told(up("a", "b", "c"), "root started", down("c", "b", "a"), "root stopped"), c.story())
	stopped := c.events("process.stopped")
	for _, r := range stopped {
		assert.Contains(t, r.body, "ended, with what status is not known")
		assert.NotContains(t, r.attrs, "process.exit.code")
	}

	// Nothing is in the way of the next one.
	next := c.again()
	next.untilPrinted("a", "b", "c")
	next.stop()
	next.requireTidy()
}

func TestKeeper_ThatIsKilledWithItsCollectorLeavesNothingThatIsNotSweptFirst(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/diary, a]}
  - {name: b, command: [DIR/diary, b]}
`)
	c.script("diary", `
exec 2>/dev/null
trap 'echo "$1 ended" >> DIR/diary.txt; exit 0' TERM
echo "$1 began" >> DIR/diary.txt
while :; do sleep 0.05; done
`)
	c.start()
	c.until("both", func() bool { return len(c.lines("diary.txt")) == 2 })
	// Stopped, it does not see the death of its keeper.
	c.signal(syscall.SIGSTOP)
	keeper := c.keeper()
	require.NoError(t, syscall.Kill(keeper, syscall.SIGKILL))
	c.kill()

	next := c.again()
	next.until("both again", func() bool { return len(c.lines("diary.txt")) == 6 })
	diary := c.lines("diary.txt")
	assert.ElementsMatch(t, []string{"a began", "b began"}, diary[:2])
	assert.ElementsMatch(t, []string{"a ended", "b ended"}, diary[2:4])
	assert.ElementsMatch(t, []string{"a began", "b began"}, diary[4:])
	assert.Regexp(t, `[1-9]\d* processes that an earlier keeper of .* had left behind were ended`, next.output())
	next.stop()
	next.requireTidy()
	assert.Equal(t, told(up("a", "b"), "root started", down("b", "a"), "root stopped"), next.story())
	assert.EqualValues(t, 1, next.events()[0].sequence(), "a keeper of its own begins anew")
}

func TestKeeper_MakesItsDirectoryAndSocketAgain(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	pids := c.startPolite()
	there := func() bool { return c.exists("run/keeper.sock") && c.exists("run/keeper.lock") }
	remove := func(name string) {
		// The keeper may have something there again before all of it is gone.
		if err := os.RemoveAll(c.path(name)); !errors.Is(err, syscall.ENOTEMPTY) {
			require.NoError(t, err)
		}
	}
	for _, gone := range []string{"run", "run/keeper.sock", "run/keeper.lock"} {
		remove(gone)
		c.until(gone+" again", there)
	}
	c.reload()
	remove("run")
	c.until("all again", there)
	c.kill()
	remove("run")
	next := c.successor()
	next.requireAdopted(pids)
	next.stop()
	next.requireTidy()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}

func TestOrphanGrace_EndsTheProcessesInReverseOrderWhenItIsOver(t *testing.T) {
	for _, grace := range []string{"1s", "0s"} {
		t.Run(grace, func(t *testing.T) {
			t.Parallel()
			c := prepare(t, "orphan_grace: "+grace+polite)
			c.startPolite()
			c.kill()
			c.awaitNothingLeft()
			c.requireTidy()
			assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))

			next := c.successor()
			next.untilPrinted("a", "b", "c")
			assert.Empty(t, next.events("process.adopted"))
			next.stop()
		})
	}
}

func TestOrphanGrace_ForEverLastsUntilTheKeeperIsAskedToEnd(t *testing.T) {
	t.Parallel()
	c := prepare(t, "orphan_grace: -1s"+polite)
	pids := c.startPolite()
	c.kill()
	// For ever cannot be waited for. That the shortest grace is over elsewhere is something.
	short := prepare(t, "orphan_grace: 1s"+polite)
	short.startPolite()
	short.kill()
	short.awaitNothingLeft()
	for _, pid := range pids {
		assert.True(t, alive(pid))
	}
	require.NoError(t, syscall.Kill(c.keeper(), syscall.SIGTERM))
	c.awaitNothingLeft()
	c.requireTidy()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}

func (c *collector) exists(name string) bool {
	_, err := os.Lstat(c.path(name))
	return err == nil
}
