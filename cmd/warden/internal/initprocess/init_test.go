// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/announce"
)

const crashed = "warden: init: the collector crashed (%s) and is started again in %s; its processes are left as they are\n"

func TestInit_EndsWithTheStatusOfACollectorThatNeverAttached(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit=0": 0, "exit=3": 3, "exit=255": 255, "die=SIGKILL": 137, "die=SIGTERM": 143} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			r := startInit(t, script)
			assert.Equal(t, want, r.wait())
			assert.Empty(t, r.stderr())
			assert.Equal(t, []string{"run"}, r.log())
		})
	}
}

func TestInit_EndsAsAnnounced(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{
		"attach await=SIGUSR1 ending=139 exit=1":      139,
		"attach await=SIGUSR1 ending=0 exit=1":        0,
		"attach await=SIGUSR1 ending=own exit=4":      4,
		"attach await=SIGUSR1 ending=own die=SIGKILL": 137,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			r := startInit(t, script)
			r.until("the keeper", func() bool { return len(r.log()) == 2 })
			// A collector dismisses its keeper before it ends.
			require.NoError(t, syscall.Kill(r.keeper(), syscall.SIGKILL))
			r.signal(syscall.SIGUSR1)
			assert.Equal(t, want, r.wait())
			assert.Equal(t, []string{"run", "keeper", "heard SIGUSR1"}, r.log())
		})
	}
}

func TestInit_StartsACrashedCollectorAgainAndSaysSo(t *testing.T) {
	t.Parallel()
	r := startInit(t, "attach die=SIGKILL", "exit=0", "attach-again ending=own exit=5")
	assert.Equal(t, 5, r.wait())
	assert.Equal(t, fmt.Sprintf(crashed, "SIGKILL", "500ms")+fmt.Sprintf(crashed, "exit status 0, unannounced", "1s")+
		"warden: init: the collector has ended; waiting for its keeper to stop the processes that it left\n", r.stderr())
	assert.Equal(t, []string{"run", "keeper", "run", "run", "keeper is stopping its processes", "keeper leaves"}, r.log())
	assert.Empty(t, r.marked())
}

func TestInit_ForwardsSignals(t *testing.T) {
	t.Parallel()
	r := startInit(t, "await=SIGUSR1 await=SIGUSR2 await=SIGHUP await=SIGQUIT await=SIGINT await=SIGTERM exit=6")
	r.untilLogged("run")
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGUSR1, "SIGUSR1"}, {syscall.SIGUSR2, "SIGUSR2"}, {syscall.SIGHUP, "SIGHUP"}, {syscall.SIGQUIT, "SIGQUIT"}, {syscall.SIGINT, "SIGINT"}, {syscall.SIGTERM, "SIGTERM"}} {
		r.signal(s.signal)
		r.untilLogged("heard " + s.name)
	}
	assert.Equal(t, 6, r.wait())
	assert.Equal(t, []string{"run", "heard SIGUSR1", "heard SIGUSR2", "heard SIGHUP", "heard SIGQUIT", "heard SIGINT", "heard SIGTERM"}, r.log())
}

func TestInit_AskedWithoutACollectorStopsTheKeeperAndWaitsForIt(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			r := startInit(t, crashes...)
			r.untilLongBackOff()
			r.signal(s)
			assert.Equal(t, 0, r.wait())
			r.requireStoppedByKeeper()
			assert.Empty(t, r.marked())
			assert.NoDirExists(t, fmt.Sprintf("/proc/%d", r.keeper()), "not even its zombie")
		})
	}
}

func TestInit_AskedBeforeTheExtensionListensDoesNotStartAgain(t *testing.T) {
	t.Parallel()
	r := startInit(t, "attach exit=1", "deaf=SIGTERM log=deaf await=SIGUSR1")
	r.untilLogged("deaf")
	r.signal(syscall.SIGTERM)
	assert.Equal(t, 143, r.wait())
	assert.Equal(t, []string{"run", "keeper", "run", "deaf", "keeper is stopping its processes", "keeper leaves"}, r.log())
}

func TestInit_LeavesTheCollectorWhatItHasItself(t *testing.T) {
	t.Parallel()
	r := prepare(t, "report")
	given, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer given.Close()
	elsewhere := t.TempDir()
	r.cmd.Dir = elsewhere
	r.cmd.Env = append(os.Environ(), "WARDEN_TEST_INHERITED=yes", announce.Variable+"=3")
	r.cmd.ExtraFiles = []*os.File{given}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.start()
	assert.Equal(t, 0, r.wait())
	program, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	assert.Equal(t, []string{
		"run", "dir " + elsewhere, "variable yes", "descriptor 3 " + program, "init listens", "own group false",
	}, r.log())
}

func TestInit_LeavesTheCollectorItsSignalsAsWithoutInit(t *testing.T) {
	t.Parallel()
	show := []string{"grep", "-E", "SigBlk|SigIgn", "/proc/self/status"}
	want, err := exec.Command(show[0], show[1:]...).Output()
	require.NoError(t, err)
	program, err := warden()
	require.NoError(t, err)
	got, err := exec.Command(program, append([]string{"init", "--"}, show...)...).Output()
	require.NoError(t, err)
	assert.Contains(t, string(got), "SigBlk:")
	assert.Equal(t, string(want), string(got))
}

func TestInit_OutlivesTheReaderOfItsWords(t *testing.T) {
	t.Parallel()
	t.Run("one that has gone", func(t *testing.T) {
		t.Parallel()
		r := prepare(t, "attach exit=1", "ending=7 exit=7")
		readEnd, writeEnd, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, readEnd.Close())
		r.cmd.Stderr = writeEnd
		r.start()
		require.NoError(t, writeEnd.Close())
		assert.Equal(t, 7, r.wait())
	})
	t.Run("one that does not read", func(t *testing.T) {
		t.Parallel()
		r := prepare(t, "attach exit=1", "ending=7 exit=7")
		var ends [2]int
		require.NoError(t, syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK))
		defer syscall.Close(ends[0])
		defer syscall.Close(ends[1])
		for err := error(nil); err == nil; {
			_, err = syscall.Write(ends[1], make([]byte, 1024))
		}
		require.NoError(t, syscall.SetNonblock(ends[1], false))
		file, err := syscall.Dup(ends[1])
		require.NoError(t, err)
		full := os.NewFile(uintptr(file), "full pipe")
		defer full.Close()
		r.cmd.Stderr = full
		r.start()
		assert.Equal(t, 7, r.wait())
	})
}

func TestInit_OutsideANamespaceAdoptsTheKeeperOfADeadCollector(t *testing.T) {
	t.Parallel()
	r := startInit(t, "attach die=SIGKILL", "await=SIGUSR1 exit=1")
	r.untilSaid("again in 500ms")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.keeper()))
	require.NoError(t, err)
	_, fields, _ := strings.Cut(string(stat), ") ")
	assert.Equal(t, strconv.Itoa(r.cmd.Process.Pid), strings.Fields(fields)[1], "the parent")
}

func TestInit_OutsideANamespaceReapsOrphans(t *testing.T) {
	t.Parallel()
	r := startInit(t, "orphans=20 log=left await=SIGUSR1")
	r.untilLogged("left")
	children := func() (n int) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", r.cmd.Process.Pid))
		require.NoError(t, err)
		for _, thread := range threads {
			text, _ := os.ReadFile(thread)
			n += len(strings.Fields(string(text)))
		}
		return n
	}
	r.until("no child but the collector", func() bool { return children() == 1 })
	r.signal(syscall.SIGUSR1)
	assert.Equal(t, 0, r.wait())
}

func TestInit_ReadsAnnouncementsAsTheyCome(t *testing.T) {
	t.Parallel()
	const moreThanAPipeHolds = "ending-often=10000"
	r := startInit(t, moreThanAPipeHolds+" exit=3")
	assert.Equal(t, 3, r.wait())
}

func TestInit_IsDoneWithACollectorThatNeverAnnounces(t *testing.T) {
	t.Parallel()
	r := startInit(t, "hang-up log=done await=SIGUSR1 exit=3")
	r.untilLogged("done")
	pipe := r.log()[1]
	require.Contains(t, pipe, "pipe:[")
	// Otherwise it would look at the closed pipe again and again.
	r.until("init closes its end", func() bool {
		descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.cmd.Process.Pid))
		require.NoError(t, err)
		return !slices.ContainsFunc(descriptors, func(path string) bool {
			what, _ := os.Readlink(path)
			return what == pipe
		})
	})
	r.signal(syscall.SIGUSR1)
	assert.Equal(t, 3, r.wait())
}
