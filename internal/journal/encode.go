// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"strconv"
	"time"
)

// Encode writes an event as JSON. Text that is not UTF-8 loses what is not.
//
// A process that has died is not started again before this is done, so it is written
// out: what reflection touches is cold after a while of rest.
func Encode(e *Event) []byte {
	b := make([]byte, 0, 768) // for most, in one go
	b = strconv.AppendUint(append(b, `{"seq":`...), e.Seq, 10)
	b = append(e.Time.AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano), '"')
	b = strconv.AppendInt(append(b, `,"mono":`...), int64(e.Mono), 10)
	b = appendText(append(b, `,"topic":`...), e.Topic)
	b = appendText(append(b, `,"name":`...), e.Name)
	b = strconv.AppendUint(append(b, `,"severity":`...), uint64(e.Severity), 10)
	b = appendText(append(b, `,"body":`...), e.Body)
	if e.Process != "" {
		b = appendText(append(b, `,"process":`...), e.Process)
	}
	if e.Run != 0 {
		b = strconv.AppendUint(append(b, `,"run":`...), e.Run, 10)
	}
	if e.PID != 0 {
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(e.PID), 10)
	}
	for i := range e.Attrs {
		start := `,`
		if i == 0 {
			start = `,"attrs":[`
		}
		b = appendAttr(append(b, start...), &e.Attrs[i])
	}
	if len(e.Attrs) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendAttr(b []byte, a *Attr) []byte {
	b = appendText(append(b, `{"key":`...), a.Key)
	if a.Kind != 0 {
		b = strconv.AppendUint(append(b, `,"kind":`...), uint64(a.Kind), 10)
	}
	if a.Str != "" {
		b = appendText(append(b, `,"str":`...), a.Str)
	}
	if a.Int != 0 {
		b = strconv.AppendInt(append(b, `,"int":`...), a.Int, 10)
	}
	if a.Float != 0 {
		b = strconv.AppendFloat(append(b, `,"float":`...), a.Float, 'g', -1, 64)
	}
	return append(b, '}')
}

// appendText appends a string of JSON.
func appendText(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			quoted, _ := json.Marshal(s) // a string never fails
			return append(b[:start], quoted...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
