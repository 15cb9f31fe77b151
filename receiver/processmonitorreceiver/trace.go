// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/otelwarden/warden/internal/journal"
)

// span is a span to be.
type span struct {
	process string // whose resource it is on
	name    string
	context spanContext
	parent  pcommon.SpanID // zero: it is the root of its trace
	start   time.Time
	end     time.Time
	failure string         // the message of the status Error; "": no status is set
	of      *journal.Event // whose attributes it has
	attrs   []journal.Attr // further ones
	links   []link
	moments []moment
	omitted int // moments that there were too many of
}

// spanContext names a span for all time and everybody: it is made of what is known of
// the thing, so that a collector makes the same one as the collector before it, and
// a span that is delivered twice is known for the same.
type spanContext struct {
	trace pcommon.TraceID
	span  pcommon.SpanID
}

// link points from one span to that of a run.
type link struct {
	to  spanContext
	run uint64
}

// moment is a span event.
type moment struct {
	at time.Time
	of *journal.Event
}

// newRoot names the root span of a trace of its own.
func newRoot(kind string, parts ...string) spanContext {
	sum := digest(kind, parts)
	var c spanContext
	copy(c.trace[:], sum[:16])
	copy(c.span[:], sum[16:])
	return c
}

// child names a span below c.
func (c spanContext) child(kind string, parts ...string) spanContext {
	sum := digest(kind, append(parts, string(c.trace[:]), string(c.span[:])))
	copy(c.span[:], sum[:8])
	return c
}

// digest tells lists of texts apart, also where they are equal when joined.
func digest(kind string, parts []string) [sha256.Size]byte {
	text := []byte(kind)
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

func (s *span) write(to ptrace.Span) {
	to.SetName(s.name)
	to.SetKind(ptrace.SpanKindInternal)
	to.SetTraceID(s.context.trace)
	to.SetSpanID(s.context.span)
	to.SetParentSpanID(s.parent)
	to.SetStartTimestamp(pcommon.NewTimestampFromTime(s.start))
	to.SetEndTimestamp(pcommon.NewTimestampFromTime(s.end))
	if s.failure != "" {
		to.Status().SetCode(ptrace.StatusCodeError)
		to.Status().SetMessage(s.failure)
	}
	to.Attributes().EnsureCapacity(len(s.of.Attrs) + len(s.attrs) + 3)
	putEvent(to.Attributes(), s.of)
	putAttrs(to.Attributes(), s.attrs)
	for _, l := range s.links {
		linked := to.Links().AppendEmpty()
		linked.SetTraceID(l.to.trace)
		linked.SetSpanID(l.to.span)
		linked.Attributes().PutInt(journal.KeyRun, int64(l.run))
	}
	for _, m := range s.moments {
		event := to.Events().AppendEmpty()
		event.SetName(m.of.Name)
		event.SetTimestamp(pcommon.NewTimestampFromTime(m.at))
		event.Attributes().PutInt(keySequence, int64(m.of.Seq))
		putEvent(event.Attributes(), brief(m.of))
	}
	to.SetDroppedEventsCount(uint32(s.omitted))
}

// told are the attributes that a moment keeps of an event, whose record has them all.
var told = map[string]bool{
	journal.KeyExitReason: true, journal.KeyExitCode: true, journal.KeyExitSignal: true, journal.KeyErrorMessage: true,
	journal.KeyRestartReason: true, journal.KeyRestartDelay: true, journal.KeyRestartCause: true, journal.KeyStopReason: true,
	journal.KeyStartDuration: true,
}

// brief is the event without what only its record says.
func brief(event *journal.Event) *journal.Event {
	short := *event
	short.Process, short.Attrs = "", nil // the span says which process it is
	for _, attr := range event.Attrs {
		if told[attr.Key] {
			short.Attrs = append(short.Attrs, attr)
		}
	}
	return &short
}
