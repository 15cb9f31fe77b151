// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/pmetrictest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/filter"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

func scrape(t testing.TB, c *collector) pmetric.Metrics {
	t.Helper()
	metrics, err := c.scrape(context.Background())
	require.NoError(t, err)
	return metrics
}

func compareMetrics(t *testing.T, name string, got pmetric.Metrics) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".yaml")
	if *update {
		require.NoError(t, golden.WriteMetricsToFile(path, got, golden.SkipMetricTimestampNormalization()))
	}
	want, err := golden.ReadMetrics(path)
	require.NoError(t, err)
	require.NoError(t, pmetrictest.CompareMetrics(want, got,
		pmetrictest.IgnoreResourceMetricsOrder(), pmetrictest.IgnoreMetricsOrder(), pmetrictest.IgnoreMetricDataPointsOrder()))
}

// points returns the values of the points of a metric of one resource, by their
// attributes; nil if the metric is not there.
func points(metrics pmetric.Metrics, service, name string) map[string]float64 {
	metric, ok := find(metrics, service, name)
	if !ok {
		return nil
	}
	var slice pmetric.NumberDataPointSlice
	if metric.Type() == pmetric.MetricTypeSum {
		slice = metric.Sum().DataPoints()
	} else {
		slice = metric.Gauge().DataPoints()
	}
	values := map[string]float64{}
	for _, point := range slice.All() {
		value := point.DoubleValue()
		if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
			value = float64(point.IntValue())
		}
		values[attributes(point.Attributes())] = value
	}
	return values
}

func attributes(m pcommon.Map) string {
	text := ""
	for key, value := range m.All() {
		text += fmt.Sprintf("%s=%s ", key, value.AsString())
	}
	return text
}

func find(metrics pmetric.Metrics, service, name string) (pmetric.Metric, bool) {
	for _, rm := range metrics.ResourceMetrics().All() {
		if value, _ := rm.Resource().Attributes().Get("service.name"); value.AsString() != service {
			continue
		}
		for _, metric := range rm.ScopeMetrics().At(0).Metrics().All() {
			if metric.Name() == name {
				return metric, true
			}
		}
	}
	return pmetric.Metric{}, false
}

// reason returns the index of a restart reason; those of exits are the same.
func reason(name string) int {
	for i := range supervisorextension.RestartReason(20) {
		if i.String() == name {
			return int(i)
		}
	}
	panic("no reason " + name)
}

// busySupervisor has children in many states of their lives.
func busySupervisor() *fakeSupervisor {
	web := runningProcess("web", 1, 12)
	web.Totals.CPUUser, web.Totals.CPUSystem = 10*time.Second, 5*time.Second
	web.Totals.Restarts[reason("signal")] = 1
	web.Totals.Exits[reason("signal")] = 1
	web.Totals.Lifetime = supervisorextension.Lifetime{Count: 1, Sum: 42 * time.Second, Buckets: [7]uint64{0, 0, 1}}

	worker := runningProcess("pipeline.worker", 42, 98765)
	crashing := fakeProcess("crashing")
	crashing.State = state("backoff")
	crashing.Run = 3
	crashing.Totals.CPUUser = 30 * time.Millisecond
	crashing.Totals.Restarts[reason("exit")] = 2
	crashing.Totals.Restarts[reason("operator")] = 1
	crashing.Totals.Exits[reason("exit")] = 3
	crashing.Totals.Lifetime = supervisorextension.Lifetime{Count: 3, Sum: 4000 * time.Second, Buckets: [7]uint64{2, 0, 0, 0, 0, 0, 1}}

	fake := newFakeSupervisor(web, worker, crashing, fakeProcess("idle"), runningProcess("dying", 45, 98767))
	for _, e := range []struct{ topic, name string }{
		{journal.TopicSupervisor, journal.SupervisorStarted},
		{journal.TopicLifecycle, journal.ProcessStarted},
		{journal.TopicLifecycle, journal.ProcessStarted},
		{journal.TopicLifecycle, journal.ProcessCrashed},
		{journal.TopicOutput, journal.OutputDropped},
	} {
		fake.journal.Append(journal.Event{Time: now, Topic: e.topic, Name: e.name})
	}
	return fake
}

func TestCollector_ScrapeIsAsRecorded(t *testing.T) {
	compareMetrics(t, "supervised", scrape(t, newTestCollector(busySupervisor(), func(cfg *Config) { cfg.System.Enabled = false })))
}

func TestCollector_SystemIsAsRecorded(t *testing.T) {
	compareMetrics(t, "system", scrape(t, newTestCollector(nil, nil)))
}

// A second scrape must not depend on what the first one left behind.
func TestCollector_SecondScrapeIsTheSame(t *testing.T) {
	c := newTestCollector(busySupervisor(), nil)
	first, second := scrape(t, c), scrape(t, c)
	require.NoError(t, pmetrictest.CompareMetrics(first, second))
}

func TestCollector_RestartContinuesTheSeries(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("web", 1, 12))
	c := newTestCollector(fake, nil)
	before, _ := find(scrape(t, c), "web", "process.cpu.time")

	fake.change("web", func(p *supervisorextension.Process) {
		p.Totals.CPUUser, p.Totals.CPUSystem = 1600*time.Millisecond, 800*time.Millisecond
		p.Run, p.PID, p.StartTicks = 3, 42, 98765
	})
	metrics := scrape(t, c)
	after, _ := find(metrics, "web", "process.cpu.time")

	for i := range 2 {
		b, a := before.Sum().DataPoints().At(i), after.Sum().DataPoints().At(i)
		assert.Equal(t, attributes(b.Attributes()), attributes(a.Attributes()))
		assert.Equal(t, pcommon.NewTimestampFromTime(created), b.StartTimestamp())
		assert.Equal(t, b.StartTimestamp(), a.StartTimestamp(), "a restart must not look like a new counter")
	}
	assert.Equal(t, map[string]float64{"cpu.mode=user ": 1.6 + 12345.67, "cpu.mode=system ": 0.8 + 0.08}, points(metrics, "web", "process.cpu.time"))
}

func TestCollector_CPUTimeStaysBetweenReapAndBookkeeping(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("web", 42, 98765))
	c := newTestCollector(fake, nil)
	running := points(scrape(t, c), "web", "process.cpu.time")

	// Reaped, and somebody else has the pid already; Totals know nothing yet.
	fake.change("web", func(p *supervisorextension.Process) { p.StartTicks-- })
	metrics := scrape(t, c)
	assert.Equal(t, running, points(metrics, "web", "process.cpu.time"))
	assert.Nil(t, points(metrics, "web", "process.memory.usage"), "that of the pid's next owner is not ours")

	fake.change("web", func(p *supervisorextension.Process) {
		p.PID, p.State = 0, state("backoff")
		p.Totals.CPUUser, p.Totals.CPUSystem = 12346*time.Second, time.Second
	})
	assert.Equal(t, map[string]float64{"cpu.mode=user ": 12346, "cpu.mode=system ": 1}, points(scrape(t, c), "web", "process.cpu.time"))
}

// The collector before this one has reported what the process had used.
func TestCollector_CPUTimeIsAbsentAsLongAsAPartOfItIsNotKnown(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("web", 42, 98765))
	fake.change("web", func(p *supervisorextension.Process) {
		p.StartTicks-- // it is just being reaped
		p.Totals.CPUUser = time.Second
	})
	c := newTestCollector(fake, nil)
	assert.Nil(t, points(scrape(t, c), "web", "process.cpu.time"))
	fake.change("web", func(p *supervisorextension.Process) {
		p.PID, p.State = 0, state("backoff")
		p.Totals.CPUUser, p.Totals.CPUSystem = 3*time.Second, time.Second
	})
	assert.Equal(t, map[string]float64{"cpu.mode=user ": 3, "cpu.mode=system ": 1}, points(scrape(t, c), "web", "process.cpu.time"))
}

func TestCollector_NextOwnerOfThePIDIsNotMeasured(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("web", 1, 12))
	c := newTestCollector(fake, nil)
	own := points(scrape(t, c), "web", "process.cpu.time")

	// 42 has used hours, and was started at another time than ours.
	fake.change("web", func(p *supervisorextension.Process) { p.PID, p.StartTicks = 42, 98764 })
	assert.Equal(t, own, points(scrape(t, c), "web", "process.cpu.time"))
}

// What was read for the processes need not be read again to count the host's.
func TestCollector_KnowsTheStatesItHasRead(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("a", 1, 12), runningProcess("b", 42, 98765))
	c := newTestCollector(fake, nil)
	scrape(t, c)
	assert.Equal(t, map[int]byte{1: 'S', 42: 'R'}, c.letters)
	fake.change("a", func(p *supervisorextension.Process) { p.PID = 0 })
	scrape(t, c)
	assert.Equal(t, map[int]byte{42: 'R'}, c.letters, "what is known is of this scrape")
}

func TestCollector_CPUTimeNeverFalls(t *testing.T) {
	pids := []struct {
		pid   int
		start uint64
	}{{0, 0}, {1, 12}, {42, 98765}, {42, 1}, {43, 98766}, {45, 98767}, {46, 5}, {47, 1}}
	rapid.Check(t, func(t *rapid.T) {
		fake := newFakeSupervisor(fakeProcess("web"))
		c := newTestCollector(fake, func(cfg *Config) { cfg.System.Enabled = false })
		last := map[string]float64{}
		for range rapid.IntRange(2, 12).Draw(t, "scrapes") {
			fake.change("web", func(p *supervisorextension.Process) {
				p.Totals.CPUUser += time.Duration(rapid.IntRange(0, 5000).Draw(t, "user")) * time.Millisecond
				p.Totals.CPUSystem += time.Duration(rapid.IntRange(0, 5000).Draw(t, "system")) * time.Millisecond
				process := rapid.SampledFrom(pids).Draw(t, "process")
				p.PID, p.StartTicks = process.pid, process.start
				p.Run += rapid.Uint64Range(0, 1).Draw(t, "run")
			})
			metrics, err := c.scrape(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for mode, value := range points(metrics, "web", "process.cpu.time") {
				if value < last[mode] {
					t.Fatalf("%s fell from %v to %v", mode, last[mode], value)
				}
				last[mode] = value
			}
		}
	})
}

func TestCollector_SaysWhoseFailureTheLatestRestartByStrategyWas(t *testing.T) {
	web := fakeProcess("web")
	web.Totals.Restarts[reason("signal")], web.Totals.Restarts[reason("strategy")] = 2, 3
	web.Totals.LastStrategy = supervisorextension.StrategyRestart{Cause: "db", Time: now.Add(-time.Hour)}
	restarts, found := find(scrape(t, newTestCollector(newFakeSupervisor(web), nil)), "web", "process.restarts")
	require.True(t, found)
	require.Equal(t, 2, restarts.Sum().DataPoints().Len(), "a cause makes no series")
	for _, point := range restarts.Sum().DataPoints().All() {
		if attributes(point.Attributes()) != "reason=strategy module=web " {
			assert.Zero(t, point.Exemplars().Len())
			continue
		}
		require.Equal(t, 1, point.Exemplars().Len())
		exemplar := point.Exemplars().At(0)
		assert.EqualValues(t, 1, exemplar.IntValue())
		assert.Equal(t, pcommon.NewTimestampFromTime(now.Add(-time.Hour)), exemplar.Timestamp())
		assert.Equal(t, map[string]any{"supervisor.restart.cause": "db"}, exemplar.FilteredAttributes().AsRaw())
	}
}

func TestCollector_WhatDoesNotRunHasNoPresence(t *testing.T) {
	metrics := scrape(t, newTestCollector(newFakeSupervisor(fakeProcess("web")), nil))
	for _, name := range []string{"process.uptime", "process.memory.usage", "process.memory.virtual", "process.thread.count", "process.restarts", "supervisor.process.exits"} {
		assert.Nil(t, points(metrics, "web", name), name)
	}
	assert.Equal(t, map[string]float64{"cpu.mode=user ": 0, "cpu.mode=system ": 0}, points(metrics, "web", "process.cpu.time"))
}

func TestCollector_WhatOnlyALivingProcessHasEndsOnceWithIt(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("web", 1, 12))
	c := newTestCollector(fake, nil)
	scrape(t, c)
	fake.change("web", func(p *supervisorextension.Process) { p.PID = 0 })
	last := scrape(t, c)
	for _, name := range []string{"process.memory.usage", "process.memory.virtual", "process.thread.count"} {
		metric, found := find(last, "web", name)
		require.True(t, found, name)
		assert.True(t, metric.Sum().DataPoints().At(0).Flags().NoRecordedValue(), name)
	}
	uptime, found := find(last, "web", "process.uptime")
	require.True(t, found)
	assert.True(t, uptime.Gauge().DataPoints().At(0).Flags().NoRecordedValue())
	cpu, _ := find(last, "web", "process.cpu.time")
	assert.False(t, cpu.Sum().DataPoints().At(0).Flags().NoRecordedValue(), "a counter goes on with the next run")
	after := scrape(t, c)
	assert.Nil(t, points(after, "web", "process.uptime"))
}

func TestCollector_ZombieHasTimeButNoMemory(t *testing.T) {
	metrics := scrape(t, newTestCollector(newFakeSupervisor(runningProcess("web", 45, 98767)), nil))
	assert.Equal(t, map[string]float64{"cpu.mode=user ": 0.09, "cpu.mode=system ": 0.01}, points(metrics, "web", "process.cpu.time"))
	assert.Nil(t, points(metrics, "web", "process.memory.usage"))
	assert.Nil(t, points(metrics, "web", "process.thread.count"))
}

func TestCollector_UnreadableIsAbsentAndSaidOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	c := newTestCollector(newFakeSupervisor(runningProcess("web", 46, 7)), func(cfg *Config) { cfg.System.Enabled = false })
	c.logger = zap.New(core)
	for range 3 {
		metrics := scrape(t, c)
		assert.Nil(t, points(metrics, "web", "process.cpu.time"))
		assert.Nil(t, points(metrics, "web", "process.memory.usage"))
		assert.Equal(t, map[string]float64{"": 90}, points(metrics, "web", "process.uptime"), "that needs no /proc")
	}
	require.Equal(t, 1, logs.Len())
	assert.Equal(t, "web", logs.All()[0].ContextMap()["process"])
	assert.Contains(t, logs.All()[0].ContextMap()["error"], "testdata/proc/46/stat")
}

func TestCollector_HiddenProcessIsSaidAtTheSecondScrape(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	c := newTestCollector(newFakeSupervisor(runningProcess("web", 4711, 7)), func(cfg *Config) { cfg.System.Enabled = false })
	c.logger = zap.New(core)
	for range 3 {
		assert.Nil(t, points(scrape(t, c), "web", "process.cpu.time"), "nothing known is not 0")
	}
	require.Equal(t, 1, logs.Len())
	assert.Contains(t, logs.All()[0].ContextMap()["error"], "hidepid")
}

func TestCollector_CountsGoToZeroRatherThanVanish(t *testing.T) {
	fake := newFakeSupervisor(runningProcess("a", 1, 12), runningProcess("b", 42, 98765))
	c := newTestCollector(fake, nil)
	assert.Equal(t, map[string]float64{
		"type=service state=running ": 2, "type=supervisor state=running ": 1,
	}, points(scrape(t, c), "supervisor", "process.count"))

	for _, id := range []string{"a", "b"} {
		fake.change(id, func(p *supervisorextension.Process) { p.State = state("failed") })
	}
	fake.remove("b")
	assert.Equal(t, map[string]float64{
		"type=service state=running ": 0, "type=service state=failed ": 1, "type=supervisor state=running ": 1,
	}, points(scrape(t, c), "supervisor", "process.count"))
}

func TestCollector_ForgetsRemovedChildren(t *testing.T) {
	fake := newFakeSupervisor(fakeProcess("a"), fakeProcess("b"), fakeProcess("c"))
	c := newTestCollector(fake, nil)
	scrape(t, c)
	require.Len(t, c.histories, 3)
	fake.remove("a")
	fake.remove("b")
	scrape(t, c)
	assert.Len(t, c.histories, 1)
}

func TestCollector_TopicsThatAreNotCounted(t *testing.T) {
	c := newTestCollector(busySupervisor(), func(cfg *Config) { cfg.Topics.Lifecycle.Count = false })
	assert.Equal(t, map[string]float64{
		"topic=supervisor event=supervisor.started ": 1, "topic=output event=output.dropped ": 1,
	}, points(scrape(t, c), "supervisor", "event"))
}

func TestCollector_SwitchedOffMetricsAreAbsent(t *testing.T) {
	c := newTestCollector(busySupervisor(), func(cfg *Config) { cfg.Metrics = MetricsConfig{} })
	assert.Zero(t, scrape(t, c).ResourceMetrics().Len())
}

func TestCollector_ResourceFiltersChooseWhoseMetrics(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"include", func(cfg *Config) {
			cfg.ResourceAttributes.SupervisorProcessID.MetricsInclude = []filter.Config{{Strict: "web"}}
		}, []string{"web", "supervisor", "warden.host"}},
		{"exclude", func(cfg *Config) {
			cfg.ResourceAttributes.ServiceName.MetricsExclude = []filter.Config{{Regex: "^(web|warden.*)$"}}
		}, []string{"api", "supervisor"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metrics := scrape(t, newTestCollector(newFakeSupervisor(runningProcess("web", 1, 12), runningProcess("api", 42, 98765)), tt.change))
			var got []string
			for _, rm := range metrics.ResourceMetrics().All() {
				name, _ := rm.Resource().Attributes().Get("service.name")
				got = append(got, name.Str())
			}
			assert.ElementsMatch(t, tt.want, got)
		})
	}
}

func TestCollector_ProcessHasAtMostTwentyFiveSeries(t *testing.T) {
	web := runningProcess("web", 1, 12)
	for _, name := range []string{"signal", "exit", "success", "operator", "strategy"} {
		web.Totals.Restarts[reason(name)] = 1
	}
	for _, name := range []string{"signal", "exit", "success", "start_failed"} {
		web.Totals.Exits[reason(name)] = 1
	}
	metrics := scrape(t, newTestCollector(newFakeSupervisor(web), nil))
	points := 0
	for _, metric := range metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		switch metric.Type() {
		case pmetric.MetricTypeSum:
			points += metric.Sum().DataPoints().Len()
		case pmetric.MetricTypeGauge:
			points += metric.Gauge().DataPoints().Len()
		default:
			points += metric.Histogram().DataPoints().Len()
		}
	}
	assert.LessOrEqual(t, points, 25)
}
