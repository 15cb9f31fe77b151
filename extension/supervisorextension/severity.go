// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bytes"
	"regexp"
)

// SeverityPattern finds the severity of a line of output in its text.
type SeverityPattern struct {
	pattern *regexp.Regexp
	group   int // of the pattern; 0: all of it
}

// NewSeverityPattern returns nil for no configuration. A group named severity counts,
// or else the first one, or else the whole match.
func NewSeverityPattern(cfg *SeverityConfig) *SeverityPattern {
	if cfg == nil {
		return nil
	}
	s := &SeverityPattern{pattern: regexp.MustCompile(cfg.Pattern)} // checked by Validate
	s.group = min(1, s.pattern.NumSubexp())
	if named := s.pattern.SubexpIndex("severity"); named > 0 {
		s.group = named
	}
	return s
}

// Find returns the severity in the line as it is written there, nil if there is none,
// and its number in OpenTelemetry, 0 for a word that is not known.
func (s *SeverityPattern) Find(line []byte) (number int32, text []byte) {
	if s == nil {
		return 0, nil
	}
	at := s.pattern.FindSubmatchIndex(line)
	if at == nil || at[2*s.group] < 0 {
		return 0, nil
	}
	text = line[at[2*s.group]:at[2*s.group+1]]
	var word [16]byte
	if len(text) > len(word) {
		return 0, text
	}
	return severityNumbers[string(bytes.ToLower(append(word[:0], text...)))], text
}

// severityNumbers are what programs call the severities that OpenTelemetry numbers: in
// words, in one letter as glog does, and in numbers as bunyan and pino do.
var severityNumbers = map[string]int32{
	"trace": 1, "trc": 1, "finest": 1, "10": 1,
	"debug": 5, "dbg": 5, "d": 5, "verbose": 5, "fine": 5, "finer": 5, "20": 5,
	"info": 9, "inf": 9, "i": 9, "information": 9, "informational": 9, "log": 9, "30": 9,
	"notice": 10,
	"warn":   13, "warning": 13, "wrn": 13, "w": 13, "40": 13,
	"error": 17, "err": 17, "e": 17, "severe": 17, "50": 17,
	"critical": 18, "crit": 18,
	"alert": 19,
	"fatal": 21, "ftl": 21, "f": 21, "panic": 21, "emerg": 21, "emergency": 21, "60": 21,
}
