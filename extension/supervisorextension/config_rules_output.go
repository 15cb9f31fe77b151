// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"
)

// output checks how lines are made and taken.
func (r *rules) output(at place, o *OutputConfig) {
	if o.Stdout == OutputStdout {
		r.report(at.key("stdout"), `"stdout" only says something about stderr, that it joins stdout: write one of %s`, joined(stdoutModes))
	} else {
		oneOf(r, at.key("stdout"), o.Stdout, stdoutModes)
	}
	oneOf(r, at.key("stderr"), o.Stderr, stderrModes)
	if o.MaxLine < 1 || o.MaxLine > maxMaxLine {
		r.report(at.key("max_line"), "%d is not from 1 to %d bytes: write a size such as 64KiB", o.MaxLine, maxMaxLine)
	}
	oneOf(r, at.key("ansi"), o.ANSI, ansiModes)
	if o.OnFull.Wait < 0 && o.OnFull.Wait != WaitForever {
		r.report(at.key("on_full").key("wait"), "%s is negative: write 0s to drop lines rather than wait, -1s to wait for ever", formatDuration(o.OnFull.Wait))
	}
	if o.Severity != nil {
		r.pattern(at.key("severity").key("pattern"), o.Severity.Pattern)
	}
	if o.Multiline != nil {
		r.multiline(at.key("multiline"), o.Multiline)
	}
}

func (r *rules) multiline(at place, m *MultilineConfig) {
	var ways []string
	if m.StartPattern != "" {
		ways = append(ways, "start_pattern")
		r.pattern(at.key("start_pattern"), m.StartPattern)
	}
	if m.StackTraces != nil {
		ways = append(ways, "stack_traces")
	}
	r.oneWay(at, ways, "start_pattern, stack_traces")
	languages := traceLanguages()
	if m.StackTraces != nil && len(m.StackTraces) == 0 {
		r.report(at.key("stack_traces"), "empty: write some of %s", strings.Join(languages, ", "))
	}
	for i, language := range m.StackTraces {
		if !slices.Contains(languages, language) {
			r.report(at.key("stack_traces").index(i), "%s is not one of %s: for another language, write start_pattern", quoted(language), strings.Join(languages, ", "))
		}
	}
	r.positive(at.key("timeout"), m.Timeout, "500ms")
}
