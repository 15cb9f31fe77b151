// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cutAll cuts a stream that arrives in chunks, as a reader does, and shows each line,
// with a + behind a truncated one. Every chunk but the last is cut with the tail.
func cutAll(t require.TestingT, inner tail, max int, chunks ...string) (got []string) {
	return joinAll(t, nil, inner, max, chunks...)
}

// joinAll is cutAll for a stream of which some lines belong together.
func joinAll(t require.TestingT, join Joiner, inner tail, max int, chunks ...string) (got []string) {
	var (
		data []byte
		seq  uint64
		c    cutting
	)
	for i, chunk := range append(chunks, "") {
		data = append(data, chunk...)
		tail := inner
		if i == len(chunks) {
			tail = tailEnds
		}
		for c.whole = false; !c.whole; {
			c = cut(c.lines[:0], data, tail, max, join, seq+1, time.Time{})
			require.LessOrEqual(t, len(c.lines), maxLines)
			for _, line := range c.lines {
				seq++
				require.Equal(t, seq, line.Seq)
				require.LessOrEqual(t, len(line.Text), max)
				if join == nil {
					require.NotContains(t, string(line.Text), "\n")
				}
				require.Equal(t, string(line.Text), string(data[line.at:][:len(line.Text)]))
				text := string(line.Text)
				if line.Truncated {
					text += "+"
				}
				got = append(got, text)
			}
			data = data[c.used:]
			if c.whole {
				require.Equal(t, strings.Contains(string(data), "\n"), c.held, "a line was left behind")
				require.LessOrEqual(t, len(data), max+1, "a line was left behind")
				require.False(t, c.held && tail != tailStays, "nothing more is waited for")
			}
		}
	}
	require.Empty(t, data)
	return got
}

func TestCut_CutsAStreamIntoLines(t *testing.T) {
	tests := []struct {
		name string
		give []string
		want []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"a line in pieces", []string{"he", "ll", "o\nwor", "ld\n"}, []string{"hello", "world"}},
		{"empty lines are lines", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"no line end at the end", []string{"a\nb"}, []string{"a", "b"}},
		{"carriage returns before the end are cut", []string{"a\r\nb\r", "\nc\rd\n"}, []string{"a", "b", "c\rd"}},
		{"a line of the greatest length is whole", []string{"12345678\n"}, []string{"12345678"}},
		{"also when its end comes later", []string{"12345678", "\n"}, []string{"12345678"}},
		{"a longer line comes in pieces", []string{"123456789\nx\n"}, []string{"12345678+", "9", "x"}},
		{"also over several reads", []string{"12345", "67890", "abcdefgh", "\n"}, []string{"12345678+", "90abcdef+", "gh"}},
		{"nothing", []string{""}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, cutAll(t, tailStays, 8, tt.give...))
		})
	}
}

func TestCut_SplitsAnUnfinishedLineThatHasNoRoom(t *testing.T) {
	assert.Equal(t, []string{"a", "he+", "llo", "wor+", "ld"}, cutAll(t, tailSplits, 8, "a\nhe", "llo\nwor", "ld\n"))
	assert.Equal(t, []string{"12345678+", "9+", "", "x+"}, cutAll(t, tailSplits, 8, "123456789", "\nx"), "nothing may follow a piece")
}

func TestCut_GoesOnWhereABatchIsFull(t *testing.T) {
	got := cutAll(t, tailStays, 8, strings.Repeat("\n", 2*maxLines+3)+"end")
	assert.Len(t, got, 2*maxLines+4)
	assert.Equal(t, "end", got[2*maxLines+3])
}

// unsplit undoes cutAll, but for a line end at the end.
func unsplit(texts []string) string {
	var stream strings.Builder
	for _, text := range texts {
		if piece, truncated := strings.CutSuffix(text, "+"); truncated {
			stream.WriteString(piece)
		} else {
			stream.WriteString(text + "\n")
		}
	}
	return strings.TrimSuffix(stream.String(), "\n")
}

// However a stream is cut into reads, the lines are those of the stream in one
// piece, and nothing of it is lost.
func TestCut_DoesNotDependOnTheReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := rapid.IntRange(1, 10).Draw(t, "max")
		stream := rapid.StringMatching(`[ab\n]{0,60}`).Draw(t, "stream")
		var chunks []string
		for rest := stream; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			chunks = append(chunks, rest[:n])
			rest = rest[n:]
		}
		got := cutAll(t, tailStays, max, chunks...)
		assert.Equal(t, cutAll(t, tailStays, max, stream), got)
		assert.Equal(t, strings.TrimSuffix(stream, "\n"), unsplit(got))
		assert.Equal(t, strings.TrimSuffix(stream, "\n"), unsplit(cutAll(t, tailSplits, max, chunks...)))
	})
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nccccccccccccccccc"), 5, 3, false)
	f.Fuzz(func(t *testing.T, stream []byte, max, read int, splits bool) {
		if max < 1 || read < 1 {
			return
		}
		tail := tailStays
		if splits {
			tail = tailSplits
		}
		var chunks []string
		for len(stream) > 0 {
			n := min(read, len(stream))
			chunks = append(chunks, string(stream[:n]))
			stream = stream[n:]
		}
		cutAll(t, tail, max, chunks...)
	})
}

func BenchmarkCut(b *testing.B) {
	line := append(bytes.Repeat([]byte{'x'}, 127), '\n')
	data := bytes.Repeat(line, 64<<10/len(line))
	var c cutting
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c = cut(c.lines[:0], data, tailStays, MaxLine, nil, 1, time.Time{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(data)/len(line)), "ns/line")
}
