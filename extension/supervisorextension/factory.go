// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"os"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"

	"github.com/otelwarden/warden/extension/supervisorextension/internal/metadata"
)

// NewFactory returns the factory of the extension.
func NewFactory() extension.Factory {
	return extension.NewFactory(metadata.Type, createDefaultConfig, create, metadata.ExtensionStability)
}

func createDefaultConfig() component.Config {
	cfg := newDefaultConfig()
	// A configuration is given no logger, and the Collector's command that only
	// validates creates no extension that would have one.
	if slices.Contains(os.Args[1:], "validate") {
		cfg.validating = os.Stderr
	}
	return cfg
}

func create(_ context.Context, set extension.Settings, cfg component.Config) (extension.Extension, error) {
	return newSupervisor(set, cfg.(*Config)), nil
}
