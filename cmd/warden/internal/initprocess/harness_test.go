// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	// patience bounds every wait for something that is to happen; only a test that
	// fails uses it up.
	patience = time.Minute
	// look is how often a wait looks.
	look = 5 * time.Millisecond
	// mark is the variable by which a test finds all that it started.
	mark = "WARDEN_TEST_MARK"
)

// programName is that of the program under test, in the directory of temporary files.
var programName = "warden-test-" + uuid.NewString()

// warden builds the real program, once; TestMain removes it.
var warden = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), programName)
	if out, err := exec.Command("go", "build", "-o", path, "../..").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// initRun is one run of `warden init` with a played collector.
type initRun struct {
	t     *testing.T
	dir   string
	mark  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// prepare makes a run that is not yet started.
func prepare(t *testing.T, scripts ...string) *initRun {
	t.Helper()
	program, err := warden()
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	r := &initRun{t: t, dir: t.TempDir(), mark: uuid.NewString(), ended: make(chan struct{})}
	r.cmd = exec.Command(program, append([]string{"init", "--", self, partCollector, r.dir}, scripts...)...)
	return r
}

func startInit(t *testing.T, scripts ...string) *initRun {
	t.Helper()
	r := prepare(t, scripts...)
	r.start()
	return r
}

func (r *initRun) start() {
	r.t.Helper()
	if r.cmd.Stderr == nil {
		stderr, err := os.Create(filepath.Join(r.dir, "stderr"))
		require.NoError(r.t, err)
		defer stderr.Close()
		r.cmd.Stderr = stderr
	}
	// The race detector otherwise holds up the exit of each played process for a second.
	r.cmd.Env = append(r.cmd.Environ(), mark+"="+r.mark, "GORACE=atexit_sleep_ms=0")
	require.NoError(r.t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	r.t.Cleanup(r.cleanup)
}

// cleanup ends whatever is left of the run.
func (r *initRun) cleanup() {
	_ = r.cmd.Process.Kill()
	<-r.ended
	// What is being forked is missed by one look.
	for left := r.marked(); len(left) > 0; left = r.marked() {
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if r.t.Failed() {
		r.t.Logf("the log:\n%s\nstandard error:\n%s", readLog(r.dir), r.stderr())
	}
}

// marked are the processes of the run that live.
func (r *initRun) marked() []int {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(r.t, err)
	var pids []int
	for _, path := range environs {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(mark+"="+r.mark)) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		require.NoError(r.t, err)
		pids = append(pids, pid)
	}
	return pids
}

func (r *initRun) stderr() string {
	text, _ := os.ReadFile(filepath.Join(r.dir, "stderr"))
	return string(text)
}

// log are the lines that the collectors and keepers wrote, without PIDs.
func (r *initRun) log() []string {
	lines := strings.Split(strings.TrimSuffix(readLog(r.dir), "\n"), "\n")
	for i, line := range lines {
		if _, err := fmt.Sscanf(line, "keeper %d", new(int)); err == nil {
			lines[i] = "keeper"
		}
	}
	return lines
}

// keeper is the PID of the one that has been logged.
func (r *initRun) keeper() int {
	r.t.Helper()
	_, pid, found := strings.Cut(readLog(r.dir), "keeper ")
	require.True(r.t, found)
	pid, _, _ = strings.Cut(pid, "\n")
	keeper, err := strconv.Atoi(pid)
	require.NoError(r.t, err)
	return keeper
}

func (r *initRun) until(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(look) {
		select {
		case <-r.ended:
			require.True(r.t, condition(), "init ended (%s) before: %s", r.cmd.ProcessState, what)
			return
		default:
		}
		require.True(r.t, time.Now().Before(deadline), "waited %s in vain for: %s", patience, what)
	}
}

func (r *initRun) untilLogged(line string) {
	r.t.Helper()
	r.until(line, func() bool { return strings.Contains("\n"+readLog(r.dir), "\n"+line+"\n") })
}

func (r *initRun) untilSaid(text string) {
	r.t.Helper()
	r.until(text, func() bool { return strings.Contains(r.stderr(), text) })
}

func (r *initRun) signal(s syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(s))
}

// requireStoppedByKeeper requires that init waited for its keeper, which did not
// hurry, and started nothing after it.
func (r *initRun) requireStoppedByKeeper() {
	r.t.Helper()
	log := r.log()
	require.Equal(r.t, []string{"keeper is stopping its processes", "keeper leaves"}, log[max(0, len(log)-2):])
}

// untilGone waits until nothing of the run lives.
func (r *initRun) untilGone() {
	r.t.Helper()
	r.until("the end of everything", func() bool { return len(r.marked()) == 0 })
}

// wait returns init's exit status.
func (r *initRun) wait() int {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		require.Fail(r.t, "init did not end", "waited %s", patience)
	}
	return r.cmd.ProcessState.ExitCode()
}

// crashes are the scripts of a collector that attaches, and crashes again and again.
var crashes = []string{"attach exit=1", "exit=1"}

// untilLongBackOff drives a run of crashes to where the next start is half a minute
// away: a hangup skips a back-off.
func (r *initRun) untilLongBackOff() {
	r.t.Helper()
	for _, delay := range []string{"500ms", "1s", "2s", "4s", "8s", "16s"} {
		r.untilSaid("again in " + delay)
		r.signal(syscall.SIGHUP)
	}
	r.untilSaid("again in 32s")
}
