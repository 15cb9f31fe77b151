// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// onHost starts a receiver on another host than the checker's, which has no extensions.
type onHost struct {
	receiver.Logs
	host host
}

func (r onHost) Start(ctx context.Context, _ component.Host) error { return r.Logs.Start(ctx, r.host) }

// journalGenerator appends events; a new supervisor for each scenario.
type journalGenerator struct {
	mu   sync.Mutex
	fake *fakeSupervisor
	next int
}

func (*journalGenerator) Start() {}
func (*journalGenerator) Stop()  {}

func (g *journalGenerator) Generate() []receivertest.UniqueIDAttrVal {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next++
	id := strconv.Itoa(g.next)
	g.fake.journal.Append(journal.Event{
		Time: time.Now(), Topic: journal.TopicLifecycle, Name: journal.ProcessStarted, Severity: journal.SeverityInfo,
		Attrs: []journal.Attr{journal.String(receivertest.UniqueIDAttrName, id)},
	})
	return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(id)}
}

// Every event is delivered exactly once or refused for good, whatever the consumer answers.
func TestEvents_KeepTheConsumeContract(t *testing.T) {
	g := &journalGenerator{}
	factory := receiver.NewFactory(metadata.Type, createDefaultConfig,
		receiver.WithLogs(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.fake = newFakeSupervisor()
			m := newMonitor(cfg.(*Config))
			m.retry = retry{first: time.Millisecond, most: time.Millisecond}
			m.logs = &signal[consumer.Logs]{set, next}
			return onHost{m, host{supervisorID: g.fake}}, nil
		}, component.StabilityLevelAlpha))
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T: t, Factory: factory, Signal: pipeline.SignalLogs, Config: createDefaultConfig(), Generator: g, GenerateCount: 40,
	})
}
