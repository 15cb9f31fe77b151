// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writer writes numbered lines of 128 bytes until it is asked to stop, as fast as it can
// or with a pause after each write. How many, and how long a write has taken at most, it
// leaves in a file of its name.
func writer() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	pause, _ := time.ParseDuration(os.Getenv("WARDEN_E2E_PAUSE"))
	size := 4096
	if pause > 0 {
		size = 128
	}
	out := &timed{}
	lines := bufio.NewWriterSize(out, size)
	filling := strings.Repeat("x", 128-11)
	n := 0
	for ; len(asked) == 0; n++ {
		fmt.Fprintf(lines, "%09d %s\n", n, filling)
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	if err := lines.Flush(); err != nil {
		panic(err)
	}
	name := filepath.Join(os.Getenv("WARDEN_E2E_DIR"), os.Getenv("WARDEN_INSTANCE")+".written")
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d %d", n, out.longest.Milliseconds()), 0o600); err != nil {
		panic(err)
	}
	os.Exit(0)
}

type timed struct{ longest time.Duration }

func (w *timed) Write(p []byte) (int, error) {
	began := time.Now()
	n, err := os.Stdout.Write(p)
	w.longest = max(w.longest, time.Since(began))
	return n, err
}

// writers makes a collector of config/lossless.yaml with so many writers.
func writers(t *testing.T, b *backend, n int, pause, onFull time.Duration) *collector {
	t.Helper()
	c := ready(t, "config/lossless.yaml")
	self, err := os.Executable()
	require.NoError(t, err)
	c.write("writers.yaml", fmt.Sprintf(`
- name: writer
  command: [%s]
  instances: %d
  environment: {%s: writer, WARDEN_E2E_DIR: %s, WARDEN_E2E_PAUSE: %s}
  output: {on_full: {wait: %s}}
`, self, n, role, c.dir, pause, onFull))
	c.cmd.Env = append(c.cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+b.at, "WARDEN_CHILDREN="+c.path("writers.yaml"))
	return c
}

// result compares what the writers say to have written with what the backend has.
func (b *backend) result(c *collector, n int) (all result, longest time.Duration) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n {
		name := fmt.Sprintf("writer-%d", i)
		var written, stall int
		_, err := fmt.Sscan(c.read(strconv.Itoa(i)+".written"), &written, &stall)
		require.NoError(b.t, err)
		got := b.taken[name]
		require.NotNil(b.t, got, "nothing came of %s", name)
		require.Less(b.t, got.highest, written)
		all.written += written
		all.missing += written - got.count
		all.duplicates += got.duplicates
		all.dropped += b.dropped[name]
		assert.Equal(b.t, written-got.count, b.dropped[name], "lines of %s missing, and said to be", name)
		longest = max(longest, time.Duration(stall)*time.Millisecond)
	}
	return all, longest
}

// peak is the most memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kib << 10
}

// mostMemory is what a collector needs at most for 20 processes that write as fast as
// they can, whatever the backend does; docs/delivery.md states it.
const mostMemory = 256 << 20

func TestLossless_NothingIsMissingHoweverOftenTheCollectorIsKilled(t *testing.T) {
	for _, way := range []struct {
		name    string
		refuses func() (int, time.Duration)
	}{
		{"with a backend that stays up", nil},
		{"with a backend that refuses, delays and fails", moods},
	} {
		t.Run(way.name, func(t *testing.T) {
			const processes, kills = 20, 15
			b := startBackend(t)
			b.refuse(way.refuses)
			c := writers(t, b, processes, 0, -time.Second)
			c.start()
			most := 0
			for range kills {
				before := b.answered()
				c.until("the backend to hear of this collector", func() bool { return b.answered() > before+processes })
				time.Sleep(rand.N(4 * time.Second))
				most = max(most, peak(t, c.cmd.Process.Pid))
				c.kill()
				c = c.successor()
			}
			before := b.answered()
			c.until("the last collector to work", func() bool { return b.answered() > before+processes })
			b.refuse(nil)
			c.stop()
			got, _ := b.result(c, processes)
			t.Logf("%s; at most %d MiB", got, most>>20)
			assert.Zero(t, got.missing)
			assert.Less(t, float64(got.duplicates), 0.01*float64(got.written), "more than 1 % came twice")
			assert.Less(t, most, mostMemory)
		})
	}
}

// The run has ended, that was dealt with and the next one runs, when the collector ends
// that has not yet been able to deliver what the first one wrote.
func TestLossless_WhatARunWroteLastOutlivesTheCollectorThatHasSeenItsEnd(t *testing.T) {
	const lines = 10
	for _, way := range []struct {
		name string
		next func(*collector) *collector
	}{
		{"a kill", func(c *collector) *collector {
			c.kill()
			return c.successor()
		}},
		{"a reload", func(c *collector) *collector {
			before := strings.Count(c.output(), "Everything is ready")
			c.signal(syscall.SIGHUP)
			c.until("the reload", func() bool { return strings.Count(c.output(), "Everything is ready") > before })
			return c
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			b := startBackend(t)
			b.refuse(isDown)
			c := ready(t, "config/lossless.yaml")
			c.script("short", fmt.Sprintf(`
if [ -e DIR/ended ]; then touch DIR/again; exec sleep 1000; fi
for n in $(seq 0 %d); do printf '%%09d\n' $n; done
touch DIR/ended
exit 3
`, lines-1))
			c.write("short.yaml", "[{name: short, command: ["+c.path("short")+"]}]")
			c.cmd.Env = append(c.cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+b.at, "WARDEN_CHILDREN="+c.path("short.yaml"))
			c.start()
			c.until("the second run", func() bool { return c.exists("again") })
			c = way.next(c)
			c = way.next(c)
			b.refuse(nil)
			c.until("the lines", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.taken["short"] != nil && b.taken["short"].count == lines
			})
			c.until("the pipes to be closed", func() bool { return pipesOf(t, c.keeper()) <= 2*2 })
			c.stop()
		})
	}
}

// pipesOf counts the read ends of pipes that a process has.
func pipesOf(t *testing.T, pid int) (n int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	for _, entry := range entries {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name())); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestOnFull_LinesThatABackendThatIsDownCostsAreCounted(t *testing.T) {
	const processes, wait = 5, 5 * time.Second
	b := startBackend(t)
	c := writers(t, b, processes, 500*time.Microsecond, wait)
	c.start()
	c.until("the first lines", func() bool { return b.answered() > 10 })
	b.refuse(isDown)
	time.Sleep(time.Minute) // the scenario
	most := peak(t, c.cmd.Process.Pid)
	b.refuse(nil)
	before := b.answered()
	c.until("lines again", func() bool { return b.answered() > before+10 })
	c.stop()
	got, longest := b.result(c, processes)
	t.Logf("%s; the longest write took %s; at most %d MiB", got, longest, most>>20)
	assert.NotZero(t, got.dropped)
	assert.Less(t, longest, wait+2*time.Second)
	assert.Less(t, most, mostMemory)
}
