// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/otelwarden/warden/internal/output"
)

// OutputConfig says where the standard streams go, and how those that are captured
// become log records.
type OutputConfig struct {
	Stdout OutputMode `mapstructure:"stdout"`
	Stderr OutputMode `mapstructure:"stderr"`
	// MaxLine bounds a record, in bytes: from 1 to 1 MiB.
	MaxLine uint64 `mapstructure:"max_line"`
	// Multiline tells which lines are one record; nil: each is.
	Multiline *MultilineConfig `mapstructure:"multiline"`
	// Severity finds the severity of a record in its text; nil: it has none.
	Severity *SeverityConfig `mapstructure:"severity"`
	ANSI     ANSIMode        `mapstructure:"ansi"`
	OnFull   OnFullConfig    `mapstructure:"on_full"`
}

// OutputMode is where one stream goes.
type OutputMode string

const (
	// OutputCapture turns the lines into log records.
	OutputCapture OutputMode = "capture"
	// OutputInherit gives the process the collector's own stream.
	OutputInherit OutputMode = "inherit"
	// OutputNull discards the stream.
	OutputNull OutputMode = "null"
	// OutputStdout, for stderr only, joins it to stdout.
	OutputStdout OutputMode = "stdout"
)

// ANSIMode is what becomes of the escape sequences of terminals.
type ANSIMode string

const (
	ANSIKeep  ANSIMode = "keep"
	ANSIStrip ANSIMode = "strip"
)

// MultilineConfig has exactly one of StartPattern and StackTraces.
type MultilineConfig struct {
	// StartPattern matches the first line of each record.
	StartPattern string `mapstructure:"start_pattern"`
	// StackTraces are the languages whose stack traces are one record each.
	StackTraces []string `mapstructure:"stack_traces"`
	// Timeout is how long the next line of a record is waited for. More than 0.
	Timeout time.Duration `mapstructure:"timeout"`
}

// SeverityConfig finds a severity.
type SeverityConfig struct {
	// Pattern matches the severity itself, or has a group that does.
	Pattern string `mapstructure:"pattern"`
}

// OnFullConfig says what happens while the pipeline takes no lines.
type OnFullConfig struct {
	// Wait is how long a process may be held up before lines are dropped. 0: not at
	// all, WaitForever: for ever.
	Wait time.Duration `mapstructure:"wait"`
}

const (
	defaultOnFullWait       = 5 * time.Second
	defaultMultilineTimeout = 500 * time.Millisecond
	// maxMaxLine is as large as ordinary users may make a pipe.
	maxMaxLine = 1 << 20
)

func newDefaultOutput() OutputConfig {
	return OutputConfig{
		Stdout: OutputCapture, Stderr: OutputCapture,
		MaxLine: output.MaxLine, ANSI: ANSIKeep, OnFull: OnFullConfig{Wait: defaultOnFullWait},
	}
}

// captures: some stream becomes log records.
func (o *OutputConfig) captures() bool {
	return o.Stdout == OutputCapture || o.Stderr == OutputCapture
}

// unshare copies what clones of a process would have in common.
func (o *OutputConfig) unshare() {
	if o.Multiline != nil {
		multiline := *o.Multiline
		multiline.StackTraces = slices.Clone(multiline.StackTraces)
		o.Multiline = &multiline
	}
	if o.Severity != nil {
		severity := *o.Severity
		o.Severity = &severity
	}
}

// settings is how the streams are read. The configuration is valid.
func (o *OutputConfig) settings() output.Settings {
	set := output.Settings{MaxLine: int(o.MaxLine), Plain: o.ANSI == ANSIStrip, Wait: o.OnFull.Wait}
	if m := o.Multiline; m != nil {
		set.JoinTimeout = m.Timeout
		if m.StartPattern != "" {
			set.Join = output.JoinFrom(regexp.MustCompile(m.StartPattern))
		} else {
			formats := make([]*output.TraceFormat, len(m.StackTraces))
			for i, language := range m.StackTraces {
				formats[i] = output.TraceFormats[language]
			}
			set.Join = output.JoinTraces(formats...)
		}
	}
	return set
}

func traceLanguages() []string { return slices.Sorted(maps.Keys(output.TraceFormats)) }

// marshal writes what a process would otherwise get from the defaults too.
func (o *OutputConfig) marshal(base *ChildConfig) map[string]any {
	out := map[string]any{"stdout": string(o.Stdout), "stderr": string(o.Stderr)}
	if !o.captures() {
		return out
	}
	out["max_line"] = o.MaxLine
	out["ansi"] = string(o.ANSI)
	out["on_full"] = map[string]any{"wait": formatDuration(o.OnFull.Wait)}
	switch {
	case o.Multiline != nil:
		multiline := map[string]any{"timeout": formatDuration(o.Multiline.Timeout)}
		if o.Multiline.StackTraces != nil {
			multiline["stack_traces"] = anyOf(o.Multiline.StackTraces)
		} else {
			multiline["start_pattern"] = o.Multiline.StartPattern
		}
		out["multiline"] = multiline
	case base != nil && base.Process.Output.Multiline != nil:
		out["multiline"] = nil
	}
	switch {
	case o.Severity != nil:
		out["severity"] = map[string]any{"pattern": o.Severity.Pattern}
	case base != nil && base.Process.Output.Severity != nil:
		out["severity"] = nil
	}
	return out
}
