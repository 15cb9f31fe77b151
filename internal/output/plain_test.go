// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAppendPlain_TakesEscapeSequencesOut(t *testing.T) {
	tests := []struct{ name, give, want string }{
		{"none", "plain", "plain"},
		{"colours", "\x1b[1;31merror\x1b[0m: no\x1b[m", "error: no"},
		{"colours with colons", "\x1b[38:2::255:0:0mred\x1b[39m", "red"},
		{"the cursor and the line", "\x1b[2K\x1b[1Gdone\x1b[?25h", "done"},
		{"a title, ended by BEL", "\x1b]0;title\adone", "done"},
		{"a link, ended by ST", "\x1b]8;;https://example.com\x1b\\here\x1b]8;;\x1b\\.", "here."},
		{"a character set", "\x1b(Babc", "abc"},
		{"two bytes", "\x1b7a\x1b8b\x1bcc", "abc"},
		{"broken off by the end", "abc\x1b[31", "abc"},
		{"escape alone", "abc\x1b", "abc"},
		{"broken off by text that is no sequence", "\x1b[31äb", "äb"},
		{"broken off by another one", "\x1b]0;ti\x1b[31mred", "red"},
		{"text of other alphabets", "\x1b[32mgrün 緑\x1b[0m", "grün 緑"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, string(appendPlain(nil, []byte(tt.give))))
		})
	}
}

func FuzzAppendPlain(f *testing.F) {
	f.Add([]byte("\x1b[1;31merror\x1b[0m\x1b]0;title\a\x1b(B\x1b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		plain := appendPlain([]byte("before"), text)
		require.True(t, bytes.HasPrefix(plain, []byte("before")))
		require.NotContains(t, string(plain), "\x1b")
		require.LessOrEqual(t, len(plain), len(text)+len("before"))
		if !bytes.Contains(text, []byte{escape}) {
			require.Equal(t, "before"+string(text), string(plain))
		}
	})
}

func TestReader_TakesEscapeSequencesOutOfLinesAndLeavesTheOthersAlone(t *testing.T) {
	read, write := pipe(t)
	var got []string
	reader, err := NewReader(read, Settings{Wait: Forever, Plain: true}, func(_ context.Context, lines []Line) error {
		for _, line := range lines {
			got = append(got, string(line.Text))
		}
		return nil
	})
	require.NoError(t, err)
	_, err = write.WriteString("a\n\x1b[31mb\x1b[0m\nc\n\x1b[32md\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	lost, err := reader.Run(t.Context())
	require.NoError(t, err)
	assert.Zero(t, lost)
	assert.Equal(t, []string{"a", "b", "c", "d"}, got)
}
