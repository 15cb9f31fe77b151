// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wanted are the metrics of the page, their kinds, and their labels besides job
// and instance, which all have.
var wanted = map[string]struct {
	kind   string
	labels string
}{
	"process_restarts_total":          {"counter", "module reason"},
	"process_count":                   {"gauge", "state type"},
	"process_lifetime_seconds_bucket": {"histogram", "le module"},
	"process_lifetime_seconds_count":  {"histogram", "module"},
	"process_lifetime_seconds_sum":    {"histogram", "module"},
	"event_total":                     {"counter", "event topic"},
	"process_uptime_seconds":          {"gauge", ""},
	"process_cpu_time_seconds_total":  {"counter", "cpu_mode"},
	"process_memory_usage_bytes":      {"gauge", ""},
	"process_memory_virtual_bytes":    {"gauge", ""},
	"process_thread_count":            {"gauge", ""},
	"supervisor_process_state":        {"gauge", "state"},
	"supervisor_process_exits_total":  {"counter", "reason"},
	"system_cpu_load_average_1m":      {"gauge", ""},
	"system_cpu_load_average_5m":      {"gauge", ""},
	"system_cpu_load_average_15m":     {"gauge", ""},
	"system_memory_usage_bytes":       {"gauge", "system_memory_state"},
	"system_process_count":            {"gauge", "process_state"},
	"system_uptime_seconds":           {"gauge", ""},
}

func TestPage_HasTheNamesAndLabelsPromised(t *testing.T) {
	t.Parallel()
	c := start(t, `
children:
  - {name: steady, command: [sleep, "1000"]}
  - {name: killed, command: [sleep, "1000"]}
`)
	require.NoError(t, syscall.Kill(c.started("killed", 1), syscall.SIGKILL))
	c.started("killed", 2)
	c.started("steady", 1)
	var p page
	c.until("all metrics", func() bool {
		p = c.page()
		return !slices.ContainsFunc(slices.Collect(maps.Keys(wanted)), func(name string) bool { return len(p.find(name)) == 0 })
	})

	for name, want := range wanted {
		family := name
		if want.kind == "histogram" {
			family = name[:strings.LastIndex(name, "_")]
		}
		assert.Equal(t, want.kind, p.types[family], "type of %s", family)
		for _, s := range p.find(name) {
			labels := slices.Sorted(maps.Keys(s.labels))
			labels = slices.DeleteFunc(labels, func(l string) bool { return l == "job" || l == "instance" })
			assert.Equal(t, want.labels, strings.Join(labels, " "), "labels of %s", s.series())
			assert.NotEmpty(t, s.labels["job"], s.series())
			assert.NotEmpty(t, s.labels["instance"], s.series())
		}
	}

	bounds := []string{}
	for _, s := range p.find("process_lifetime_seconds_bucket", "module", "killed") {
		bounds = append(bounds, s.labels["le"])
	}
	assert.ElementsMatch(t, []string{"1", "10", "60", "300", "900", "3600", "+Inf"}, bounds)
	restarts, _ := p.value("process_restarts_total", "module", "killed", "reason", "signal")
	assert.InDelta(t, 1, restarts, 0)
	c.until("the count of services by state", func() bool {
		running, _ := c.page().value("process_count", "type", "service", "state", "running")
		return running == 2
	})

	// Whatever else is on the page is known, so that a name is not changed by accident.
	for _, s := range p.samples {
		if _, ok := wanted[s.name]; !ok {
			assert.Equal(t, "target_info", s.name, "unexpected metric")
		}
		for label := range s.labels {
			assert.False(t, strings.HasPrefix(label, "otel_scope_"), s.series())
		}
	}
	c.stop()
}

func TestPage_NeverMergesTwoResources(t *testing.T) {
	t.Parallel()
	c := start(t, `
children:
  - {name: one, command: [sleep, "1000"]}
  - {name: two, command: [sleep, "1000"]}
  - {name: three, command: [sleep, "1000"]}
`)
	c.started("three", 1)
	var p page
	c.until("the uptime of all three", func() bool {
		p = c.page()
		return len(p.find("process_uptime_seconds")) == 3
	})

	seen := map[string]bool{}
	for _, s := range p.samples {
		assert.False(t, seen[s.series()], "twice on the page: %s", s.series())
		seen[s.series()] = true
	}
	instances := map[string]string{}
	for _, s := range p.find("target_info") {
		assert.NotContains(t, instances, s.labels["instance"], "two resources share an instance")
		instances[s.labels["instance"]] = s.labels["job"]
	}
	jobs := slices.Sorted(maps.Values(instances))
	assert.Len(t, jobs, 5, "three processes, their supervisor and the host")
	assert.Len(t, slices.Compact(jobs), 5)
	for _, name := range []string{"one", "two", "three"} {
		assert.Contains(t, jobs, name)
		running, ok := p.value("supervisor_process_state", "job", name, "state", "running")
		assert.True(t, ok)
		assert.InDelta(t, 1, running, 0)
	}

	// An instance is the same at the next start, so that series go on.
	c.stop()
	again := c.again()
	again.until("the same instances", func() bool {
		found := map[string]string{}
		for _, s := range again.page().find("target_info") {
			found[s.labels["instance"]] = s.labels["job"]
		}
		return maps.Equal(instances, found)
	})
	again.stop()
}

func TestPage_KeepsTwoSupervisorsWithLikeNamedProcessesApart(t *testing.T) {
	t.Parallel()
	c := prepare(t, "children: []")
	c.write("config.yaml", fmt.Sprintf(`
extensions:
  supervisor/a: {children: [{name: web, command: [sleep, 1000]}]}
  supervisor/b: {children: [{name: web, command: [sleep, 1000]}]}
receivers:
  process_monitor/a: {supervisor: supervisor/a, collection_interval: 100ms, initial_delay: 10ms}
  process_monitor/b: {supervisor: supervisor/b, collection_interval: 100ms, initial_delay: 10ms, system: {enabled: false}}
processors:
  event_batch:
exporters:
  prometheus: {endpoint: "localhost:%d", without_scope_info: true}
service:
  extensions: [supervisor/a, supervisor/b]
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics: {receivers: [process_monitor/a, process_monitor/b], processors: [event_batch], exporters: [prometheus]}
`, c.port))
	c.start()
	var p page
	c.until("both supervisors' processes", func() bool {
		p = c.page()
		return len(p.find("process_uptime_seconds", "job", "web")) == 2
	})
	assert.Len(t, p.find("target_info"), 5, "two processes, their supervisors and the host")
	assert.Len(t, p.find("process_count", "type", "supervisor", "state", "running"), 2)
	c.stop()
}

func TestPage_ForgetsWhatOnlyALivingProcessHas(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: brief, command: [DIR/brief], restart: transient}
`)
	c.script("brief", "while [ ! -e DIR/enough ]; do sleep 0.05; done\n")
	c.start()
	perRun := []string{
		"process_uptime_seconds", "process_memory_usage_bytes", "process_memory_virtual_bytes", "process_thread_count",
	}
	c.until("its measurements", func() bool {
		p := c.page()
		return !slices.ContainsFunc(perRun, func(name string) bool { return len(p.find(name)) != 1 })
	})
	c.write("enough", "")
	c.until("its end", func() bool { return len(c.eventsOf("brief", "process.exited")) == 1 })
	c.until("its measurements to be gone", func() bool {
		p := c.page()
		return !slices.ContainsFunc(perRun, func(name string) bool { return len(p.find(name)) != 0 })
	})
	assert.Len(t, c.page().find("process_cpu_time_seconds_total"), 2, "counters stay")
	c.stop()
}

func TestPage_PassesPromtool(t *testing.T) {
	t.Parallel()
	promtool := os.Getenv("WARDEN_PROMTOOL")
	require.NotEmpty(t, promtool, "WARDEN_PROMTOOL must name Prometheus' promtool: use make test-integration")
	c := start(t, `
children:
  - {name: one, command: [sleep, "1000"]}
`)
	var p page
	c.until("the page", func() bool {
		p = c.page()
		return len(p.find("process_uptime_seconds")) == 1 && len(p.find("event_total")) > 0
	})
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(p.text)
	output, err := check.CombinedOutput()
	t.Logf("promtool: %v\n%s", err, output)
	for line := range bytes.Lines(output) {
		// The names that follow semantic conventions end in "count" and stay gauges.
		assert.Contains(t, string(line), `non-histogram and non-summary metrics should not have "_count" suffix`)
	}
	c.stop()
}
