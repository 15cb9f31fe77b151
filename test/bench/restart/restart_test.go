// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/test/bench/harness"
)

// Each iteration kills one process of the floor and then one of the binary, and waits
// each time for what is started instead, which says when its first instruction ran. It
// reports medians, in microseconds from before the kill, and how many times the floor
// the binary's is.
func BenchmarkRestart(b *testing.B) {
	dir := b.TempDir()
	if os.Getenv("WARDEN_BINARY") == "" {
		b.Skip("WARDEN_BINARY does not name the built otelcol-warden: use make bench")
	}
	program, floor := harness.Compile(b, "beat", dir), harness.Compile(b, "floor", dir)
	for _, of := range []struct {
		n    int
		keys string // that take the exec stub
	}{{n: 1}, {n: 1000}, {n: 1, keys: `umask: "027"`}, {n: 1000, keys: `umask: "027"`}} {
		b.Run(fmt.Sprintf("processes=%d/stub=%t", of.n, of.keys != ""), func(b *testing.B) {
			least := newSubject(b, "floor")
			cmd := exec.Command(floor, program, least.beats.Path)
			require.NoError(b, cmd.Start())
			defer func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				_ = cmd.Wait()
			}()
			least.await(1)
			ours := newSubject(b, "ours")
			collector := harness.Start(b, ours.dir, harness.Config{
				Processes: of.n, Command: []string{program, ours.beats.Path}, Keys: of.keys, Scrape: "1h",
			})
			ours.await(of.n)
			for b.Loop() {
				least.kill()
				ours.kill()
			}
			collector.Stop()
			b.ReportMetric(0, "ns/op") // it is the pauses
			b.ReportMetric(float64(least.median().Microseconds()), "floor-us")
			b.ReportMetric(float64(ours.median().Microseconds()), "p50-us")
			b.ReportMetric(float64(ours.median())/float64(least.median()), "times-floor")
		})
	}
}

// subject is what restarts processes.
type subject struct {
	dir   string
	beats *harness.Beats
	pids  []int
	next  int // index in pids
	took  []time.Duration
}

func newSubject(b *testing.B, name string) *subject {
	dir := filepath.Join(b.TempDir(), name)
	require.NoError(b, os.Mkdir(dir, 0o700))
	return &subject{dir: dir, beats: harness.NewBeats(b, dir)}
}

func (s *subject) await(n int) {
	for range n {
		s.pids = append(s.pids, s.beats.Next().PID)
	}
}

// pause lets everything come to rest, which is when a process dies as a rule.
const pause = 150 * time.Millisecond

// kill kills the processes one after the other.
func (s *subject) kill() {
	time.Sleep(pause)
	begin := harness.Monotonic()
	_ = syscall.Kill(s.pids[s.next], syscall.SIGKILL)
	beat := s.beats.Next()
	s.took = append(s.took, beat.At-begin)
	s.pids[s.next] = beat.PID
	s.next = (s.next + 1) % len(s.pids)
}

func (s *subject) median() time.Duration {
	slices.Sort(s.took)
	return harness.Percentile(s.took, 0.5)
}
