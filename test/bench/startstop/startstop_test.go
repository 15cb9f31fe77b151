// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package startstop

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/otelwarden/warden/test/bench/harness"
)

// Each round starts the binary with n processes, waits until all of them say that
// they are up, lets it rest, reads its memory, and stops it. It reports, in
// milliseconds from the start of the binary, when the first and the last process
// was up, and how long the stop took; and the memory of collector and keeper (PSS) in MiB.
func BenchmarkStartStop(b *testing.B) {
	program := compile(b)
	for _, n := range []int{1, 100, 1000} {
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("processes=%d/parallel=%t", n, parallel), func(b *testing.B) {
				var total round
				for b.Loop() {
					r := play(b, program, n, parallel)
					total.first += r.first
					total.last += r.last
					total.stop += r.stop
					total.memory += r.memory
				}
				perRound := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
				b.ReportMetric(perRound(total.first), "first-ms")
				b.ReportMetric(perRound(total.last), "all-ms")
				b.ReportMetric(perRound(total.stop), "stop-ms")
				b.ReportMetric(total.memory/float64(b.N), "PSS-MiB")
			})
		}
	}
}

// Each round lets 1000 processes rest for 30 s between two scrapes. It reports the CPU
// time of collector and keeper, in ms per second, and how often a minute the keeper woke.
func BenchmarkIdle(b *testing.B) {
	const window = 30 * time.Second
	program := compile(b)
	var used time.Duration
	var wakeups int64
	for b.Loop() {
		c, _ := start(b, program, 1000, true)
		time.Sleep(5 * time.Second) // until the start is forgotten
		usedBefore, before := c.CPU(), c.KeeperWakeups()
		time.Sleep(window)
		used += c.CPU() - usedBefore
		wakeups += c.KeeperWakeups() - before
		c.Stop()
	}
	windows := float64(b.N) * window.Seconds()
	b.ReportMetric(float64(used.Microseconds())/1000/windows, "CPU-ms/s")
	b.ReportMetric(float64(wakeups)*60/windows, "keeper-wakeups/min")
}

func compile(b *testing.B) string {
	if os.Getenv("WARDEN_BINARY") == "" {
		b.Skip("WARDEN_BINARY does not name the built otelcol-warden: use make bench")
	}
	return harness.Compile(b, "beat", b.TempDir())
}

type round struct {
	first, last, stop time.Duration
	memory            float64
}

// start returns a collector of which all processes are up, and when they were.
func start(b *testing.B, program string, n int, parallel bool) (c *harness.Collector, r round) {
	dir := b.TempDir()
	beats := harness.NewBeats(b, dir)
	begin := harness.Monotonic()
	c = harness.Start(b, dir, harness.Config{Processes: n, Command: []string{program, beats.Path}, Parallel: parallel, Scrape: "1h"})
	for i := range n {
		at := beats.Next().At - begin
		if i == 0 {
			r.first = at
		}
		r.last = max(r.last, at)
	}
	return c, r
}

func play(b *testing.B, program string, n int, parallel bool) round {
	c, r := start(b, program, n, parallel)
	time.Sleep(2 * time.Second) // what it weighs at rest
	r.memory = c.Memory()
	begin := time.Now()
	c.Stop()
	r.stop = time.Since(begin)
	return r
}
