// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSpawner_ReportsEveryExitCode(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		for code := range 256 {
			run, _ := b.shell(fmt.Sprintf("exit %d", code))
			exit := b.await(Died, run).Exit
			assert.Equal(t, code, exit.Code)
			assert.Zero(t, exit.Signal)
			b.await(Gone, run)
		}
	})
}

func TestSpawner_ReportsTheSignalThatEndedAProcess(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1} {
			run, _ := b.shell(fmt.Sprintf("kill -%d $$", signal))
			exit := b.await(Died, run).Exit
			assert.Equal(t, signal, exit.Signal)
			assert.Equal(t, -1, exit.Code)
		}
	})
}

func TestSpawner_GivesTheCPUTimeOfTheWholeRun(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, _ := b.shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
		exit := b.await(Died, run).Exit
		assert.Positive(t, exit.User+exit.System)
		rusage := time.Duration(exit.Usage.Utime.Nano() + exit.Usage.Stime.Nano())
		assert.InDelta(t, rusage.Seconds(), (exit.User + exit.System).Seconds(), 0.03, "two ticks' worth of rounding")
	})
}

func TestSpawner_GivesAProcessItsOwnSessionAndExactlyItsEnvironment(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		t.Setenv("LEAKED", "from the spawner")
		marker := filepath.Join(t.TempDir(), "marker")
		inherited, err := syscall.Open(marker, syscall.O_CREAT|syscall.O_RDWR, 0o600) // not close-on-exec
		require.NoError(t, err)
		defer syscall.Close(inherited)
		b := newBench(t, spawner)
		run, started := b.shell(`echo "$(cut -d' ' -f5,6 /proc/$$/stat) $FOO ${LEAKED-unset} $(readlink /proc/$$/fd/0)"; ls -l /proc/$$/fd`,
			captured, func(s *Spec) { s.Env = append(s.Env, "FOO=bar") })
		output, err := io.ReadAll(started.Stdout)
		require.NoError(t, err)
		require.NoError(t, started.Stdout.Close())
		b.await(Gone, run)
		line, descriptors, _ := strings.Cut(string(output), "\n")
		pid := strconv.Itoa(started.PID)
		assert.Equal(t, []string{pid, pid, "bar", "unset", "/dev/null"}, strings.Fields(line))
		assert.NotContains(t, descriptors, marker)
	})
}

func TestSpawner_WritesToAPipeBlock(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("head -c 300000 /dev/zero", captured)
		defer started.Stdout.Close()
		got, err := io.ReadAll(started.Stdout)
		require.NoError(t, err)
		assert.Len(t, got, 300000)
		assert.Zero(t, b.await(Died, run).Exit.Code)
	})
}

func TestSpawner_HandsADescriptorForNotificationsOver(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("echo up >&5; ls /proc/$$/fd", captured, func(s *Spec) { s.NotifyFD = 5 })
		assert.Equal(t, "up", firstLine(t, started.Notify))
		b.await(Gone, run)
		rest, err := io.ReadAll(started.Stdout)
		require.NoError(t, err)
		assert.Equal(t, "0\n1\n2\n5\n", string(rest), "the numbers before it are not used")
		started.Close()
	})
}

func TestSpawner_StopSignalsTheWholeGroup(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("sleep 1000 & echo $!; wait", captured)
		grandchild, err := strconv.Atoi(firstLine(t, started.Stdout))
		require.NoError(t, err)
		require.NoError(t, started.Stdout.Close())
		b.Stop("sh", run)
		assert.Equal(t, syscall.SIGTERM, b.await(Died, run).Exit.Signal)
		b.await(Gone, run)
		assert.False(t, isLiving(grandchild))
		assert.Equal(t, []EventKind{Died, Gone}, b.kinds(run))
	})
}

func TestSpawner_HowARunIsStoppedCanBeChangedWhileItRuns(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap '' TERM; trap 'exit 3' INT; echo up; while :; do sleep 0.01; done", captured)
		assert.Equal(t, "up", firstLine(t, started.Stdout))
		require.NoError(t, started.Stdout.Close())
		b.SetStop("sh", run+1, Stop{Signal: syscall.SIGKILL}) // of nobody
		b.SetStop("sh", run, Stop{Signal: syscall.SIGINT, Grace: -1})
		b.Stop("sh", run)
		assert.Equal(t, 3, b.await(Died, run).Exit.Code)
		b.await(Gone, run)
		assert.Equal(t, []EventKind{Died, Gone}, b.kinds(run))
	})
}

func TestSpawner_AnotherStopSignalIsSentToWhatIsBeingStopped(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("exec 2>/dev/null; trap 'echo term' TERM; trap 'exit 3' INT; echo up; while :; do sleep 0.01; done", captured)
		defer started.Close()
		assert.Equal(t, "up", firstLine(t, started.Stdout))
		b.SetStop("sh", run, Stop{Grace: -1}) // no signal: something else asks it
		b.Stop("sh", run)
		b.SetStop("sh", run, Stop{Signal: syscall.SIGTERM, Grace: -1})
		assert.Equal(t, "term", firstLine(t, started.Stdout))
		b.SetStop("sh", run, Stop{Signal: syscall.SIGINT, Grace: -1})
		assert.Equal(t, 3, b.await(Died, run).Exit.Code)
		b.await(Gone, run)
	})
}

func TestSpawner_ASignalReachesTheProcessAlone(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap 'echo hup' HUP; sh -c 'echo $$; exec sleep 1000' & echo up; while :; do sleep 0.01; done", captured)
		defer started.Close()
		said := []string{firstLine(t, started.Stdout), firstLine(t, started.Stdout)}
		slices.Sort(said)
		require.Equal(t, "up", said[1])
		other, err := strconv.Atoi(said[0])
		require.NoError(t, err)
		b.Signal("sh", run+1, syscall.SIGKILL) // of nobody
		b.Signal("sh", run, syscall.SIGHUP)
		assert.Equal(t, "hup", firstLine(t, started.Stdout))
		assert.True(t, isLiving(other))
		b.Kill("sh", run)
		b.await(Gone, run)
		b.Signal("sh", run, syscall.SIGHUP)
	})
}

func isLiving(pid int) bool {
	stat, err := readStat(pid)
	return err == nil && stat.state != 'Z' && stat.state != 'X'
}

func TestSpawner_StopReachesAProcessThatIsSuspended(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("echo up; kill -STOP $$; sleep 1000", captured)
		firstLine(t, started.Stdout)
		require.NoError(t, started.Stdout.Close())
		b.Stop("sh", run)
		b.await(Gone, run)
		assert.Equal(t, []EventKind{Died, Gone}, b.kinds(run))
	})
}

func TestSpawner_KillsWhatIgnoresItsSignalOnceTheGraceIsOver(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap '' TERM; echo up; while :; do sleep 1000; done", captured,
			func(s *Spec) { s.Stop.Grace = 50 * time.Millisecond })
		firstLine(t, started.Stdout)
		require.NoError(t, started.Stdout.Close())
		b.Stop("sh", run)
		assert.Equal(t, syscall.SIGKILL, b.await(Died, run).Exit.Signal)
		b.await(Gone, run)
		assert.Equal(t, []EventKind{Killed, Died, Gone}, b.kinds(run))
	})
}

func TestSpawner_WithoutAGraceItKillsAtOnce(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap 'exit 5' TERM; echo up; while :; do sleep 1000; done", captured, func(s *Spec) { s.Stop.Grace = 0 })
		firstLine(t, started.Stdout)
		started.Close()
		b.Stop("sh", run)
		assert.Equal(t, syscall.SIGKILL, b.await(Died, run).Exit.Signal)
		b.await(Gone, run)
		assert.Equal(t, []EventKind{Killed, Died, Gone}, b.kinds(run))
	})
}

func TestSpawner_AChildThatIsForkedAfterTheSignalIsSignalledToo(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap 'sleep 1000 & sleep 0.2; exit 0' TERM; echo up; while :; do read x </dev/null; done", captured)
		firstLine(t, started.Stdout)
		started.Close()
		b.Stop("sh", run)
		b.await(Gone, run)
		assert.Equal(t, []EventKind{Died, Gone}, b.kinds(run), "it need not be killed")
	})
}

func TestSpawner_KillDoesNotWaitForTheGrace(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("trap '' TERM; echo up; while :; do sleep 1000; done", captured,
			func(s *Spec) { s.Stop.Grace = -1 })
		firstLine(t, started.Stdout)
		require.NoError(t, started.Stdout.Close())
		b.Stop("sh", run)
		b.Kill("sh", run)
		assert.Equal(t, syscall.SIGKILL, b.await(Died, run).Exit.Signal)
	})
}

func TestSpawner_StopsWhatSurvivesTheProcessInItsGroup(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		up := filepath.Join(t.TempDir(), "up")
		run, started := b.shell("(trap '' TERM; : > "+up+"; while :; do sleep 1000; done) & "+
			"while [ ! -e "+up+" ]; do sleep 0.01; done; echo $!; exit 3", captured,
			func(s *Spec) { s.Stop.Grace = 50 * time.Millisecond })
		survivor, err := strconv.Atoi(firstLine(t, started.Stdout))
		require.NoError(t, err)
		assert.Equal(t, 3, b.await(Died, run).Exit.Code)
		b.await(Gone, run)
		require.NoError(t, started.Stdout.Close())
		assert.False(t, isLiving(survivor))
		assert.Equal(t, []EventKind{Died, Killed, Gone}, b.kinds(run))
	})
}

func TestSpawner_CloseLeavesNothingBehind(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		var pids []int
		for range 20 {
			_, started := b.shell("trap '' TERM; sleep 1000", func(s *Spec) { s.Stop.Grace = -1 })
			pids = append(pids, started.PID)
		}
		b.Close()
		for _, pid := range pids {
			assert.False(t, alive(pid), "pid %d", pid)
		}
		_, err := b.Spawn(Spec{ID: "late", Run: 1, Argv: []string{"/bin/true"}})
		assert.ErrorIs(t, err, ErrClosed)
	})
}

func TestSpawner_LeavesNoDescriptorOpen(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("exit 0", captured) // opens what is opened once, such as the poller
		b.await(Gone, run)
		require.NoError(t, started.Stdout.Close())
		_, err := b.Spawn(Spec{ID: "none", Argv: []string{"/nonexistent"}})
		require.Error(t, err, "and everything that was to be done before is done")
		before := b.descriptors()
		for range 20 {
			run, started := b.shell("exit 0", captured)
			b.await(Gone, run)
			require.NoError(t, started.Stdout.Close())
			_, err := b.Spawn(Spec{ID: "none", Run: run, Argv: []string{"/nonexistent"}, Stdout: StreamPipe, Stderr: StreamPipe})
			require.Error(t, err)
		}
		assert.Eventually(t, func() bool { return b.descriptors() == before }, 20*time.Second, time.Millisecond)
	})
}

func TestSpawner_SaysWhatIsMissingWhenAStartFails(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		dir := t.TempDir()
		write := func(name, content string, mode os.FileMode) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(content), mode))
			return path
		}
		tests := []struct {
			name string
			spec Spec
			want string
		}{
			{
				"a name that is in no directory of PATH",
				Spec{Argv: []string{"nosuch"}, Env: []string{"PATH=/bin:" + dir}},
				`"nosuch" is in no directory of PATH "/bin:` + dir + `": no such file or directory`,
			},
			{
				"the default PATH is used without one",
				Spec{Argv: []string{"nosuch"}},
				`"nosuch" is in no directory of PATH "` + defaultPath + `": no such file or directory`,
			},
			{
				"a file without the right to execute",
				Spec{Argv: []string{write("plain", "", 0o644)}},
				`execute "` + dir + `/plain": permission denied`,
			},
			{
				"an interpreter that is missing",
				Spec{Argv: []string{write("script", "#!/nonexistent\n", 0o755)}},
				`execute "` + dir + `/script": its interpreter or loader is missing: no such file or directory`,
			},
			{
				"no program at all",
				Spec{Argv: []string{write("text", "hello\n", 0o755)}},
				`execute "` + dir + `/text": it is neither a binary for this machine nor a script with a #! line: exec format error`,
			},
			{
				"a working directory that is missing",
				Spec{Argv: []string{"/bin/true"}, Dir: dir + "/none"},
				`working directory "` + dir + `/none": no such file or directory`,
			},
			{
				"a working directory that is a file",
				Spec{Argv: []string{"/bin/true"}, Dir: dir + "/plain"},
				`working directory "` + dir + `/plain": not a directory`,
			},
		}
		b := newBench(t, spawner)
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				tt.spec.ID, tt.spec.Run = "bad", uint64(i)
				_, err := b.Spawn(tt.spec)
				assert.EqualError(t, err, tt.want)
			})
		}
	})
}

func TestSpawner_LooksARelativeProgramUpInTheWorkingDirectory(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "seven"), []byte("#!/bin/sh\nexit 7\n"), 0o755))
		b := newBench(t, spawner)
		for i, spec := range []Spec{
			{Argv: []string{"./bin/seven"}, Dir: dir},
			{Argv: []string{"seven"}, Dir: dir, Env: []string{"PATH=bin"}},
			{Argv: []string{"seven"}, Env: []string{"PATH=/nonexistent:" + dir + "/bin"}},
		} {
			spec.ID, spec.Run = "seven", uint64(i)
			_, err := b.Spawn(spec)
			require.NoError(t, err)
			assert.Equal(t, 7, b.await(Died, uint64(i)).Exit.Code)
		}
	})
}

func TestSpawner_RefusesTextsThatNoProgramCanBeGiven(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		good := Spec{ID: "sh", Run: 1, Argv: []string{"/bin/true"}, Env: []string{"PATH=/bin", "EMPTY=", "TWICE=="}}
		for want, spoil := range map[string]func(*Spec){
			`an entry of the environment is no NAME=value: "NAME"`:            func(s *Spec) { s.Env = append(s.Env, "NAME") },
			`an entry of the environment is no NAME=value: ""`:                func(s *Spec) { s.Env = append(s.Env, "") },
			`an entry of the environment is no NAME=value: "=value"`:          func(s *Spec) { s.Env = append(s.Env, "=value") },
			`the variable "A" holds a NUL byte`:                               func(s *Spec) { s.Env = append(s.Env, "A=b\x00C=d") },
			`the variable "A\x00" holds a NUL byte`:                           func(s *Spec) { s.Env = append(s.Env, "A\x00=b") },
			`the command or the directory holds a NUL byte: "an\x00argument"`: func(s *Spec) { s.Argv = append(s.Argv, "an\x00argument") },
			`the command or the directory holds a NUL byte: "/tmp\x00"`:       func(s *Spec) { s.Dir = "/tmp\x00" },
		} {
			bad := good
			bad.Env, bad.Argv = slices.Clip(bad.Env), slices.Clip(bad.Argv)
			spoil(&bad)
			before := b.descriptors()
			_, err := b.Spawn(bad)
			assert.EqualError(t, err, `run 1 of "sh": invalid argument: `+want)
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.Equal(t, before, b.descriptors())
		}
		_, err := b.Spawn(good)
		require.NoError(t, err, "the run is not used up, and the connection lives")
		assert.Zero(t, b.await(Died, 1).Exit.Code)
		b.await(Gone, 1)
	})
}

func TestSpawner_GivesAProcessALifeThatNoThreadEnds(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		var run uint64
		var started Started
		thread := make(chan int)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			tid := syscall.Gettid()
			run, started = b.shell("trap 'echo heard' USR1; echo up; while :; do sleep 0.01; done", captured, func(s *Spec) { s.Stderr = StreamNull })
			thread <- tid
		}()
		tid := <-thread
		defer started.Close()
		assert.Equal(t, "up", firstLine(t, started.Stdout))
		if tid != os.Getpid() { // the first thread stays, as a zombie would
			require.Eventually(t, func() bool {
				_, err := os.Stat("/proc/self/task/" + strconv.Itoa(tid))
				return os.IsNotExist(err)
			}, 20*time.Second, time.Millisecond, "the thread lives on")
		}
		b.Signal("sh", run, syscall.SIGUSR1)
		assert.Equal(t, "heard", firstLine(t, started.Stdout))
		assert.Equal(t, []EventKind(nil), b.kinds(run))
	})
}

func TestExit_TellsOfACoreThatWasDumped(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	require.NoError(t, err)
	if strings.ContainsAny(string(pattern), "|/@") {
		t.Skipf("a core goes to %q, outside of the test's reach", strings.TrimSpace(string(pattern)))
	}
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_CORE, &limit))
	if limit.Max < 1<<20 {
		t.Skipf("a core may have %d bytes at most", limit.Max)
	}
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		for _, dumps := range []bool{true, false} {
			size := uint64(0)
			if dumps {
				size = limit.Max
			}
			directory := t.TempDir()
			run, _ := b.shell("kill -ABRT $$", func(s *Spec) {
				s.Dir = directory
				s.Rights.Limits = []Limit{{CoreSize, size, LimitUnchanged}}
			})
			exit := b.await(Died, run).Exit
			assert.Equal(t, syscall.SIGABRT, exit.Signal)
			assert.Equal(t, dumps, exit.Core)
			cores, err := filepath.Glob(filepath.Join(directory, "*"))
			require.NoError(t, err)
			assert.Equal(t, dumps, len(cores) == 1, "%q", cores)
		}
	})
}

// A process that is frozen in a freezer of cgroup version 1 does not die of KILL before it
// is thawed. One that waits for its vfork would do for a process in state D too, but KILL
// ends that wait.
func TestSpawner_TellsOfAProcessThatKILLDoesNotEnd(t *testing.T) {
	const freezers = "/sys/fs/cgroup/freezer"
	freezer := filepath.Join(freezers, "warden-test-"+strconv.Itoa(os.Getpid()))
	if _, err := os.Stat(filepath.Join(freezers, "cgroup.procs")); err != nil {
		t.Skipf("needs the freezer of cgroup version 1: %v", err)
	}
	if err := os.Mkdir(freezer, 0o755); err != nil {
		t.Skipf("needs a freezer of its own: %v", err)
	}
	set := func(file, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(freezer, file), []byte(text), 0))
	}
	t.Cleanup(func() {
		set("freezer.state", "THAWED")
		assert.Eventually(t, func() bool { return os.Remove(freezer) == nil }, 20*time.Second, time.Millisecond)
	})
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		run, started := b.shell("exec sleep 1000")
		set("cgroup.procs", strconv.Itoa(started.PID))
		set("freezer.state", "FROZEN")
		require.Eventually(t, func() bool {
			state, err := os.ReadFile(filepath.Join(freezer, "freezer.state"))
			return err == nil && string(state) == "FROZEN\n"
		}, 20*time.Second, time.Millisecond)
		asked := monotonic()
		b.Kill("sh", run)
		b.await(Unkillable, run)
		assert.GreaterOrEqual(t, monotonic()-asked, UnkillableAfter)
		assert.True(t, isLiving(started.PID))
		assert.NotContains(t, b.kinds(run), Died)
		other, _ := b.shell("exit 3")
		assert.Equal(t, 3, b.await(Died, other).Exit.Code, "the others are not held up")

		set("freezer.state", "THAWED")
		assert.Equal(t, syscall.SIGKILL, b.await(Died, run).Exit.Signal)
		b.await(Gone, run)
	})
}
