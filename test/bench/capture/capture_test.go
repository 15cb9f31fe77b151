// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/test/bench/harness"
)

// load is what the processes write together.
type load struct {
	processes, lines int
	rate, perWrite   int // lines a second of one process, 0: as fast as it can; lines in one write
}

func (l load) String() string {
	if l.rate > 0 {
		return fmt.Sprintf("processes=%d/rate=%d", l.processes, l.rate)
	}
	return fmt.Sprintf("processes=%d", l.processes)
}

func (l load) command(program, file string) []string {
	return []string{program, strconv.Itoa(l.lines / l.processes), strconv.Itoa(l.rate), strconv.Itoa(l.perWrite), file}
}

// used is what a program has used from its start to its end, which is that of the output.
type used struct {
	cpu, wall time.Duration
	peak      int64 // bytes
}

func run(b *testing.B, cmd *exec.Cmd) used {
	b.Helper()
	begun := time.Now()
	require.NoError(b, cmd.Run())
	state := cmd.ProcessState
	return used{state.UserTime() + state.SystemTime(), time.Since(begun), state.SysUsage().(*syscall.Rusage).Maxrss << 10}
}

// BenchmarkCapture takes a load with each program in turn, in every iteration. It reports
// the lines for a second of the program's CPU time, the start and the end of the
// program included, and for a second on the clock.
func BenchmarkCapture(b *testing.B) {
	binary := os.Getenv("WARDEN_BINARY")
	if binary == "" {
		b.Skip("WARDEN_BINARY does not name the built otelcol-warden: use make bench")
	}
	program := harness.Compile(b, "lines", b.TempDir())
	for _, l := range []load{
		{processes: 1, lines: 5_000_000, perWrite: 32},
		{processes: 20, lines: 5_000_000, perWrite: 32},
		{processes: 1, lines: 500_000, rate: 50_000, perWrite: 1},
	} {
		for _, s := range subjects(binary) {
			if s.alone && l.processes > 1 {
				continue
			}
			b.Run(l.String()+"/"+s.name, func(b *testing.B) {
				var sum used
				for b.Loop() {
					u := s.take(b, program, l)
					sum.cpu, sum.wall, sum.peak = sum.cpu+u.cpu, sum.wall+u.wall, max(sum.peak, u.peak)
				}
				lines := float64(l.lines * b.N)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(lines/sum.cpu.Seconds(), "lines/cpu-s")
				b.ReportMetric(lines/sum.wall.Seconds(), "lines/s")
				b.ReportMetric(float64(sum.peak)/(1<<20), "peak-MiB")
			})
		}
	}
}

// subject is a program that takes output.
type subject struct {
	name  string
	alone bool // it takes that of one process
	take  func(b *testing.B, program string, l load) used
}

// subjects are ours, and of the others those that are here.
func subjects(binary string) []subject {
	all := []subject{
		{"warden", false, func(b *testing.B, program string, l load) used { return ours(b, binary, program, l, "") }},
		{"warden-delivered", false, func(b *testing.B, program string, l load) used {
			return ours(b, binary, program, l, "{event_batch: {acknowledge: delivered}}")
		}},
	}
	if path := os.Getenv("WARDEN_S6_LOG"); path != "" {
		all = append(all, subject{"s6-log", true, func(b *testing.B, program string, l load) used {
			return piped(b, program, l, func(dir string) *exec.Cmd { return exec.Command(path, "-b", "n20", "s200000000", dir) })
		}})
	}
	if path := os.Getenv("WARDEN_SVLOGD"); path != "" {
		all = append(all, subject{"svlogd", true, func(b *testing.B, program string, l load) used {
			return piped(b, program, l, func(dir string) *exec.Cmd { return exec.Command(path, dir) })
		}})
	}
	if path := os.Getenv("WARDEN_FILELOG"); path != "" {
		all = append(all, subject{"file_log", true, func(b *testing.B, program string, l load) used { return filelog(b, path, program, l) }})
	}
	return all
}

const configuration = `
extensions:
  supervisor:
    runtime_directory: %s
    auto_shutdown: all_significant
    children:
      - {name: p, instances: %d, command: [%s], restart: temporary, significant: true, output: {on_full: {wait: -1s}}}
receivers:
  process_monitor: {topics: {lifecycle: {log: false}, supervisor: {log: false}}}
processors: %s
exporters:
  nop:
service:
  extensions: [supervisor]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines:
    logs: {receivers: [process_monitor], processors: [%s], exporters: [nop]}
`

// ours ends by itself when the processes have ended and their output was taken. That all
// of it arrives is for the tests to say.
func ours(b *testing.B, binary, program string, l load, processors string) used {
	b.Helper()
	dir, list := b.TempDir(), ""
	if processors == "" {
		processors = "{}"
	} else {
		list = "event_batch"
	}
	config := filepath.Join(dir, "config.yaml")
	writers := filepath.Join(dir, "writers")
	text := fmt.Sprintf(configuration, filepath.Join(dir, "run"), l.processes, strings.Join(l.command(program, writers), ", "), processors, list)
	require.NoError(b, os.WriteFile(config, []byte(text), 0o600))
	cmd := exec.Command(binary, "--config", config)
	cmd.Stderr = os.Stderr
	u := run(b, cmd)
	// The keeper waits for the writers and the collector for the keeper, so they are in it.
	said, err := os.ReadFile(writers)
	require.NoError(b, err)
	for _, field := range strings.Fields(string(said)) {
		us, err := strconv.Atoi(field)
		require.NoError(b, err)
		u.cpu -= time.Duration(us) * time.Microsecond
	}
	return u
}

// piped is a program that writes its standard input to files in a directory.
func piped(b *testing.B, program string, l load, logger func(dir string) *exec.Cmd) used {
	b.Helper()
	command := l.command(program, filepath.Join(b.TempDir(), "writer"))
	writer := exec.Command(command[0], command[1:]...)
	read, write, err := os.Pipe()
	require.NoError(b, err)
	cmd := logger(b.TempDir())
	writer.Stdout, cmd.Stdin = write, read
	require.NoError(b, writer.Start())
	_ = write.Close()
	u := run(b, cmd)
	_ = read.Close()
	require.NoError(b, writer.Wait())
	return u
}

// filelog is a collector with the file_log receiver, which reads what is in a file. It
// says on its own metrics page how many lines it has taken.
func filelog(b *testing.B, binary, program string, l load) used {
	b.Helper()
	dir := b.TempDir()
	log := filepath.Join(dir, "lines.log")
	port := freePort(b)
	config := filepath.Join(dir, "config.yaml")
	require.NoError(b, os.WriteFile(config, fmt.Appendf(nil, `
receivers: {file_log: {include: [%s], start_at: beginning}}
exporters: {nop: {}}
service:
  telemetry: {logs: {level: error}, metrics: {level: normal, readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: %d}}}}]}}
  pipelines: {logs: {receivers: [file_log], exporters: [nop]}}
`, log, port), 0o600))
	file, err := os.Create(log)
	require.NoError(b, err)
	defer file.Close()
	command := l.command(program, filepath.Join(b.TempDir(), "writer"))
	writer := exec.Command(command[0], command[1:]...)
	writer.Stdout = file
	require.NoError(b, writer.Start())
	defer func() { require.NoError(b, writer.Wait()) }()
	cmd := exec.Command(binary, "--config", config)
	cmd.Stderr = os.Stderr
	begun := time.Now()
	require.NoError(b, cmd.Start())
	for accepted(port) < l.lines {
		time.Sleep(50 * time.Millisecond)
	}
	wall := time.Since(begun)
	require.NoError(b, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(b, cmd.Wait())
	state := cmd.ProcessState
	return used{state.UserTime() + state.SystemTime(), wall, state.SysUsage().(*syscall.Rusage).Maxrss << 10}
}

var acceptedRecords = regexp.MustCompile(`(?m)^otelcol_receiver_accepted_log_records\S* (\S+)`)

// accepted is how many records a collector says that it has taken.
func accepted(port int) (n int) {
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for _, match := range acceptedRecords.FindAllSubmatch(text, -1) {
		count, _ := strconv.ParseFloat(string(match[1]), 64)
		n += int(count)
	}
	return n
}

func freePort(b *testing.B) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
