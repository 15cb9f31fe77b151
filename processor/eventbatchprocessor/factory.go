// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metadata"
)

// NewFactory returns the factory of the `event_batch` processor.
func NewFactory() processor.Factory {
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithLogs(createLogs, metadata.LogsStability),
		processor.WithMetrics(createMetrics, metadata.MetricsStability),
		processor.WithTraces(createTraces, metadata.TracesStability),
	)
}

func createDefaultConfig() component.Config {
	return &Config{
		QueueSize:                10_000,
		OnFull:                   OnFullBlock,
		Timeout:                  200 * time.Millisecond,
		SendBatchSize:            8192,
		MaxGroups:                1000,
		MetadataCardinalityLimit: 1000,
		Acknowledge:              AcknowledgeAccepted,
		Logs:                     EventConfig{GroupBy: []string{"event_name"}},
		Traces:                   EventConfig{GroupBy: []string{"span_name"}},
		Metrics: MetricsConfig{
			Sum:       AggregateSum,
			Gauge:     AggregateAverage,
			Histogram: AggregateMerge,
		},
	}
}

func createLogs(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
	return newLogsProcessor(set, cfg.(*Config), next)
}

func createMetrics(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
	return newMetricsProcessor(set, cfg.(*Config), next)
}

func createTraces(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Traces) (processor.Traces, error) {
	return newTracesProcessor(set, cfg.(*Config), next)
}
