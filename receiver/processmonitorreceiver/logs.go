// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	conventions "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// Attribute keys of records and spans beyond those of the journal.
const (
	keyTopic          = "supervisor.event.topic"
	keySequence       = "supervisor.event.sequence"
	keyMissed         = "supervisor.event.missed"
	keyStream         = "log.iostream"
	keyOutputSequence = "supervisor.output.sequence"
	keyTruncated      = "supervisor.output.truncated"
	keyAfterExit      = "supervisor.output.after_exit"
	keyOutputRaw      = "supervisor.output.raw"
)

// eventLogs makes one log record of each event.
type eventLogs struct {
	*report
	topics    *TopicsConfig
	resources *resources
	next      consumer.Logs
	now       func() time.Time
}

func newEventLogs(cfg *Config, shared *resources, r *report, next consumer.Logs, now func() time.Time) *eventLogs {
	return &eventLogs{report: r, topics: &cfg.Topics, resources: shared, next: next, now: now}
}

// deliver is a feed's. The records are built anew for every try, since a consumer
// may change what it is given even if it refuses it.
func (l *eventLogs) deliver(ctx context.Context, events []journal.Event, missed uint64) error {
	logs := l.build(events, missed)
	n := logs.LogRecordCount()
	if n == 0 {
		return nil
	}
	ctx = l.obs.StartLogsOp(ctx)
	err := l.next.ConsumeLogs(ctx, logs)
	l.obs.EndLogsOp(ctx, "", n, err)
	return err
}

// build keeps the order of the events of each process; the sequence number tells
// the order over all.
func (l *eventLogs) build(events []journal.Event, missed uint64) plog.Logs {
	logs := plog.NewLogs()
	records := map[string]plog.LogRecordSlice{}
	recordsOf := func(process string) plog.LogRecordSlice {
		slice, ok := records[process]
		if !ok {
			slice = appendScopeLogs(logs, l.resources.ofID(process), l.version)
			records[process] = slice
		}
		return slice
	}
	observed := pcommon.NewTimestampFromTime(l.now())
	if missed > 0 && l.logged(journal.TopicOutput, journal.SeverityWarn) {
		record := recordsOf("").AppendEmpty()
		setGap(record, events, missed)
		record.SetTimestamp(observed)
		record.SetObservedTimestamp(observed)
	}
	for i := range events {
		if event := &events[i]; l.logged(event.Topic, event.Severity) {
			record := recordsOf(event.Process).AppendEmpty()
			setEvent(record, event)
			record.SetObservedTimestamp(observed)
		}
	}
	return logs
}

func (l *eventLogs) logged(topic string, severity journal.Severity) bool {
	cfg := l.topics.of(topic)
	least, _ := cfg.Severity.number()
	return cfg.Log && plog.SeverityNumber(severity) >= least
}

func setEvent(record plog.LogRecord, event *journal.Event) {
	record.SetEventName(event.Name)
	record.SetTimestamp(pcommon.NewTimestampFromTime(event.Time))
	setSeverity(record, event.Severity)
	record.Body().SetStr(event.Body)
	attrs := record.Attributes()
	attrs.EnsureCapacity(len(event.Attrs) + 5)
	attrs.PutStr(keyTopic, event.Topic)
	attrs.PutInt(keySequence, int64(event.Seq))
	putEvent(attrs, event)
}

// setGap describes events that were overwritten before those that are there.
func setGap(record plog.LogRecord, events []journal.Event, missed uint64) {
	record.SetEventName(journal.JournalGap)
	setSeverity(record, journal.SeverityWarn)
	record.Body().SetStr(fmt.Sprintf("%d events before number %d were overwritten in the journal before they could be delivered", missed, events[0].Seq))
	attrs := record.Attributes()
	attrs.PutStr(keyTopic, journal.TopicOutput)
	attrs.PutInt(keyMissed, int64(missed))
}

// putEvent adds what records and spans say of an event alike.
func putEvent(attrs pcommon.Map, event *journal.Event) {
	if event.Process != "" {
		attrs.PutStr(journal.KeyProcessID, event.Process)
	}
	if event.Run != 0 {
		attrs.PutInt(journal.KeyRun, int64(event.Run))
	}
	if event.PID != 0 {
		attrs.PutInt(journal.KeyPID, int64(event.PID))
	}
	putAttrs(attrs, event.Attrs)
}

func putAttrs(attrs pcommon.Map, list []journal.Attr) {
	for i := range list {
		switch attr := &list[i]; attr.Kind {
		case journal.KindString:
			attrs.PutStr(attr.Key, attr.Str)
		case journal.KindInt:
			attrs.PutInt(attr.Key, attr.Int)
		case journal.KindFloat:
			attrs.PutDouble(attr.Key, attr.Float)
		case journal.KindBool:
			attrs.PutBool(attr.Key, attr.Int != 0)
		}
	}
}

func setSeverity(record plog.LogRecord, severity journal.Severity) {
	number := plog.SeverityNumber(severity)
	record.SetSeverityNumber(number)
	record.SetSeverityText(strings.ToUpper(number.String()))
}

// appendScopeLogs adds a resource with one scope and returns its records.
func appendScopeLogs(logs plog.Logs, resource pcommon.Resource, version string) plog.LogRecordSlice {
	rl := logs.ResourceLogs().AppendEmpty()
	rl.SetSchemaUrl(conventions.SchemaURL)
	resource.CopyTo(rl.Resource())
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(metadata.ScopeName)
	sl.Scope().SetVersion(version)
	return sl.LogRecords()
}
