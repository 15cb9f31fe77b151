// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// underInit has the collector run under warden init.
func (c *collector) underInit() {
	c.t.Helper()
	warden := os.Getenv("WARDEN_INIT_BINARY")
	require.NotEmpty(c.t, warden, "WARDEN_INIT_BINARY must name the built warden: use make test-integration")
	args := append([]string{"init", "--"}, c.cmd.Args...)
	c.cmd = exec.Command(warden, args...)
}

// asPID1 has warden init be the first process of a namespace with a /proc of its own: as
// root, or as root of a user namespace.
func (c *collector) asPID1() {
	c.t.Helper()
	c.underInit()
	const mount = "mount --make-rprivate / && mount -t proc proc /proc"
	own := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		own.Cloneflags |= syscall.CLONE_NEWUSER
		own.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		own.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	probe := exec.Command("/bin/sh", "-c", mount)
	probe.SysProcAttr = own
	if out, err := probe.CombinedOutput(); err != nil {
		exit := (*exec.ExitError)(nil)
		require.True(c.t, errors.As(err, &exit) || errors.Is(err, syscall.EPERM), "%v", err)
		c.t.Skipf("no PID namespace with a /proc of its own for this user: %v: %s", err, out)
	}
	c.cmd = exec.Command("/bin/sh", append([]string{"-c", mount + ` && exec "$@"`, "sh"}, c.cmd.Args...)...)
	c.cmd.SysProcAttr = own
}

// find returns the PIDs, as the test sees them, of the descendants whose command line
// ends like that.
func (c *collector) find(ending ...string) (pids []int) {
	want := []byte(strings.Join(ending, "\x00") + "\x00")
	for _, pid := range c.descendants() {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.HasSuffix(cmdline, want) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// zombies counts the children of init that nobody has waited for.
func (c *collector) zombies() (count int) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", c.cmd.Process.Pid))
	require.NoError(c.t, err)
	for _, child := range strings.Fields(string(children)) {
		if !alive(number(c.t, child)) {
			count++
		}
	}
	return count
}

func TestInit_AsPID1ReapsStrangersAndItsProcessesOutliveTheirCollector(t *testing.T) {
	t.Parallel()
	c := prepareDirect(t, `
children:
  - {name: a, command: [DIR/polite, a]}
  - {name: b, command: [DIR/polite, b]}
  - {name: c, command: [DIR/polite, c]}
  - {name: leaver, command: [DIR/leaver], stop: {scope: process}}
`)
	// What it leaves in a session of its own loses its parent, and is nobody's any more.
	c.script("leaver", `
while :; do
	rm -f DIR/there
	/bin/sh -c "setsid /bin/sh -c 'touch DIR/there; sleep 0.2; echo >> DIR/strangers' >/dev/null 2>&1 & exit 0"
	while [ ! -e DIR/there ]; do sleep 0.02; done
	sleep 0.1
done
`)
	c.script("polite", politeScript)
	c.asPID1()
	c.start()
	c.untilPrinted("a", "b", "c")
	c.until("strangers", func() bool { return len(c.lines("strangers")) >= 10 })
	c.until("them to be reaped", func() bool { return c.zombies() == 0 })

	var before []int
	for _, name := range []string{"a", "b", "c"} {
		found := c.find(c.path("polite"), name)
		require.Len(t, found, 1)
		before = append(before, found[0])
	}
	own := []int{c.started("a", 1), c.started("b", 1), c.started("c", 1), c.started("leaver", 1)}
	keeper := c.keeper()
	for run := range 2 {
		found := c.find("--set", c.runtimeDirectory())
		require.Len(t, found, 1, "the collector")
		require.NoError(t, syscall.Kill(found[0], syscall.SIGKILL))
		c.until("the adoption", func() bool { return c.reported("config.applied") > run })
	}
	assert.Contains(t, c.output(), "warden: init: the collector crashed (SIGKILL) and is started again in 500ms; its processes are left as they are")
	c.requireAdopted(own)
	for i, name := range []string{"a", "b", "c"} {
		assert.Equal(t, before[i:i+1], c.find(c.path("polite"), name))
	}
	assert.Equal(t, keeper, c.keeper())
	strangers := len(c.lines("strangers"))
	c.until("more strangers", func() bool { return len(c.lines("strangers")) >= strangers+10 })
	c.until("them to be reaped", func() bool { return c.zombies() == 0 })

	c.stop()
	c.requireTidy()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
	stopped := processes(slices.DeleteFunc(c.whole(), func(r record) bool { return r.name != "process.stopped" || r.process() == "leaver" }))
	assert.Equal(t, []string{"c", "b", "a"}, stopped)
}

func TestInit_HasTheStatusOfTheProcessThatMadeTheSupervisorGiveUp(t *testing.T) {
	for _, tt := range []struct {
		name, last string

		want int
	}{
		{"a code", "exit 7", 7},
		{"a signal", "kill -KILL $$", 128 + int(syscall.SIGKILL)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := prepare(t, `
intensity: {max_restarts: 2, period: 1h}
children:
  - {name: other, command: [sleep, "1000"]}
  - {name: failing, command: [/bin/sh, -c, "`+tt.last+`"], backoff: {initial_interval: 0s}}
`)
			c.underInit()
			c.start()
			assert.Equal(t, tt.want, c.wait())
			c.requireNothingLeft()
			c.requireTidy()
			assert.NotContains(t, c.output(), "warden: init: ")
			assert.Len(t, c.events("supervisor.gave_up"), 1)
		})
	}
}

func TestInit_EndsWithACollectorThatRefusesItsConfiguration(t *testing.T) {
	t.Parallel()
	c := prepare(t, "children: [{name: Web, command: [true]}]")
	c.underInit()
	c.start()
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	assert.Contains(t, c.output(), `"Web"`)
	assert.NotContains(t, c.output(), "started again")
}
