// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/otelwarden/warden/extension/supervisorextension/internal/metadata"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// command gives a command and waits for its answer.
func (st *stage) command(op Op, id string, child map[string]any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return st.Command(ctx, Command{Op: op, ID: id, Child: child})
}

// begin gives a command that need not be answered at once. When it returns the engine
// has it before whatever happens next.
func (st *stage) begin(op Op, id string, child map[string]any) <-chan error {
	r := request{Command{Op: op, ID: id, Child: child}, make(chan error, 1)}
	st.engine.mailbox.post(r)
	return r.answer
}

// ids of the children there are.
func (st *stage) ids() (ids []string) {
	for _, p := range st.Processes(nil) {
		ids = append(ids, p.Info.ID)
	}
	return ids
}

func (st *stage) awaitState(id string, state tree.State) {
	st.t.Helper()
	require.Eventually(st.t, func() bool { return st.process(id).State == state }, 20*time.Second, time.Millisecond)
}

func shell(name, script string) map[string]any {
	return map[string]any{"name": name, "command": []any{"/bin/sh", "-c", script}}
}

// puppet is a process without a process: it does what its fields say.
type puppet struct {
	mu       sync.Mutex
	deaf     bool // Stop does nothing
	immortal bool // it outlives KILL
	broken   bool // it cannot be started
	ends     bool // it ends well at once
}

func (p *puppet) set(change func(*puppet)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *puppet) kernel() *badKernel {
	return &badKernel{
		during: func(k *badKernel, spec keeper.Spec) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case spec.ID != "n.x":
			case p.broken:
				return syscall.EAGAIN
			case p.ends:
				k.dies(spec.ID, spec.Run, keeper.Exit{})
			}
			return nil
		},
		onStop: func(k *badKernel, id string, run uint64, kill bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case id == "n.x" && p.immortal:
				k.notify(keeper.Event{Kind: keeper.Unkillable, ID: id, Run: run})
			case id == "n.x" && p.deaf && !kill:
			default:
				stopsAtOnce(k, id, run, kill)
			}
		},
	}
}

func TestCommand_EachInEachStateHasTheAnswerOfOTP(t *testing.T) {
	const name = "n.x"
	type answers map[Op]error
	plain := func(*ChildConfig) {}
	tests := []struct {
		state  string
		child  func(*ChildConfig)
		bring  func(*stage, *puppet) // into that state
		let    func(*stage, *puppet) // while the command is under way
		want   answers
		absent bool // it is not among the processes before
	}{
		{
			state: "stopped before it ever ran", child: func(c *ChildConfig) { c.Process.Autostart = false },
			want: answers{OpStart: nil, OpStop: nil, OpRestart: nil, OpDelete: nil, OpAdd: ErrAlreadyPresent},
		},
		{
			state: "stopped", child: plain,
			bring: func(st *stage, _ *puppet) { require.NoError(st.t, st.command(OpStop, name, nil)) },
			want:  answers{OpStart: nil, OpStop: nil, OpRestart: nil, OpDelete: nil, OpAdd: ErrAlreadyPresent},
		},
		{
			state: "starting", child: func(c *ChildConfig) {
				c.Restart, c.Process.Autostart, c.Process.Readiness = RestartTransient, false, &Readiness{Exit: &ExitCheck{}}
			},
			bring: func(st *stage, p *puppet) {
				st.begin(OpStart, name, nil)
				st.await(name, journal.ProcessStarted, 1)
				p.set(func(p *puppet) { p.ends = true })
			},
			want: answers{OpStart: ErrRunning, OpStop: nil, OpRestart: nil, OpDelete: ErrRunning, OpAdd: ErrAlreadyStarted},
		},
		{
			state: "running", child: plain,
			want: answers{OpStart: ErrRunning, OpStop: nil, OpRestart: nil, OpDelete: ErrRunning, OpAdd: ErrAlreadyStarted},
		},
		{
			state: "stopping", child: plain,
			bring: func(st *stage, p *puppet) {
				p.set(func(p *puppet) { p.deaf = true })
				st.begin(OpStop, name, nil)
				st.awaitState(name, tree.StateStopping)
			},
			let: func(st *stage, p *puppet) {
				p.set(func(p *puppet) { p.deaf = false })
				stopsAtOnce(st.engine.spawner.(*badKernel), name, 1, true)
			},
			want: answers{OpStart: nil, OpStop: nil, OpRestart: nil, OpDelete: nil, OpAdd: ErrAlreadyStarted},
		},
		{
			state: "waiting for its back-off", child: func(c *ChildConfig) { c.Backoff.InitialInterval, c.Backoff.MaxInterval = time.Hour, time.Hour },
			bring: func(st *stage, p *puppet) {
				for run := range uint64(2) {
					st.await(name, journal.ProcessReady, int(run+1))
					stopsAtOnce(st.engine.spawner.(*badKernel), name, run+1, false)
				}
				st.awaitState(name, tree.StateBackoff)
			},
			want: answers{OpStart: ErrRestarting, OpStop: nil, OpRestart: nil, OpDelete: ErrRestarting, OpAdd: ErrAlreadyStarted},
		},
		{
			state: "exited", child: func(c *ChildConfig) { c.Restart = RestartTransient },
			bring: func(st *stage, _ *puppet) {
				st.engine.spawner.(*badKernel).dies(name, 1, keeper.Exit{})
				st.awaitState(name, tree.StateExited)
			},
			want: answers{OpStart: nil, OpStop: nil, OpRestart: nil, OpDelete: nil, OpAdd: ErrAlreadyPresent},
		},
		{
			state: "failed", child: func(c *ChildConfig) { c.Process.Autostart = false },
			bring: func(st *stage, p *puppet) {
				p.set(func(p *puppet) { p.broken = true })
				assert.EqualError(st.t, st.command(OpStart, name, nil),
					`start "n.x": the child did not start: it could not be started: resource temporarily unavailable`)
				p.set(func(p *puppet) { p.broken = false })
				st.awaitState(name, tree.StateFailed)
			},
			want: answers{OpStart: nil, OpStop: nil, OpRestart: nil, OpDelete: nil, OpAdd: ErrAlreadyPresent},
		},
		{
			state: "unkillable", child: plain,
			bring: func(st *stage, p *puppet) {
				p.set(func(p *puppet) { p.immortal = true })
				assert.ErrorIs(st.t, st.command(OpStop, name, nil), ErrUnkillable)
			},
			want: answers{OpStart: ErrRunning, OpStop: ErrUnkillable, OpRestart: ErrUnkillable, OpDelete: ErrRunning, OpAdd: ErrAlreadyStarted},
		},
		{
			state: "gone", child: func(c *ChildConfig) { c.Restart = RestartTemporary },
			bring: func(st *stage, _ *puppet) {
				st.engine.spawner.(*badKernel).dies(name, 1, keeper.Exit{Code: 9})
				st.awaitState(name, tree.StateExited) // how it ended is still to be seen
			},
			want: answers{OpStart: ErrNotFound, OpStop: ErrNotFound, OpRestart: ErrNotFound, OpDelete: ErrNotFound, OpAdd: nil},
		},
		{
			state: "deleted", child: plain, absent: true,
			bring: func(st *stage, _ *puppet) {
				require.NoError(st.t, st.command(OpStop, name, nil))
				require.NoError(st.t, st.command(OpDelete, name, nil))
			},
			want: answers{OpStart: ErrNotFound, OpStop: ErrNotFound, OpRestart: ErrNotFound, OpDelete: ErrNotFound, OpAdd: nil},
		},
		{
			state: "stopped with its supervisor", child: plain,
			bring: func(st *stage, _ *puppet) { require.NoError(st.t, st.command(OpStop, "n", nil)) },
			want:  answers{OpStart: ErrNoParent, OpStop: ErrNoParent, OpRestart: ErrNoParent, OpDelete: ErrNoParent, OpAdd: ErrNoParent},
		},
	}
	for _, tt := range tests {
		for op, want := range tt.want {
			t.Run(fmt.Sprintf("%v of one that is %s", op, tt.state), func(t *testing.T) {
				p := &puppet{}
				st := newStageWith(t, p.kernel().make, nil, nested("n", nil, sh("x", "", tt.child), sh("y", "")))
				defer p.set(func(p *puppet) { p.deaf, p.immortal, p.broken, p.ends = false, false, false, false })
				require.NoError(t, st.Ready())
				if tt.bring != nil {
					tt.bring(st, p)
				}
				assert.Equal(t, !tt.absent, strings.Contains(strings.Join(st.ids(), " "), name))
				target, child := name, map[string]any(nil)
				if op == OpAdd {
					target, child = "n", shell("x", "")
				}
				answer := st.begin(op, target, child)
				if tt.let != nil {
					tt.let(st, p)
				}
				var err error
				select {
				case err = <-answer:
				case <-time.After(20 * time.Second):
					require.Fail(t, "no answer")
				}
				require.ErrorIs(t, err, want)
				switch {
				case err == nil && op == OpDelete:
					assert.NotContains(t, st.ids(), name)
				case err == nil && op == OpStop:
					assert.Zero(t, st.process(name).PID)
				case err == nil:
					assert.Contains(t, []tree.State{tree.StateRunning, tree.StateExited}, st.process(name).State)
				}
				assert.Equal(t, tree.StateRunning, st.process("").State, "nothing of this is a failure")
			})
		}
	}
}

func TestCommand_StartsWhatAutostartLeftDown(t *testing.T) {
	st := newStage(t, nil, sh("a", forever, func(c *ChildConfig) { c.Process.Autostart = false }))
	require.NoError(t, st.Ready())
	assert.Zero(t, st.process("a").PID)
	require.NoError(t, st.command(OpStart, "a", nil))
	assert.NoError(t, syscall.Kill(st.process("a").PID, 0))
	_, err := st.end()
	require.NoError(t, err)
}

func TestCommand_ARestartIsCountedAsTheOperators(t *testing.T) {
	st := newStage(t, func(c *Config) { c.Intensity.MaxRestarts = 0 }, sh("a", forever))
	require.NoError(t, st.Ready())
	before := st.process("a")
	require.NoError(t, st.command(OpRestart, "a", nil))
	after := st.process("a")
	assert.NotEqual(t, before.PID, after.PID)
	assert.EqualValues(t, 2, after.Run)
	assert.EqualValues(t, 1, after.Totals.Restarts[tree.RestartOperator])
	assert.Equal(t, "operator", attribute(st.await("a", journal.ProcessRestarting, 1), journal.KeyRestartReason))
	assert.Equal(t, "operator", attribute(st.await("a", journal.ProcessStopping, 1), journal.KeyStopReason))
}

func TestCommand_OfNobodyIsRefused(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	assert.ErrorIs(t, st.command(OpStop, "a", nil), ErrNoParent, "nothing has been started yet")
	require.NoError(t, st.Ready())
	assert.EqualError(t, st.command(OpStop, "b", nil), `stop "b": no such child`)
	assert.EqualError(t, st.command(OpStop, "b.c", nil), `stop "b.c": the child's supervisor is not running`)
	assert.ErrorIs(t, st.command(OpStop, "a.c", nil), ErrNoParent, "a process has no children")
	assert.ErrorIs(t, st.command(OpStop, "", nil), ErrNoParent)
	assert.ErrorIs(t, st.command(OpAdd, "a", shell("c", forever)), ErrNoParent)
	assert.ErrorIs(t, st.command(OpAdd, "b", shell("c", forever)), ErrNoParent)
	assert.ErrorIs(t, st.command(Op(77), "a", nil), ErrInvalid)
	_, err := st.end()
	require.NoError(t, err)
	assert.ErrorIs(t, st.command(OpStop, "a", nil), ErrClosed)
}

func TestCommand_BeforeTheStartThereIsNobodyToAsk(t *testing.T) {
	s := newSupervisor(extensiontest.NewNopSettings(metadata.Type), newDefaultConfig())
	assert.EqualError(t, s.Command(t.Context(), Command{Op: OpStop, ID: "a"}), `stop "a": the supervisor is not there any more, or not yet`)
	require.NoError(t, s.Shutdown(t.Context()))
}

func TestCommand_ItsContextEndsTheWaitOnly(t *testing.T) {
	p := &puppet{deaf: true}
	st := newStageWith(t, p.kernel().make, nil, nested("n", nil, sh("x", "")))
	defer p.set(func(p *puppet) { p.deaf, p.immortal, p.broken, p.ends = false, false, false, false })
	require.NoError(t, st.Ready())
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- st.Command(ctx, Command{Op: OpStop, ID: "n.x"}) }()
	st.awaitState("n.x", tree.StateStopping)
	cancel()
	assert.ErrorIs(t, <-answer, context.Canceled)
	stopsAtOnce(st.engine.spawner.(*badKernel), "n.x", 1, true)
	st.await("n.x", journal.ProcessStopped, 1)
	st.awaitState("n.x", tree.StateStopped)

	assert.ErrorIs(t, st.Command(ctx, Command{Op: OpStart, ID: "n.x"}), context.Canceled)
	assert.Equal(t, tree.StateStopped, st.process("n.x").State, "nobody waited from the beginning")
}

func TestCommand_ThatIsUnderWayAtTheEndHasAnAnswer(t *testing.T) {
	p := &puppet{immortal: true}
	kernel := p.kernel()
	kernel.onStop = func(*badKernel, string, uint64, bool) {}
	st := newStageWith(t, kernel.make, func(c *Config) { c.ShutdownTimeout = 100 * time.Millisecond }, nested("n", nil, sh("x", "")))
	require.NoError(t, st.Ready())
	answer := make(chan error, 1)
	go func() { answer <- st.command(OpStop, "n.x", nil) }()
	st.awaitState("n.x", tree.StateStopping)
	require.NoError(t, st.NotReady())
	require.NoError(t, st.Shutdown(t.Context()))
	assert.ErrorIs(t, <-answer, ErrClosed)
}

func TestCommand_DuringTheStartIsTakenAtOnce(t *testing.T) {
	never := func(c *ChildConfig) { c.Process.Readiness = &Readiness{NotifyFD: 3} }
	st := newStage(t, nil, sh("a", forever), sh("b", forever, never))
	ready := make(chan error, 1)
	go func() { ready <- st.Ready() }()
	st.await("b", journal.ProcessStarted, 1)
	require.NoError(t, st.command(OpStop, "b", nil), "a start that hangs is what one wants to stop")
	require.NoError(t, <-ready)
	assert.Equal(t, tree.StateRunning, st.process("a").State)
	assert.Equal(t, tree.StateStopped, st.process("b").State)
}

func TestCommand_ManyAtOnceAreTakenOneAfterTheOther(t *testing.T) {
	p := &puppet{}
	st := newStageWith(t, p.kernel().make, nil, nested("n", nil, sh("x", "")))
	require.NoError(t, st.Ready())
	const operators = 8
	var done sync.WaitGroup
	for i := range operators {
		done.Go(func() {
			name := fmt.Sprintf("own-%d", i)
			for range 20 {
				assert.NoError(t, st.command(OpAdd, "n", shell(name, "")))
				err := st.command(OpRestart, "n.x", nil)
				assert.True(t, err == nil || errors.Is(err, ErrStartFailed), "another may have stopped it meanwhile: %v", err)
				err = st.command(OpAdd, "n", shell("shared", ""))
				assert.True(t, err == nil || errors.Is(err, ErrAlreadyStarted) || errors.Is(err, ErrAlreadyPresent) || errors.Is(err, ErrStartFailed), "%v", err)
				_ = st.command(OpStop, "n.shared", nil)
				_ = st.command(OpDelete, "n.shared", nil)
				st.Processes(nil)
				assert.NoError(t, st.command(OpStop, "n."+name, nil))
				assert.NoError(t, st.command(OpDelete, "n."+name, nil))
			}
		})
	}
	done.Wait()
	_ = st.command(OpStop, "n.shared", nil)
	_ = st.command(OpDelete, "n.shared", nil)
	assert.Equal(t, []string{"", "n", "n.x"}, st.ids())
	assert.NotZero(t, st.process("n.x").Totals.Restarts[tree.RestartOperator])
	_, err := st.end()
	require.NoError(t, err)
	assert.Empty(t, st.engine.commands)
}
