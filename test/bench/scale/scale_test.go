// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelwarden/warden/test/bench/harness"
)

// Each round starts n processes one after the other, both streams captured, kills the
// collector, and starts another one, which takes them over. It reports
//
//	first-us, last-us   what the start of one took among the first and the last 500
//	adopt-ms            from the start of the new collector to its config.applied
//	PSS-MiB             collector and keeper then
//
// The processes need 3 descriptors each in the keeper and 2 in the collector.
func BenchmarkScale(b *testing.B) {
	if os.Getenv("WARDEN_BINARY") == "" {
		b.Skip("WARDEN_BINARY does not name the built otelcol-warden: use make bench")
	}
	program := harness.Compile(b, "beat", b.TempDir())
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("processes=%d", n), func(b *testing.B) {
			var first, last, adopt time.Duration
			var memory float64
			for b.Loop() {
				dir := b.TempDir()
				events := filepath.Join(dir, "events.json")
				beats := harness.NewBeats(b, dir)
				c := harness.Start(b, dir, harness.Config{
					Processes: n, Instances: true, Command: []string{program, beats.Path}, Captured: true, Scrape: "1h", Events: events,
				})
				at := make([]time.Duration, n)
				for i := range at {
					at[i] = beats.Next().At
				}
				const some = 500
				first += (at[some-1] - at[0]) / (some - 1)
				last += (at[n-1] - at[n-some]) / (some - 1)

				awaitEvent(b, events, "supervisor.started")
				c.Kill()
				begin := time.Now()
				c = c.Again()
				adopt += awaitEvent(b, events, "config.applied").Sub(begin)
				memory += c.Memory()
				c.Stop()
			}
			rounds := float64(b.N)
			b.ReportMetric(float64(first.Microseconds())/rounds, "first-us")
			b.ReportMetric(float64(last.Microseconds())/rounds, "last-us")
			b.ReportMetric(float64(adopt.Milliseconds())/rounds, "adopt-ms")
			b.ReportMetric(memory/rounds, "PSS-MiB")
		})
	}
}

// awaitEvent waits until an event is in the file, and returns its time.
func awaitEvent(b *testing.B, path, name string) time.Time {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if at := findEvent(b, path, name); !at.IsZero() {
			return at
		}
	}
	require.FailNow(b, "no event", name)
	return time.Time{}
}

// findEvent returns the time of the last event of that name, zero if there is none.
func findEvent(b *testing.B, path, name string) (at time.Time) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return at
	}
	require.NoError(b, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(lines.Bytes())
		if err != nil {
			return time.Time{} // its last line is being written
		}
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					if record.EventName() == name {
						at = record.Timestamp().AsTime()
					}
				}
			}
		}
	}
	return at
}
