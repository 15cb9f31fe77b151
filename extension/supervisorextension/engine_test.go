// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// badKernel is a spawner without processes, for what real ones cannot be made to do
// at will.
type badKernel struct {
	notify func(keeper.Event)
	// during is called within Spawn, when the process exists and nobody knows it yet.
	during func(k *badKernel, spec keeper.Spec) error
	// onStop is called by Stop and Kill.
	onStop func(k *badKernel, id string, run uint64, kill bool)
	// stepped is how far the wall clock is off when a process is started.
	stepped time.Duration

	mu    sync.Mutex
	calls []string // guarded by mu
	pid   int      // guarded by mu
}

func (k *badKernel) make(notify func(keeper.Event)) (keeper.Spawner, error) {
	k.notify = notify
	return k, nil
}

func (k *badKernel) call(what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, what)
}

func (k *badKernel) called() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

func (k *badKernel) Spawn(spec keeper.Spec) (keeper.Started, error) {
	k.call("spawn " + spec.ID)
	k.mu.Lock()
	k.pid++
	pid := k.pid
	k.mu.Unlock()
	if k.during != nil {
		if err := k.during(k, spec); err != nil {
			return keeper.Started{}, err
		}
	}
	return keeper.Started{PID: 1_000_000_000 + pid, At: time.Now().Add(k.stepped), Mono: monotonic()}, nil
}

func (k *badKernel) Stop(id string, run uint64) {
	k.call("stop " + id)
	if k.onStop != nil {
		k.onStop(k, id, run, false)
	}
}

func (k *badKernel) SetStop(id string, _ uint64, how keeper.Stop) {
	k.call(fmt.Sprintf("stop %s by %v after %v", id, how.Signal, how.Grace))
}

func (k *badKernel) Signal(id string, _ uint64, signal syscall.Signal) {
	k.call(fmt.Sprintf("signal %s %v", id, signal))
}

func (k *badKernel) Kill(id string, run uint64) {
	k.call("kill " + id)
	if k.onStop != nil {
		k.onStop(k, id, run, true)
	}
}

func (k *badKernel) Close() { k.call("close") }

// dies tells of the end of a run that left nothing behind.
func (k *badKernel) dies(id string, run uint64, exit keeper.Exit) {
	k.notify(keeper.Event{Kind: keeper.Died, ID: id, Run: run, Exit: exit})
	k.notify(keeper.Event{Kind: keeper.Gone, ID: id, Run: run})
}

func stopsAtOnce(k *badKernel, id string, run uint64, _ bool) {
	k.dies(id, run, keeper.Exit{Code: -1, Signal: syscall.SIGTERM})
}

func TestEngine_ADeathThatIsKnownBeforeTheSpawnIsStillTakenInOrder(t *testing.T) {
	first := true
	kernel := &badKernel{onStop: stopsAtOnce, during: func(k *badKernel, spec keeper.Spec) error {
		if first {
			first = false
			k.dies(spec.ID, spec.Run, keeper.Exit{Code: 7})
		}
		return nil
	}}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	require.NoError(t, st.Ready())
	st.await("a", journal.ProcessReady, 2)
	assert.Equal(t, []string{"a started", "a ready", "supervisor.started", "a crashed", "a restarting", "a started", "a ready"}, st.told())
	assert.EqualValues(t, 7, attribute(st.await("a", journal.ProcessCrashed, 1), journal.KeyExitCode))
}

func TestEngine_WhatCannotBeKilledHoldsNothingUp(t *testing.T) {
	kernel := &badKernel{onStop: func(k *badKernel, id string, run uint64, kill bool) {
		if id != "b" {
			stopsAtOnce(k, id, run, kill)
			return
		}
		k.notify(keeper.Event{Kind: keeper.Killed, ID: id, Run: run})
		k.notify(keeper.Event{Kind: keeper.Unkillable, ID: id, Run: run})
	}}
	st := newStageWith(t, kernel.make, nil, sh("a", ""), sh("b", ""), sh("c", ""))
	require.NoError(t, st.Ready())
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{
		"c stopping", "c stopped", "b stopping", "b killed", "b unkillable", "a stopping", "a stopped", "supervisor.stopped",
	}, told[len(told)-8:])
	assert.Equal(t, tree.StateUnkillable, st.process("b").State)
}

func TestEngine_ARestartWaitsUntilNothingOfTheRunIsLeft(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	require.NoError(t, st.Ready())
	kernel.notify(keeper.Event{Kind: keeper.Died, ID: "a", Run: 1, Exit: keeper.Exit{Code: 1}})
	st.await("a", journal.ProcessCrashed, 1)
	kernel.notify(keeper.Event{Kind: keeper.Killed, ID: "a", Run: 1})
	st.await("a", journal.ProcessSurvivorsKilled, 1)
	assert.Equal(t, []string{"spawn a"}, kernel.called(), "its children still live")
	assert.Zero(t, st.process("a").PID, "but it does not")
	kernel.notify(keeper.Event{Kind: keeper.Gone, ID: "a", Run: 1})
	st.await("a", journal.ProcessReady, 2)
	assert.Equal(t, []string{"spawn a", "spawn a"}, kernel.called())
}

func TestEngine_AStopThatCameBeforeTheProcessIsRepeated(t *testing.T) {
	var spawned atomic.Bool
	entered, leave := make(chan struct{}), make(chan struct{})
	kernel := &badKernel{
		during: func(*badKernel, keeper.Spec) error { close(entered); <-leave; spawned.Store(true); return nil },
		onStop: func(k *badKernel, id string, run uint64, kill bool) {
			if spawned.Load() {
				stopsAtOnce(k, id, run, kill)
			}
		},
	}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	ready := make(chan error, 1)
	go func() { ready <- st.Ready() }()
	<-entered
	st.stop()
	st.await("a", journal.ProcessStopping, 1)
	close(leave)
	require.NoError(t, <-ready)
	assert.Equal(t, []string{"spawn a", "stop a", "stop a"}, kernel.called())
}

func TestEngine_AStartThatWasAbandonedComesToNothing(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	kernel := &badKernel{during: func(*badKernel, keeper.Spec) error { close(entered); <-leave; return nil }}
	killed := make(chan struct{})
	kernel.onStop = func(k *badKernel, id string, run uint64, kill bool) {
		if kill {
			k.dies(id, run, keeper.Exit{Code: -1, Signal: syscall.SIGKILL})
			close(killed)
		}
	}
	st := newStageWith(t, kernel.make, nil, sh("a", "", func(p *ChildConfig) { p.Process.Stop.Timeout = time.Millisecond }))
	ready := make(chan error, 1)
	go func() { ready <- st.Ready() }()
	<-entered
	st.stop()
	require.NoError(t, <-ready)
	close(leave)
	<-killed
	told, err := st.end()
	require.NoError(t, err)
	assert.Equal(t, []string{"a stopping", "a start_failed", "supervisor.stopped"}, told)
}

func TestEngine_WhatTheRunsUsedAddsUp(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	require.NoError(t, st.Ready())
	kernel.dies("a", 1, keeper.Exit{Code: 1, User: 3 * time.Second, System: time.Second})
	st.await("a", journal.ProcessReady, 2)
	kernel.dies("a", 2, keeper.Exit{Code: 1, User: 4 * time.Second, System: 2 * time.Second})
	st.await("a", journal.ProcessCrashed, 2)
	totals := st.process("a").Totals
	assert.Equal(t, 7*time.Second, totals.CPUUser)
	assert.Equal(t, 3*time.Second, totals.CPUSystem)
}

func TestEngine_AnExitStatusThatWasTakenByOthersIsACrash(t *testing.T) {
	kernel := &badKernel{onStop: stopsAtOnce}
	st := newStageWith(t, kernel.make, nil, sh("a", ""))
	require.NoError(t, st.Ready())
	kernel.dies("a", 1, keeper.Exit{Lost: true})
	crash := st.await("a", journal.ProcessCrashed, 1)
	assert.Equal(t, "exit", attribute(crash, journal.KeyExitReason))
	assert.Nil(t, attribute(crash, journal.KeyExitCode))
	assert.Contains(t, crash.Body, "with what status is not known")
}

func TestEngine_AFailingKernelIsToldOfAndTriedAgainAfterTheBackOff(t *testing.T) {
	var tries []time.Time // one after the other
	kernel := &badKernel{onStop: stopsAtOnce, during: func(_ *badKernel, spec keeper.Spec) error {
		if tries = append(tries, time.Now()); spec.Run > 1 && len(tries) <= 4 {
			return syscall.EAGAIN // the error of the keeper's client is that too
		}
		return nil
	}}
	st := newStageWith(t, kernel.make, nil, sh("a", "", func(p *ChildConfig) {
		p.Backoff.InitialInterval, p.Backoff.Multiplier, p.Backoff.Jitter = 2*time.Millisecond, 2, 0
	}))
	require.NoError(t, st.Ready())
	kernel.dies("a", 1, keeper.Exit{Code: 1})
	st.await("a", journal.ProcessReady, 2)
	assert.EqualValues(t, 5, st.process("a").Run)
	assert.EqualValues(t, 3, st.process("a").Totals.Exits[tree.ExitStartFailed])
	assert.EqualValues(t, 3, st.process("a").Totals.Restarts[tree.RestartStartFailed])
	assert.Contains(t, st.await("a", journal.ProcessStartFailed, 1).Body, "resource temporarily unavailable")
	require.Len(t, tries, 5)
	for n, want := range []time.Duration{0, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond} {
		assert.InDelta(t, want.Seconds(), attribute(st.await("a", journal.ProcessRestarting, n+1), journal.KeyRestartDelay), 1e-9)
		assert.GreaterOrEqual(t, tries[n+1].Sub(tries[n]), want, "restart %d was before its time", n+1)
	}
}

func TestEngine_AStepOfTheWallClockChangesNoDuration(t *testing.T) {
	for _, step := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		kernel := &badKernel{onStop: stopsAtOnce, stepped: step}
		st := newStageWith(t, kernel.make, nil, sh("a", "", func(p *ChildConfig) { p.Backoff.InitialInterval = time.Millisecond }))
		require.NoError(t, st.Ready())
		begun := monotonic()
		const ran = 90 * time.Second
		kernel.dies("a", 1, keeper.Exit{Code: 1, At: time.Now(), Mono: begun + ran})
		assert.Contains(t, st.await("a", journal.ProcessCrashed, 1).Body, "after 1m3")
		st.await("a", journal.ProcessReady, 2)
		lasted := st.History("a")[0].Lasted
		assert.GreaterOrEqual(t, lasted, ran)
		assert.Less(t, lasted, ran+time.Minute)
		assert.Equal(t, lasted, st.process("a").Totals.Lifetime.Sum)
	}
}

func TestEngine_WithoutASpawnerTheStartFails(t *testing.T) {
	s := newSupervisor(extensiontest.NewNopSettings(metadata.Type), newDefaultConfig())
	s.newParent = forgetful(func(func(keeper.Event)) (keeper.Spawner, error) { return nil, errors.New("no descriptors left") })
	assert.EqualError(t, s.Start(t.Context(), nil), "no descriptors left")
	require.NoError(t, s.NotReady())
	require.NoError(t, s.Shutdown(t.Context()))
}
