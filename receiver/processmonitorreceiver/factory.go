// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/scraper/scraperhelper"

	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// NewFactory returns the factory of the process_monitor receiver.
func NewFactory() receiver.Factory {
	monitors := newMonitors()
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithMetrics(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			m := monitors.get(cfg.(*Config))
			m.metrics = &signal[consumer.Metrics]{set, next}
			return m, nil
		}, metadata.MetricsStability),
		receiver.WithLogs(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			m := monitors.get(cfg.(*Config))
			m.logs = &signal[consumer.Logs]{set, next}
			return m, nil
		}, metadata.LogsStability),
		receiver.WithTraces(func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
			m := monitors.get(cfg.(*Config))
			m.traces = &signal[consumer.Traces]{set, next}
			return m, nil
		}, metadata.TracesStability),
	)
}

func createDefaultConfig() component.Config {
	controller := ControllerConfig(scraperhelper.NewDefaultControllerConfig())
	controller.CollectionInterval = 10 * time.Second
	return &Config{
		ControllerConfig: controller,
		Supervisor:       SupervisorID(component.MustNewID("supervisor")),
		System:           SystemConfig{Enabled: true},
		Topics: TopicsConfig{
			Lifecycle:  defaultTopic(true),
			Supervisor: defaultTopic(true),
			Health:     defaultTopic(false),
			Job:        defaultTopic(true),
			Control:    defaultTopic(false),
			Output:     defaultTopic(false),
		},
		Metrics: MetricsConfig{
			MetricsConfig:   metadata.DefaultMetricsConfig(),
			ProcessLifetime: HistogramConfig{Enabled: true},
		},
		ResourceAttributes: metadata.DefaultResourceAttributesConfig(),
	}
}

func defaultTopic(trace bool) TopicConfig {
	return TopicConfig{Log: true, Count: true, Trace: trace, Severity: "info"}
}
