// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelwarden/warden/internal/journal"
)

func compareLogs(t *testing.T, name string, got plog.Logs) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".yaml")
	if *update {
		require.NoError(t, golden.WriteLogsToFile(path, got))
	}
	want, err := golden.ReadLogs(path)
	require.NoError(t, err)
	require.NoError(t, plogtest.CompareLogs(want, got))
}

// story is a crash, a restart and a stop that had to be enforced, as the extension
// tells them.
func story() []journal.Event {
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	lifecycle := func(seconds float64, name string, severity journal.Severity, run uint64, pid int, body string, attrs ...journal.Attr) journal.Event {
		return journal.Event{
			Time: at(seconds), Topic: journal.TopicLifecycle, Name: name, Severity: severity, Body: body,
			Process: "web", Run: run, PID: pid, Attrs: attrs,
		}
	}
	events := []journal.Event{
		{Time: at(0), Topic: journal.TopicSupervisor, Name: journal.SupervisorStarted, Severity: journal.SeverityInfo, Body: "supervisor started"},
		lifecycle(1, journal.ProcessStarted, journal.SeverityInfo, 1, 42, "web started"),
		lifecycle(3.5, journal.ProcessCrashed, journal.SeverityError, 1, 42, "web was killed by SIGSEGV",
			journal.String(journal.KeyExitReason, "signal"), journal.String(journal.KeyExitSignal, "SIGSEGV"),
			journal.Bool(journal.KeyCoreDumped, true), journal.Seconds(journal.KeyRunDuration, 2500*time.Millisecond)),
		lifecycle(3.6, journal.ProcessRestarting, journal.SeverityWarn, 1, 0, "web restarts in 1s",
			journal.String(journal.KeyRestartReason, "signal"), journal.Seconds(journal.KeyRestartDelay, time.Second)),
		lifecycle(4.6, journal.ProcessStarted, journal.SeverityInfo, 2, 43, "web started"),
		lifecycle(9, journal.ProcessKilled, journal.SeverityWarn, 2, 43, "web did not end within its grace"),
		lifecycle(9.1, journal.ProcessStopped, journal.SeverityInfo, 2, 43, "web stopped",
			journal.String(journal.KeyExitReason, "stopped"), journal.Int(journal.KeyExitCode, 3), journal.Bool(journal.KeyCoreDumped, false),
			journal.Seconds(journal.KeyRunDuration, 4500*time.Millisecond)),
		// One that is not a child any longer is told of by the supervisor.
		{Time: at(10), Topic: journal.TopicLifecycle, Name: journal.ProcessStopped, Severity: journal.SeverityInfo, Body: "removed stopped", Process: "removed"},
	}
	for i := range events {
		events[i].Seq = uint64(i + 7)
	}
	return events
}

func newTestLogs(t *testing.T, change func(*Config)) (*eventLogs, *run) {
	t.Helper()
	fake := newFakeSupervisor(runningProcess("web", 1, 12))
	r := newRun(fake, change)
	rep, err := newReport(r.set)
	require.NoError(t, err)
	return newEventLogs(r.cfg, newResources(fake, &r.cfg.ResourceAttributes), rep, r.logs, func() time.Time { return now.Add(time.Minute) }), r
}

func TestEventLogs_AreAsRecorded(t *testing.T) {
	l, r := newTestLogs(t, nil)
	require.NoError(t, l.deliver(context.Background(), story(), 6))
	require.Len(t, r.logs.AllLogs(), 1)
	compareLogs(t, "events", r.logs.AllLogs()[0])
}

// Every event, as the extension's own test records it.
func TestEventLogs_OfEveryEventAreAsRecorded(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "extension", "supervisorextension", "testdata", "events.jsonl"))
	require.NoError(t, err)
	var events []journal.Event
	for line := range bytes.Lines(text) {
		event, err := journal.Decode(bytes.TrimSpace(line))
		require.NoError(t, err)
		events = append(events, event)
	}
	fake := newFakeSupervisor(fakeProcess("shop"), fakeProcess("shop.web"))
	r := newRun(fake, nil)
	rep, err := newReport(r.set)
	require.NoError(t, err)
	l := newEventLogs(r.cfg, newResources(fake, &r.cfg.ResourceAttributes), rep, r.logs, func() time.Time { return now })
	compareLogs(t, "every_event", l.build(events, 0))
}

func names(logs plog.Logs) (names []string) {
	for _, rl := range logs.ResourceLogs().All() {
		for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
			names = append(names, record.EventName())
		}
	}
	return names
}

func TestEventLogs_TopicsChooseWhatIsLogged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"not logged", func(cfg *Config) { cfg.Topics.Lifecycle.Log = false }, []string{"journal.gap", "supervisor.started"}},
		{"no gap", func(cfg *Config) { cfg.Topics.Output.Log, cfg.Topics.Lifecycle.Log = false, false }, []string{"supervisor.started"}},
		{"severity", func(cfg *Config) { cfg.Topics.Lifecycle.Severity = "warn" }, []string{
			"journal.gap", "supervisor.started", "process.crashed", "process.restarting", "process.killed",
		}},
		{"nothing as severe", func(cfg *Config) {
			cfg.Topics.Lifecycle.Severity, cfg.Topics.Supervisor.Severity, cfg.Topics.Output.Severity = "fatal", "fatal", "fatal"
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, _ := newTestLogs(t, tt.change)
			assert.Equal(t, tt.want, names(l.build(story(), 6)))
		})
	}
}

func TestEventLogs_NothingToLogIsNotDelivered(t *testing.T) {
	l, r := newTestLogs(t, func(cfg *Config) { cfg.Topics.Lifecycle.Log = false })
	require.NoError(t, l.deliver(context.Background(), story()[1:3], 0))
	assert.Empty(t, r.logs.AllLogs())
}

func TestEventLogs_UnknownTopicIsLogged(t *testing.T) {
	l, _ := newTestLogs(t, nil)
	got := l.build([]journal.Event{{Topic: "new", Name: "new.event", Severity: journal.SeverityInfo}}, 0)
	assert.Equal(t, []string{"new.event"}, names(got))
}

func TestResources_SwitchesHoldForAllSignals(t *testing.T) {
	l, _ := newTestLogs(t, func(cfg *Config) {
		cfg.ResourceAttributes.ProcessCommand.Enabled = false
		cfg.ResourceAttributes.ProcessOwner.Enabled = false
	})
	original := l.resources.supervisor.Processes(nil)[1].Info.Resource.Attributes().AsRaw()
	for _, rl := range l.build(story(), 0).ResourceLogs().All() {
		raw := rl.Resource().Attributes().AsRaw()
		assert.NotContains(t, raw, "process.command")
		assert.NotContains(t, raw, "process.owner")
		assert.Contains(t, raw, "service.name")
	}
	assert.Contains(t, original, "process.command", "the supervisor's resource is not touched")
}

func TestResources_LearnsOfNewChildren(t *testing.T) {
	fake := newFakeSupervisor(fakeProcess("a"))
	cfg := createDefaultConfig().(*Config)
	res := newResources(fake, &cfg.ResourceAttributes)
	name := func(id string) string {
		value, _ := res.ofID(id).Attributes().Get("service.name")
		return value.Str()
	}
	assert.Equal(t, "a", name("a"))
	assert.Equal(t, "supervisor", name("b"))
	fake.mu.Lock()
	fake.processes = append(fake.processes, fakeProcess("b"))
	fake.mu.Unlock()
	assert.Equal(t, "b", name("b"))
	assert.Equal(t, "supervisor", name(""))

	fake.remove("a")
	assert.Equal(t, "supervisor", name("c"))
	assert.Equal(t, "supervisor", name("a"), "what is gone is forgotten")
	assert.Len(t, res.byInfo, 2, "the root and b")
}
