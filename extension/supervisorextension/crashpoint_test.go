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
	"reflect"
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
	crashAt  = "WARDEN_TEST_CRASH_AT" // how many steps come before, or the name of one; "never"
	crashDir = "WARDEN_TEST_CRASH_DIR"
	never    = "never"
	wantLine = "what it does"
)

// durableSteps are what a collector does that outlasts it, in the words that a crash point
// is named with: true where the story has to come to it, before and after.
var durableSteps = map[string]bool{
	"Commit": true, "Spawn": true, "Stop": true, "SetStop": true, "Kill": true, "Detach": true, "Close": true,
	"Signal": false, // nothing is remembered of it
	"Sweep":  false, // there is no keeper any more that could remember
}

// mortal kills its process at a step. It embeds nothing: a step that is new has to be named
// here before this compiles.
type mortal struct {
	client *keeper.Client
	death  *death
	dir    string
}

// death is when: at the step after so many, or at the first with that name.
type death struct {
	steps atomic.Int64
	name  string // "" if it goes by the number
}

func newDeath(at string) *death {
	d := &death{}
	if n, err := strconv.Atoi(at); err == nil {
		d.steps.Store(int64(n))
	} else {
		d.steps.Store(-1)
		d.name = at + " "
	}
	return d
}

func (d *death) comesAt(label string) bool {
	return d.steps.Add(-1) == -1 || d.name != "" && strings.HasPrefix(label, d.name)
}

var _ interface {
	keeper.Spawner
	memory
} = (*mortal)(nil)

func (m *mortal) step(label string) {
	if m.death.comesAt(label) {
		_ = os.WriteFile(filepath.Join(m.dir, "died"), []byte(label), 0o600)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until that has come
	}
}

// at is a step with its two crash points, before it and after it.
func (m *mortal) at(step string, do func(), details ...any) {
	detail := strings.TrimSpace(fmt.Sprintln(details...))
	m.step("before " + step + " " + detail) // a blank after the name, also without details
	do()
	m.step("after " + step + " " + detail)
}

func (m *mortal) Commit(c keeper.Commit) (err error) {
	var what []any
	for _, record := range c.Journal {
		if e, err := journal.Decode(record); err == nil {
			what = append(what, e.Name)
		}
	}
	for _, value := range c.Values {
		what = append(what, value.Key)
	}
	m.at("Commit", func() { err = m.client.Commit(c) }, what...)
	return err
}

func (m *mortal) Spawn(spec keeper.Spec) (started keeper.Started, err error) {
	m.at("Spawn", func() { started, err = m.client.Spawn(spec) }, spec.ID, spec.Run)
	return started, err
}

func (m *mortal) Stop(id string, run uint64) {
	m.at("Stop", func() { m.client.Stop(id, run) }, id, run)
}

func (m *mortal) SetStop(id string, run uint64, how keeper.Stop) {
	m.at("SetStop", func() { m.client.SetStop(id, run, how) }, id, run, how.Signal, how.Grace)
}

func (m *mortal) Signal(id string, run uint64, signal syscall.Signal) {
	m.at("Signal", func() { m.client.Signal(id, run, signal) }, id, run, signal)
}

func (m *mortal) Kill(id string, run uint64) {
	m.at("Kill", func() { m.client.Kill(id, run) }, id, run)
}

func (m *mortal) Detach() (err error) {
	m.at("Detach", func() { err = m.client.Detach() })
	return err
}

func (m *mortal) Close() { m.at("Close", m.client.Close) }

func (m *mortal) Sweep() (ended int, err error) {
	m.at("Sweep", func() { ended, err = m.client.Sweep() })
	return ended, err
}

func TestCrashPoint_EveryDurableStepHasAName(t *testing.T) {
	names := map[string]bool{}
	for _, of := range []reflect.Type{reflect.TypeFor[keeper.Spawner](), reflect.TypeFor[memory]()} {
		for method := range of.Methods() {
			names[method.Name] = true
			assert.Contains(t, durableSteps, method.Name)
		}
	}
	for name := range durableSteps {
		assert.Contains(t, names, name, "it is no step any more")
	}
}

// crashScenario: b crashes once, and c is restarted with it. d is asked to stop by a
// command that hangs, and is killed with it. A reload gives c another time to stop.
func crashScenario(dir string, reloaded bool) *Config {
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
		worker("d", ""),
	}
	cfg.Children[3].Process.Stop.Command, cfg.Children[3].Process.Stop.Timeout = []string{"/bin/sleep", "1000"}, 100*time.Millisecond
	if reloaded {
		cfg.Children[2].Process.Stop.Timeout *= 2
	}
	return cfg
}

// TestCrashPoint_Collector is the collector, in a process of its own.
func TestCrashPoint_Collector(t *testing.T) {
	at, ok := os.LookupEnv(crashAt)
	if !ok {
		t.Skip("it is run by the other test")
	}
	death := newDeath(at)
	for _, reloaded := range []bool{false, true} {
		crashCollector(t, os.Getenv(crashDir), death, reloaded)
	}
}

// crashCollector is one between two reloads, or the last, which ends in order.
func crashCollector(t *testing.T, dir string, death *death, last bool) {
	cfg := crashScenario(dir, last)
	set := extensiontest.NewNopSettings(metadata.Type)
	set.ID = component.NewID(metadata.Type)
	s := newSupervisor(set, cfg)
	s.ending = newEnding(func() {})
	s.newParent = func(ctx context.Context, l listener) (parent, error) {
		p, err := attach(cfg.RuntimeDirectory, cfg)(ctx, l)
		if err == nil {
			m := &mortal{p.Spawner.(*keeper.Client), death, dir}
			p.Spawner, p.memory = m, m
		}
		return p, err
	}
	_, err := s.ClaimOutput(component.MustNewID("test"), func(context.Context, Output) error { return nil })
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
	if last {
		s.ending.expect()
	}
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
	reached := map[string]bool{} // "before Spawn"
	dies := func(at string) (died bool) {
		dir := t.TempDir()
		died = !collect(t, dir, at)
		point := read(dir, "died")
		if died {
			words := strings.Fields(point)
			reached[words[0]+" "+words[1]] = true
			require.True(t, collect(t, dir, never), "the next collector after one that died at %s, %s", at, point)
		}
		checkStory(t, dir)
		if t.Failed() {
			t.Fatalf("killed at %s, %s; the ledger and the events:\n%s\n%s", at, point, read(dir, "ledger"), read(dir, "events"))
		}
		return died
	}
	n := 0
	for dies(strconv.Itoa(n)) {
		n++
		require.Less(t, n, 1000, "it has to survive sometime")
	}
	t.Logf("%d steps", n)
	// How many there are differs from one time to the next, so that one may have been missed.
	for step, must := range durableSteps {
		for _, when := range []string{"before ", "after "} {
			if point := when + step; must && !reached[point] {
				assert.True(t, dies(point), "no collector comes to %s", point)
			}
		}
	}
}

// collect runs a collector to its end, and says whether it came to that alive.
func collect(t *testing.T, dir, at string) (lived bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashPoint_Collector$", "-test.count=1")
	cmd.Env = append(os.Environ(), crashAt+"="+at, crashDir+"="+dir)
	// No pipe: what it leaves alive may have it open for longer than it lives itself.
	output, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(t, err)
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, at != never && status.Signaled() && ctx.Err() == nil, "%v: %s", err, read(dir, "output"))
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
