// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// report is how the receiver of one signal tells about itself.
type report struct {
	id        component.ID
	version   string // of the distribution, for the scope of what is emitted
	logger    *zap.Logger
	obs       *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder
}

func newReport(set receiver.Settings) (*report, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID:             set.ID,
		ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return &report{
		id:        set.ID,
		version:   set.BuildInfo.Version,
		logger:    set.Logger,
		obs:       obs,
		telemetry: telemetry,
	}, nil
}
