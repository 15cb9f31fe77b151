// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// created is when the fake's counters began, now when the golden files were scraped.
var (
	created = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	now     = time.Date(2026, 5, 1, 12, 10, 0, 0, time.UTC)
)

// fakeSupervisor is a supervisor whose children do what a test says.
type fakeSupervisor struct {
	component.StartFunc
	component.ShutdownFunc
	resource pcommon.Resource
	journal  *journal.Journal

	mu        sync.Mutex
	processes []supervisorextension.Process     // guarded by mu
	owner     *component.ID                     // guarded by mu
	handler   supervisorextension.OutputHandler // guarded by mu
	release   context.CancelFunc                // guarded by mu
	claim     context.Context                   // guarded by mu
}

var _ supervisorextension.Supervisor = (*fakeSupervisor)(nil)

func newFakeSupervisor(children ...supervisorextension.Process) *fakeSupervisor {
	f := &fakeSupervisor{resource: fakeResource("supervisor", ""), journal: journal.New(100)}
	root := supervisorextension.Process{
		Info:  &supervisorextension.Info{Type: supervisorextension.TypeSupervisor, Resource: f.resource, Created: created},
		State: state("running"),
	}
	f.processes = append([]supervisorextension.Process{root}, children...)
	return f
}

func (f *fakeSupervisor) Resource() pcommon.Resource { return f.resource }

func (f *fakeSupervisor) Journal() *journal.Journal { return f.journal }

func (f *fakeSupervisor) Processes(dst []supervisorextension.Process) []supervisorextension.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(dst, f.processes...)
}

func (f *fakeSupervisor) ClaimOutput(owner component.ID, handler supervisorextension.OutputHandler) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != nil {
		return nil, fmt.Errorf("%q has it", f.owner)
	}
	f.owner, f.handler = &owner, handler
	f.claim, f.release = context.WithCancel(context.Background())
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.release()
		f.owner, f.handler = nil, nil
	}, nil
}

// say offers lines as the extension does.
func (f *fakeSupervisor) say(ctx context.Context, output supervisorextension.Output) error {
	f.mu.Lock()
	handler, claim := f.handler, f.claim
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(claim, cancel)()
	return handler(ctx, output)
}

func (f *fakeSupervisor) claimed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owner != nil
}

// change lets the child with that id become another.
func (f *fakeSupervisor) change(id string, change func(*supervisorextension.Process)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.processes {
		if f.processes[i].Info.ID == id {
			change(&f.processes[i])
			return
		}
	}
	panic("no child " + id)
}

func (f *fakeSupervisor) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes = slices.DeleteFunc(f.processes, func(p supervisorextension.Process) bool { return p.Info.ID == id })
}

// append adds n events of a process to the journal.
func (f *fakeSupervisor) append(process string, n int) {
	for range n {
		f.journal.Append(journal.Event{
			Time: now, Topic: journal.TopicLifecycle, Name: journal.ProcessStarted, Severity: journal.SeverityInfo,
			Body: "started", Process: process, Run: 1, PID: 42,
		})
	}
}

func fakeResource(name, id string) pcommon.Resource {
	res := pcommon.NewResource()
	res.Attributes().PutStr("service.name", name)
	res.Attributes().PutStr("service.instance.id", supervisorextension.InstanceID("test", id))
	if id != "" {
		res.Attributes().PutStr("supervisor.process.id", id)
		res.Attributes().PutStr("process.executable.name", name)
		res.Attributes().PutStr("process.command", "/usr/bin/"+name)
		res.Attributes().PutStr("process.owner", "nobody")
	}
	return res
}

// fakeProcess is a service that has not been started yet.
func fakeProcess(id string) supervisorextension.Process {
	return supervisorextension.Process{
		Info: &supervisorextension.Info{
			ID: id, Type: supervisorextension.TypeService, Resource: fakeResource(id, id), Created: created,
		},
		State: state("stopped"),
	}
}

// runningProcess is a service whose second run is the process of the fixtures with
// that pid and start.
func runningProcess(id string, pid int, startTicks uint64) supervisorextension.Process {
	p := fakeProcess(id)
	p.State = state("running")
	p.Run, p.PID, p.StartTicks, p.Started = 2, pid, startTicks, now.Add(-90*time.Second)
	return p
}

func state(name string) supervisorextension.State {
	for _, s := range supervisorextension.ProcessStates {
		if s.String() == name {
			return s
		}
	}
	panic("no state " + name)
}

// host offers the extensions of a test.
type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

var supervisorID = component.MustNewID("supervisor")

// run is a receiver of all signals with its consumers and what it reads from.
type run struct {
	*monitor
	fake    *fakeSupervisor
	set     receiver.Settings
	metrics *consumertest.MetricsSink
	logs    *consumertest.LogsSink
	traces  *consumertest.TracesSink
}

// newRun makes a receiver of all signals that is not started.
func newRun(fake *fakeSupervisor, change func(*Config)) *run {
	cfg := createDefaultConfig().(*Config)
	cfg.InitialDelay = 0
	if change != nil {
		change(cfg)
	}
	r := &run{
		monitor: newMonitor(cfg),
		fake:    fake,
		set:     receivertest.NewNopSettings(metadata.Type),
		metrics: new(consumertest.MetricsSink),
		logs:    new(consumertest.LogsSink),
		traces:  new(consumertest.TracesSink),
	}
	r.set.BuildInfo.Version = "1.2.3"
	r.procMount = "testdata/proc"
	r.monitor.metrics = &signal[consumer.Metrics]{r.set, r.metrics}
	r.monitor.logs = &signal[consumer.Logs]{r.set, r.logs}
	r.monitor.traces = &signal[consumer.Traces]{r.set, r.traces}
	return r
}

// start starts the receiver; it is shut down at the end of the test.
func (r *run) start(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Start(context.Background(), host{supervisorID: r.fake}))
	t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
}

// newTestCollector returns a collector over the fixtures whose clock stands at now,
// and which says of its host what the golden files say.
func newTestCollector(fake *fakeSupervisor, change func(*Config)) *collector {
	r := newRun(fake, change)
	var supervisor supervisorextension.Supervisor
	var shared *resources
	if fake != nil {
		supervisor, shared = fake, newResources(fake, &r.cfg.ResourceAttributes)
	}
	c := newCollector(r.cfg, supervisor, shared, r.set, r.procMount, func() time.Time { return now })
	c.pageSize = 4096
	c.hostRes.Attributes().PutStr("service.instance.id", "of-this-host")
	return c
}
