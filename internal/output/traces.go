// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"regexp"
)

// TraceFormat is how the stack traces of a language look.
type TraceFormat struct {
	// starts matches the first line of a trace.
	starts *regexp.Regexp
	// steps are the states behind the first line, from firstStep on.
	steps []traceStep
}

// traceStep is where a trace may go on from: each rule that matches the next line says
// what follows that, the first one counts.
type traceStep []traceRule

type traceRule struct {
	matches func(line []byte) bool
	next    int // index of a step; none: the line is the last one
}

const none = -1

// TraceFormats are the formats that are known, by the language's name.
var TraceFormats = map[string]*TraceFormat{
	"go":     goTraces,
	"java":   javaTraces,
	"python": pythonTraces,
}

// JoinTraces returns a Joiner of stack traces. All other lines stay by themselves.
func JoinTraces(formats ...*TraceFormat) Joiner {
	var j traceJoiner
	for _, format := range formats {
		first := JoinState(len(j.steps)) + 1
		j.starts = append(j.starts, traceStart{format.starts, first})
		for _, step := range format.steps {
			j.steps = append(j.steps, traceFrom{step, first})
		}
	}
	return j
}

// traceJoiner has one state for each step of each format.
type traceJoiner struct {
	starts []traceStart
	steps  []traceFrom // of the state that is one more than the index
}

type traceStart struct {
	matches *regexp.Regexp
	state   JoinState
}

type traceFrom struct {
	step  traceStep
	first JoinState // of the format
}

func (j traceJoiner) Begin(line []byte) JoinState {
	for _, start := range j.starts {
		if start.matches.Match(line) {
			return start.state
		}
	}
	return JoinDone
}

func (j traceJoiner) Next(state JoinState, line []byte) (JoinState, bool) {
	from := j.steps[state-1]
	for _, rule := range from.step {
		switch {
		case !rule.matches(line):
		case rule.next == none:
			return JoinDone, true
		default:
			return from.first + JoinState(rule.next), true
		}
	}
	return JoinDone, false
}

func matching(pattern string) func([]byte) bool { return regexp.MustCompile(pattern).Match }

func indented(line []byte) bool { return len(line) > 0 && (line[0] == ' ' || line[0] == '\t') }

func empty(line []byte) bool { return len(line) == 0 }

func anything(line []byte) bool { return len(bytes.TrimSpace(line)) > 0 }

// A panic or a fatal error of the runtime: goroutines with their frames, separated by
// empty lines, and perhaps registers.
var goTraces = &TraceFormat{
	starts: regexp.MustCompile(`^(panic: |fatal error: |runtime: |unexpected fault address |SIG[A-Z]+: |goroutine \d+ .*\[.*\]:$|.*http: panic serving )`),
	steps: []traceStep{{
		{empty, 0},
		{indented, 0},
		{matching(`^(panic: |fatal error: |runtime[: ]|goroutine \d+ |created by |\[signal |\[originating |PC=|exit status \d+$|\.\.\.(additional|\d+) )`), 0},
		{matching(`^[^\s()]+(\([^\s()]*\)[^\s()]*)*\(.*\)$`), 0}, // main.(*server).serve(0xc000012345, {0x1, 0x2})
		{matching(`^[a-z][a-z0-9]{1,6} +0x[0-9a-f]+$`), 0},
	}},
}

// An exception with its frames, and those that it was caused by.
var javaTraces = &TraceFormat{
	starts: regexp.MustCompile(`^(Exception in thread |Caused by: )?.*\b([a-z_][\w$]*\.)+[\w$]*(Exception|Error|Throwable)\b`),
	steps: []traceStep{{
		{matching(`^\s+at `), 0},
		{matching(`^\s+\.\.\. \d+ (more|common frames omitted)`), 0},
		{matching(`^\s*(Caused by|Suppressed): `), 0},
		{matching(`^\s+- (locked|waiting) `), 0},
	}},
}

// Frames, the exception behind them, and perhaps another one with the words between.
var pythonTraces = &TraceFormat{
	starts: regexp.MustCompile(`^(\s*\+ )?(Exception Group )?Traceback \(most recent call last\):$`),
	steps: []traceStep{
		{ // 0: among the frames; the first line that is not indented names the exception
			{indented, 0},
			{empty, 0},
			{anything, 1},
		},
		{ // 1: behind the exception
			{indented, 1}, // an exception group, or a note
			{empty, 2},
		},
		{ // 2: an empty line, which more may follow
			{matching(`^(During handling of the above exception, another exception occurred:|The above exception was the direct cause of the following exception:)$`), 3},
		},
		{ // 3: behind the words
			{empty, 3},
			{matching(`^Traceback \(most recent call last\):$`), 0},
		},
	},
}
