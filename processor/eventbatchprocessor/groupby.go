// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// signalMask says for which signals a word of group_by has a meaning.
type signalMask uint8

const (
	signalLogs signalMask = 1 << iota
	signalTraces
)

type groupKind uint8

const (
	groupEventName groupKind = iota
	groupSeverity
	groupSpanName
	groupSpanKind
	groupScopeName
	groupResourceAttribute
	groupScopeAttribute
	groupAttribute
)

// groupKinds is the whole vocabulary of group_by. An indexed word is followed by ["key"].
var groupKinds = []struct {
	word    string
	kind    groupKind
	signals signalMask
	indexed bool
}{
	{"event_name", groupEventName, signalLogs, false},
	{"severity", groupSeverity, signalLogs, false},
	{"span_name", groupSpanName, signalTraces, false},
	{"span_kind", groupSpanKind, signalTraces, false},
	{"scope.name", groupScopeName, signalLogs | signalTraces, false},
	{"resource.attributes", groupResourceAttribute, signalLogs | signalTraces, true},
	{"scope.attributes", groupScopeAttribute, signalLogs | signalTraces, true},
	{"attributes", groupAttribute, signalLogs | signalTraces, true},
}

// groupKey is one parsed entry of group_by.
type groupKey struct {
	kind groupKind
	name string // of the attribute
}

func parseGroupKey(s string, signal signalMask) (groupKey, error) {
	word, rest, indexed := strings.Cut(s, "[")
	for _, k := range groupKinds {
		if k.word != word || k.indexed != indexed || k.signals&signal == 0 {
			continue
		}
		if !indexed {
			return groupKey{kind: k.kind}, nil
		}
		quoted, closed := strings.CutSuffix(rest, "]")
		name, err := strconv.Unquote(quoted)
		if !closed || err != nil || name == "" {
			return groupKey{}, fmt.Errorf("after %s there must be a quoted attribute key, as in %s[\"service.name\"]", word, word)
		}
		return groupKey{kind: k.kind, name: name}, nil
	}
	return groupKey{}, fmt.Errorf("allowed are %s; an attribute is written attributes[%q]", strings.Join(groupWords(signal), ", "), "key")
}

func groupWords(signal signalMask) []string {
	var words []string
	for _, k := range groupKinds {
		switch {
		case k.signals&signal == 0:
		case k.indexed:
			words = append(words, k.word+`["…"]`)
		default:
			words = append(words, k.word)
		}
	}
	return words
}

func validateGroupBy(key string, entries []string, signal signalMask) error {
	var errs []error
	seen := make(map[groupKey]bool, len(entries))
	for i, s := range entries {
		k, err := parseGroupKey(s, signal)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("'%s::%d' is %q: %w", key, i, s, err))
		case seen[k]:
			errs = append(errs, fmt.Errorf("'%s::%d' is %q, which is listed before it; remove one of them", key, i, s))
		default:
			seen[k] = true
		}
	}
	return errors.Join(errs...)
}

// grouping holds the parsed keys, those that a whole scope shares apart from those to be read from every item.
//
// The key of a group is made of all values, each with a type letter and its length in front, so that no two combinations
// of values have the same key and the label can be read back from it.
type grouping struct {
	shared []groupKey
	item   []groupKey
}

func newGrouping(entries []string, signal signalMask) (grouping, error) {
	var g grouping
	for _, s := range entries {
		k, err := parseGroupKey(s, signal)
		if err != nil {
			return grouping{}, fmt.Errorf("group_by %q: %w", s, err)
		}
		switch k.kind {
		case groupScopeName, groupResourceAttribute, groupScopeAttribute:
			g.shared = append(g.shared, k)
		default:
			g.item = append(g.item, k)
		}
	}
	return g, nil
}

func (g *grouping) enabled() bool { return len(g.shared)+len(g.item) > 0 }

func (g *grouping) appendShared(buf []byte, res pcommon.Resource, scope pcommon.InstrumentationScope) []byte {
	for _, k := range g.shared {
		switch k.kind {
		case groupScopeName:
			buf = appendPart(buf, partString, scope.Name())
		case groupResourceAttribute:
			buf = appendAttribute(buf, res.Attributes(), k.name)
		default:
			buf = appendAttribute(buf, scope.Attributes(), k.name)
		}
	}
	return buf
}

func (g *grouping) appendLogRecord(buf []byte, r plog.LogRecord) []byte {
	for _, k := range g.item {
		switch k.kind {
		case groupEventName:
			buf = appendPart(buf, partString, r.EventName())
		case groupSeverity:
			buf = appendPart(buf, partString, severityClass(r.SeverityNumber()))
		default:
			buf = appendAttribute(buf, r.Attributes(), k.name)
		}
	}
	return buf
}

func (g *grouping) appendSpan(buf []byte, s ptrace.Span) []byte {
	for _, k := range g.item {
		switch k.kind {
		case groupSpanName:
			buf = appendPart(buf, partString, s.Name())
		case groupSpanKind:
			buf = appendPart(buf, partString, s.Kind().String())
		default:
			buf = appendAttribute(buf, s.Attributes(), k.name)
		}
	}
	return buf
}

// severityClass is the short name of the range the number is in, so that INFO and INFO2 are one type.
func severityClass(n plog.SeverityNumber) string {
	switch {
	case n < plog.SeverityNumberTrace || n > plog.SeverityNumberFatal4:
		return "UNSPECIFIED"
	case n < plog.SeverityNumberDebug:
		return "TRACE"
	case n < plog.SeverityNumberInfo:
		return "DEBUG"
	case n < plog.SeverityNumberWarn:
		return "INFO"
	case n < plog.SeverityNumberError:
		return "WARN"
	case n < plog.SeverityNumberFatal:
		return "ERROR"
	default:
		return "FATAL"
	}
}

// The type letters of a part: the string "1" and the number 1 are different types of event.
const (
	partAbsent = '-'
	partString = 's'
	partOther  = 'o'
	partInt    = 'i'
)

func appendPart(buf []byte, letter byte, value string) []byte {
	buf = append(buf, letter)
	buf = binary.AppendUvarint(buf, uint64(len(value)))
	return append(buf, value...)
}

func appendAttribute(buf []byte, attrs pcommon.Map, name string) []byte {
	v, ok := attrs.Get(name)
	if !ok {
		return appendPart(buf, partAbsent, "")
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return appendPart(buf, partString, v.Str())
	case pcommon.ValueTypeInt:
		buf = append(buf, partInt, 8)
		return binary.LittleEndian.AppendUint64(buf, uint64(v.Int()))
	default:
		return appendPart(buf, partOther+byte(v.Type()), v.AsString())
	}
}

const (
	labelAll      = "(all)"
	labelNone     = "(none)"
	labelOverflow = "(overflow)"
	labelOther    = "(other)"

	// maxLabel keeps a group's name in metrics and logs readable; longer ones are cut.
	maxLabel = 128
)

// groupLabel is the name of a group for people: its values in the order of the key, joined by commas.
func groupLabel(key string) string {
	var b strings.Builder
	for len(key) > 0 {
		letter := key[0]
		n, w := binary.Uvarint([]byte(key[1:min(len(key), 1+binary.MaxVarintLen64)]))
		value := key[1+w : 1+w+int(n)]
		key = key[1+w+int(n):]
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		switch {
		case letter == partInt:
			value = strconv.FormatInt(int64(binary.LittleEndian.Uint64([]byte(value))), 10)
		case value == "":
			value = labelNone
		}
		b.WriteString(value)
	}
	label := strings.ToValidUTF8(b.String(), "\uFFFD")
	if len(label) > maxLabel {
		label = strings.ToValidUTF8(label[:maxLabel], "") + "…"
	}
	return label
}
