// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package supervisorextension

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/otelwarden/warden/extension/supervisorextension/internal/metadata"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// The crash points: a collector of its own process, with a real keeper and real
// processes, kills itself right before or right after the n-th thing that it tells the
// keeper, for every n. The next collector, which lives, ends the story.

const (
	crashAt  = "WARDEN_TEST_CRASH_AT" // the step, negative: none
	crashDir = "WARDEN_TEST_CRASH_DIR"
	wantLine = "what it does"
)

// mortal kills its process at a step.
type mortal struct {
	*keeper.Client
	steps atomic.Int64
}

func (m *mortal) step() {
	if m.steps.Add(-1) == -1 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until that has come
	}
}

func (m *mortal) Commit(c keeper.Commit) error {
	m.step()
	defer m.step()
	return m.Client.Commit(c)
}

func (m *mortal) Spawn(spec keeper.Spec) (keeper.Started, error) {
	m.step()
	defer m.step()
	return m.Client.Spawn(spec)
}

func (m *mortal) Stop(id string, run uint64) {
	m.step()
	defer m.step()
	m.Client.Stop(id, run)
}

// crashScenario: b crashes once, and c is restarted with it.
func crashScenario(dir string) *Config {
	worker := func(name, do string) ChildConfig {
		return sh(name, fmt.Sprintf(`echo "$PPID $WARDEN_RUN_ID" >> %[1]s/ledger; %[2]s echo %[3]q; exec sleep 1000`, dir, do, wantLine))
	}
	cfg := newDefaultConfig()
	cfg.RuntimeDirectory = filepath.Join(dir, "run")
	cfg.Strategy = StrategyRestForOne
	cfg.Intensity.MaxRestarts = 1000
	cfg.Children = []ChildConfig{
		worker("a", ""),
		worker("b", fmt.Sprintf("[ -e %[1]s/flag ] || { : > %[1]s/flag; exit 7; };", dir)),
		worker("c", ""),
	}
	return cfg
}

// TestCrashPoint_Collector is the collector, in a process of its own.
func TestCrashPoint_Collector(t *testing.T) {
	steps, err := strconv.Atoi(os.Getenv(crashAt))
	if err != nil {
		t.Skip("it is run by the other test")
	}
	dir := os.Getenv(crashDir)
	cfg := crashScenario(dir)
	set := extensiontest.NewNopSettings(metadata.Type)
	set.ID = component.NewID(metadata.Type)
	s := newSupervisor(set, cfg)
	s.ending = newEnding(func() {})
	s.newParent = func(ctx context.Context, l listener) (parent, error) {
		p, err := attach(cfg.RuntimeDirectory, cfg)(ctx, l)
		if err == nil {
			m := &mortal{Client: p.Spawner.(*keeper.Client)}
			m.steps.Store(int64(steps))
			p.Spawner, p.memory = m, m
		}
		return p, err
	}
	_, err = s.ClaimOutput(component.MustNewID("test"), func(context.Context, Output) error { return nil })
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context(), componenttest.NewNopHost()))
	told := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(told)
		tell(t, s, filepath.Join(dir, "events"), quit)
	}()
	require.NoError(t, s.Ready())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "flag"))
		return err == nil && !slices.ContainsFunc(s.Processes(nil), func(p Process) bool { return p.State != tree.StateRunning })
	}, time.Minute, time.Millisecond)
	s.ending.expect()
	require.NoError(t, s.NotReady())
	close(quit)
	<-told
	require.NoError(t, s.Shutdown(t.Context()))
}

// tell delivers the events to a file, as "keeper event".
func tell(t *testing.T, s *supervisor, path string, quit <-chan struct{}) {
	reader, err := s.Journal().Open("test")
	require.NoError(t, err)
	defer reader.Close()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer file.Close()
	for {
		select {
		case <-reader.Wait():
		case <-quit:
			return
		}
		events, missed := reader.Read(nil, 100)
		require.Zero(t, missed)
		for _, e := range events {
			_, err := fmt.Fprintf(file, "%d %s\n", s.engine.keeperPID, journal.Encode(&e))
			require.NoError(t, err)
			reader.Ack(e.Seq)
		}
	}
}

func TestCrashPoint_ACollectorThatKillsItselfAtAnyStepLeavesAWholeStory(t *testing.T) {
	t.Parallel()
	for n, died := 0, true; died; n++ {
		dir := t.TempDir()
		died = !collect(t, dir, n)
		if died {
			require.True(t, collect(t, dir, -1), "the next collector after one that died at step %d", n)
		}
		checkStory(t, dir)
		if t.Failed() {
			t.Fatalf("killed at step %d; the ledger and the events:\n%s\n%s", n, read(dir, "ledger"), read(dir, "events"))
		}
		require.Less(t, n, 1000, "it has to survive sometime")
		if !died {
			t.Logf("%d steps", n)
		}
	}
}

// collect runs a collector to its end, and says whether it came to that alive.
func collect(t *testing.T, dir string, steps int) (lived bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashPoint_Collector$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashAt+"="+strconv.Itoa(steps), crashDir+"="+dir)
	output, err := cmd.CombinedOutput()
	if err != nil {
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, steps >= 0 && status.Signaled() && ctx.Err() == nil, "%v: %s", err, output)
		return false
	}
	return true
}

func read(dir, name string) string {
	text, _ := os.ReadFile(filepath.Join(dir, name))
	return string(text)
}

// checkStory: what was started and what was told agree.
func checkStory(t *testing.T, dir string) {
	started := map[string]int{} // by "keeper directory:id:run"
	for line := range strings.Lines(read(dir, "ledger")) {
		started[strings.TrimSpace(line)]++
	}
	for run, times := range started {
		assert.Equal(t, 1, times, "starts of %s", run)
	}
	told := map[string]journal.Event{} // by "keeper number"
	last := map[string]uint64{}
	for line := range strings.Lines(read(dir, "events")) {
		pid, record, _ := strings.Cut(line, " ")
		e, err := journal.Decode([]byte(record))
		require.NoError(t, err)
		key := fmt.Sprint(pid, " ", e.Seq)
		if earlier, again := told[key]; again {
			was, is := encodeJSON(t, earlier), encodeJSON(t, e)
			assert.Equal(t, was, is, "delivered twice, and not the same")
		}
		told[key] = e
		last[pid] = max(last[pid], e.Seq)
	}
	ends := map[string]int{}
	for pid, n := range last {
		for seq := uint64(1); seq <= n; seq++ {
			e, ok := told[fmt.Sprint(pid, " ", seq)]
			assert.True(t, ok, "event %d of keeper %s is missing", seq, pid)
			switch e.Name {
			case journal.ProcessCrashed, journal.ProcessExited, journal.ProcessStopped:
				ends[fmt.Sprintf("%s %s:%s:%d", pid, filepath.Join(dir, "run"), e.Process, e.Run)]++
			}
		}
	}
	for run := range started {
		assert.Equal(t, 1, ends[run], "ends of %s", run)
	}
}

func encodeJSON(t *testing.T, value any) string {
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}
