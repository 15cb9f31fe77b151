// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// told is an engine that only tells, of a process "shop.web" that has run for 90 s.
func told(t *testing.T) (*engine, *child) {
	t.Helper()
	cfg := loadGood(t, `
children:
  - name: shop
    children:
      - {name: web, command: [./web], stop: {timeout: 5s}}
`)
	began := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	e := &engine{journal: journal.New(100), roster: newRoster(cfg, "/run/warden/test", began)}
	c := e.roster.byID["shop.web"]
	c.run, c.pid, c.started, c.startedMono = 3, 4711, began, monotonic()-1500*time.Millisecond
	return e, c
}

// What every event says. The receiver's records of the same events are in its testdata.
func TestStory_SaysOfEveryEvent(t *testing.T) {
	e, c := told(t)
	lasted := EndedRun{Run: 3, PID: 4711, Lasted: 90 * time.Second}
	usage := keeper.Exit{
		User: 1200 * time.Millisecond, System: 300 * time.Millisecond, IO: &keeper.IO{ReadBytes: 4096, WriteBytes: 8192},
		Usage: syscall.Rusage{Majflt: 1, Minflt: 200, Nvcsw: 30, Nivcsw: 4},
	}
	ended := func(why tree.ExitReason, state tree.State, words []journal.Attr, change func(*keeper.Exit)) {
		exit, run := usage, lasted
		change(&exit)
		if exit.Signal != 0 {
			exit.Code, run.Signal = -1, signalName(exit.Signal)
		}
		run.Late = exit.By == keeper.StoppedByKeeper
		c.exit, c.state = why, state
		e.tellDied(c, exit, run, words)
	}
	e.tellSupervisorStarted("shop")
	e.tellStarted(c)
	e.tellReady(c)
	e.tellAdopted(c)
	ended(tree.ExitCode, tree.StateRunning, []journal.Attr{journal.String(journal.KeyOutputTail+".stderr", "panic: no such table\nexit status 3")},
		func(x *keeper.Exit) { x.Code = 3 })
	e.tellRestarting(c, tree.Restarting{ID: c.id, Run: 3, Reason: tree.RestartReason(tree.ExitCode), Delay: 500 * time.Millisecond})
	ended(tree.ExitSignal, tree.StateRunning, nil, func(x *keeper.Exit) { x.Signal, x.Core = syscall.SIGSEGV, true })
	ended(tree.ExitStartTimeout, tree.StateStarting, nil, func(x *keeper.Exit) { x.Signal = syscall.SIGTERM })
	ended(tree.ExitSuccess, tree.StateRunning, nil, func(*keeper.Exit) {})
	e.tellRestarting(c, tree.Restarting{ID: c.id, Run: 3, Reason: tree.RestartStrategy, Cause: "shop.db"})
	e.tellStartFailed(c, errors.New(`execute "./web": no such file or directory`))
	e.tellStopping(c, tree.StopProcess{ID: c.id, Run: 3, Why: tree.StopStrategy, Cause: "shop.db"})
	e.tellKilled(c, nil)
	ended(tree.ExitStopped, tree.StateStopping, nil, func(x *keeper.Exit) { x.Signal, x.By = syscall.SIGKILL, keeper.StoppedByKill })
	ended(tree.ExitStopped, tree.StateStopping, nil, func(x *keeper.Exit) { x.Signal, x.By = syscall.SIGTERM, keeper.StoppedByKeeper })
	e.tellUnkillable(c)
	e.tellUnhealthy(c, errors.New("connection refused"), "2 of 3 failures in a row")
	e.tellUnhealthy(c, errNoWatchdog, "1 of 3 failures in a row")
	e.tellHealthy(c, 2)
	c.pid = 0
	e.tellKilled(c, []keeper.ProcessName{{Name: "nginx", PID: 12}, {Name: "sh", PID: 13}})
	e.tellStranger([]keeper.ProcessName{{Name: "daemon", PID: 14}})
	of := Output{Process: c.info, Run: 3, PID: 4711, Stream: "stdout"}
	e.tellTrouble(trouble{of, c.id, journal.OutputDropped, droppedFull, 3000, 250_000})
	e.tellTrouble(trouble{of, c.id, journal.OutputDropped, droppedShutdown, 1, 0})
	e.tellTrouble(trouble{of, c.id, journal.OutputTruncated, "", 1, 65536})
	e.tellSupervisorStartFailed(tree.SupervisorStartFailed{ID: "shop", Cause: "shop.web"})
	e.tellGaveUp(tree.SupervisorGaveUp{ID: "shop", Cause: "shop.web", Reason: tree.GiveUpIntensity})
	e.tellGaveUp(tree.SupervisorGaveUp{ID: "", Cause: "shop.web", Reason: tree.GiveUpAutoShutdown})
	e.tellSupervisorStopped("")
	e.tellApplied([]change{{id: "", kind: tree.ChangeUpdated, keys: []string{"intensity"}}, {id: "shop", kind: tree.ChangeKept}, {id: "shop.web", kind: tree.ChangeRestarted, keys: []string{"command", "environment"}}})
	e.journal.Publish()

	reader, err := e.journal.Open("test")
	require.NoError(t, err)
	events, _ := reader.Read(nil, 100)
	var got bytes.Buffer
	names := map[string]bool{}
	for i := range events {
		event := &events[i]
		names[event.Name] = true
		event.Time, event.Mono = c.started.Add(time.Duration(i)*time.Second), time.Duration(i)*time.Second
		for j := range event.Attrs {
			if attr := &event.Attrs[j]; attr.Key == journal.KeyStartDuration {
				attr.Float = math.Floor(attr.Float) // of what has really passed
			}
		}
		got.Write(append(journal.Encode(event), '\n'))
	}
	path := filepath.Join("testdata", "events.jsonl")
	if *update {
		require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String())

	code, err := os.ReadFile(filepath.Join("..", "..", "internal", "journal", "event.go"))
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`(?m)^\t(?:Process|Supervisor|Config|Output)\w+ += "([^"]+)"`).FindAllSubmatch(code, -1) {
		assert.True(t, names[string(match[1])], "nothing is told here as %s", match[1])
	}
}
