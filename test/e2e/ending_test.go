// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The moments in these tests are guesses at what the collector is doing then. Whatever
// that is, the outcome has to be the same.

func TestEnding_AGiveUpWhileTheCollectorStartsEndsIt(t *testing.T) {
	t.Parallel()
	// The last is never ready, so the start lasts for as long as the first does.
	c := start(t, `
intensity: {max_restarts: 0}
children:
  - {name: failing, command: [/bin/sh, -c, "`+upon("fail")+`; exit 7"]}
  - {name: endless, command: [sleep, "1000"], readiness: {notify_fd: 3}, start_timeout: 0s}
`)
	c.started("endless", 1)
	c.give("fail")
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	c.requireTidy()
	assert.Empty(t, c.events("supervisor.started"), "the start was over")
	assert.Contains(t, c.output(), `gave up, more than 0 restarts within`)
	assert.Contains(t, c.output(), `process "failing": it exited with code 7`)
}

func TestEnding_AGiveUpAboutTheMomentOfAReloadEndsTheCollector(t *testing.T) {
	t.Parallel()
	for range 12 {
		c := prepare(t, "intensity: {max_restarts: 0}"+polite)
		c.script("polite", politeScript)
		c.start()
		pid := c.started("b", 1)
		c.untilPrinted("a", "b", "c")
		// What comes second may find nobody any more.
		first, second := func() { _ = c.cmd.Process.Signal(syscall.SIGHUP) }, func() { _ = syscall.Kill(pid, syscall.SIGKILL) }
		if flip() {
			first, second = second, first
		}
		first()
		pause(60 * time.Millisecond)
		second()
		assert.Equal(t, 1, c.wait())
		c.requireNothingLeft()
		c.requireTidy()
		assert.Equal(t, []string{"c", "a"}, c.lines("order"))
		assert.Len(t, c.events("supervisor.gave_up"), 1)
	}
}

func TestEnding_AGiveUpUnderWayGoesOnUnderTheNextCollector(t *testing.T) {
	for _, way := range takeovers {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := prepareDirect(t, slowlyFailing)
			c.script("slow", slowScript)
			c.start()
			c.untilPrinted("slow")
			c.give("fail")
			c.until("the give-up", func() bool { return len(c.eventsOf("slow", "process.stopping")) == 1 })
			c = way.next(c)
			c.give("go")
			assert.Equal(t, 1, c.wait())
			c.requireNothingLeft()
			c.requireTidy()
			assert.Contains(t, c.output(), `process "failing": it exited with code 7`)
			story := requireWholeStory(t, c.history())
			assert.Equal(t, "supervisor.stopped", story[len(story)-1].name)
		})
	}
}

// Here the moments are certain: the process that the give-up, or the end, waits for stops
// when it is told to.
func TestEnding_AGiveUpUnderWayKeepsItsStatusWhateverIsAskedForMeanwhile(t *testing.T) {
	for name, signals := range map[string][]syscall.Signal{
		"an end": {syscall.SIGTERM}, "a reload": {syscall.SIGHUP}, "a reload and an end": {syscall.SIGHUP, syscall.SIGTERM}, "an end and a reload": {syscall.SIGTERM, syscall.SIGHUP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := prepare(t, slowlyFailing)
			c.script("slow", slowScript)
			c.start()
			c.untilPrinted("slow")
			c.give("fail")
			c.until("the give-up", func() bool { return len(c.eventsOf("slow", "process.stopping")) == 1 })
			for _, signal := range signals {
				c.signal(signal)
				pause(50 * time.Millisecond)
			}
			c.give("go")
			assert.Equal(t, 1, c.wait())
			c.requireNothingLeft()
			c.requireTidy()
			assert.Contains(t, c.output(), `process "failing": it exited with code 7`)
		})
	}
}

func TestEnding_UnderWayIsNoGiveUpWhateverFailsMeanwhile(t *testing.T) {
	t.Parallel()
	c := prepare(t, slowlyFailing)
	c.script("slow", slowScript)
	c.start()
	c.untilPrinted("slow")
	c.signal(syscall.SIGTERM)
	c.until("the stop", func() bool { return len(c.eventsOf("slow", "process.stopping")) == 1 })
	c.give("fail")
	c.until("the failure", func() bool { return len(c.eventsOf("failing", "process.crashed")) == 1 })
	c.give("go")
	assert.Equal(t, 0, c.wait())
	c.requireNothingLeft()
	c.requireTidy()
	assert.Empty(t, c.events("supervisor.gave_up"))
}

const slowlyFailing = `
intensity: {max_restarts: 0}
defaults: {stop: {timeout: -1s}}
children:
  - {name: failing, command: [/bin/sh, -c, "while [ ! -e DIR/fail ]; do sleep 0.05; done; exit 7"]}
  - {name: slow, command: [DIR/slow]}
`

const slowScript = "exec 2>/dev/null\ntrap 'while [ ! -e DIR/go ]; do sleep 0.05; done; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done\n"

func TestEnding_AGiveUpAboutTheMomentOfAnEndLeavesNothing(t *testing.T) {
	t.Parallel()
	for range 8 {
		c := prepare(t, "intensity: {max_restarts: 0}"+polite)
		c.script("polite", politeScript)
		c.start()
		pid := c.started("b", 1)
		c.untilPrinted("a", "b", "c")
		first, second := syscall.Signal(0), syscall.SIGTERM
		if flip() {
			first, second = second, first
		}
		send := func(s syscall.Signal) {
			if s == 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // which may have been stopped by then
			} else if c.running() {
				_ = c.cmd.Process.Signal(s)
			}
		}
		send(first)
		pause(20 * time.Millisecond)
		send(second)
		// Which of the two it was that ended it, the story and the status agree on.
		gaveUp := 0
		if status := c.wait(); status != 0 {
			assert.Equal(t, 1, status)
			gaveUp = 1
		}
		assert.Len(t, c.events("supervisor.gave_up"), gaveUp)
		c.requireNothingLeft()
		c.requireTidy()
	}
}

func TestEnding_TermAboutTheMomentOfReloadsEndsTheCollectorInOrder(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		c := prepare(t, polite)
		c.startPolite()
		// First right after, then right before, then anywhere among several.
		switch i {
		case 0:
			c.signal(syscall.SIGHUP)
			c.signal(syscall.SIGTERM)
		case 1:
			c.signal(syscall.SIGTERM)
			c.signal(syscall.SIGHUP)
		default:
			for range i % 3 {
				c.signal(syscall.SIGHUP)
				pause(20 * time.Millisecond)
			}
			c.signal(syscall.SIGHUP)
			pause(100 * time.Millisecond)
			c.signal(syscall.SIGTERM)
			pause(20 * time.Millisecond)
			if c.running() {
				_ = c.cmd.Process.Signal(syscall.SIGHUP)
			}
		}
		assert.Equal(t, 0, c.wait())
		c.requireNothingLeft()
		c.requireTidy()
		assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
		assert.Len(t, c.events("process.started"), 3, "something was started again")
		assert.Equal(t, told(down("c", "b", "a"), "root stopped"), tail(c.story(), 7))
	}
}

func TestEnding_BecauseAnotherComponentFailsAtAReloadLeavesTheProcesses(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	pids := c.startPolite()
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	good := c.read("config.yaml")
	c.write("config.yaml", strings.ReplaceAll(good, fmt.Sprintf("localhost:%d", c.port), fmt.Sprintf("localhost:%d", taken)))
	c.signal(syscall.SIGHUP)
	assert.Equal(t, 1, c.wait())
	assert.Contains(t, c.output(), "address already in use")
	for _, pid := range pids {
		assert.True(t, alive(pid))
	}

	c.write("config.yaml", good)
	next := c.again()
	next.requireAdopted(pids)
	next.stop()
	next.requireTidy()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}
