// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestEncode_WritesWhatTheFieldsOfAnEventSay(t *testing.T) {
	// By reflection: a field that is new is among them.
	events := rapid.MakeCustom[Event](rapid.MakeConfig{Types: map[reflect.Type]*rapid.Generator[any]{
		reflect.TypeFor[time.Time](): rapid.Map(rapid.Int64(), func(n int64) any { return time.Unix(0, n).UTC() }),
	}})
	rapid.Check(t, func(t *rapid.T) {
		e := events.Draw(t, "event")
		want, err := json.Marshal(e)
		require.NoError(t, err)
		assert.JSONEq(t, string(want), string(Encode(&e)))
	})
}

func TestEncode_WritesTextWhateverTheBytes(t *testing.T) {
	record := Encode(&Event{Body: "a \"b\" \\ \xff \x00 \u2028 ü"})
	assert.True(t, utf8.Valid(record))
	e, err := Decode(record)
	require.NoError(t, err)
	assert.Equal(t, "a \"b\" \\ \ufffd \x00 \u2028 ü", e.Body)
}

func BenchmarkEncode(b *testing.B) {
	e := Event{
		Seq: 12, Time: time.Now(), Mono: 123456789012, Topic: TopicLifecycle, Name: ProcessCrashed, Severity: SeverityError,
		Body: `process "web" was ended by SIGKILL after 2.5s`, Process: "web", Run: 3, PID: 1234,
		Attrs: []Attr{String(KeyExitReason, "signal"), Seconds(KeyRunDuration, 2500*time.Millisecond), Bool(KeyCoreDumped, false)},
	}
	b.ReportAllocs()
	for b.Loop() {
		Encode(&e)
	}
}
