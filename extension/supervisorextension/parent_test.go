// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"math"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/otelwarden/warden/extension/supervisorextension/internal/metadata"
)

func TestBudget_CountsWhatIsHeldForEveryProcess(t *testing.T) {
	cfg := loadGood(t, `
children:
  - {name: both, command: [a]}
  - {name: one, command: [a], output: {stderr: stdout}, instances: 3}
  - {name: none, command: [a], output: {stdout: inherit, stderr: "null"}}
  - name: below
    children:
      - {name: socket, command: [a], readiness: {notify: {}}, liveness: {notify: {}}}
      - {name: pipe, command: [a], readiness: {notify_fd: 3}}
`)
	processes, held := cfg.descriptors()
	assert.Equal(t, 7, processes)
	assert.Equal(t, 2+3+0+(2+1)+(2+1), held)
}

func TestBudget_ThatIsNotThereIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Max >= 196_669 {
		t.Skipf("%d files may be open here, which is enough", limit.Max)
	}
	cfg := configured(nil)
	for range math.MaxUint16 {
		cfg.Children = append(cfg.Children, sh("a", ""))
	}
	cfg.RuntimeDirectory = t.TempDir() + "/run"
	s := newSupervisor(extensiontest.NewNopSettings(metadata.Type), cfg)
	err := s.Start(t.Context(), componenttest.NewNopHost())
	require.Error(t, err)
	assert.ErrorContains(t, err, "65535 processes with 131070 pipes and sockets need 196669 open files in their keeper")
	assert.NoDirExists(t, cfg.RuntimeDirectory)
	require.NoError(t, s.Shutdown(t.Context()))
}
