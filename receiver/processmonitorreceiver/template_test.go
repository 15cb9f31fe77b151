// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
)

// fakeTemplate is a template with its instances, as Processes gives them.
func fakeTemplate(id string, instances ...supervisorextension.Process) []supervisorextension.Process {
	template := fakeProcess(id)
	template.Info.Type, template.Info.Template = supervisorextension.TypeSupervisor, true
	template.State = state("running")
	all := []supervisorextension.Process{template}
	for _, p := range instances {
		p.Instance, p.Info = id+"."+p.Info.ID, template.Info
		all = append(all, p)
	}
	return all
}

// started lets a process be as old as that.
func started(p supervisorextension.Process, ago time.Duration) supervisorextension.Process {
	p.Started = now.Add(-ago)
	return p
}

func TestTemplate_ItsInstancesAreMeasuredAsOne(t *testing.T) {
	a, b := started(runningProcess("a", 1, 12), time.Minute), started(runningProcess("b", 42, 98765), time.Hour)
	waits := fakeProcess("c")
	waits.State = state("backoff")
	alone := func(p supervisorextension.Process) pmetric.Metrics {
		return scrape(t, newTestCollector(newFakeSupervisor(p), nil))
	}
	jobs := fakeTemplate("jobs", a, b, waits)
	jobs[0].Totals.CPUUser, jobs[0].Totals.CPUSystem = 2*time.Second, time.Second
	jobs[0].Totals.Restarts[reason("signal")] = 3
	metrics := scrape(t, newTestCollector(newFakeSupervisor(append(jobs, runningProcess("web", 43, 98766))...), nil))

	for _, name := range []string{"process.memory.usage", "process.memory.virtual", "process.thread.count"} {
		assert.Equal(t, points(alone(a), "a", name)[""]+points(alone(b), "b", name)[""], points(metrics, "jobs", name)[""], name)
	}
	for mode, rest := range map[string]float64{"cpu.mode=user ": 2, "cpu.mode=system ": 1} {
		want := points(alone(a), "a", "process.cpu.time")[mode] + points(alone(b), "b", "process.cpu.time")[mode] + rest
		assert.InDelta(t, want, points(metrics, "jobs", "process.cpu.time")[mode], 1e-6, mode)
	}
	assert.Equal(t, map[string]float64{"": 3600}, points(metrics, "jobs", "process.uptime"), "the oldest one's")
	assert.Equal(t, map[string]float64{"reason=signal module=jobs ": 3}, points(metrics, "jobs", "process.restarts"))
	states := points(metrics, "jobs", "supervisor.process.state")
	assert.InDelta(t, 2, states["state=running "], 0)
	assert.InDelta(t, 1, states["state=backoff "], 0)
	assert.InDelta(t, 0, states["state=exited "], 0)
	assert.Equal(t, map[string]float64{
		"type=service state=running ": 3, "type=service state=backoff ": 1, "type=supervisor state=running ": 2,
	}, points(metrics, "supervisor", "process.count"))
	requireOnePointEach(t, metrics)
}

// requireOnePointEach: no resource comes twice, no metric in one, and no two points of
// a metric have the same attributes.
func requireOnePointEach(t require.TestingT, metrics pmetric.Metrics) {
	seen := map[string]bool{}
	once := func(series string) {
		require.False(t, seen[series], series)
		seen[series] = true
	}
	for _, rm := range metrics.ResourceMetrics().All() {
		resource := attributes(rm.Resource().Attributes())
		once(resource)
		for _, metric := range rm.ScopeMetrics().At(0).Metrics().All() {
			once(resource + metric.Name())
			var numbers pmetric.NumberDataPointSlice
			switch metric.Type() {
			case pmetric.MetricTypeSum:
				numbers = metric.Sum().DataPoints()
			case pmetric.MetricTypeGauge:
				numbers = metric.Gauge().DataPoints()
			default:
				require.Equal(t, 1, metric.Histogram().DataPoints().Len())
				continue
			}
			for _, point := range numbers.All() {
				once(resource + metric.Name() + ": " + attributes(point.Attributes()))
			}
		}
	}
}

func TestTemplate_WithoutInstancesItHasNoPresence(t *testing.T) {
	fake := newFakeSupervisor(fakeTemplate("jobs", runningProcess("a", 1, 12))...)
	c := newTestCollector(fake, nil)
	scrape(t, c)
	fake.mu.Lock()
	fake.processes = slices.Delete(fake.processes, 2, 3)
	fake.mu.Unlock()
	last := scrape(t, c)
	for _, name := range []string{"process.memory.usage", "process.thread.count"} {
		metric, found := find(last, "jobs", name)
		require.True(t, found, name)
		assert.True(t, metric.Sum().DataPoints().At(0).Flags().NoRecordedValue(), name)
	}
	after := scrape(t, c)
	assert.Nil(t, points(after, "jobs", "process.uptime"))
	assert.NotNil(t, points(after, "jobs", "process.cpu.time"), "a counter goes on with the next instance")
}

func TestTemplate_OneInstanceThatCannotBeReadMakesTheSumUnknown(t *testing.T) {
	c := newTestCollector(newFakeSupervisor(fakeTemplate("jobs", runningProcess("a", 1, 12), runningProcess("b", 46, 7))...), nil)
	metrics := scrape(t, c)
	assert.Nil(t, points(metrics, "jobs", "process.cpu.time"))
	assert.Nil(t, points(metrics, "jobs", "process.memory.usage"))
	assert.NotNil(t, points(metrics, "jobs", "process.uptime"))
}

// That one process is not found is told of after the second scrape; of another one it
// says nothing.
func TestTemplate_AnInstanceIsMissedOnItsOwn(t *testing.T) {
	jobs := fakeTemplate("jobs", runningProcess("a", 4711, 7))
	fake := newFakeSupervisor(jobs...)
	c := newTestCollector(fake, nil)
	jobs[0].Totals.CPUUser = time.Second
	fake.processes[1].Totals = jobs[0].Totals
	fake.processes[2].PID = 0
	require.NotNil(t, points(scrape(t, c), "jobs", "process.cpu.time"))
	fake.processes[2].PID = 4711
	for run := range uint64(3) {
		fake.mu.Lock()
		fake.processes[2].Run = run
		fake.mu.Unlock()
		assert.NotNil(t, points(scrape(t, c), "jobs", "process.cpu.time"), "run %d is just being reaped", run)
	}
	assert.Nil(t, points(scrape(t, c), "jobs", "process.cpu.time"))
}

func TestTemplate_CPUTimeNeverFalls(t *testing.T) {
	pids := []struct {
		pid   int
		start uint64
	}{{1, 12}, {42, 98765}, {42, 1}, {43, 98766}, {45, 98767}, {47, 1}}
	rapid.Check(t, func(t *rapid.T) {
		fake := newFakeSupervisor(fakeTemplate("jobs")...)
		c := newTestCollector(fake, func(cfg *Config) { cfg.System.Enabled = false })
		last := map[string]float64{}
		for range rapid.IntRange(2, 12).Draw(t, "scrapes") {
			fake.mu.Lock()
			template := &fake.processes[1]
			template.Totals.CPUUser += time.Duration(rapid.IntRange(0, 5000).Draw(t, "user")) * time.Millisecond
			template.Totals.CPUSystem += time.Duration(rapid.IntRange(0, 5000).Draw(t, "system")) * time.Millisecond
			fake.processes = fake.processes[:2]
			for range rapid.IntRange(0, 4).Draw(t, "instances") {
				process := rapid.SampledFrom(pids).Draw(t, "process")
				p := runningProcess("x", process.pid, process.start)
				p.Instance, p.Info, p.Run = "jobs.x", template.Info, rapid.Uint64Range(1, 5).Draw(t, "run")
				fake.processes = append(fake.processes, p)
				template = &fake.processes[1]
			}
			fake.mu.Unlock()
			metrics, err := c.scrape(context.Background())
			require.NoError(t, err)
			requireOnePointEach(t, metrics)
			for mode, value := range points(metrics, "jobs", "process.cpu.time") {
				require.GreaterOrEqual(t, value, last[mode], mode)
				last[mode] = value
			}
		}
	})
}

func TestTemplate_RecordsAndSpansTellInstancesApart(t *testing.T) {
	fake := newFakeSupervisor(fakeTemplate("jobs", runningProcess("a", 1, 12))...)
	r := newRun(fake, nil)
	event := journal.Event{
		Time: now, Topic: journal.TopicLifecycle, Name: journal.ProcessCrashed, Severity: journal.SeverityError,
		Process: "jobs", Run: 7,
		Attrs: []journal.Attr{
			journal.String(journal.KeyCreationTime, now.Add(-time.Second).Format(time.RFC3339Nano)),
			journal.Seconds(journal.KeyRunDuration, time.Second), journal.String(journal.KeyInstanceID, "jobs.a"),
		},
	}
	rep, err := newReport(r.set)
	require.NoError(t, err)
	shared := newResources(fake, &r.cfg.ResourceAttributes)
	logs := newEventLogs(r.cfg, shared, rep, nil, time.Now).build([]journal.Event{event}, 0)
	record := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	s := newSpans(r.cfg, shared, rep, nil)
	s.tell([]journal.Event{event})
	traces := s.build(s.tracer.made)
	span := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	out := (&outputLogs{report: rep, resources: shared}).build(&supervisorextension.Output{
		Process: fake.processes[1].Info, Instance: "jobs.a", Run: 7, Lines: lines("jobs", "hello").Lines,
	})
	line := out.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	for _, attrs := range []map[string]any{record.Attributes().AsRaw(), span.Attributes().AsRaw(), line.Attributes().AsRaw()} {
		assert.Equal(t, "jobs.a", attrs[journal.KeyInstanceID])
		assert.EqualValues(t, 7, attrs[journal.KeyRun])
	}
	want := fakeResource("jobs", "jobs").Attributes().AsRaw()
	assert.Equal(t, want, logs.ResourceLogs().At(0).Resource().Attributes().AsRaw())
	assert.Equal(t, want, traces.ResourceSpans().At(0).Resource().Attributes().AsRaw())
	assert.Equal(t, want, out.ResourceLogs().At(0).Resource().Attributes().AsRaw())
}

// knowing is a supervisor that remembers children that are no more.
type knowing struct {
	*fakeSupervisor
	gone map[string]*supervisorextension.Info
}

func (k knowing) Info(id string) *supervisorextension.Info { return k.gone[id] }

func TestResources_OfAChildThatIsNoMoreIsItsOwn(t *testing.T) {
	k := knowing{newFakeSupervisor(), map[string]*supervisorextension.Info{"web": fakeProcess("web").Info}}
	r := newRun(k.fakeSupervisor, nil)
	shared := newResources(k, &r.cfg.ResourceAttributes)
	assert.Equal(t, fakeResource("web", "web").Attributes().AsRaw(), shared.ofID("web").Attributes().AsRaw())
	assert.Equal(t, k.Resource().Attributes().AsRaw(), shared.ofID("nobody").Attributes().AsRaw())
	assert.Equal(t, k.Resource().Attributes().AsRaw(), shared.ofID("").Attributes().AsRaw())
}

func TestResources_OfChildrenThatAreNoMoreAreNotKeptForEver(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	shared := newResources(r.fake, &r.cfg.ResourceAttributes)
	res := fakeResource("web", "web")
	for range mostKept + 10 {
		shared.of(&supervisorextension.Info{ID: "web", Resource: res})
	}
	assert.LessOrEqual(t, len(shared.byInfo), mostKept)
}
