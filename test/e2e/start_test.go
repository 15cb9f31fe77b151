// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStart_FailsIfACommandDoesNotExistAndStopsWhatIsUpInReverse(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/polite, a]}
  - {name: b, command: [DIR/polite, b]}
  - {name: missing, command: [DIR/missing]}
  - {name: never, command: [DIR/polite, never]}
`)
	c.script("polite", politeScript)
	c.start()
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()

	assert.Equal(t, []string{"b", "a"}, processes(c.events("process.stopped")))
	assert.Equal(t, []string{"missing"}, processes(c.events("process.start_failed")))
	assert.Equal(t, []string{"a", "b"}, processes(c.events("process.started")))
	for _, wanted := range []string{"missing", c.path("missing"), "no such file or directory"} {
		assert.Contains(t, c.output(), wanted, "the error on the terminal")
	}
}

func TestStart_RetryCountsAFailedStartAsACrash(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
first_start: retry
children:
  - name: late
    command: [DIR/late]
    backoff: {initial_interval: 100ms, max_interval: 200ms}
  - {name: next, command: [sleep, "1000"]}
`)
	c.start()
	c.until("a failed start", func() bool { return len(c.eventsOf("late", "process.start_failed")) > 0 })
	assert.Empty(t, c.eventsOf("next", "process.started"), "later siblings wait")
	c.script("late", "exec sleep 1000\n")
	c.until("both to be up", func() bool { return len(c.events("process.started")) == 2 })
	c.stop()
}

func TestStart_RunsNothingIfAnotherComponentFailsToStart(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [DIR/polite, a]}
`)
	c.script("polite", "echo ran >> DIR/ran\nexec sleep 1000\n")
	listener, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", c.port))
	require.NoError(t, err)
	defer listener.Close()
	c.start()
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	assert.Empty(t, c.read("ran"))
}

func TestStart_FailsIfTwoReceiversWantTheOutputOfOneSupervisor(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	c.script("polite", politeScript)
	text := c.read("config.yaml")
	text = strings.Replace(text, "receivers:\n", "receivers:\n  process_monitor/second:\n", 1)
	text = strings.Replace(text, "logs: {receivers: [process_monitor]", "logs: {receivers: [process_monitor, process_monitor/second]", 1)
	c.write("config.yaml", text)
	c.start()
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	assert.Contains(t, c.output(), "process_monitor/second")
	assert.Empty(t, c.read("order"), "nothing was started")
}

func TestStart_GivesEachProcessTheEnvironmentAndDirectoryConfigured(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - name: env
    command: [/bin/sh, -c, "env | sort; pwd; ls -l /proc/self/fd/0; exec sleep 1000"]
    working_directory: DIR
    inherit_environment: [WARDEN_E2E, PATH]
    environment_files: [DIR/file.env]
    environment: {PORT: 8080, FROM: configuration}
`)
	c.write("file.env", "# a comment\nFROM=file\nONLY_FILE=yes\n")
	c.cmd.Env = append(c.cmd.Environ(), "SECRET_OF_THE_COLLECTOR=1")
	c.start()
	c.until("all its lines", func() bool {
		lines := c.printed("env")
		return len(lines) > 2 && lines[len(lines)-2] == c.dir
	})
	lines := c.printed("env")
	for _, wanted := range []string{"PORT=8080", "FROM=configuration", "ONLY_FILE=yes"} {
		assert.Contains(t, lines, wanted)
	}
	assert.NotContains(t, lines, "SECRET_OF_THE_COLLECTOR=1")
	assert.Contains(t, lines[len(lines)-1], "/dev/null", "stdin")
	c.stop()
}
