// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadatatest"
)

// lines is output of the standard error of a process's third run.
func lines(id string, texts ...string) supervisorextension.Output {
	out := supervisorextension.Output{
		Process: fakeProcess(id).Info, Run: 3, PID: 42, Started: now.Add(-time.Minute), Stream: "stderr",
	}
	for i, text := range texts {
		out.Lines = append(out.Lines, supervisorextension.OutputLine{
			Time: now.Add(time.Duration(i) * time.Millisecond), Seq: uint64(i + 1), Text: []byte(text),
		})
	}
	return out
}

func startTestOutput(t *testing.T, r *run) *outputLogs {
	t.Helper()
	rep, err := newReport(r.set)
	require.NoError(t, err)
	o, err := startOutput(r.fake, newResources(r.fake, &r.cfg.ResourceAttributes), rep, r.monitor.logs.next)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.shutdown(context.Background())) })
	return o
}

func TestOutput_RecordsAreAsRecorded(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	startTestOutput(t, r)
	out := lines("web", "plain", "", "caf\xc3\xa9", "broken \xff\xfe\x80 bytes \xe2\x82", "a piece of", "[warn] from a child", "[odd] level")
	out.Lines[4].Truncated = true
	out.Lines[5].AfterExit = true
	out.Severity = supervisorextension.NewSeverityPattern(&supervisorextension.SeverityConfig{Pattern: `^\[(\w+)\]`})
	require.NoError(t, r.fake.say(context.Background(), out))
	require.Len(t, r.logs.AllLogs(), 1)
	compareLogs(t, "output", r.logs.AllLogs()[0])
}

func TestOutput_DoesNotKeepTheTextOfTheLines(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	startTestOutput(t, r)
	out := lines("web", "before")
	require.NoError(t, r.fake.say(context.Background(), out))
	copy(out.Lines[0].Text, "after!")
	record := r.logs.AllLogs()[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	assert.Equal(t, "before", record.Body().Str())
}

func TestOutput_NoLinesNoDelivery(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	startTestOutput(t, r)
	require.NoError(t, r.fake.say(context.Background(), lines("web")))
	assert.Empty(t, r.logs.AllLogs())
}

func TestOutput_RefusalIsPassedOn(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	r.monitor.logs.next = consumertest.NewErr(errBusy)
	startTestOutput(t, r)
	assert.ErrorIs(t, r.fake.say(context.Background(), lines("web", "a")), errBusy)
}

func TestOutput_RefusalForGoodSkipsAndCounts(t *testing.T) {
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	core, logs := observer.New(zap.InfoLevel)
	r := newRun(newFakeSupervisor(), nil)
	r.set.ID = componentID("process_monitor")
	r.set.TelemetrySettings = tel.NewTelemetrySettings()
	r.set.Logger = zap.New(core)
	r.monitor.logs.next = consumertest.NewErr(consumererror.NewPermanent(errors.New("never")))
	startTestOutput(t, r)
	for range 3 {
		require.NoError(t, r.fake.say(context.Background(), lines("web", "a", "b")), "an error would hold up the process for ever")
	}
	metadatatest.AssertEqualReceiverProcessMonitorOutputSkipped(t, tel, []metricdata.DataPoint[int64]{{
		Attributes: attribute.NewSet(attribute.String("receiver", "process_monitor")), Value: 6,
	}}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	assert.Equal(t, 1, logs.FilterMessageSnippet("skipped").Len(), "one line of log for a row of refusals")
}

func FuzzText(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\xff\xfe\x00 é"))
	f.Fuzz(func(t *testing.T, line []byte) {
		record := plog.NewLogRecord()
		setText(record, line, string(line))
		got := record.Body().Str()
		assert.True(t, utf8.ValidString(got))
		if utf8.Valid(line) {
			assert.Equal(t, string(line), got)
			assert.Zero(t, record.Attributes().Len())
			return
		}
		raw, _ := record.Attributes().Get(keyOutputRaw)
		assert.Equal(t, line, raw.Bytes().AsRaw())
		// What was valid is all there, in order.
		kept := strings.ReplaceAll(got, "\uFFFD", "")
		var want strings.Builder
		for rest := line; len(rest) > 0; {
			r, size := utf8.DecodeRune(rest)
			if r != utf8.RuneError {
				want.WriteRune(r)
			}
			rest = rest[size:]
		}
		assert.Equal(t, want.String(), kept)
	})
}
