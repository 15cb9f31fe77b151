// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/internal/procfs"
)

func TestCollector_UnreadableHostIsAbsentAndSaidOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	c := newTestCollector(nil, nil)
	c.logger = zap.New(core)
	c.proc = procfs.New(t.TempDir())
	for range 2 {
		assert.Zero(t, scrape(t, c).MetricCount())
	}
	assert.Equal(t, 4, logs.Len(), "one each for stat, loadavg, meminfo and uptime; without processes there is nothing to count")
}

func TestCollector_OneUnreadableFileTakesNothingElseAway(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "proc"))))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "meminfo"), []byte("MemTotal: 1 kB\n"), 0o600))
	c := newTestCollector(nil, nil)
	c.proc = procfs.New(dir)
	metrics := scrape(t, c)
	assert.Nil(t, points(metrics, hostServiceName, "system.memory.usage"))
	assert.NotNil(t, points(metrics, hostServiceName, "system.cpu.load_average.5m"))
	assert.NotNil(t, points(metrics, hostServiceName, "system.process.count"))
	assert.NotNil(t, points(metrics, hostServiceName, "system.uptime"))
}

func TestCollector_ReadsTheLivingSystem(t *testing.T) {
	var st procfs.Stat
	require.NoError(t, procfs.New("/proc").Stat(os.Getpid(), 0, &st))
	c := newTestCollector(newFakeSupervisor(runningProcess("self", os.Getpid(), st.StartTicks)), nil)
	c.proc, c.now = procfs.New("/proc"), time.Now
	metrics := scrape(t, c)
	assert.Greater(t, points(metrics, "self", "process.memory.usage")[""], 1e6)
	assert.Positive(t, points(metrics, "self", "process.thread.count")[""])
	assert.Positive(t, points(metrics, hostServiceName, "system.uptime")[""])
	total := 0.0
	for _, n := range points(metrics, hostServiceName, "system.process.count") {
		total += n
	}
	assert.Positive(t, total)
}
