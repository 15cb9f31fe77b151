// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/scraper"
	"go.opentelemetry.io/collector/scraper/scraperhelper"

	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// controller scrapes at every interval. It adds to scraperhelper's an end to the
// delivery under way, which there goes on for as long as the consumer likes.
type controller struct {
	receiver receiver.Metrics
	ctx      context.Context
	cancel   context.CancelFunc
}

func startController(ctx context.Context, host component.Host, cfg *Config, metrics *signal[consumer.Metrics], scrape scraper.ScrapeMetricsFunc) (*controller, error) {
	c := &controller{}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	next, err := consumer.NewMetrics(func(ctx context.Context, md pmetric.Metrics) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		return metrics.next.ConsumeMetrics(ctx, md)
	}, consumer.WithCapabilities(metrics.next.Capabilities()))
	if err != nil {
		return nil, err
	}
	s, err := scraper.NewMetrics(scrape)
	if err != nil {
		return nil, err
	}
	helperConfig := scraperhelper.ControllerConfig(cfg.ControllerConfig)
	c.receiver, err = scraperhelper.NewMetricsController(&helperConfig, metrics.set, next, scraperhelper.AddMetricsScraper(metadata.Type, s))
	if err != nil {
		return nil, err
	}
	if err := c.receiver.Start(ctx, host); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *controller) shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()
	err := c.receiver.Shutdown(ctx)
	c.cancel()
	return err
}
