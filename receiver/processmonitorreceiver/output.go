// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
)

// outputLogs makes one log record of each captured line and passes it on before
// the extension consumes the line from its pipe.
type outputLogs struct {
	*report
	resources *resources
	next      consumer.Logs
	release   func()
	attrs     metric.MeasurementOption
	// refused: the last lines were refused for good, and the log has said so.
	refused atomic.Bool
}

// startOutput takes the supervisor's output; it fails if somebody else has it.
func startOutput(supervisor supervisorextension.Supervisor, shared *resources, r *report, next consumer.Logs) (*outputLogs, error) {
	o := &outputLogs{
		report:    r,
		resources: shared,
		next:      next,
		attrs:     metric.WithAttributeSet(attribute.NewSet(attribute.String("receiver", r.id.String()))),
	}
	var err error
	if o.release, err = supervisor.ClaimOutput(r.id, o.handle); err != nil {
		return nil, err
	}
	return o, nil
}

// shutdown gives the output back, which ends the deliveries under way.
func (o *outputLogs) shutdown(context.Context) error {
	o.release()
	return nil
}

// handle is the supervisorextension.OutputHandler. Its error makes the extension
// offer the lines again, so lines that are refused for good are skipped and
// counted instead: they would hold up the process for ever.
func (o *outputLogs) handle(ctx context.Context, output supervisorextension.Output) error {
	if len(output.Lines) == 0 {
		return nil
	}
	logs := o.build(&output)
	ctx = o.obs.StartLogsOp(ctx)
	err := o.next.ConsumeLogs(ctx, logs)
	o.obs.EndLogsOp(ctx, "", len(output.Lines), err)
	if !consumererror.IsPermanent(err) {
		if err == nil {
			o.refused.Store(false)
		}
		return err
	}
	o.telemetry.ReceiverProcessMonitorOutputSkipped.Add(ctx, int64(len(output.Lines)), o.attrs)
	if !o.refused.Swap(true) {
		o.logger.Error("captured lines are skipped, and more will be until the next consumer takes some: it refuses them for good",
			zap.String("process", output.Process.ID), zap.Int("lines", len(output.Lines)), zap.Error(err))
	}
	return nil
}

// outputAttributes is how many attributes a line has that is not truncated and of no instance.
const outputAttributes = 5

func (o *outputLogs) build(output *supervisorextension.Output) plog.Logs {
	logs := plog.NewLogs()
	records := appendScopeLogs(logs, o.resources.of(output.Process), o.version)
	records.EnsureCapacity(len(output.Lines))
	created := output.Started.UTC().Format(time.RFC3339Nano)
	texts := newTexts(output.Lines)
	for i := range output.Lines {
		line := &output.Lines[i]
		record := records.AppendEmpty()
		read := pcommon.NewTimestampFromTime(line.Time)
		record.SetTimestamp(read)
		record.SetObservedTimestamp(read)
		attrs := record.Attributes()
		attrs.EnsureCapacity(outputAttributes)
		attrs.PutStr(keyStream, output.Stream)
		attrs.PutInt(journal.KeyRun, int64(output.Run))
		attrs.PutInt(keyOutputSequence, int64(line.Seq))
		attrs.PutInt(journal.KeyPID, int64(output.PID))
		attrs.PutStr(journal.KeyCreationTime, created)
		if output.Instance != "" {
			attrs.PutStr(journal.KeyInstanceID, output.Instance)
		}
		if line.Truncated {
			attrs.PutBool(keyTruncated, true)
		}
		if line.AfterExit {
			attrs.PutBool(keyAfterExit, true)
		}
		setText(record, line.Text, texts.next(line.Text))
		if number, text := output.Severity.Find(line.Text); text != nil {
			record.SetSeverityNumber(plog.SeverityNumber(number))
			record.SetSeverityText(strings.ToValidUTF8(string(text), "\uFFFD"))
		}
	}
	return logs
}

// texts are the lines of a batch as strings, which share their memory: to make each by
// itself is a sixth of what a record costs.
type texts struct {
	all string
	at  int
}

func newTexts(lines []supervisorextension.OutputLine) *texts {
	size := 0
	for i := range lines {
		size += len(lines[i].Text)
	}
	var all strings.Builder
	all.Grow(size)
	for i := range lines {
		all.Write(lines[i].Text)
	}
	return &texts{all: all.String()}
}

func (t *texts) next(line []byte) string {
	from := t.at
	t.at += len(line)
	return t.all[from:t.at]
}

// setText gives a record the text of a line. OTLP strings are UTF-8: where a line is
// not, every run of bytes that is not becomes one replacement character (U+FFFD) in the
// body, and the line as it was written is an attribute.
func setText(record plog.LogRecord, line []byte, text string) {
	if utf8.Valid(line) {
		record.Body().SetStr(text)
		return
	}
	record.Body().SetStr(strings.ToValidUTF8(string(line), "\uFFFD"))
	record.Attributes().PutEmptyBytes(keyOutputRaw).FromRaw(line)
}
