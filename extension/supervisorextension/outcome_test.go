// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

func TestClassify(t *testing.T) {
	success := SuccessList{Codes: []int{0, 7}, Signals: []syscall.Signal{syscall.SIGUSR1}}
	code := func(code int) keeper.Exit { return keeper.Exit{Code: code} }
	signal := func(s syscall.Signal) keeper.Exit { return keeper.Exit{Code: -1, Signal: s} }
	tests := []struct {
		name     string
		exit     keeper.Exit
		want     tree.ExitReason
		describe string
	}{
		{"0", code(0), tree.ExitSuccess, "exited with code 0"},
		{"a listed code", code(7), tree.ExitSuccess, "exited with code 7"},
		{"another code", code(1), tree.ExitCode, "exited with code 1"},
		{"a listed signal", signal(syscall.SIGUSR1), tree.ExitSuccess, "was ended by SIGUSR1"},
		{"another signal", signal(syscall.SIGKILL), tree.ExitSignal, "was ended by SIGKILL"},
		{"with a core", keeper.Exit{Code: -1, Signal: syscall.SIGSEGV, Core: true}, tree.ExitSignal, "was ended by SIGSEGV and dumped a core"},
		{"an OOM kill", keeper.Exit{Code: -1, Signal: syscall.SIGKILL, OOM: true}, tree.ExitOOM, "was killed for want of memory"},
		{"a status that is lost is not taken for 0", keeper.Exit{Lost: true}, tree.ExitCode, "ended, with what status is not known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, classify(tt.exit, success))
			assert.Equal(t, tt.describe, describe(tt.exit))
		})
	}
}
