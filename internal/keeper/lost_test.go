// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// killedKeeper attaches, starts scripts and kills the keeper.
func killedKeeper(t *testing.T, directory string, specs ...Spec) (c *Client, started []Started) {
	lost := make(chan error, 1)
	c, _ = attachTo(t, directory, ignoreEvents, func(o *Options) { o.Lost = func(err error) { lost <- err } })
	for i, spec := range specs {
		spec.ID, spec.Run = "s", uint64(i)
		spec.Env = append(spec.Env, "PATH=/usr/bin:/bin")
		s, err := c.Spawn(spec)
		require.NoError(t, err)
		t.Cleanup(s.Close)
		started = append(started, s)
	}
	require.NoError(t, syscall.Kill(c.KeeperPID(), syscall.SIGKILL))
	err := <-lost
	assert.ErrorIs(t, err, ErrLost)
	assert.ErrorContains(t, err, "the keeper (PID "+strconv.Itoa(c.KeeperPID())+") died")
	return c, started
}

func script(text string, change ...func(*Spec)) Spec {
	spec := Spec{Argv: []string{"sh", "-c", text}, Stop: Stop{Signal: syscall.SIGTERM, Grace: 20 * time.Second}, Stdout: StreamPipe}
	for _, c := range change {
		c(&spec)
	}
	return spec
}

func TestSweep_EndsTheRunsOfADeadKeeperAsTheyWantToBe(t *testing.T) {
	c, started := killedKeeper(t, runtimeDirectory(t),
		script("trap 'echo bye; exit 0' USR1; echo up; while :; do read x </dev/null; done", func(s *Spec) { s.Stop.Signal = syscall.SIGUSR1 }),
		script("trap '' TERM; echo up; while :; do sleep 1000; done", func(s *Spec) { s.Stop.Grace = 50 * time.Millisecond }),
		script("echo up; while :; do sleep 1000; done", func(s *Spec) { s.Stop.Grace = 0 }),
		script("env -i sh -c 'echo up; while :; do sleep 1000; done' & wait"),
		script("setsid sh -c 'echo up; while :; do sleep 1000; done' & wait"),
		script("echo up; kill -STOP $$; while :; do sleep 1000; done"),
	)
	for _, s := range started {
		assert.Equal(t, "up", firstLine(t, s.Stdout))
	}
	ended, err := c.Sweep()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, ended, len(started))
	assert.Equal(t, "bye", firstLine(t, started[0].Stdout), "it was asked with its own signal, and had time")
	for i, s := range started {
		assert.False(t, isLiving(s.PID), "run %d", i)
	}
	again, err := c.Sweep()
	require.NoError(t, err)
	assert.Zero(t, again)
	for i, s := range started {
		_, err := s.Stdout.Read(make([]byte, 1))
		assert.Error(t, err, "run %d: nobody has its output open", i)
	}
	c.Close()
}

func TestSweep_SparesAProcessThatHasGotThePIDOfAnother(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
	require.NoError(t, err)
	defer func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}()
	stat, err := readStat(pid)
	require.NoError(t, err)
	known := map[runKey]*knownRun{{"a", 1}: {identity: identity{pid, stat.startTicks + 1}, how: Stop{Signal: syscall.SIGTERM}}}
	ended, err := newSweep(runtimeDirectory(t), known).run()
	require.NoError(t, err)
	assert.Zero(t, ended)
	assert.True(t, isLiving(pid))
}

func TestAttach_FirstEndsWhatAnEarlierKeeperLeft(t *testing.T) {
	directory := runtimeDirectory(t)
	_, started := killedKeeper(t, directory, script("echo up; while :; do sleep 1000; done"), script("echo up; exec sleep 1000"))
	for _, s := range started {
		assert.Equal(t, "up", firstLine(t, s.Stdout))
	}
	left, err := Leftovers(directory)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(left), len(started))
	assert.Equal(t, "s", left[0].ID)
	other, err := Leftovers(directory + "x")
	require.NoError(t, err)
	assert.Empty(t, other)

	var warnings []string
	_, state := attachTo(t, directory, ignoreEvents, func(o *Options) { o.Warn = func(text string) { warnings = append(warnings, text) } })
	assert.True(t, state.Fresh)
	for _, s := range started {
		assert.False(t, isLiving(s.PID))
	}
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "processes that an earlier keeper of "+strconv.Quote(directory)+" had left behind were ended")
}

func TestParseRunID_FindsTheRunOfExactlyThatDirectory(t *testing.T) {
	tests := []struct {
		name, environ string
		want          runKey
		ok            bool
	}{
		{"first", "WARDEN_RUN_ID=/run/a:web.x-1:7\x00A=b\x00", runKey{"web.x-1", 7}, true},
		{"last, unterminated", "A=b\x00WARDEN_RUN_ID=/run/a:web:18446744073709551615", runKey{"web", 1<<64 - 1}, true},
		{"of a directory that begins alike", "WARDEN_RUN_ID=/run/a:b:web:7\x00", runKey{}, false},
		{"of another", "WARDEN_RUN_ID=/run/ab:web:7\x00", runKey{}, false},
		{"in another variable", "X=WARDEN_RUN_ID=/run/a:web:7\x00", runKey{}, false},
		{"without a run", "WARDEN_RUN_ID=/run/a:web\x00", runKey{}, false},
		{"with a run that is no number", "WARDEN_RUN_ID=/run/a:web:x\x00", runKey{}, false},
		{"empty", "", runKey{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseRunID([]byte(tt.environ), "/run/a")
			assert.Equal(t, tt.ok, ok)
			if ok {
				assert.Equal(t, tt.want, got)
			}
		})
	}
}

func TestKeeper_MarksWhatItStarts(t *testing.T) {
	directory := runtimeDirectory(t)
	c, _ := attachTo(t, directory, ignoreEvents)
	s, err := c.Spawn(Spec{ID: "a.b", Run: 3, Argv: []string{"/usr/bin/env"}, Env: []string{"WARDEN_RUN_ID=other", "A=b"}, Stdout: StreamPipe})
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, "A=b", firstLine(t, s.Stdout))
	assert.Equal(t, "WARDEN_RUN_ID="+directory+":a.b:3", firstLine(t, s.Stdout))
}

func TestBudget_IsRefusedWithItsNumbers(t *testing.T) {
	assert.NoError(t, budget(5000, 10_000, 20_000, 0))
	err := budget(7000, 14_000, 20_000, 0)
	require.Error(t, err)
	for _, want := range []string{"7000 processes with 14000 pipes", "21064 open files in their keeper", "14256 in the collector", "the limit is 20000", "LimitNOFILE="} {
		assert.ErrorContains(t, err, want)
	}
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	assert.NoError(t, Budget(1, 1, 0))
	assert.Error(t, Budget(int(limit.Max), 1, 0))

	assert.NoError(t, budget(100, 200, 20_000, 400), "the keeper that runs is small, and large enough")
	assert.EqualError(t, budget(150, 300, 20_000, 400),
		"150 processes with 300 pipes and sockets need 514 open files in their keeper, and the one that runs was started with a limit of 400, which it keeps: nothing was changed; let it end (SIGTERM while no collector is attached, or after orphan_grace) so that the next start makes one with the limit of now, 20000")
	assert.NoError(t, budget(150, 300, 1000, 5000))
}

func TestKeeper_ReapsOrphansAndKeepsTheExitCodesOfItsOwn(t *testing.T) {
	b := newBench(t, inKeeper)
	c := b.Spawner.(*Client)
	// Each run leaves a grandchild that outlives its parent and then its group's leader,
	// in a session of its own: the keeper adopts it, and its zombie is the keeper's.
	for code := range 40 {
		run, _ := b.shell("(setsid sh -c 'sleep 0.0" + strconv.Itoa(code%10) + "' &); exit " + strconv.Itoa(code))
		if code%5 == 4 {
			for i := range uint64(5) {
				assert.Equal(t, code-4+int(i), b.await(Died, run-4+i).Exit.Code)
			}
		}
	}
	require.Eventually(t, func() bool { return len(childrenOf(t, c.KeeperPID())) == 0 }, 20*time.Second, time.Millisecond,
		"zombies are left")
}

// childrenOf returns the children of a process, dead or alive.
func childrenOf(t *testing.T, pid int) []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	require.NoError(t, err)
	children := strings.Fields(string(text))
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	require.NoError(t, err)
	for _, task := range tasks {
		if text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/children"); err == nil && task.Name() != strconv.Itoa(pid) {
			children = append(children, strings.Fields(string(text))...)
		}
	}
	return children
}

func TestClient_WhatItsEndOvertakesIsRefusedAndNotLost(t *testing.T) {
	h := newHost(t)
	c, _ := attachTo(t, h.directory, ignoreEvents)
	require.NoError(t, c.Detach())
	assert.Equal(t, ErrClosed, c.put(wire.Frame{Kind: kindCommit}))
}
