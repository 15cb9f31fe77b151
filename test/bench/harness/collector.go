// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Config is what a collector supervises.
type Config struct {
	Processes int
	Instances bool     // one entry for all of them, instead of one for each
	Command   []string // of all of them
	Parallel  bool
	Captured  bool   // both streams; otherwise there is no output
	Keys      string // further keys of all of them
	Scrape    string // collection_interval
	Events    string // a file for the events; "": they go nowhere
}

// Collector is a run of the binary that WARDEN_BINARY names, with its keeper.
type Collector struct {
	b      *testing.B
	cmd    *exec.Cmd
	config string
	run    string // the runtime directory
	ended  chan struct{}
}

const configuration = `
extensions:
  supervisor:
    runtime_directory: %s
    parallel: %t
    intensity: {max_restarts: 1000000, period: 1s}
    defaults:
      output: {stdout: %[3]s, stderr: %[3]s}
      backoff: {initial_interval: 0s}
%[8]s
    children:
%[4]s
receivers:
  process_monitor: {collection_interval: %[5]s}
exporters:
  nop:
%[6]s
service:
  extensions: [supervisor]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    metrics: {receivers: [process_monitor], exporters: [nop]}
    logs: {receivers: [process_monitor], exporters: [%[7]s]}
`

// Start starts a collector in a directory of its own. It is stopped at the end of the
// benchmark if it is not by then. Without WARDEN_BINARY the benchmark is skipped.
func Start(b *testing.B, dir string, c Config) *Collector {
	var children strings.Builder
	command := strings.Join(c.Command, ", ")
	if c.Instances {
		fmt.Fprintf(&children, "      - {name: p, instances: %d, command: [%s]}\n", c.Processes, command)
	} else {
		for i := range c.Processes {
			fmt.Fprintf(&children, "      - {name: p%d, command: [%s]}\n", i, command)
		}
	}
	stream, exporter, file := `"null"`, "nop", ""
	if c.Captured {
		stream = "capture"
	}
	if c.Events != "" {
		exporter, file = "file", fmt.Sprintf("  file: {path: %s, flush_interval: 20ms}", c.Events)
	}
	path, run := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "run")
	text := fmt.Sprintf(configuration, run, c.Parallel, stream, children.String(), c.Scrape, file, exporter, "      "+c.Keys)
	require.NoError(b, os.WriteFile(path, []byte(text), 0o600))
	return start(b, path, run)
}

func start(b *testing.B, config, run string) *Collector {
	binary := os.Getenv("WARDEN_BINARY")
	if binary == "" {
		b.Skip("WARDEN_BINARY does not name the built otelcol-warden: use make bench")
	}
	c := &Collector{b: b, cmd: exec.Command(binary, "--config", config), config: config, run: run, ended: make(chan struct{})}
	c.cmd.Stderr = os.Stderr
	require.NoError(b, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	b.Cleanup(c.cleanup)
	return c
}

// cleanup ends what a benchmark that failed has left: a keeper whose collector is gone
// ends its processes and itself by SIGTERM.
func (c *Collector) cleanup() {
	if !c.hasEnded() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.ended:
		case <-time.After(30 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
	}
	for _, pid := range c.keepers() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
}

func (c *Collector) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// Stop tells the collector to stop and returns when it and its keeper are gone.
func (c *Collector) Stop() {
	require.NoError(c.b, c.cmd.Process.Signal(syscall.SIGTERM))
	<-c.ended
	require.Zero(c.b, c.cmd.ProcessState.ExitCode())
	require.Empty(c.b, c.keepers())
}

// Kill kills the collector alone.
func (c *Collector) Kill() {
	require.NoError(c.b, c.cmd.Process.Kill())
	<-c.ended
}

// Again starts another collector with the same configuration.
func (c *Collector) Again() *Collector { return start(c.b, c.config, c.run) }

// keepers are the PIDs of the living keepers of the runtime directory, of which there
// should be one.
func (c *Collector) keepers() (pids []int) {
	entries, err := os.ReadDir("/proc")
	require.NoError(c.b, err)
	want := []byte("warden-keeper\x00" + c.run + "\x00")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if command, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil && bytes.Equal(command, want) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Keeper returns the PID of the keeper.
func (c *Collector) Keeper() int {
	pids := c.keepers()
	require.Len(c.b, pids, 1, "keepers of %s", c.run)
	return pids[0]
}

// Memory is the memory of collector and keeper in MiB, what they share with others
// divided by the sharers (PSS).
func (c *Collector) Memory() (mib float64) {
	for _, pid := range []int{c.cmd.Process.Pid, c.Keeper()} {
		mib += float64(c.number(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")) / 1024
	}
	return mib
}

// CPU is the CPU time that the living threads of collector and keeper have used.
func (c *Collector) CPU() (used time.Duration) {
	for _, pid := range []int{c.cmd.Process.Pid, c.Keeper()} {
		for _, task := range c.tasks(pid) {
			text, err := os.ReadFile(task + "/schedstat")
			require.NoError(c.b, err)
			ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
			require.NoError(c.b, err)
			used += time.Duration(ns)
		}
	}
	return used
}

// KeeperWakeups is how often the threads of the keeper have stopped running to wait.
func (c *Collector) KeeperWakeups() (n int64) {
	for _, task := range c.tasks(c.Keeper()) {
		n += c.number(task+"/status", "voluntary_ctxt_switches:")
	}
	return n
}

func (c *Collector) tasks(pid int) []string {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	require.NoError(c.b, err)
	return tasks
}

// number returns the number that follows a name in a file of /proc.
func (c *Collector) number(path, name string) int64 {
	text, err := os.ReadFile(path)
	require.NoError(c.b, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			require.NoError(c.b, err)
			return n
		}
	}
	require.FailNow(c.b, "not found", "%q in %s", name, path)
	return 0
}
