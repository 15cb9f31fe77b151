// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var dated = JoinFrom(regexp.MustCompile(`^\d{4}-`))

func TestJoin_ABlockGoesFromOneBeginningToTheNext(t *testing.T) {
	tests := []struct {
		name string
		give []string
		want []string
	}{
		{"lines that all begin one", []string{"2026-a\n2026-b\n"}, []string{"2026-a", "2026-b"}},
		{"lines that belong to the one before", []string{"2026-a\n more\nyet more\n2026-b\n"}, []string{"2026-a\n more\nyet more", "2026-b"}},
		{"in pieces", []string{"2026-a\n mo", "re\n20", "26-b\n"}, []string{"2026-a\n more", "2026-b"}},
		{"what comes before the first beginning", []string{"x\ny\n2026-a\n"}, []string{"x\ny", "2026-a"}},
		{"empty lines belong to it", []string{"2026-a\n\n\nb\n2026-b\n"}, []string{"2026-a\n\n\nb", "2026-b"}},
		{"the last line has no end", []string{"2026-a\nb"}, []string{"2026-a\nb"}},
		{"carriage returns", []string{"2026-a\r\nb\r\n2026-b\r\n"}, []string{"2026-a\r\nb", "2026-b"}},
		{"no more than fits", []string{"2026-a\n" + strings.Repeat("12345678\n", 4) + "2026-b\n"}, []string{"2026-a\n12345678\n12345678", "12345678\n12345678", "2026-b"}},
		{"a line that is too long for it", []string{"2026-a\n" + strings.Repeat("x", 30) + "\nb\n2026-b\n"}, []string{"2026-a", strings.Repeat("x", 26) + "+", "xxxx\nb", "2026-b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, joinAll(t, dated, tailStays, 26, tt.give...))
		})
	}
}

func TestJoin_WhatWasWaitedForInVainIsNotWaitedForAgain(t *testing.T) {
	assert.Equal(t, []string{"2026-a", "b", "2026-c"}, joinAll(t, dated, tailWaited, 100, "2026-a\n", "b\n2026-", "c\n"))
	assert.Equal(t, []string{"2026-a", "b+", "c"}, joinAll(t, dated, tailSplits, 100, "2026-a\nb", "c\n"), "there was no room for the rest of the line")
}

// testdata/traces holds programs' output as it was written, with a line of dashes
// between what is one record and the next.
func TestJoinTraces_JoinsTheTracesOfItsLanguagesAndNothingElse(t *testing.T) {
	files, err := filepath.Glob("testdata/traces/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n---\n")
			stream := strings.Join(want, "\n") + "\n"
			assert.Equal(t, want, joinAll(t, JoinTraces(goTraces, javaTraces, pythonTraces), tailStays, MaxLine, stream))
		})
	}
}

func TestJoinTraces_OnlyOfTheLanguagesThatAreAskedFor(t *testing.T) {
	stream := "panic: oh\n\ngoroutine 1 [running]:\nTraceback (most recent call last):\n  File\nE: x\nend\n"
	assert.Equal(t, []string{"panic: oh\n\ngoroutine 1 [running]:", "Traceback (most recent call last):", "  File", "E: x", "end"},
		joinAll(t, JoinTraces(goTraces), tailStays, MaxLine, stream))
	assert.Equal(t, []string{"panic: oh", "", "goroutine 1 [running]:", "Traceback (most recent call last):\n  File\nE: x", "end"},
		joinAll(t, JoinTraces(pythonTraces), tailStays, MaxLine, stream))
}

// However a stream is cut into reads, the blocks are the same, and nothing is lost.
func TestJoin_DoesNotDependOnTheReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		join := rapid.SampledFrom([]Joiner{JoinFrom(regexp.MustCompile(`^a`)), JoinTraces(pythonTraces)}).Draw(t, "join")
		max := rapid.IntRange(1, 60).Draw(t, "max")
		stream := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "\n", "\n", " c\n", "Traceback (most recent call last):\n"}), 0, 30).Draw(t, "stream"), "")
		var chunks []string
		for rest := stream; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			chunks = append(chunks, rest[:n])
			rest = rest[n:]
		}
		got := joinAll(t, join, tailStays, max, chunks...)
		assert.Equal(t, joinAll(t, join, tailStays, max, stream), got)
		assert.Equal(t, strings.TrimSuffix(stream, "\n"), unsplit(got))
	})
}

func TestReader_HoldsBackWhatMayGoOnForALimitedTimeOnly(t *testing.T) {
	for name, open := range map[string]func(testing.TB) (read, write *os.File){"pipe": pipe, "socket": socket} {
		t.Run(name, func(t *testing.T) {
			read, write := open(t)
			blocks := make(chan string, 10)
			reader, err := NewReader(read, Settings{Wait: Forever, Join: dated, JoinTimeout: time.Millisecond}, func(_ context.Context, lines []Line) error {
				for _, line := range lines {
					blocks <- string(line.Text)
				}
				return nil
			})
			require.NoError(t, err)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, err := reader.Run(t.Context())
				assert.NoError(t, err)
			}()
			_, err = write.WriteString("2026-a\nb\nunfini")
			require.NoError(t, err)
			assert.Equal(t, "2026-a\nb", <-blocks, "although the next beginning has not come")
			_, err = write.WriteString("shed\n")
			require.NoError(t, err)
			assert.Equal(t, "unfinished", <-blocks)
			require.NoError(t, write.Close())
			<-ended
		})
	}
}

// Should the reader end while it holds a block back, the next one finds all of it.
func TestReader_DetachLeavesWhatIsHeldBackInThePipe(t *testing.T) {
	read, write := pipe(t)
	keeper := again(t, read)
	defer keeper.Close()
	reader, err := NewReader(read, Settings{Wait: Forever, Join: dated, JoinTimeout: time.Hour}, func(context.Context, []Line) error { return nil })
	require.NoError(t, err)
	source := watch(reader)
	go func() {
		_, err := reader.Run(t.Context())
		assert.NoError(t, err)
	}()
	_, err = write.WriteString("2026-a\nb\n")
	require.NoError(t, err)
	source.awaitIdle(len("2026-a\nb\n"))
	reader.Detach()
	assert.Equal(t, len("2026-a\nb\n"), waiting(t, keeper))
}
