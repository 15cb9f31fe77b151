// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metadata"
)

func TestFactory_DefaultConfigIsValid(t *testing.T) {
	f := NewFactory()
	assert.Equal(t, component.MustNewType("event_batch"), f.Type())
	assert.Equal(t, metadata.Type, f.Type())
	cfg := f.CreateDefaultConfig()
	assert.NoError(t, componenttest.CheckConfigStruct(cfg))
	assert.NoError(t, cfg.(*Config).Validate())
}

func TestProcessor_LosesNothingAndSendsNothingAfterShutdown(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"default":            func(*Config) {},
		"without grouping":   func(c *Config) { c.Logs.GroupBy, c.Traces.GroupBy = nil, nil },
		"delivered":          func(c *Config) { c.Acknowledge = AcknowledgeDelivered },
		"sent at once":       func(c *Config) { c.Timeout = 0 },
		"batches of one":     func(c *Config) { c.SendBatchSize, c.SendBatchMaxSize = 1, 1 },
		"with metadata keys": func(c *Config) { c.MetadataKeys = []string{"tenant"} },
		"queue of one":       func(c *Config) { c.QueueSize = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFactory()
			cfg := f.CreateDefaultConfig().(*Config)
			change(cfg)
			processortest.VerifyShutdown(t, f, cfg)
		})
	}
}
