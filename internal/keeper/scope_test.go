// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eachKeeper has the story told by a keeper that has cgroups and by one that has not.
func eachKeeper(t *testing.T, story func(t *testing.T, b *bench, cgroups bool)) {
	t.Run("with cgroups", func(t *testing.T) {
		directory := runtimeDirectory(t)
		if c, err := openCgroups(directory); err != nil {
			t.Skipf("no cgroups can be made here: %v", err)
		} else {
			c.close()
		}
		b := emptyBench(t)
		b.Spawner = acknowledging(t, directory, b.note)
		story(t, b, true)
	})
	t.Run("without cgroups", func(t *testing.T) {
		b := emptyBench(t)
		b.Spawner = acknowledging(t, keeperWithoutCgroups(t), b.note)
		story(t, b, false)
	})
}

// keeperWithoutCgroups starts a keeper and returns its directory.
func keeperWithoutCgroups(t *testing.T) string {
	directory := runtimeDirectory(t)
	report, write, err := os.Pipe()
	require.NoError(t, err)
	defer report.Close()
	executable, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleKeeper, directoryVariable+"="+directory, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{write}
	require.NoError(t, cmd.Start())
	_ = write.Close()
	require.NoError(t, awaitReport(report))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return directory
}

// daemon is a script that starts a daemon, twice in a session of its own, and goes on
// once that runs; wrap comes before its shell. pid is the daemon's.
func daemon(t *testing.T, wrap, script string) (text string, pid func() int) {
	file := filepath.Join(t.TempDir(), "pid")
	text = fmt.Sprintf(`setsid sh -c 'setsid %s /bin/sh -c "echo \$\$ >%s.new; mv %[2]s.new %[2]s; %s" & exit 0'
		while [ ! -e %[2]s ]; do sleep 0.01; done
		`, wrap, file, script)
	return text, func() int {
		said, err := os.ReadFile(file)
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
		require.NoError(t, err)
		return pid
	}
}

const (
	sleeps  = "exec /bin/sleep 1000"
	ignores = "trap : TERM; while :; do /bin/sleep 1000; done"
)

// pidOf is the PID that a process says.
func pidOf(t *testing.T, s Started) int {
	pid, err := strconv.Atoi(firstLine(t, s.Stdout))
	require.NoError(t, err)
	return pid
}

func TestScope_ADaemonEndsWithTheRunThatItIsOf(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		other, o := b.shell("echo $$; exec sleep 1000", captured)
		script, pid := daemon(t, "", sleeps)
		run, _ := b.shell(script + "exit 3")
		assert.Equal(t, 3, b.await(Died, run).Exit.Code)
		b.await(Gone, run)
		assert.False(t, isLiving(pid()), "it lives when the next run may begin")
		assert.NotContains(t, b.kinds(run), Killed, "it was asked, and went")
		assert.True(t, isLiving(pidOf(t, o)))
		b.Stop("sh", other)
		b.await(Gone, other)
	})
}

func TestScope_WhatIgnoresBeingAskedIsKilledAfterTheGraceAndNamed(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		script, pid := daemon(t, "", ignores)
		run, _ := b.shell(script+"exit 0", func(s *Spec) { s.Stop.Grace = 100 * time.Millisecond })
		killed := b.await(Killed, run)
		b.await(Gone, run)
		assert.False(t, isLiving(pid()))
		assert.Contains(t, killed.Processes, ProcessName{pid(), "sh"})
		assert.Equal(t, []EventKind{Died, Killed, Gone}, b.kinds(run))
	})
}

func TestScope_AStopEndsTheDaemonsToo(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		script, pid := daemon(t, "", sleeps)
		run, s := b.shell(script+"echo up; exec sleep 1000", captured)
		assert.Equal(t, "up", firstLine(t, s.Stdout))
		b.Stop("sh", run)
		b.await(Gone, run)
		assert.False(t, isLiving(pid()))
	})
}

func TestScope_KillsWhatIsSuspended(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		script, pid := daemon(t, "", ignores)
		run, s := b.shell(script+"echo up; exec sleep 1000", captured, func(s *Spec) { s.Stop.Grace = 0 })
		assert.Equal(t, "up", firstLine(t, s.Stdout))
		require.NoError(t, syscall.Kill(pid(), syscall.SIGSTOP))
		b.Stop("sh", run)
		b.await(Gone, run)
		assert.False(t, isLiving(pid()))
	})
}

func TestScope_EndsWhatIsForkedByTheDying(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		script, pid := daemon(t, "", sleeps)
		run, s := b.shell("dying() { "+script+"exit 0; }; trap dying TERM; echo up; while :; do sleep 0.01; done", captured)
		assert.Equal(t, "up", firstLine(t, s.Stdout))
		require.NoError(t, syscall.Kill(s.PID, syscall.SIGTERM))
		b.await(Gone, run)
		assert.False(t, isLiving(pid()))
	})
}

func TestScope_AStrangerIsToldOfOnceAndLeftAlone(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, cgroups bool) {
		script, pid := daemon(t, "env -i", sleeps)
		run, _ := b.shell(script + "exit 0")
		b.await(Gone, run)
		if cgroups {
			assert.False(t, isLiving(pid()), "what has cleared its environment is still in the cgroup")
			return
		}
		assert.True(t, isLiving(pid()), "nobody can tell whose it is")
		told := b.await(Stranger, 0).Processes
		require.Len(t, told, 1)
		assert.Equal(t, pid(), told[0].PID)
		again, _ := b.shell("exit 0")
		b.await(Gone, again)
		assert.Equal(t, []EventKind{Stranger}, b.kinds(0))
		require.NoError(t, syscall.Kill(pid(), syscall.SIGKILL))
	})
}

func TestScope_TwoRunsSideBySideAreNotMistakenForEachOther(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		var runs []uint64
		var pids []func() int
		for range 2 {
			script, pid := daemon(t, "", sleeps)
			run, s := b.shell(script+"echo up; exec sleep 1000", captured)
			assert.Equal(t, "up", firstLine(t, s.Stdout))
			runs, pids = append(runs, run), append(pids, pid)
		}
		b.Kill("sh", runs[0])
		b.await(Gone, runs[0])
		assert.False(t, isLiving(pids[0]()))
		assert.True(t, isLiving(pids[1]()))
		b.Kill("sh", runs[1])
		b.await(Gone, runs[1])
		assert.False(t, isLiving(pids[1]()))
	})
}

func TestScope_OfTheGroupLeavesWhatHasLeftIt(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		script, away := daemon(t, "", sleeps)
		run, s := b.shell(script+"sleep 1000 & echo $!; wait", captured, func(s *Spec) { s.Stop.Scope = ScopeGroup })
		member := pidOf(t, s)
		b.Stop("sh", run)
		b.await(Gone, run)
		assert.False(t, isLiving(member))
		assert.True(t, isLiving(away()))
		require.NoError(t, syscall.Kill(away(), syscall.SIGKILL))
	})
}

func TestScope_OfTheProcessIsItAlone(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, _ bool) {
		run, s := b.shell("sleep 1000 & echo $!; echo $$; exec sleep 1000", captured, func(s *Spec) { s.Stop.Scope = ScopeProcess })
		member, itself := pidOf(t, s), pidOf(t, s)
		b.Stop("sh", run)
		assert.Equal(t, syscall.SIGTERM, b.await(Died, run).Exit.Signal)
		b.await(Gone, run)
		assert.False(t, isLiving(itself))
		assert.True(t, isLiving(member))
		require.NoError(t, syscall.Kill(member, syscall.SIGKILL))
	})
}

func TestScope_WhatADeadKeeperLeftIsEndedByTheNextWhateverItHasCleared(t *testing.T) {
	directory := runtimeDirectory(t)
	if c, err := openCgroups(directory); err != nil {
		t.Skipf("no cgroups can be made here: %v", err)
	} else {
		c.close()
	}
	script, pid := daemon(t, "env -i", sleeps)
	_, started := killedKeeper(t, directory, Spec{Argv: []string{"sh", "-c", script + "echo up; exec sleep 1000"}, Stop: Stop{Signal: syscall.SIGTERM, Grace: time.Second}, Stdout: StreamPipe})
	assert.Equal(t, "up", firstLine(t, started[0].Stdout))
	require.True(t, isLiving(pid()))
	_, state := attachTo(t, directory, ignoreEvents)
	assert.True(t, state.Fresh)
	assert.False(t, isLiving(pid()))
	base, err := cgroupBase(directory)
	require.NoError(t, err)
	left, err := filepath.Glob(base + "/*/cgroup.procs")
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestLooks_AnswerWhatIsAskedWhileOneIsMadeWithTheNext(t *testing.T) {
	var l looks
	begun, go1 := make(chan struct{}), make(chan struct{})
	scans := 0
	scan := func() []seen {
		scans++
		if scans == 1 {
			close(begun)
			<-go1
		}
		return []seen{{identity: identity{pid: scans}}}
	}
	answers := make(chan int, 10)
	ask := func() { answers <- l.take(scan)[0].pid }
	go ask()
	<-begun
	for range 5 {
		go ask()
	}
	require.Eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.next != nil }, 10*time.Second, time.Millisecond)
	close(go1)
	got := map[int]int{}
	for range 6 {
		got[<-answers]++
	}
	assert.Equal(t, 1, got[1], "what began before it was asked is an answer to the first alone")
	assert.LessOrEqual(t, len(got), 6)
}
