// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/extension/supervisorextension/internal/metadata"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// stage is a supervisor with real processes and a host that keeps what it is told.
type stage struct {
	*supervisor
	t      *testing.T
	reader *journal.Reader
	raised chan struct{}

	mu       sync.Mutex
	statuses []*componentstatus.Event // guarded by mu
	lines    []string                 // guarded by mu; "process stream text"
	refused  string                   // guarded by mu; the process whose output is not taken
}

func newStage(t *testing.T, change func(*Config), children ...ChildConfig) *stage {
	return newStageWith(t, inProcess, change, children...)
}

func newStageWith(t *testing.T, spawn func(func(keeper.Event)) (keeper.Spawner, error), change func(*Config), children ...ChildConfig) *stage {
	cfg := newDefaultConfig()
	cfg.Children = children
	if change != nil {
		change(cfg)
	}
	require.NoError(t, cfg.Validate())
	st := &stage{t: t, raised: make(chan struct{}, 100)}
	set := extensiontest.NewNopSettings(metadata.Type)
	set.ID = component.NewID(metadata.Type)
	st.supervisor = newSupervisor(set, cfg)
	st.newParent = forgetful(spawn)
	st.ending = newEnding(func() {
		select {
		case st.raised <- struct{}{}:
		default:
		}
	})
	var err error
	st.reader, err = st.Journal().Open("test")
	require.NoError(t, err)
	_, err = st.ClaimOutput(component.MustNewID("test"), func(ctx context.Context, out Output) error {
		st.mu.Lock()
		defer st.mu.Unlock()
		if out.Process.ID == st.refused {
			st.mu.Unlock()
			<-ctx.Done()
			st.mu.Lock()
			return ctx.Err()
		}
		for _, line := range out.Lines {
			st.lines = append(st.lines, fmt.Sprintf("%s %s %s", out.Process.ID, out.Stream, line.Text))
		}
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, st.Start(t.Context(), st))
	t.Cleanup(func() {
		st.reader.Close()
		_ = st.NotReady()
		_ = st.Shutdown(context.Background())
	})
	return st
}

// inProcess makes the test itself the parent of the processes.
func inProcess(notify func(keeper.Event)) (keeper.Spawner, error) { return keeper.NewInProcess(notify) }

// forgetful is a parent that does not outlive the collector.
func forgetful(spawn func(func(keeper.Event)) (keeper.Spawner, error)) newParent {
	return func(_ context.Context, l listener) (parent, error) {
		spawner, err := spawn(l.event)
		return parent{Spawner: spawner, left: keeper.State{Fresh: true}}, err
	}
}

func (st *stage) GetExtensions() map[component.ID]component.Component { return nil }

func (st *stage) Report(event *componentstatus.Event) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.statuses = append(st.statuses, event)
}

// sh is a process that runs a script.
func sh(name, script string, change ...func(*ChildConfig)) ChildConfig {
	p := newDefaultProcess()
	p.Name, p.Process.Command = name, []string{"/bin/sh", "-c", script}
	for _, c := range change {
		c(&p)
	}
	return p
}

// told are the events so far, as "process event".
func (st *stage) told() (events []string) {
	all, _ := st.reader.Read(nil, journalCapacity)
	for _, e := range all {
		events = append(events, strings.TrimSpace(e.Process+" "+strings.TrimPrefix(e.Name, "process.")))
	}
	return events
}

// await returns the n-th event of that name about a process.
func (st *stage) await(process, name string, n int) journal.Event {
	st.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		grown := st.grown()
		all, _ := st.reader.Read(nil, journalCapacity)
		left := n
		for _, e := range all {
			if e.Process == process && e.Name == name {
				if left--; left == 0 {
					return e
				}
			}
		}
		select {
		case <-grown:
		case <-deadline:
			require.FailNow(st.t, "the event did not come", "%s %s, %d times; told: %v", process, name, n, st.told())
		}
	}
}

// grown is closed by the next event: unlike the reader of this stage, one that has
// acknowledged everything has to wait.
func (st *stage) grown() <-chan struct{} {
	watcher, err := st.Journal().Open("watcher")
	require.NoError(st.t, err)
	defer watcher.Close()
	watcher.Ack(^uint64(0))
	return watcher.Wait()
}

func (st *stage) process(name string) Process {
	st.t.Helper()
	for _, p := range st.Processes(nil) {
		if p.Info.ID == name {
			return p
		}
	}
	require.FailNow(st.t, "no such process", name)
	return Process{}
}

// end stops everything, having read what was told.
func (st *stage) end() (told []string, err error) {
	st.reader.Close()
	require.NoError(st.t, st.NotReady())
	var reopenErr error
	st.reader, reopenErr = st.Journal().Open("test")
	require.NoError(st.t, reopenErr)
	return st.told(), st.Shutdown(context.Background())
}

func attribute(e journal.Event, key string) any {
	for _, a := range e.Attrs {
		if a.Key == key {
			switch a.Kind {
			case journal.KindString:
				return a.Str
			case journal.KindFloat:
				return a.Float
			default:
				return a.Int
			}
		}
	}
	return nil
}

const forever = "while :; do sleep 1000; done"

func TestSupervisor_StartsInOrderWhenThePipelinesAreReadyAndStopsInReverse(t *testing.T) {
	st := newStage(t, nil, sh("a", forever), sh("b", forever), sh("c", forever))
	assert.Empty(t, st.told(), "nothing runs before Ready")
	require.NoError(t, st.Ready())
	assert.Equal(t, []string{"a started", "a ready", "b started", "b ready", "c started", "c ready", "supervisor.started"}, st.told())
	for _, p := range st.Processes(nil)[1:] {
		assert.Equal(t, tree.StateRunning, p.State)
		assert.NoError(t, syscall.Kill(p.PID, 0))
	}
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"c stopping", "c stopped", "b stopping", "b stopped", "a stopping", "a stopped", "supervisor.stopped"}, told[7:])
}

func TestSupervisor_RestartsWhatIsKilled(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	before := st.process("a")
	require.NoError(t, syscall.Kill(before.PID, syscall.SIGKILL))
	st.await("a", journal.ProcessReady, 2)
	after := st.process("a")
	assert.NotEqual(t, before.PID, after.PID)
	assert.EqualValues(t, 2, after.Run)
	assert.EqualValues(t, 1, after.Totals.Restarts[tree.RestartSignal])
	assert.EqualValues(t, 1, after.Totals.Exits[tree.ExitSignal])
	assert.EqualValues(t, 1, after.Totals.Lifetime.Count)
	crash := st.await("a", journal.ProcessCrashed, 1)
	assert.Equal(t, "signal", attribute(crash, journal.KeyExitReason))
	assert.Equal(t, "SIGKILL", attribute(crash, journal.KeyExitSignal))
	assert.Nil(t, attribute(crash, journal.KeyExitCode))
	assert.Equal(t, before.PID, crash.PID)
	assert.EqualValues(t, 1, crash.Run)
	assert.Equal(t, []string{"a started", "a ready", "supervisor.started", "a crashed", "a restarting", "a started", "a ready"}, st.told()[:7])
}

func TestSupervisor_KeepsToTheRestartTypes(t *testing.T) {
	restart := func(policy RestartPolicy) func(*ChildConfig) { return func(p *ChildConfig) { p.Restart = policy } }
	tests := []struct {
		name  string
		give  ChildConfig
		event string
		state tree.State
	}{
		{"a transient process that ended well stays ended", sh("a", "exit 0", restart(RestartTransient)), journal.ProcessExited, tree.StateExited},
		{"a temporary one stays ended however it ended", sh("a", "exit 3", restart(RestartTemporary)), journal.ProcessExited, tree.StateExited},
		{"a code of the success list is a good end", sh("a", "exit 3", restart(RestartTransient), func(p *ChildConfig) { p.Process.Success.Codes = []int{3} }), journal.ProcessExited, tree.StateExited},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := newStage(t, nil, tt.give)
			require.NoError(t, st.Ready())
			st.await("a", tt.event, 1)
			require.Eventually(t, func() bool { return st.process("a").State == tt.state }, 10*time.Second, time.Millisecond)
			assert.EqualValues(t, 1, st.process("a").Run)
		})
	}
	t.Run("a permanent one is restarted however it ended", func(t *testing.T) {
		st := newStage(t, nil, sh("a", "exit 0", func(p *ChildConfig) { p.Backoff.InitialInterval = 0 }))
		require.NoError(t, st.Ready())
		event := st.await("a", journal.ProcessRestarting, 1)
		assert.Equal(t, "success", attribute(event, journal.KeyRestartReason))
	})
}

func TestSupervisor_BacksOffFromTheSecondRestartInARow(t *testing.T) {
	st := newStage(t, nil, sh("a", "exit 1", func(p *ChildConfig) {
		p.Backoff.InitialInterval, p.Backoff.MaxInterval, p.Backoff.Jitter = time.Hour, time.Hour, 0
	}))
	require.NoError(t, st.Ready())
	assert.Zero(t, attribute(st.await("a", journal.ProcessRestarting, 1), journal.KeyRestartDelay))
	assert.InDelta(t, 3600, attribute(st.await("a", journal.ProcessRestarting, 2), journal.KeyRestartDelay), 1e-6)
	require.Eventually(t, func() bool { return st.process("a").State == tree.StateBackoff }, 10*time.Second, time.Millisecond)
	_, err := st.end()
	assert.NoError(t, err, "a stop does not wait for the back-off")
}

func TestSupervisor_AFirstStartThatFailsStopsWhatIsUp(t *testing.T) {
	missing := sh("c", "")
	missing.Process.Command = []string{"/nonexistent/program"}
	st := newStage(t, nil, sh("a", forever), sh("b", forever), missing, sh("d", forever))
	err := st.Ready()
	assert.EqualError(t, err, `the first start failed, what was up has been stopped: process "c": it could not be started: execute "/nonexistent/program": no such file or directory`)
	told, err := st.end()
	require.NoError(t, err, "Ready has told it")
	assert.Equal(t, []string{
		"a started", "a ready", "b started", "b ready", "c start_failed",
		"b stopping", "b stopped", "a stopping", "a stopped", "supervisor.stopped",
	}, told)
	assert.EqualValues(t, 1, st.process("c").Totals.Exits[tree.ExitStartFailed])
}

func TestSupervisor_WithRetryAFirstStartThatFailsIsARestart(t *testing.T) {
	st := newStage(t, func(c *Config) { c.FirstStart = FirstStartRetry }, sh("a", "exec sleep 1000", func(p *ChildConfig) {
		p.Process.EnvironmentFiles = []string{filepath.Join(t.TempDir(), "none")}
		p.Backoff.InitialInterval = 0
	}), sh("b", forever))
	require.NoError(t, st.Ready())
	assert.Equal(t, "start_failed", attribute(st.await("a", journal.ProcessRestarting, 1), journal.KeyRestartReason))
	select {
	case <-st.raised:
	case <-time.After(20 * time.Second):
		require.Fail(t, "it gave up and did not end the collector")
	}
	_, err := st.end()
	assert.ErrorContains(t, err, "gave up, more than 10 restarts within 5m0s (intensity): process \"a\": it could not be started: environment file")
	assert.NotContains(t, st.told(), "b started")
}

func failing(c *Config) {
	c.Intensity.MaxRestarts = 2
	c.Children[1].Backoff.InitialInterval = 0
}

func TestSupervisor_GivingUpEndsTheCollectorWithAnError(t *testing.T) {
	st := newStage(t, failing, sh("a", forever), sh("b", "exit 9"))
	require.NoError(t, st.Ready())
	<-st.raised
	<-st.raised // it insists until the collector shows that it heard
	told, err := st.end()
	assert.ErrorContains(t, err, `gave up, more than 2 restarts within 5m0s (intensity): process "b": it exited with code 9 after `)
	assert.Equal(t, []string{"b crashed", "supervisor.gave_up", "a stopping", "a stopped", "supervisor.stopped"}, told[len(told)-5:])
	assert.Equal(t, tree.StateGaveUp, st.process("").State)
}

func TestSupervisor_GivingUpLeavesTheCollectorUpIfAskedTo(t *testing.T) {
	st := newStage(t, func(c *Config) { failing(c); c.OnGiveUp = GiveUpStay }, sh("a", forever), sh("b", "exit 9"))
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.statuses) == 1 && st.statuses[0].Status() == componentstatus.StatusRecoverableError
	}, 20*time.Second, time.Millisecond)
	assert.Empty(t, st.raised)
	assert.Zero(t, st.process("a").PID)
	_, err := st.end()
	assert.NoError(t, err)
}

func TestSupervisor_ASignalDuringALongStartAbortsIt(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	st := newStage(t, nil, sh("a", forever), sh("b", forever, func(p *ChildConfig) {
		p.Process.EnvironmentFiles = []string{fifo} // nobody writes to it: the start hangs
		p.Process.Stop.Timeout = 10 * time.Millisecond
	}), sh("c", forever))
	ready := make(chan error, 1)
	go func() { ready <- st.Ready() }()
	st.await("a", journal.ProcessReady, 1)
	st.ending.signals <- syscall.SIGTERM
	require.NoError(t, <-ready)
	<-st.raised // the collector has not heard of the signal itself
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"a started", "a ready", "b stopping", "b start_failed", "a stopping", "a stopped", "supervisor.stopped"}, told)

	// The start that hung goes on, and comes to nothing.
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
}

func TestSupervisor_ASignalBeforeReadyStartsNothing(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	st.ending.signals <- syscall.SIGINT
	require.Eventually(t, st.ending.begun, 10*time.Second, time.Millisecond)
	require.NoError(t, st.Ready())
	<-st.raised
	told, err := st.end()
	require.NoError(t, err)
	assert.Empty(t, told)
}

func TestSupervisor_KillsWhatIsLeftShortlyBeforeShutdownTimeout(t *testing.T) {
	st := newStage(t, func(c *Config) { c.ShutdownTimeout = 2 * time.Second },
		sh("a", "trap '' TERM; echo ready; "+forever, func(p *ChildConfig) { p.Process.Stop.Timeout = -time.Second }))
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool { return slices.Contains(st.captured(), "a stdout ready") }, 10*time.Second, time.Millisecond)
	pid := st.process("a").PID
	st.stop()
	st.await("", journal.SupervisorStopped, 1)
	assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"a stopping", "a killed", "a stopped", "supervisor.stopped"}, told[3:])
}

func (st *stage) captured() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.lines)
}

func TestSupervisor_DeliversTheLastWordsOfEachStream(t *testing.T) {
	st := newStage(t, nil,
		sh("a", "trap 'echo bye; echo trouble >&2; exit 0' TERM; echo hello; while :; do read x < /dev/null; done"),
		sh("joined", "echo to stderr >&2; "+forever, func(p *ChildConfig) { p.Process.Output.Stderr = OutputStdout }),
		sh("silent", "echo nothing; "+forever, func(p *ChildConfig) { p.Process.Output.Stdout, p.Process.Output.Stderr = OutputNull, OutputNull }))
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool { return len(st.captured()) == 2 }, 10*time.Second, time.Millisecond)
	_, err := st.end()
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"a stdout hello", "a stdout bye", "a stderr trouble", "joined stdout to stderr"}, st.captured())
}

// However much a process writes, and however little of it is taken, the others' lines
// come and their ends are dealt with.
func TestSupervisor_AFloodThatNobodyTakesHoldsUpNobodyElse(t *testing.T) {
	crashed := filepath.Join(t.TempDir(), "crashed")
	st := newStage(t, func(cfg *Config) { cfg.ShutdownTimeout = time.Second },
		sh("flood", "while :; do echo and one more; done", func(p *ChildConfig) { p.Process.Output.OnFull.Wait = WaitForever }),
		sh("web", fmt.Sprintf("echo hello; if [ ! -e %[1]s ]; then touch %[1]s; exit 3; fi; %[2]s", crashed, forever)))
	st.mu.Lock()
	st.refused = "flood"
	st.mu.Unlock()
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool {
		flood := st.roster.byID["flood"].streams // nothing of it changes any more
		return flood[0].reader.Blocking()
	}, 10*time.Second, time.Millisecond)
	st.await("web", journal.ProcessReady, 2)
	require.Eventually(t, func() bool { return len(st.captured()) == 2 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []string{"web stdout hello", "web stdout hello"}, st.captured())
}

func TestSupervisor_GivesItsOutputToOneTaker(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	_, err := st.ClaimOutput(component.MustNewIDWithName("process_monitor", "second"), nil)
	assert.EqualError(t, err, `"test" takes the output of this supervisor already: use it in all logs pipelines that want the output`)
}

func TestSupervisor_AnAutostartOfFalseLeavesAProcessDown(t *testing.T) {
	st := newStage(t, nil, sh("a", forever, func(p *ChildConfig) { p.Process.Autostart = false }), sh("b", forever))
	require.NoError(t, st.Ready())
	assert.Equal(t, tree.StateStopped, st.process("a").State)
	assert.Equal(t, []string{"b started", "b ready", "supervisor.started"}, st.told())
}

func TestSupervisor_ShutdownIsHarmlessAtAnyTime(t *testing.T) {
	s := newSupervisor(extensiontest.NewNopSettings(metadata.Type), newDefaultConfig())
	require.NoError(t, s.NotReady())
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))

	s = newSupervisor(extensiontest.NewNopSettings(metadata.Type), newDefaultConfig())
	require.NoError(t, s.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, s.NotReady(), "without Ready, as after another extension's failed start")
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestInstanceID_IsTheSameForTheSameParts(t *testing.T) {
	assert.Equal(t, InstanceID("a", "b"), InstanceID("a", "b"))
	assert.NotEqual(t, InstanceID("a", "b"), InstanceID("ab"))
	assert.NotEqual(t, InstanceID("a", "b"), InstanceID("b", "a"))
}

func TestSupervisor_EveryProcessHasAResourceOfItsOwn(t *testing.T) {
	st := newStage(t, nil, sh("a", forever), sh("b", forever))
	seen := map[string]string{}
	for _, p := range st.Processes(nil) {
		name, _ := p.Info.Resource.Attributes().Get("service.name")
		instance, _ := p.Info.Resource.Attributes().Get("service.instance.id")
		assert.NotContains(t, seen, instance.Str())
		seen[instance.Str()] = name.Str()
		_, pid := p.Info.Resource.Attributes().Get("process.pid")
		assert.False(t, pid, "a pid would begin a new series at every restart")
	}
	assert.Equal(t, map[string]any{
		"service.name": "a", "service.instance.id": InstanceID(HostIdentity(), defaultRuntimeDirectory(component.NewID(metadata.Type)), "a"),
		"supervisor.process.id": "a", "process.executable.name": "sh", "process.command": "/bin/sh", "process.owner": ownUserName(),
	}, st.process("a").Info.Resource.Attributes().AsRaw())
}

func TestHistory_NoRunLastsLessThanNothing(t *testing.T) {
	st := newStage(t, func(c *Config) { c.Intensity.MaxRestarts = 1000 },
		ChildConfig{Name: "a", Restart: RestartPermanent, Backoff: Backoff{Multiplier: 1, MaxInterval: time.Second, ResetAfter: time.Second}, Process: func() *ProcessConfig {
			p := newDefaultProcess().Process
			p.Command, p.Output.Stdout, p.Output.Stderr = []string{"/bin/true"}, OutputNull, OutputNull
			return p
		}()})
	require.NoError(t, st.Ready())
	st.await("a", journal.ProcessExited, 50)
	for _, run := range st.History("a") {
		assert.Positive(t, run.Lasted)
		assert.False(t, run.Ended.Before(run.Started))
	}
}
