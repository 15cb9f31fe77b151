// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// stream is what a property writes, and how.
type stream struct {
	bytes   []byte
	chunk   int
	max     int
	size    int
	packets bool // every write takes a slot of its own, however short
	cramped bool
	join    Joiner
}

// passThrough writes a stream into a pipe and checks what a reader makes of it.
func passThrough(t require.TestingT, s stream) {
	var ends [2]int
	flags := unix.O_CLOEXEC
	if s.packets {
		flags |= unix.O_DIRECT
	}
	require.NoError(t, unix.Pipe2(ends[:], flags))
	require.NoError(t, unix.SetNonblock(ends[0], true))
	read, write := os.NewFile(uintptr(ends[0]), "read"), os.NewFile(uintptr(ends[1]), "write")
	defer write.Close()
	setCapacity(t, read, s.size)
	var (
		got  bytes.Buffer
		last Line
	)
	reader, err := NewReader(read, Settings{Wait: Forever, After: 7, MaxLine: s.max, Join: s.join, JoinTimeout: time.Hour}, func(_ context.Context, lines []Line) error {
		for _, line := range lines {
			if line.Seq != max(last.Seq, 7)+1 {
				return errors.New("numbers are missing")
			}
			if got.Write(line.Text); !line.Truncated {
				got.WriteByte('\n')
			}
			last = line
		}
		return nil
	})
	require.NoError(t, err)
	if s.cramped {
		reader.source = cramped{reader.source}
	}
	written := make(chan error, 1)
	go func() {
		for rest := s.bytes; len(rest) > 0; {
			n := min(s.chunk, len(rest))
			if _, err := write.Write(rest[:n]); err != nil {
				written <- err
				return
			}
			rest = rest[n:]
		}
		written <- write.Close()
	}()
	lost, err := reader.Run(context.Background())
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.Zero(t, lost)
	require.Equal(t, max(last.Seq, 7), reader.Taken())
	plain := func(b []byte) string {
		return string(bytes.TrimSuffix(bytes.ReplaceAll(b, []byte{'\r'}, nil), []byte{'\n'}))
	}
	require.Equal(t, plain(s.bytes), plain(got.Bytes()))
}

// joiners are none, one whose blocks end soon, and one whose only block has no end.
var joiners = []Joiner{nil, JoinFrom(regexp.MustCompile(`^[a-e]|^$`)), JoinFrom(regexp.MustCompile(`^a beginning that never comes`)), JoinTraces(goTraces, javaTraces, pythonTraces)}

// Any bytes, written in any way into a pipe of any size, come out in order, and no
// writer is left waiting.
func TestReader_PassesEveryStreamThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := stream{
			chunk:   rapid.SampledFrom([]int{1, 2, 7, 100, 2049, 4096, 4097, 9000, 70_000}).Draw(t, "chunk"),
			max:     rapid.SampledFrom([]int{1, 10, 5000, MaxLine}).Draw(t, "max"),
			size:    rapid.SampledFrom([]int{4 << 10, 8 << 10, 64 << 10, 1 << 20}).Draw(t, "size"),
			packets: rapid.Bool().Draw(t, "packets"),
			cramped: rapid.Bool().Draw(t, "cramped"),
			join:    rapid.SampledFrom(joiners).Draw(t, "join"),
		}
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) int {
			if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
				return rapid.IntRange(0, 20_000).Draw(t, "long")
			}
			return rapid.IntRange(0, 150).Draw(t, "short")
		}), 0, 40).Draw(t, "lines")
		for i, n := range lines {
			s.bytes = append(s.bytes, bytes.Repeat([]byte{byte('a' + i%26)}, n)...)
			s.bytes = append(s.bytes, '\n')
		}
		if n := len(s.bytes); n > 0 && rapid.Bool().Draw(t, "unfinished") {
			s.bytes = s.bytes[:n-1]
		}
		if s.chunk < 100 {
			s.bytes = s.bytes[:min(len(s.bytes), 2000)] // each write is a system call
		}
		passThrough(t, s)
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("a\nb\r\n\ncccccccccccccccccccccccccc"), uint16(3), uint16(9), uint8(0))
	f.Add(bytes.Repeat([]byte("line\n"), 3000), uint16(4097), uint16(60000), uint8(6))
	f.Fuzz(func(t *testing.T, data []byte, chunk, max uint16, how uint8) {
		if chunk == 0 || max == 0 || len(data)/int(chunk) > 5000 {
			return
		}
		sizes := []int{4 << 10, 8 << 10, 64 << 10, 1 << 20}
		passThrough(t, stream{
			bytes: data, chunk: int(chunk), max: int(max),
			size: sizes[how%4], packets: how&4 != 0, cramped: how&8 != 0, join: joiners[int(how>>4)%len(joiners)],
		})
	})
}

func TestReader_PassesThroughWhatManyMoreReadersThanStagingPipesRead(t *testing.T) {
	done := make(chan struct{})
	const readers = 4 * maxStaging
	for i := range readers {
		go func() {
			defer func() { done <- struct{}{} }()
			passThrough(t, stream{
				bytes: bytes.Repeat([]byte("a line of output\n"), 5000), chunk: 1000 + i, max: MaxLine,
				size: []int{8 << 10, 64 << 10}[i%2],
			})
		}()
	}
	for range readers {
		<-done
	}
}
