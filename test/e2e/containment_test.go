// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// daemonScript starts a daemon, twice in a session of its own, by what is given as the
// second argument, and goes on once that runs. The daemon's PID is in the file that the
// first argument names.
const daemonScript = `
setsid sh -c "setsid $2 sh -c 'echo \$\$ >$1.new; mv $1.new $1; exec sleep 1000' & exit 0"
while [ ! -e $1 ]; do sleep 0.01; done
echo up
trap 'exit 0' TERM
while :; do sleep 0.05; done
`

func (c *collector) pidIn(name string) int {
	c.t.Helper()
	c.until("a PID in "+name, func() bool { return strings.TrimSpace(c.read(name)) != "" })
	return number(c.t, strings.TrimSpace(c.read(name)))
}

// hasCgroups reports whether processes get cgroups of their own here.
func hasCgroups() bool { return os.Geteuid() == 0 }

func TestContainment_ACrashTakesTheDaemonsOfItsOwnProcessAlongAndNobodyElses(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/daemon, DIR/a.pid], backoff: {initial_interval: 0s}}
  - {name: b, command: [DIR/daemon, DIR/b.pid]}
`)
	c.script("daemon", daemonScript)
	c.start()
	c.untilPrinted("a", "b")
	first, other := c.pidIn("a.pid"), c.pidIn("b.pid")
	require.NoError(t, os.Remove(c.path("a.pid")))
	require.NoError(t, syscall.Kill(c.started("a", 1), syscall.SIGKILL))
	second := c.pidIn("a.pid")
	assert.False(t, alive(first), "it lives beside the next run")
	assert.True(t, alive(second))
	assert.True(t, alive(other))
	c.stop()
	for _, pid := range []int{first, second, other} {
		assert.False(t, alive(pid))
	}
}

func TestContainment_WhatHasClearedItsEnvironmentIsEndedInItsCgroupAndElsewhereReported(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/daemon, DIR/a.pid, env -i PATH=/usr/bin:/bin]}
`)
	c.script("daemon", daemonScript)
	c.start()
	c.untilPrinted("a")
	daemon := c.pidIn("a.pid")
	if !hasCgroups() {
		defer syscall.Kill(daemon, syscall.SIGKILL)
	}
	require.NoError(t, os.Remove(c.path("a.pid")))
	require.NoError(t, syscall.Kill(c.started("a", 1), syscall.SIGKILL))
	next := c.pidIn("a.pid")
	if hasCgroups() {
		assert.False(t, alive(daemon))
		c.stop()
		assert.False(t, alive(next))
		return
	}
	defer syscall.Kill(next, syscall.SIGKILL)
	assert.True(t, alive(daemon), "nobody can tell whose it is")
	c.until("the report", func() bool { return len(c.events("process.orphan_unattributed")) == 1 })
	told := c.events("process.orphan_unattributed")[0]
	assert.Equal(t, fmt.Sprintf("sleep (%d)", daemon), told.attrs["supervisor.processes"])
	c.signal(syscall.SIGTERM)
	assert.Equal(t, 0, c.wait())
}

func TestContainment_AProcessAloneLeavesItsDaemonsAlone(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/daemon, DIR/a.pid], stop: {scope: process}}
`)
	c.script("daemon", daemonScript)
	c.start()
	c.untilPrinted("a")
	daemon := c.pidIn("a.pid")
	c.signal(syscall.SIGTERM)
	assert.Equal(t, 0, c.wait())
	assert.True(t, alive(daemon))
	require.NoError(t, syscall.Kill(daemon, syscall.SIGKILL))
	c.awaitNothingLeft()
}

func TestContainment_WhatIgnoresTermOrIsSuspendedIsKilledAfterTheGraceAndNamed(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
defaults: {stop: {timeout: 200ms}, restart: temporary}
children:
  - {name: deaf, command: [DIR/parent, deaf]}
  - {name: suspended, command: [DIR/parent, suspended]}
`)
	c.script("parent", `
setsid sh -c "trap '' TERM; echo \$\$ >DIR/$1.pid; [ $1 = deaf ] || kill -STOP \$\$; while :; do sleep 1000; done" &
while [ ! -s DIR/$1.pid ]; do sleep 0.01; done
echo up
sleep 0.1
exit 0
`)
	c.start()
	for _, name := range []string{"deaf", "suspended"} {
		pid := c.pidIn(name + ".pid")
		c.until("survivors of "+name, func() bool { return len(c.eventsOf(name, "process.survivors_killed")) > 0 })
		assert.Contains(t, c.eventsOf(name, "process.survivors_killed")[0].attrs["supervisor.processes"], fmt.Sprintf("sh (%d)", pid))
		assert.False(t, alive(pid))
	}
	c.stop()
}

func TestContainment_AForkBombIsBoundedAndEnded(t *testing.T) {
	t.Parallel()
	user := "nobody"
	if os.Geteuid() != 0 {
		user = strconv.Itoa(os.Geteuid())
	}
	c := prepare(t, `
children:
  - name: bomb
    command: [/bin/sh, -c, "bomb() { bomb & bomb & wait; }; bomb 2>/dev/null"]
    user: "`+user+`"
    group: "`+strconv.Itoa(groupFor(t, user))+`"
    supplementary_groups: []
    limits: {processes: 150}
    working_directory: /
    output: {stdout: "null", stderr: "null"}
    stop: {timeout: 0s}
`)
	c.start()
	pid := c.started("bomb", 1)
	c.until("many processes", func() bool { return len(c.descendants()) > 50 })
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	c.until("the next run", func() bool { return len(c.eventsOf("bomb", "process.started")) > 1 })
	c.stop()
}

func groupFor(t *testing.T, user string) int {
	out, err := exec.Command("id", "-g", user).Output()
	require.NoError(t, err)
	return number(t, strings.TrimSpace(string(out)))
}

// untilAnswers waits until a server answers.
func (c *collector) untilAnswers(address string) {
	c.t.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	c.until("an answer", func() bool {
		response, err := client.Get("http://" + address)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err == nil && response.StatusCode == http.StatusOK
	})
}

func TestContainment_TheWorkersOfAKilledServerAreGoneBeforeTheNextOneBinds(t *testing.T) {
	t.Parallel()
	nginx := os.Getenv("WARDEN_NGINX")
	require.NotEmpty(t, nginx, "WARDEN_NGINX must name nginx: use make test-integration")
	executable, err := os.Executable()
	require.NoError(t, err)
	for name, server := range map[string]string{
		"nginx":              "[" + nginx + ", -e, stderr, -p, DIR, -c, DIR/nginx.conf]",
		"pre-forking server": "[" + executable + "]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:" + strconv.Itoa(freePort(t))
			c := prepare(t, `
children:
  - name: server
    command: `+server+`
    environment: {`+role+`: preforker, ADDRESS: "`+address+`"}
    readiness: {tcp: {endpoint: "`+address+`"}, interval: 10ms}
    backoff: {initial_interval: 0s}
`)
			c.write("nginx.conf", strings.ReplaceAll(`
daemon off; worker_processes 2; pid DIR/nginx.pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	server { listen `+address+`; location / { return 200 "served\n"; } }
}
`, "DIR", c.dir))
			c.start()
			for run := 1; run <= 5; run++ {
				c.untilAnswers(address)
				pid := c.started("server", run)
				var workers []int
				c.until("workers", func() bool { workers = childrenOf(t, pid); return len(workers) == 2 })
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
				c.started("server", run+1)
				for _, worker := range workers {
					assert.False(t, alive(worker), "worker %d of run %d lives beside the next", worker, run)
				}
			}
			c.untilAnswers(address)
			c.stop()
			assert.NotContains(t, strings.ToLower(strings.Join(c.printed("server"), "\n")), "address already in use")
			assert.Len(t, c.eventsOf("server", "process.crashed"), 5, "no run failed but those that were killed")
		})
	}
}

// childrenOf finds the processes whose parent that is.
func childrenOf(t *testing.T, parent int) (children []int) {
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, entry := range entries {
		status, err := os.ReadFile("/proc/" + entry.Name() + "/status")
		if err == nil && strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			children = append(children, number(t, entry.Name()))
		}
	}
	return children
}

// preforker listens, and has two other processes serve, each in a session of its own.
func preforker() {
	if os.Getenv("WORKER") != "" {
		listener, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			panic(err)
		}
		panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served\n") })))
	}
	listener, err := net.Listen("tcp", os.Getenv("ADDRESS"))
	if err != nil {
		panic(err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		panic(err)
	}
	for range 2 {
		worker := exec.Command(os.Args[0])
		worker.Env = append(os.Environ(), "WORKER=yes")
		worker.ExtraFiles = []*os.File{file}
		worker.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := worker.Start(); err != nil {
			panic(err)
		}
	}
	select {}
}

func TestRights_AreThoseThatTheConfigurationSays(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("to become another user takes root")
	}
	c := prepare(t, `
children:
  - name: a
    command: [/bin/sh, -c, "id -un; id -gn; id -G; umask; ulimit -Sn; ulimit -Hn; ulimit -Sc; nice; cat /proc/self/oom_score_adj; grep -E 'NoNewPrivs|CapEff' /proc/self/status; echo $HOME $USER; echo again >/dev/stderr"]
    restart: temporary
    user: nobody
    supplementary_groups: [tty]
    umask: "027"
    limits: {open_files: {soft: 100, hard: 200}, core_size: 0}
    nice: 3
    oom_score_adj: 250
    no_new_privileges: true
    working_directory: /
`)
	c.start()
	c.until("the end", func() bool { return len(c.eventsOf("a", "process.exited")) == 1 })
	c.until("its words", func() bool { return len(c.printed("a")) == 13 })
	groups, err := exec.Command("sh", "-c", "echo $(id -g nobody) $(getent group tty | cut -d: -f3)").Output()
	require.NoError(t, err)
	home, err := exec.Command("sh", "-c", "getent passwd nobody | cut -d: -f6").Output()
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{
		"nobody", "nogroup", strings.TrimSpace(string(groups)), "0027", "100", "200", "0", "3", "250",
		"NoNewPrivs:\t1", "CapEff:\t0000000000000000", strings.TrimSpace(string(home)) + " nobody", "again",
	}, c.printed("a"))
	c.stop()
}

func TestRights_ThatCanNotBeHadFailTheStart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		root       bool // it is root who can not
		keys, want string
	}{
		"another user":    {false, "user: root", "setgroups: operation not permitted"},
		"less nice":       {false, "nice: -5", "setpriority: permission denied"},
		"more open files": {false, "limits: {open_files: 1000000000}", "setrlimit: operation not permitted"},
		"a cgroup":        {true, "cgroup: {memory_max: 64MiB}", "memory controller"},
		"a directory":     {true, "user: nobody\n    working_directory: /root", "chdir: permission denied"},
	} {
		if tt.root != (os.Geteuid() == 0) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, "children:\n  - name: a\n    command: [sleep, \"1000\"]\n    "+tt.keys+"\n")
			assert.Equal(t, 1, c.wait())
			failed := c.eventsOf("a", "process.start_failed")
			require.Len(t, failed, 1)
			assert.Contains(t, failed[0].body, tt.want)
			c.requireNothingLeft()
		})
	}
}

func TestNotify_ReachesAProcessOfAnotherUserAndIsHeardByTheNextCollector(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("to become another user takes root")
	}
	work, err := os.MkdirTemp("", "warden-notify-test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	program := work + "/notifier"
	text, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, text, 0o755))
	require.NoError(t, os.Chmod(work, 0o777))
	c := prepare(t, `
first_start: retry
children:
  - name: a
    command: [`+program+`]
    user: nobody
    environment: {`+role+`: notifier}
    working_directory: `+work+`
    readiness: {notify: {}}
    start_timeout: 20s
`)
	c.start()
	pid := c.started("a", 1)
	require.NoError(t, c.cmd.Process.Kill())
	c.wait()
	// It says so while nobody listens.
	require.NoError(t, os.WriteFile(work+"/ready", nil, 0o644))
	require.Eventually(t, func() bool { _, err := os.Stat(work + "/beats"); return err == nil }, patience, look)
	next := c.successor()
	next.until("readiness", func() bool { return len(next.eventsOf("a", "process.ready")) == 1 })
	assert.Equal(t, pid, next.eventsOf("a", "process.ready")[0].pid())
	next.stop()
}

// controllers are those that processes can be limited with here.
func controllers() string {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if text, err := os.ReadFile(mount + "/cgroup.controllers"); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}

func TestCgroup_WhatExceedsItsMemoryIsEnded(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || !strings.Contains(" "+controllers()+" ", " memory ") {
		t.Skipf("not run: user %d, and the unified hierarchy has the controllers %q; it takes root and memory", os.Geteuid(), controllers())
	}
	c := start(t, `
children:
  - name: greedy
    command: [/bin/sh, -c, "head -c 200M /dev/zero | tail"]
    restart: temporary
    cgroup: {memory_max: 32MiB, pids_max: 50}
    stop: {scope: tree}
  - {name: other, command: [sleep, "1000"]}
`)
	c.until("its end", func() bool { return len(c.eventsOf("greedy", "process.exited")) == 1 })
	other := c.started("other", 1)
	assert.True(t, alive(other))
	c.stop()
}

func TestCgroup_OneThatIsNotToBeHadIsDoneWithoutIfItIsOptional(t *testing.T) {
	t.Parallel()
	c := start(t, `
children:
  - name: a
    command: [sleep, "1000"]
    cgroup: {io_weight: 100, optional: true}
`)
	c.started("a", 1)
	c.stop()
}
