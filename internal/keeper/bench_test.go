// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	// nohup has it ignored, and what InProcess starts would inherit that.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	goleak.VerifyTestMain(m)
}

// makeSpawner makes a spawner for a test.
type makeSpawner func(t *testing.T, notify func(Event)) Spawner

func inProcess(t *testing.T, notify func(Event)) Spawner {
	s, err := NewInProcess(notify)
	require.NoError(t, err)
	return s
}

// inKeeper makes a client of a keeper of its own, which forgets a run when that is gone.
func inKeeper(t *testing.T, notify func(Event)) Spawner {
	return acknowledging(t, runtimeDirectory(t), notify)
}

// inHelper is the same with a keeper in this process whose helper does all the forks.
func inHelper(t *testing.T, notify func(Event)) Spawner {
	h := newPreparedHost(t, func(s *server) { s.parent.useHelper(0) })
	return acknowledging(t, h.directory, notify)
}

func acknowledging(t *testing.T, directory string, notify func(Event)) *Client {
	var c *Client
	var seqs []uint64
	attached := make(chan struct{})
	c, _ = attachTo(t, directory, func(e Event) {
		<-attached
		assert.False(t, e.Replayed)
		if seqs = append(seqs, e.Seq); e.Kind == Gone {
			assert.NoError(t, ignoreClosed(c.Commit(Commit{Acknowledge: seqs})))
			seqs = nil
		}
		notify(e)
	})
	close(attached)
	return c
}

func ignoreClosed(err error) error {
	if err == ErrClosed {
		return nil
	}
	return err
}

// eachSpawner tells the same story of every Spawner.
func eachSpawner(t *testing.T, story func(t *testing.T, spawner makeSpawner)) {
	t.Run("in process", func(t *testing.T) { story(t, inProcess) })
	t.Run("in a keeper", func(t *testing.T) { story(t, inKeeper) })
	t.Run("by a helper", func(t *testing.T) { story(t, inHelper) })
}

// runtimeDirectory returns the path of a directory that does not exist. At the end of
// the test its keeper, if one lives, is ended, and everything that it has started.
func runtimeDirectory(t testing.TB) string {
	path, err := canonical(filepath.Join(t.TempDir(), "run"))
	require.NoError(t, err)
	t.Cleanup(func() {
		endKeeper(t, path)
		if base, err := cgroupBase(path); err == nil {
			_ = (&cgroup{base}).remove() // a keeper that is killed leaves it
		}
	})
	return path
}

func endKeeper(t testing.TB, path string) {
	for {
		pid, err := findKeeper(path)
		if !assert.NoError(t, err) || pid == 0 {
			break
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil) // it may be a child of this process
	}
	_, err := SweepLeftovers(path)
	assert.NoError(t, err)
}

// attachTo attaches with a grace of a minute, unless the options say otherwise.
func attachTo(t *testing.T, directory string, notify func(Event), change ...func(*Options)) (*Client, State) {
	t.Helper()
	c, state, err := Attach(context.Background(), options(t, directory, change...), notify)
	require.NoError(t, err)
	if c.KeeperPID() == os.Getpid() {
		t.Cleanup(func() { _ = c.Detach() }) // a host: Close would wait for the end of this process
	} else {
		t.Cleanup(c.Close)
	}
	return c, state
}

func options(t *testing.T, directory string, change ...func(*Options)) Options {
	o := Options{
		Directory: directory, OrphanGrace: time.Minute, JournalLimit: 1000,
		Warn: func(text string) { t.Log("warning:", text) },
		Lost: func(err error) { assert.NoError(t, err, "the keeper is lost") },
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// bench is a spawner whose events can be waited for.
type bench struct {
	Spawner
	t      *testing.T
	mu     sync.Mutex
	events []Event
	grown  chan struct{}
	runs   uint64
}

func newBench(t *testing.T, spawner makeSpawner) *bench {
	b := emptyBench(t)
	b.Spawner = spawner(t, b.note)
	if c, ok := b.Spawner.(*Client); !ok || c.KeeperPID() != os.Getpid() {
		t.Cleanup(b.Close)
	}
	return b
}

// emptyBench has no spawner yet; its note is what is to be told.
func emptyBench(t *testing.T) *bench { return &bench{t: t, grown: make(chan struct{}, 1)} }

func (b *bench) note(e Event) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
	select {
	case b.grown <- struct{}{}:
	default:
	}
}

// descriptors counts those of this process and of the keeper.
func (b *bench) descriptors() int {
	pids := []int{os.Getpid()}
	if c, ok := b.Spawner.(*Client); ok {
		pids = append(pids, c.KeeperPID())
	}
	n := 0
	for _, pid := range pids {
		n += openFiles(b.t, pid)
	}
	return n
}

func openFiles(t *testing.T, pid int) int {
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	require.NoError(t, err)
	return len(entries)
}

// shell runs a script in /bin/sh.
func (b *bench) shell(script string, change ...func(*Spec)) (uint64, Started) {
	b.t.Helper()
	b.runs++
	spec := Spec{
		ID: "sh", Run: b.runs, Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"},
		Stop: Stop{Signal: syscall.SIGTERM, Grace: 10 * time.Second},
	}
	for _, c := range change {
		c(&spec)
	}
	started, err := b.Spawn(spec)
	require.NoError(b.t, err)
	return b.runs, started
}

// await returns the first event of that kind of the run.
func (b *bench) await(kind EventKind, run uint64) Event {
	b.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		for _, e := range b.events {
			if e.Kind == kind && e.Run == run {
				b.mu.Unlock()
				return e
			}
		}
		b.mu.Unlock()
		select {
		case <-b.grown:
		case <-deadline:
			require.FailNow(b.t, "no event", "kind %d of run %d", kind, run)
		}
	}
}

func (b *bench) kinds(run uint64) (kinds []EventKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Run == run {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func captured(s *Spec) { s.Stdout, s.Stderr = StreamPipe, StreamJoin }

// firstLine reads from the process until it has said one line.
func firstLine(t *testing.T, f *os.File) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		_, err := f.Read(b)
		require.NoError(t, err)
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
