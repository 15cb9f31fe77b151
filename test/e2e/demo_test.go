// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

// ready makes a collector of one of the repository's configurations, with the
// endpoint set from outside.
func ready(t *testing.T, config string) *collector {
	t.Helper()
	c := &collector{t: t, dir: t.TempDir(), mark: uuid.NewString(), port: freePort(t), ended: make(chan struct{})}
	c.cmd = exec.Command(binary(t), "--config", "../../"+config, "--set", c.runtimeDirectory())
	c.cmd.Env = append(c.cmd.Environ(), fmt.Sprintf("WARDEN_PROMETHEUS_ENDPOINT=localhost:%d", c.port))
	return c
}

func TestDemo_ShowsEveryKindOfProcessAndEndsOnInterrupt(t *testing.T) {
	t.Parallel()
	c := ready(t, "config.yaml")
	c.start()
	// The one that crashes does so every 40 s.
	c.within(40*time.Second+patience, "the whole picture", func() bool {
		p := c.page()
		crashes, _ := p.value("process_restarts_total", "module", "flaky", "reason", "exit")
		ended, _ := p.value("supervisor_process_state", "job", "migrate", "state", "exited")
		return crashes >= 1 && ended == 1
	})
	for _, want := range []string{"clock", "flaky", "migrate", "gateway"} {
		assert.Contains(t, c.output(), want)
	}
	p := c.page()
	for name := range wanted {
		assert.NotEmpty(t, p.find(name), "%s is not on the page", name)
	}
	asked := time.Now()
	c.signal(syscall.SIGINT)
	assert.Equal(t, 0, c.wait())
	assert.Less(t, time.Since(asked), 10*time.Second, "no process wanted more than its grace")
	c.requireNothingLeft()
}

func TestMinimal_RunsAndEnds(t *testing.T) {
	t.Parallel()
	c := ready(t, "config/minimal.yaml")
	c.start()
	c.until("its process", func() bool { return len(c.page().find("process_uptime_seconds")) == 1 })
	c.stop()
}

func TestSidecar_RunsWhatTheEnvironmentAndTheDirectorySay(t *testing.T) {
	t.Parallel()
	c := ready(t, "config/sidecar.yaml")
	health := fmt.Sprintf("localhost:%d", freePort(t))
	c.write("10-more.yaml", `[{name: more, command: [/bin/sh, -c, "touch `+c.path("more")+`; exec sleep 1000"]}]`)
	c.cmd.Env = append(c.cmd.Env,
		`WARDEN_COMMAND=[/bin/sh, -c, "touch `+c.path("main")+`; exec sleep 1000"]`,
		"WARDEN_CHILDREN="+c.path("*-more.yaml"), "WARDEN_HEALTH_ENDPOINT="+health,
		"WARDEN_SHUTDOWN_TIMEOUT=2s", // nobody takes what is left to be delivered
		fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:%d", freePort(t)),
	)
	c.start()
	c.until("both programs", func() bool { return c.exists("main") && c.exists("more") })
	c.untilAnswers(health)
	c.stop()
}
