// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// number reads a decimal number.
func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	require.NoError(t, err)
	return n
}

func attribute(r record, key string) string {
	value, _ := r.attrs[key].(string)
	return value
}

// polite are processes that say something and note the order when they are asked
// to end.
const polite = `
children:
  - {name: a, command: [DIR/polite, a]}
  - {name: b, command: [DIR/polite, b]}
  - {name: c, command: [DIR/polite, c]}
`

// The shell says on stderr what became of its sleep, which is no concern here. The
// sleeps are short, since one that is just being started may miss a signal.
const politeScript = `
exec 2>/dev/null
trap 'echo "last words of $1"; echo $1 >> DIR/order; exit 0' TERM
echo "$1 is up"
while :; do sleep 0.05; done
`

func TestStop_IsInReverseOrderAndDeliversTheLastLinesAndEvents(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			c := prepare(t, polite)
			c.script("polite", politeScript)
			c.start()
			c.untilPrinted("a", "b", "c")
			c.signal(sig)
			assert.Equal(t, 0, c.wait())
			c.requireNothingLeft()

			assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
			for _, name := range []string{"a", "b", "c"} {
				assert.Equal(t, []string{name + " is up", "last words of " + name}, c.printed(name))
			}
			assert.Equal(t, []string{"a", "b", "c"}, processes(c.events("process.started")))
			assert.Equal(t, []string{"c", "b", "a"}, processes(c.events("process.stopped")))
			assert.Len(t, c.events("supervisor.stopped"), 1)
			assert.Empty(t, c.events("process.crashed", "process.killed"))

			spans := map[string]int{}
			for _, s := range c.spans() {
				if s.name == "process.run" {
					spans[s.process]++
					assert.False(t, s.failed)
				}
			}
			assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, spans)
		})
	}
}

func TestStop_KillsWhatIgnoresTermAfterItsGraceAndNotBefore(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - name: deaf
    command: [DIR/deaf]
    stop: {timeout: 500ms}
`)
	c.script("deaf", `
trap '' TERM
sh -c 'echo $$ > DIR/grandchild; while :; do sleep 1000; done' &
echo "deaf is up"
while :; do sleep 1000; done
`)
	c.start()
	pid := c.started("deaf", 1)
	c.until("the grandchild", func() bool { return len(c.lines("grandchild")) == 1 })
	c.untilPrinted("deaf")
	grandchild := number(t, c.lines("grandchild")[0])

	c.signal(syscall.SIGTERM)
	assert.Equal(t, 0, c.wait())
	c.requireNothingLeft()
	assert.False(t, alive(pid))
	assert.False(t, alive(grandchild), "the group is killed as a whole")

	stopping := c.eventsOf("deaf", "process.stopping")
	killed := c.eventsOf("deaf", "process.killed")
	require.Len(t, stopping, 1)
	require.Len(t, killed, 1)
	// The grace begins after the one was told and ends before the other was.
	assert.GreaterOrEqual(t, killed[0].time.Sub(stopping[0].time), 500*time.Millisecond)
	assert.Len(t, c.eventsOf("deaf", "process.stopped"), 1)
}

func TestStop_ReachesAStoppedProcess(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	c.script("polite", politeScript)
	c.start()
	pid := c.started("c", 1)
	c.untilPrinted("c")
	require.NoError(t, syscall.Kill(-pid, syscall.SIGSTOP))
	c.stop()
	assert.Contains(t, c.printed("c"), "last words of c", "CONT has to follow TERM")
}

func TestStop_DuringALongStartAbortsItAndStopsWhatIsUp(t *testing.T) {
	t.Parallel()
	children := strings.Builder{}
	children.WriteString("children:\n")
	for i := range 400 {
		fmt.Fprintf(&children, "  - {name: p%03d, command: [DIR/one, p%03d]}\n", i, i)
	}
	// However late the signal comes, the start is not over: this one is never ready.
	children.WriteString("  - {name: last, command: [DIR/one, last], readiness: {notify_fd: 3}, start_timeout: 0s}\n")
	c := prepare(t, children.String())
	c.script("one", "echo $1 >> DIR/started\nexec sleep 1000\n")
	c.start()
	c.until("the first process", func() bool { return len(c.lines("started")) > 0 })
	c.signal(syscall.SIGTERM)
	assert.Equal(t, 0, c.wait())
	c.requireNothingLeft()

	up := processes(c.events("process.started"))
	assert.NotEmpty(t, up)
	assert.Empty(t, c.events("supervisor.started"), "the start was not aborted")
	down := processes(c.events("process.stopped"))
	for i, j := 0, len(down)-1; i < j; i, j = i+1, j-1 {
		down[i], down[j] = down[j], down[i]
	}
	assert.Equal(t, up, down, "what is up stops in reverse order")
}

func TestStop_AtAnyMomentOfTheStartLeavesNothing(t *testing.T) {
	t.Parallel()
	// Each moment is a guess at where the start then is. Whatever it is doing, the
	// outcome has to be the same. On a slow machine nothing has begun by the last ones.
	inOrder := 0
	for after := time.Duration(0); after < 100*time.Millisecond || inOrder == 0 && after < patience; after += 4*time.Millisecond + after/20 {
		c := prepare(t, polite)
		c.script("polite", politeScript)
		c.start()
		time.Sleep(after)
		c.signal(syscall.SIGTERM)
		status := c.wait()
		if status == -1 {
			// Before the collector's own code runs, the signal does what it does to any
			// program. Then no process has been started, but Go's own look at what the
			// kernel can do may still be ending.
			require.Eventually(t, func() bool { return len(c.descendants()) == 0 && len(c.keepers()) == 0 }, patience, look)
			assert.Empty(t, c.read("order"))
			continue
		}
		c.requireNothingLeft()
		assert.Equal(t, 0, status, "after %s", after)
		inOrder++
	}
	assert.NotZero(t, inOrder, "the signal always came before the collector heard any")
}

func TestStop_LosesNoLineOfProcessesThatWriteAsFastAsTheyCan(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/busy, a]}
  - {name: b, command: [DIR/busy, b]}
`)
	// A trap runs between two commands; counting and writing are one, so the count
	// is exact.
	c.script("busy", `
n=0
trap 'echo $n > DIR/$1.count; exit 0' TERM
while :; do echo "line $((n=n+1)) of $1, which is long enough to fill pipes quickly"; done
`)
	c.start()
	// To read a file that grows faster than it is read does not end.
	c.until("many lines", func() bool {
		written, err := os.Stat(c.path("logs.json"))
		return err == nil && written.Size() > 8<<20
	})
	c.stop()

	for _, name := range []string{"a", "b"} {
		count := number(t, c.read(name+".count"))
		lines := c.printed(name)
		require.Equal(t, count, len(lines), "lines of %s", name)
		for i, line := range lines {
			require.True(t, strings.HasPrefix(line, fmt.Sprintf("line %d of %s", i+1, name)), "line %d is %q", i+1, line)
		}
	}
}
