// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// takeovers are how one collector follows another. After each, the configuration is
// applied. A strict first start has to be over before the Collector takes a SIGHUP.
var takeovers = []struct {
	name, firstStart string

	next func(*collector) *collector
}{
	{"a reload", "retry", func(c *collector) *collector {
		before := c.reported("config.applied")
		c.signal(syscall.SIGHUP)
		c.until("the reload", func() bool { return c.reported("config.applied") > before })
		return c
	}},
	{"a kill", "strict", func(c *collector) *collector {
		c.kill()
		next := c.successor()
		next.until("the adoption", func() bool { return next.reported("config.applied") > 0 })
		return next
	}},
}

// whole are the events of all collectors so far, each once.
func (c *collector) whole() []record {
	c.t.Helper()
	return requireWholeStory(c.t, c.history())
}

// chapter returns the events of a process with one of the names, of all collectors.
func (c *collector) chapter(process string, names ...string) (found []record) {
	c.t.Helper()
	for _, r := range c.whole() {
		for _, name := range names {
			if r.process() == process && r.name == name {
				found = append(found, r)
			}
		}
	}
	return found
}

func TestTakeover_DuringAStartWaitsOnForReadiness(t *testing.T) {
	for _, way := range takeovers {
		for _, readiness := range []struct{ name, key, say string }{
			{"by descriptor", "{notify_fd: 3}", "echo >&3"},
			{"by a line", "{log: {pattern: '^I am up$'}}", "echo I am up"},
		} {
			t.Run(readiness.name+" over "+way.name, func(t *testing.T) {
				t.Parallel()
				c := prepareDirect(t, "first_start: "+way.firstStart+`
children:
  - {name: slow, command: [DIR/slow], readiness: `+readiness.key+`, start_timeout: 0s}
  - {name: next, command: [sleep, "1000"]}
`)
				c.script("slow", "echo starting\n"+upon("ready")+"\n"+readiness.say+"\nexec sleep 1000\n")
				c.start()
				pid := c.started("slow", 1)
				c.untilPrinted("slow")
				c = way.next(c)
				assert.Empty(t, c.chapter("slow", "process.ready"))
				assert.Empty(t, c.chapter("next", "process.started"))
				c.give("ready")
				c.started("next", 1)
				assert.True(t, alive(pid))
				c.stop()
				started := []string{"process.started", "process.ready"}
				assert.Len(t, c.chapter("slow", started...), 2)
				assert.Len(t, c.chapter("next", started...), 2)
				assert.Len(t, c.chapter("slow", "process.adopted"), 1)
			})
		}
	}
}

func TestTakeover_DuringAStartDoesNotForgiveAStartTimeout(t *testing.T) {
	for _, way := range takeovers {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := prepareDirect(t, `
first_start: retry
intensity: {max_restarts: 1000, period: 1s}
children:
  - {name: slow, command: [sleep, "1000"], readiness: {notify_fd: 3}, start_timeout: 3s, backoff: {initial_interval: 1h, max_interval: 1h, reset_after: 1h}}
`)
			c.start()
			c.started("slow", 1)
			c = way.next(c)
			c.until("the failure", func() bool { return len(c.chapter("slow", "process.start_failed")) > 0 })
			c.stop()
			first := c.chapter("slow", "process.started")[0]
			stopping := c.chapter("slow", "process.stopping")[0]
			assert.Contains(t, stopping.body, "was not ready within 3s (start_timeout)")
			assert.Equal(t, first.pid(), stopping.pid())
		})
	}
}

func TestTakeover_DuringABackOffRestartsOnceAndNotBeforeItsTime(t *testing.T) {
	for _, way := range takeovers {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := prepareDirect(t, `
children:
  - {name: failing, command: [DIR/failing], backoff: {initial_interval: 4s, jitter: 0}}
`)
			// The first restart is at once, the second waits.
			c.script("failing", "date +%s%N >> DIR/times\n[ ${WARDEN_RUN_ID##*:} -ge 3 ] && exec sleep 1000\nexit 1\n")
			c.start()
			c.until("the wait", func() bool { return len(c.chapter("failing", "process.restarting")) == 2 })
			c = way.next(c)
			c.until("times", func() bool { return len(c.lines("times")) == 3 })
			c.until("the restart", func() bool { return len(c.chapter("failing", "process.started")) == 3 })
			c.stop()
			restarting, started := c.chapter("failing", "process.restarting"), c.chapter("failing", "process.started")
			require.Len(t, started, 3)
			require.Len(t, restarting, 2)
			assert.EqualValues(t, 4, restarting[1].attrs["supervisor.restart.delay"])
			times := c.lines("times")
			assert.GreaterOrEqual(t, number(t, times[2])-number(t, times[1]), int(4*time.Second))
		})
	}
}

func TestTakeover_DuringAStopGoesOnWithIt(t *testing.T) {
	for _, way := range takeovers {
		for _, tt := range []struct{ name, timeout, onTerm, last string }{
			{"that succeeds", "-1s", upon("go") + "; exit 0", "process.stopped"},
			{"whose grace ends", "3s", "", "process.killed"},
		} {
			t.Run(tt.name+" over "+way.name, func(t *testing.T) {
				t.Parallel()
				c := prepareDirect(t, `
children:
  - {name: other, command: [sleep, "1000"]}
  - {name: leaving, command: [DIR/leaving], stop: {timeout: `+tt.timeout+`}}
`)
				c.script("leaving", "exec 2>/dev/null\ntrap 'echo asked >> DIR/asked; "+tt.onTerm+"' TERM\necho up\nwhile :; do sleep 0.05; done\n")
				c.start()
				c.untilPrinted("leaving")
				// To leave it out of the configuration stops it.
				c.write("config.yaml", strings.ReplaceAll(c.read("config.yaml"), "- {name: leaving", "# - {name: leaving"))
				c.signal(syscall.SIGHUP)
				c.until("the stop", func() bool { return len(c.lines("asked")) == 1 })
				c.until("its event", func() bool { return c.reported("process.stopping") == 1 })
				c = way.next(c)
				c.give("go")
				c.until("the end", func() bool { return len(c.chapter("leaving", "process.stopped")) == 1 })
				c.stop()
				assert.Len(t, c.lines("asked"), 1, "asked again")
				assert.Len(t, c.chapter("leaving", tt.last), 1)
				assert.Len(t, c.chapter("leaving", "process.stopping", "process.started"), 2)
				if killed := c.chapter("leaving", "process.killed"); len(killed) > 0 {
					assert.GreaterOrEqual(t, killed[0].time.Sub(c.chapter("leaving", "process.stopping")[0].time), 3*time.Second)
				}
			})
		}
	}
}

func TestTakeover_KeepsTheNotifySocketForReadinessAndWatchdog(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	for _, way := range takeovers {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := prepareDirect(t, "first_start: "+way.firstStart+`
children:
  - name: notifier
    command: [`+program+`]
    working_directory: DIR
    environment: {`+role+`: notifier}
    readiness: {notify: {}}
    liveness: {notify: {}, interval: 2s, failure_threshold: 3}
    start_timeout: 0s
`)
			c.start()
			pid := c.started("notifier", 1)
			c = way.next(c)
			assert.Empty(t, c.chapter("notifier", "process.ready"))
			c.give("ready")
			c.until("it to be ready", func() bool { return len(c.chapter("notifier", "process.ready")) == 1 })
			c = way.next(c)
			// Far more beats than a watchdog that does not hear them has patience for.
			beats := number(t, c.read("beats"))
			c.until("80 beats", func() bool {
				text := c.read("beats")
				return text != "" && number(t, text) > beats+80
			})
			assert.True(t, alive(pid))
			assert.Empty(t, c.chapter("notifier", "process.restarting"))
			c.give("silent")
			c.started("notifier", 2)
			assert.False(t, alive(pid))
			assert.NotEmpty(t, c.chapter("notifier", "process.watchdog_missed"))
			assert.Equal(t, "liveness", attribute(c.chapter("notifier", "process.restarting")[0], "supervisor.restart.reason"))
			c.stop()
			c.requireTidy()
		})
	}
}
