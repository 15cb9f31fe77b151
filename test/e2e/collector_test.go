// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	// patience bounds every wait for something that is to happen. It is long, since
	// it is only ever used up by a test that fails.
	patience = time.Minute
	// look is how often a wait looks.
	look = 10 * time.Millisecond
	// mark is the variable by which a test finds all that its collector started,
	// however it was detached.
	mark = "WARDEN_E2E"
)

// binary returns the collector to test.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("WARDEN_BINARY")
	require.NotEmpty(t, path, "WARDEN_BINARY must name the built otelcol-warden: use make test-integration")
	require.FileExists(t, path)
	return path
}

// pipelines is the rest of every configuration: all signals through event_batch to
// files, and the metrics to a page as well.
const pipelines = `
receivers:
  process_monitor:
    collection_interval: 100ms
    initial_delay: 10ms
processors:
  event_batch:
    timeout: 20ms
exporters:
  prometheus:
    endpoint: localhost:%[1]d
    without_scope_info: true
  file/logs:
    path: %[2]s/logs.json
    append: true
    flush_interval: 20ms
  file/traces:
    path: %[2]s/traces.json
    append: true
    flush_interval: 20ms
service:
  extensions: [supervisor]
  telemetry:
    logs: {encoding: console, disable_zap_resource: true}
    metrics: {level: none}
  pipelines:
    metrics: {receivers: [process_monitor], processors: [event_batch], exporters: [prometheus]}
    logs: {receivers: [process_monitor], processors: [event_batch], exporters: [file/logs]}
    traces: {receivers: [process_monitor], processors: [event_batch], exporters: [file/traces]}
`

// collector is one run of the binary.
type collector struct {
	t *testing.T
	// dir holds the configuration, scripts, and everything that is written.
	dir   string
	mark  string
	port  int
	cmd   *exec.Cmd
	ended chan struct{}
}

// prepare makes a collector that is not yet started. The supervisor's section is
// written as a user would, but with single $ signs, and DIR for the directory.
func prepare(t *testing.T, supervisor string) *collector {
	t.Helper()
	c := &collector{t: t, dir: t.TempDir(), mark: uuid.NewString(), port: freePort(t), ended: make(chan struct{})}
	section := strings.NewReplacer("$", "$$", "DIR", c.dir).Replace(supervisor)
	section = strings.ReplaceAll("\n"+strings.Trim(section, "\n"), "\n", "\n    ")
	c.write("config.yaml", "extensions:\n  supervisor:"+section+"\n"+fmt.Sprintf(pipelines, c.port, c.dir))
	c.cmd = exec.Command(binary(t), "--config", c.path("config.yaml"), "--set", c.runtimeDirectory())
	return c
}

// start prepares a collector and starts it.
func start(t *testing.T, supervisor string) *collector {
	t.Helper()
	c := prepare(t, supervisor)
	c.start()
	return c
}

// again starts the same configuration another time, after the end of this run. The
// exporters' files begin anew.
func (c *collector) again() *collector {
	c.t.Helper()
	for _, name := range []string{"logs.json", "traces.json"} {
		_ = os.Remove(c.path(name))
	}
	return c.successor()
}

// successor starts the same configuration another time, with the files as they are.
func (c *collector) successor() *collector {
	c.t.Helper()
	next := &collector{t: c.t, dir: c.dir, mark: c.mark, port: c.port, ended: make(chan struct{})}
	next.cmd = exec.Command(c.cmd.Path, c.cmd.Args[1:]...)
	next.cmd.Env = c.cmd.Env
	next.start()
	return next
}

func (c *collector) start() {
	c.t.Helper()
	output, err := os.Create(c.path("output.txt"))
	require.NoError(c.t, err)
	defer output.Close()
	c.cmd.Stdout, c.cmd.Stderr = output, output
	c.cmd.Env = append(c.cmd.Environ(), mark+"="+c.mark)
	require.NoError(c.t, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	c.t.Cleanup(c.cleanup)
}

// cleanup ends whatever the test left, and shows what the collector said if the
// test failed.
func (c *collector) cleanup() {
	_ = c.cmd.Process.Kill()
	<-c.ended
	for _, pid := range c.keepers() {
		// Some programs clear their environment, and are not found by it.
		for _, child := range childrenOf(c.t, pid) {
			_ = syscall.Kill(-child, syscall.SIGKILL)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range c.descendants() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if c.t.Failed() {
		c.t.Logf("the collector's output:\n%s", c.output())
	}
}

func (c *collector) path(name string) string { return filepath.Join(c.dir, name) }

func (c *collector) write(name, text string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(c.path(name), []byte(text), 0o600))
}

// script writes a shell program into the directory, before the start.
func (c *collector) script(name, text string) {
	c.t.Helper()
	text = "#!/bin/sh\n" + strings.ReplaceAll(text, "DIR", c.dir)
	require.NoError(c.t, os.WriteFile(c.path(name), []byte(text), 0o700))
}

// read returns a file of the directory, "" if there is none.
func (c *collector) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(c.path(name))
	if !os.IsNotExist(err) {
		require.NoError(c.t, err)
	}
	return string(text)
}

func (c *collector) output() string { return c.read("output.txt") }

// until waits for a condition and fails the test if it does not come.
func (c *collector) until(what string, condition func() bool) {
	c.t.Helper()
	c.within(patience, what, condition)
}

// within is until for what is known to take its time.
func (c *collector) within(limit time.Duration, what string, condition func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		select {
		case <-c.ended:
			require.True(c.t, condition(), "the collector ended (%s) before: %s", c.cmd.ProcessState, what)
			return
		case <-time.After(look):
		}
		require.False(c.t, time.Now().After(deadline), "waited %s in vain for: %s", limit, what)
	}
}

func (c *collector) signal(sig syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(sig))
}

// wait returns the exit status, or -1 if a signal ended the collector.
func (c *collector) wait() int {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		// The dump of all goroutines goes to the output, which is shown.
		_ = c.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-c.ended:
		case <-time.After(5 * time.Second):
		}
		require.Fail(c.t, "the collector did not end", "waited %s", patience)
	}
	return c.cmd.ProcessState.ExitCode()
}

// stop ends the collector as an operator does, and requires that it goes well.
func (c *collector) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	require.Equal(c.t, 0, c.wait())
	c.requireNothingLeft()
}

func (c *collector) requireNothingLeft() {
	c.t.Helper()
	require.Empty(c.t, c.left(), "processes that outlived the collector")
}

// awaitNothingLeft is for processes that somebody else ends than the collector.
func (c *collector) awaitNothingLeft() {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for len(c.left()) > 0 && time.Now().Before(deadline) {
		time.Sleep(look)
	}
	c.requireNothingLeft()
}

// left are the keeper and all that carries the mark.
func (c *collector) left() (left []string) {
	for _, pid := range append(c.keepers(), c.descendants()...) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		left = append(left, fmt.Sprintf("%d: %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	return left
}

// runtimeDirectory is the setting that gives a collector a keeper of its own.
func (c *collector) runtimeDirectory() string {
	return "extensions.supervisor.runtime_directory=" + c.path("run")
}

// keepers finds the keepers of the collector's runtime directory: one, or none.
func (c *collector) keepers() (pids []int) {
	entries, err := os.ReadDir("/proc")
	require.NoError(c.t, err)
	for _, entry := range entries {
		cmdline, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		pid, isNumber := strconv.Atoi(entry.Name())
		if err == nil && isNumber == nil && string(cmdline) == "warden-keeper\x00"+c.path("run")+"\x00" && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// descendants finds the processes that carry the mark, without the collector.
func (c *collector) descendants() []int {
	entries, err := os.ReadDir("/proc")
	require.NoError(c.t, err)
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == c.cmd.Process.Pid {
			continue
		}
		// A process that is gone or not ours cannot be read; neither is looked for.
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && bytes.Contains(environ, []byte(mark+"="+c.mark)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// alive tells whether a process exists and is more than a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z'
}
