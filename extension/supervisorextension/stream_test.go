// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/otelwarden/warden/internal/output"
)

func TestTally_TellsTheFirstAtOnceAndTheOthersInSums(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		begun := time.Now()
		y := &tally{tell: func(lines, bytes int) {
			told = append(told, fmt.Sprintf("%v: %d lines, %d bytes", time.Since(begun), lines, bytes))
		}}
		some := []output.Line{{Text: []byte("12")}, {Text: []byte("345")}}
		y.add(some)
		for range 100 {
			y.add(some)
		}
		time.Sleep(25 * time.Second)
		y.add(some[:1])
		time.Sleep(3 * time.Second)
		y.add(some[1:])
		y.end()
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"0s: 2 lines, 5 bytes", "10s: 200 lines, 500 bytes", "25s: 1 lines, 2 bytes", "28s: 1 lines, 3 bytes"}, told)
	})
}

func TestLastLines(t *testing.T) {
	many := strings.Repeat("line\n", 30)
	tests := []struct{ name, give, want string }{
		{"nothing", "", ""},
		{"only line ends", "\n\r\n", ""},
		{"a line without its end", "panic: oh", "panic: oh"},
		{"a few", "a\nb\r\nc\n", "a\nb\r\nc"},
		{"the last of many", many + "end\n", strings.Repeat("line\n", maxLastLines-1) + "end"},
		{"what is no text shows", "a\xff\n", "a\uFFFD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, lastLines([]byte(tt.give))) })
	}
}

func TestSeverityPattern_FindsTheSeverityAsItIsWritten(t *testing.T) {
	tests := []struct {
		name, pattern, line string
		number              int32
		text                string
	}{
		{"all of the match", `\b(?:DEBUG|INFO|WARN|ERROR)\b`, "10:00 WARN full", 13, "WARN"},
		{"a group", `level=(\w+)`, `time=1 level=error msg="no"`, 17, "error"},
		{"the group of that name", `(\d+) (?P<severity>\w)\d{4}`, "12 E1130 no", 17, "E"},
		{"a number", `"level":(\d+)`, `{"level":50,"msg":"no"}`, 17, "50"},
		{"a word that is not known", `^(\w+):`, "terrible: no", 0, "terrible"},
		{"one that is too long to be one", `^(\w+)`, strings.Repeat("x", 100), 0, strings.Repeat("x", 100)},
		{"no match", `^\[(\w+)\]`, "no", 0, ""},
		{"a group that did not take part", `^(?:\[(\w+)\]|no)`, "no", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			number, text := NewSeverityPattern(&SeverityConfig{Pattern: tt.pattern}).Find([]byte(tt.line))
			assert.Equal(t, tt.number, number)
			assert.Equal(t, tt.text, string(text))
		})
	}
	var none *SeverityPattern
	number, text := none.Find([]byte("ERROR"))
	assert.Zero(t, number)
	assert.Empty(t, text)
}
