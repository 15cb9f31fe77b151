// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// fakeClock is time that passes when a test says so.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Duration // guarded by mu
	timers []*fakeTimer  // guarded by mu
}

type fakeTimer struct {
	at time.Duration
	f  func()
}

func (c *fakeClock) afterFunc(d time.Duration, f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &fakeTimer{c.now + d, f}
	c.timers = append(c.timers, timer)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.timers = slices.DeleteFunc(c.timers, func(t *fakeTimer) bool { return t == timer })
	}
}

// await waits until a timer is armed that fires in d.
func (c *fakeClock) await(t *testing.T, d time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.timers, func(timer *fakeTimer) bool { return timer.at == c.now+d })
	}, 20*time.Second, time.Millisecond, "nobody waits for %v", d)
}

// pass lets time pass. What fires runs in goroutines of its own.
func (c *fakeClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
	c.timers = slices.DeleteFunc(c.timers, func(t *fakeTimer) bool {
		if t.at > c.now {
			return false
		}
		go t.f()
		return true
	})
}

// host is a keeper in the test's own process.
type host struct {
	*server
	clock     *fakeClock
	directory string
}

func newHost(t *testing.T, change ...func(*system, *wire.Calls)) *host {
	return newPreparedHost(t, func(*server) {}, change...)
}

// newPreparedHost prepares the server before anybody can connect to it.
func newPreparedHost(t *testing.T, prepare func(*server), change ...func(*system, *wire.Calls)) *host {
	h := &host{clock: &fakeClock{}, directory: runtimeDirectory(t)}
	system, calls := kernel(), wire.Kernel()
	for _, c := range change {
		c(&system, &calls)
	}
	var err error
	h.server, err = newServer(h.directory, system, calls, clock{h.clock.afterFunc})
	require.NoError(t, err)
	prepare(h.server)
	var serving sync.WaitGroup
	home, err := moveIn(h.directory, func(fd int) {
		serving.Add(1)
		defer serving.Done()
		h.serve(fd)
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		home.moveOut()
		h.mu.Lock()
		h.leaveLocked()
		for p := range h.peers {
			_ = p.socket.Close()
		}
		h.mu.Unlock()
		h.parent.close()
		serving.Wait()
	})
	return h
}

// leaves waits until the keeper ends.
func (h *host) leaves(t *testing.T) {
	t.Helper()
	select {
	case <-h.done:
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the keeper does not end")
	}
}

func TestLease_PassesToNobodyWhileItsHolderAnswers(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, time.Minute)
	p.hears("held")
	_, _, err := Attach(context.Background(), options(t, h.directory), ignoreEvents)
	assert.ErrorIs(t, err, ErrHeld)
	assert.EqualError(t, err, "the keeper's lease is held: process "+strconv.Itoa(p.cmd.Process.Pid)+" holds the lease of the keeper of \""+h.directory+"\": use another runtime directory, or end that process first")
}

// suspend stops a process, and returns once none of its threads can answer any more.
func suspend(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
		require.NoError(t, err)
		return !slices.ContainsFunc(tasks, func(path string) bool {
			text, err := os.ReadFile(path)
			_, state, _ := strings.Cut(string(text), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
	}, 20*time.Second, time.Millisecond)
}

func TestLease_OfAHolderThatDoesNotAnswerIsTakenByKillingIt(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, time.Minute)
	p.hears("held")
	pid := p.run("sleep 1000")
	suspend(t, p.cmd.Process.Pid)
	var warnings []string
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		_, state := attachTo(t, h.directory, ignoreEvents, func(o *Options) { o.Warn = func(text string) { warnings = append(warnings, text) } })
		if assert.Len(t, state.Runs, 1) {
			assert.Equal(t, pid, state.Runs[0].Started.PID)
			assert.False(t, state.Runs[0].Gone)
		}
	}()
	h.clock.await(t, holderPatience)
	assert.NoError(t, p.cmd.Process.Signal(syscall.Signal(0)), "it has its time")
	h.clock.pass(holderPatience)
	<-attached
	assert.Error(t, p.cmd.Wait())
	assert.Equal(t, []string{"process " + strconv.Itoa(p.cmd.Process.Pid) + " held the lease of the keeper of \"" + h.directory + "\" and did not answer for 10s: it was killed"}, warnings)
}

func TestLease_WaitsForTheSameProcessToDetach(t *testing.T) {
	h := newHost(t)
	first, _ := attachTo(t, h.directory, ignoreEvents)
	second := make(chan State)
	go func() {
		_, state := attachTo(t, h.directory, ignoreEvents)
		second <- state
	}()
	h.clock.await(t, holderPatience)
	require.NoError(t, first.Detach())
	state := <-second
	assert.True(t, state.Reload)
}

func TestLease_IsRefusedToTheSameProcessIfItDoesNotDetach(t *testing.T) {
	h := newHost(t)
	attachTo(t, h.directory, ignoreEvents)
	refused := make(chan error)
	go func() {
		_, _, err := Attach(context.Background(), options(t, h.directory), ignoreEvents)
		refused <- err
	}()
	h.clock.await(t, holderPatience)
	h.clock.pass(holderPatience)
	err := <-refused
	assert.ErrorIs(t, err, ErrHeld)
	assert.ErrorContains(t, err, "already holds the lease")
}

func TestLease_OfABrokenConnectionIsFreeForTheSameProcess(t *testing.T) {
	h := newHost(t)
	lost := make(chan error, 1)
	first, _ := attachTo(t, h.directory, ignoreEvents, func(o *Options) { o.Lost = func(err error) { lost <- err } })
	require.NoError(t, first.Commit(Commit{Values: []Value{{"k", []byte("v")}}}))
	_ = first.socket.Close()
	assert.ErrorIs(t, <-lost, ErrLost)
	_, err := first.Spawn(Spec{ID: "a", Argv: []string{"/bin/true"}})
	assert.ErrorIs(t, err, ErrLost)
	assert.ErrorIs(t, first.Commit(Commit{}), ErrLost)
	assert.ErrorIs(t, first.Detach(), ErrLost)
	_, state := attachTo(t, h.directory, ignoreEvents)
	assert.False(t, state.Reload, "it did not detach")
	assert.Equal(t, map[string][]byte{"k": []byte("v")}, state.Values)
}

func TestLease_AProcessThatBrokeItsConnectionIsKilledForAnother(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, time.Minute)
	p.hears("held")
	h.mu.Lock()
	holder := h.holder
	h.mu.Unlock()
	_ = holder.socket.Close() // as after a malformed message
	assert.Equal(t, "lost", p.hears("lost")[0])
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		attachTo(t, h.directory, ignoreEvents)
	}()
	h.clock.await(t, holderPatience)
	h.clock.pass(holderPatience)
	<-attached
	assert.Error(t, p.cmd.Wait())
}

func TestAttach_GivesUpWhenItsContextEnds(t *testing.T) {
	h := newHost(t)
	attachTo(t, h.directory, ignoreEvents)
	ctx, cancel := context.WithCancel(context.Background())
	refused := make(chan error)
	go func() {
		_, _, err := Attach(ctx, options(t, h.directory), ignoreEvents)
		refused <- err
	}()
	h.clock.await(t, holderPatience)
	cancel()
	assert.ErrorIs(t, <-refused, context.Canceled)
}

func TestOrphans_AreStoppedInReverseOrderWhenTheGraceIsOver(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, 30*time.Second)
	p.hears("held")
	for range 3 {
		p.run("sleep 1000")
	}
	p.kill()
	h.clock.await(t, 30*time.Second)
	h.clock.pass(30*time.Second - 1)
	h.mu.Lock()
	assert.Empty(t, h.store.events)
	h.mu.Unlock()
	h.clock.pass(1)
	h.leaves(t)
	var died []uint64
	for _, e := range h.store.events {
		if e.Kind == Died {
			died = append(died, e.Run)
			assert.Equal(t, StoppedByKeeper, e.Exit.By)
			assert.Equal(t, syscall.SIGTERM, e.Exit.Signal)
		}
	}
	assert.Equal(t, []uint64{3, 2, 1}, died)
}

func TestOrphans_WithoutAGraceAreStoppedAtOnce(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, 0)
	p.hears("held")
	p.run("sleep 1000")
	p.kill()
	h.clock.await(t, 0)
	h.clock.pass(0)
	h.leaves(t)
}

func TestOrphans_OfADetachedClientHaveTenSecondsAtLeast(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, 0)
	p.hears("held")
	p.run("sleep 1000")
	require.NoError(t, p.input.Close())
	require.NoError(t, p.cmd.Wait())
	h.clock.await(t, 10*time.Second)
	h.clock.pass(10 * time.Second)
	h.leaves(t)
}

func TestOrphans_CanLiveForEver(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, -1)
	p.hears("held")
	pid := p.run("sleep 1000")
	p.kill()
	h.eventually(t, func() bool { return h.orphaned != nil })
	h.clock.mu.Lock()
	assert.Empty(t, h.clock.timers)
	h.clock.mu.Unlock()
	assert.True(t, isLiving(pid))
	h.terminate()
	h.leaves(t)
	assert.False(t, isLiving(pid), "SIGTERM stops them all the same")
}

// eventually waits until a condition on the server's state holds.
func (h *host) eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return condition()
	}, 20*time.Second, time.Millisecond)
}

func TestOrphans_ThatAreNotYetStoppedAreSpared(t *testing.T) {
	h := newHost(t)
	p := startPlayer(t, roleHold, h.directory, 0)
	p.hears("held")
	first := p.run("sleep 1000")
	p.run("trap '' TERM; while :; do sleep 1000; done") // takes its grace
	last := p.run("sleep 1000")
	p.kill()
	h.clock.await(t, 0)
	h.clock.pass(0)
	h.eventually(t, func() bool { return len(h.store.events) == 2 && h.parent.runs[runKey{"held", 2}].asked.Load() })
	b := emptyBench(t)
	c, state := attachTo(t, h.directory, b.note)
	assert.Len(t, state.Runs, 3)
	assert.False(t, isLiving(last))
	assert.Equal(t, StoppedByKeeper, b.await(Died, 3).Exit.By)
	c.Kill("held", 2)
	assert.Equal(t, StoppedByKeeper, b.await(Died, 2).Exit.By)
	assert.True(t, isLiving(first))
	assert.Empty(t, b.kinds(1))
}

func TestKeeper_EndsIfWhoStartedItNeverAttaches(t *testing.T) {
	h := newHost(t)
	h.clock.await(t, detachGrace)
	h.clock.pass(detachGrace)
	h.leaves(t)
}

func TestTerminate_IsIgnoredWhileAClientIsAttached(t *testing.T) {
	h := newHost(t)
	c, _ := attachTo(t, h.directory, ignoreEvents)
	h.terminate()
	_, err := c.Spawn(Spec{ID: "a", Run: 1, Argv: []string{"/bin/true"}})
	assert.NoError(t, err)
}

func TestReplayed_IsWhatCameWithoutAClientOrMayHaveBeenToldBefore(t *testing.T) {
	h := newHost(t)
	happens := func(run uint64) { h.notify(Event{Kind: Died, ID: "a", Run: run}) }
	replayed := func(b *bench, runs ...uint64) (flags []bool) {
		for _, run := range runs {
			flags = append(flags, b.await(Died, run).Replayed)
		}
		return flags
	}
	happens(1) // nobody is there
	// The client has the lease, and the keeper waits for a start before it says what there is.
	h.mu.Lock()
	h.starting = 1
	h.mu.Unlock()
	first := emptyBench(t)
	attached := make(chan *Client)
	go func() {
		c, _ := attachTo(t, h.directory, first.note)
		attached <- c
	}()
	h.eventually(t, func() bool { return h.settled != nil })
	happens(2)
	h.mu.Lock()
	h.starting = 0
	close(h.settled)
	h.settled = nil
	h.mu.Unlock()
	c := <-attached
	happens(3)
	assert.Equal(t, []bool{true, false, false}, replayed(first, 1, 2, 3))
	require.NoError(t, c.Detach())
	happens(4)

	second := emptyBench(t)
	c, _ = attachTo(t, h.directory, second.note)
	happens(5)
	assert.Equal(t, []bool{true, true, true, true, false}, replayed(second, 1, 2, 3, 4, 5))
	require.NoError(t, c.Commit(Commit{Acknowledge: []uint64{1, 2, 3, 4}}))
	require.NoError(t, c.Detach())

	// One that came with a client that went away before it was told is for the next no news.
	h.mu.Lock()
	h.starting = 1
	h.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() {
		_, _, err := Attach(ctx, options(t, h.directory), ignoreEvents)
		gone <- err
	}()
	h.eventually(t, func() bool { return h.settled != nil })
	happens(6)
	cancel()
	assert.ErrorIs(t, <-gone, context.Canceled)
	h.mu.Lock()
	h.starting = 0
	close(h.settled)
	h.settled = nil
	h.mu.Unlock()
	third := emptyBench(t)
	attachTo(t, h.directory, third.note)
	assert.Equal(t, []bool{true, true}, replayed(third, 5, 6))
}
