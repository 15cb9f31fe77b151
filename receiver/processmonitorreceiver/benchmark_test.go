// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"bytes"
	"context"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/procfs"
)

// cpuTime is what the whole process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkScrape tells the CPU time of one supervised process and scrape, all
// default metrics and their pdata included. The processes are real and sleep.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var children []supervisorextension.Process
			proc := procfs.New("/proc")
			for i := range n {
				cmd := exec.Command("sleep", "1000")
				require.NoError(b, cmd.Start())
				b.Cleanup(func() {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				})
				var st procfs.Stat
				require.NoError(b, proc.Stat(cmd.Process.Pid, 0, &st))
				child := runningProcess("p"+strconv.Itoa(i), cmd.Process.Pid, st.StartTicks)
				child.Totals.Restarts[reason("signal")] = 3
				child.Totals.Exits[reason("signal")] = 3
				children = append(children, child)
			}
			fake := newFakeSupervisor(children...)
			r := newRun(fake, func(cfg *Config) { cfg.System.Enabled = false })
			c := newCollector(r.cfg, fake, newResources(fake, &r.cfg.ResourceAttributes), r.set, "/proc", time.Now)
			b.ReportAllocs()
			begun := cpuTime(b)
			for b.Loop() {
				if _, err := c.scrape(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N)/float64(n)/1000, "cpu-us/process")
		})
	}
}

func BenchmarkScrapeSystem(b *testing.B) {
	r := newRun(nil, nil)
	c := newCollector(r.cfg, nil, nil, r.set, "/proc", time.Now)
	b.ReportAllocs()
	begun := cpuTime(b)
	for b.Loop() {
		if _, err := c.scrape(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N)/1000, "cpu-us/op")
}

// BenchmarkOutput tells the CPU time of one line of 128 bytes from the extension to
// a consumer that does nothing, in batches as they come from a full pipe and from
// a process that says one thing at a time.
func BenchmarkOutput(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			r := newRun(newFakeSupervisor(), nil)
			r.set.TelemetrySettings = componenttest.NewNopTelemetrySettings()
			r.monitor.logs = &signal[consumer.Logs]{r.set, consumertest.NewNop()}
			rep, err := newReport(r.set)
			require.NoError(b, err)
			o, err := startOutput(r.fake, newResources(r.fake, &r.cfg.ResourceAttributes), rep, r.monitor.logs.next)
			require.NoError(b, err)
			out := lines("web")
			for i := range n {
				out.Lines = append(out.Lines, supervisorextension.OutputLine{
					Time: now, Seq: uint64(i + 1), Text: bytes.Repeat([]byte("x"), 127),
				})
			}
			b.ReportAllocs()
			begun := cpuTime(b)
			for b.Loop() {
				if err := o.handle(context.Background(), out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N)/float64(n), "cpu-ns/line")
			require.NoError(b, o.shutdown(context.Background()))
		})
	}
}

// BenchmarkEvents tells the cost of one lifecycle event as a log record.
func BenchmarkEvents(b *testing.B) {
	fake := newFakeSupervisor(runningProcess("web", 1, 12))
	r := newRun(fake, nil)
	rep, err := newReport(r.set)
	require.NoError(b, err)
	l := newEventLogs(r.cfg, newResources(fake, &r.cfg.ResourceAttributes), rep, consumertest.NewNop(), time.Now)
	events := story()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.deliver(context.Background(), events, 0); err != nil {
			b.Fatal(err)
		}
	}
}
