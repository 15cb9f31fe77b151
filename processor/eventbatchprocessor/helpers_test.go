// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metadata"
)

// sink is a next consumer that keeps what it takes, as lists of record bodies, and does as it is told.
type sink struct {
	mu       sync.Mutex
	batches  [][]string
	contexts []context.Context
	data     []plog.Logs

	// before, if set, is called with the bodies before they are kept; its error is returned instead of keeping them.
	before func(ctx context.Context, bodies []string) error
}

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	got := bodies(ld)
	if s.before != nil {
		if err := s.before(ctx, got); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, got)
	s.contexts = append(s.contexts, ctx)
	s.data = append(s.data, ld)
	return nil
}

func (s *sink) got() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func (s *sink) count() int {
	n := 0
	for _, b := range s.got() {
		n += len(b)
	}
	return n
}

func bodies(ld plog.Logs) []string {
	var got []string
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				got = append(got, r.Body().Str())
			}
		}
	}
	return got
}

// records makes a request of one resource; each record is "event/body" or just "body".
func records(specs ...string) plog.Logs {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr("service.name", "test")
	lrs := rl.ScopeLogs().AppendEmpty().LogRecords()
	for _, spec := range specs {
		r := lrs.AppendEmpty()
		for i := range spec {
			if spec[i] == '/' {
				r.SetEventName(spec[:i])
				spec = spec[i+1:]
				break
			}
		}
		r.Body().SetStr(spec)
	}
	return ld
}

// repeated makes n records of one event.
func repeated(event, body string, n int) plog.Logs {
	specs := make([]string, n)
	for i := range specs {
		specs[i] = event + "/" + body
	}
	return records(specs...)
}

type fixture struct {
	*logsProcessor
	sink *sink
	logs *observer.ObservedLogs
	tel  *componenttest.Telemetry
}

// start makes a logs processor of the default configuration with changes, and shuts it down at the end of the test.
func start(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	f := build(t, change)
	require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
	return f
}

func build(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	if change != nil {
		change(cfg)
	}
	require.NoError(t, cfg.Validate())
	f := &fixture{sink: &sink{}}
	set, logs, tel := settings(t)
	f.logs, f.tel = logs, tel
	p, err := newLogsProcessor(set, cfg, f.sink)
	require.NoError(t, err)
	f.logsProcessor = p
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return f
}

func settings(t *testing.T) (processor.Settings, *observer.ObservedLogs, *componenttest.Telemetry) {
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	set := processortest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = tel.NewTelemetrySettings()
	core, logs := observer.New(zap.DebugLevel)
	set.Logger = zap.New(core)
	return set, logs, tel
}

func (f *fixture) consume(t *testing.T, ld plog.Logs) {
	t.Helper()
	require.NoError(t, f.ConsumeLogs(t.Context(), ld))
}

func (f *fixture) held() int {
	return f.observe().size
}

// blocked makes the sink wait until the returned function is called.
func (s *sink) block() (release func()) {
	gate := make(chan struct{})
	s.before = func(ctx context.Context, _ []string) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return sync.OnceFunc(func() { close(gate) })
}

// pass lets time pass in a bubble, and everything happen that is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func tenant(ctx context.Context, values ...string) context.Context {
	return client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(map[string][]string{"Tenant": values})})
}

var errDown = errors.New("backend is down")
