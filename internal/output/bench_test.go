// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// benchLine is a line of 128 bytes.
var benchLine = append(bytes.Repeat([]byte{'x'}, 127), '\n')

// writeLines is what the writer of BenchmarkReader does, in a process of its own:
// count lines, as many in a write as fit in chunk bytes.
func writeLines(args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	chunk, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	all := bytes.Repeat(benchLine, chunk/len(benchLine)+2)
	for total, done := count*len(benchLine), 0; done < total; {
		from := done % len(benchLine)
		n := min(chunk, total-done)
		if _, err := os.Stdout.Write(all[from : from+n]); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// BenchmarkReader tells what a line of 128 bytes costs from the pipe to the handler:
// time, and CPU time of the reader alone, as the writer is another process. The
// sources are those of what can be peeked and of what cannot.
func BenchmarkReader(b *testing.B) {
	sources := []struct {
		name string
		set  func(*Reader)
	}{
		{"peek", func(*Reader) {}},
		{"read", func(r *Reader) { r.source = &memorySource{} }},
	}
	// The writes of 100,000 and 4,000 bytes end within a line.
	for _, chunk := range []int{100_000, 4000, len(benchLine)} {
		for _, source := range sources {
			b.Run(fmt.Sprintf("write=%d/%s", chunk, source.name), func(b *testing.B) {
				read, write := pipe(b)
				lines, calls := 0, 0
				reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, got []Line) error {
					lines += len(got)
					calls++
					return nil
				})
				require.NoError(b, err)
				source.set(reader)
				command := helperProcess(b, "write-lines", strconv.Itoa(b.N), strconv.Itoa(chunk))
				command.Stdout = write
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, command.Start())
				require.NoError(b, write.Close())
				begun := cpuTime(b)
				lost, err := reader.Run(b.Context())
				used := cpuTime(b) - begun
				b.StopTimer()
				require.NoError(b, err)
				require.NoError(b, command.Wait())
				require.Zero(b, lost)
				require.Equal(b, b.N, lines)
				b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/line")
				b.ReportMetric(float64(lines)/float64(calls), "lines/call")
			})
		}
	}
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
