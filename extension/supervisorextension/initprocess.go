// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/announce"
)

// initProcess is what started the collector, if that was `warden init`. What it is not
// told makes it take an end for a crash, which is no reason not to go on.
type initProcess struct {
	announcer *announce.Announcer // nil: there is none
	logger    *zap.Logger
}

func newInitProcess(logger *zap.Logger) initProcess {
	announcer, err := announce.Inherited()
	i := initProcess{announcer, logger}
	i.tell(err)
	return i
}

func (i initProcess) tell(err error) {
	if err != nil {
		i.logger.Warn("the init process does not hear what becomes of the collector", zap.Error(err))
	}
}
