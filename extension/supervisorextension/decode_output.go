// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

var outputKeys = table[OutputConfig]{
	{"stdout", func(d *decoder, at place, n *node, o *OutputConfig) {
		decodeOutputMode(d, at, n, &o.Stdout, stdoutModes)
	}},
	{"stderr", func(d *decoder, at place, n *node, o *OutputConfig) {
		decodeOutputMode(d, at, n, &o.Stderr, stderrModes)
	}},
	{"max_line", func(d *decoder, at place, n *node, o *OutputConfig) {
		d.size(at, n, &o.MaxLine, "bytes, or a size such as 64KiB")
	}},
	{"multiline", orNull(func(o *OutputConfig) **MultilineConfig { return &o.Multiline }, decodeMultiline)},
	{"severity", orNull(func(o *OutputConfig) **SeverityConfig { return &o.Severity }, decodeSeverity)},
	{"ansi", func(d *decoder, at place, n *node, o *OutputConfig) { decodeName(d, at, n, &o.ANSI, ansiModes) }},
	{"on_full", decodeMap(onFullKeys, func(o *OutputConfig) *OnFullConfig { return &o.OnFull }, "{wait: 5s}")},
}

var multilineKeys = table[MultilineConfig]{
	{"start_pattern", func(d *decoder, at place, n *node, m *MultilineConfig) {
		d.text(at, n, &m.StartPattern, `a regular expression such as ^\d{4}-`)
	}},
	{"stack_traces", func(d *decoder, at place, n *node, m *MultilineConfig) {
		d.textList(at, n, &m.StackTraces, "a list of languages such as [go, java]")
	}},
	{"timeout", func(d *decoder, at place, n *node, m *MultilineConfig) { d.duration(at, n, &m.Timeout, "500ms") }},
}

var severityKeys = table[SeverityConfig]{
	{"pattern", func(d *decoder, at place, n *node, s *SeverityConfig) {
		d.text(at, n, &s.Pattern, `a regular expression such as ^\[(\w+)\]`)
	}},
}

var onFullKeys = table[OnFullConfig]{
	{"wait", func(d *decoder, at place, n *node, o *OnFullConfig) { d.duration(at, n, &o.Wait, "5s") }},
}

// decodeMultiline replaces what defaults gave, for of the ways only one can hold.
func decodeMultiline(d *decoder, at place, n *node, into **MultilineConfig) {
	if n.kind != kindMap {
		d.wrongKind(at, n, `a map such as {start_pattern: '^\d{4}-'}, or {stack_traces: [go]}`)
		return
	}
	m := &MultilineConfig{Timeout: defaultMultilineTimeout}
	multilineKeys.decode(d, at, n, m)
	*into = m
}

func decodeSeverity(d *decoder, at place, n *node, into **SeverityConfig) {
	if n.kind != kindMap {
		d.wrongKind(at, n, `a map such as {pattern: '^\[(\w+)\]'}`)
		return
	}
	s := &SeverityConfig{}
	severityKeys.decode(d, at, n, s)
	*into = s
}

// decodeOutputMode takes an unquoted null for the mode of that name.
func decodeOutputMode(d *decoder, at place, n *node, into *OutputMode, allowed []OutputMode) {
	if n.isNull() {
		*into = OutputNull
		return
	}
	decodeName(d, at, n, into, allowed)
}

// uncaptured reports what a process itself says about lines of which there are none.
func (d *decoder) uncaptured(at place, n *node, o *OutputConfig) {
	given := n.get("output")
	if o.captures() || given == nil || given.kind != kindMap {
		return
	}
	for _, key := range outputKeys {
		value := given.get(key.name)
		if key.name != "stdout" && key.name != "stderr" && value != nil && !value.isNull() {
			d.report(at.key("output").key(key.name), "neither stream is captured, so there are no lines for it: remove it, or write capture for one of them")
		}
	}
}
