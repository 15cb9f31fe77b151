// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
)

// Which ends OTP's supervisor reports, and in which context.
func TestReports_AreOfTheEndsThatOTPReports(t *testing.T) {
	restarts := func(policy RestartPolicy) func(*ChildConfig) { return func(c *ChildConfig) { c.Restart = policy } }
	grace := func(timeout time.Duration) func(*ChildConfig) {
		return func(c *ChildConfig) { c.Process.Stop.Timeout = timeout }
	}
	const deaf = "trap '' TERM; echo up; while :; do sleep 0.01; done"
	st := newStage(t, func(c *Config) { c.Intensity.MaxRestarts = 1000 },
		sh("permanent", "exit 0", restarts(RestartPermanent)),
		sh("transient", "exit 0", restarts(RestartTransient)),
		sh("temporary", "exit 0", restarts(RestartTemporary)),
		sh("failing", "exit 1", restarts(RestartTransient), func(c *ChildConfig) { c.Backoff.InitialInterval = time.Hour; c.Backoff.MaxInterval = time.Hour }),
		sh("failed", "exit 1", restarts(RestartTemporary)),
		sh("deaf", deaf, grace(50*time.Millisecond)),
		sh("brutal", deaf, grace(0)),
	)
	require.NoError(t, st.Ready())
	for _, tt := range []struct {
		process, event string
		want           any
	}{
		{"permanent", journal.ProcessExited, childTerminated},
		{"transient", journal.ProcessExited, nil},
		{"temporary", journal.ProcessExited, nil},
		{"failing", journal.ProcessCrashed, childTerminated},
		{"failed", journal.ProcessExited, childTerminated},
	} {
		assert.Equal(t, tt.want, attribute(st.await(tt.process, tt.event, 1), journal.KeyReportContext), tt.process)
	}
	require.Eventually(t, func() bool { return len(st.captured()) == 2 }, 20*time.Second, time.Millisecond, "both are up, in any order")
	require.NoError(t, st.command(OpStop, "deaf", nil))
	assert.Equal(t, shutdownError, attribute(st.await("deaf", journal.ProcessKilled, 1), journal.KeyReportContext))
	assert.Nil(t, attribute(st.await("deaf", journal.ProcessStopped, 1), journal.KeyReportContext))
	require.NoError(t, st.command(OpStop, "brutal", nil))
	assert.Nil(t, attribute(st.await("brutal", journal.ProcessKilled, 1), journal.KeyReportContext))
}
