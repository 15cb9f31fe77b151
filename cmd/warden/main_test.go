// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRun_AnswersEachCommandLine(t *testing.T) {
	tests := []struct {
		name       string
		give       []string
		wantStatus int
		wantOut    string
		wantErr    string
	}{
		{name: "version", give: []string{"version"}, wantOut: "warden version 1.2.3\n"},
		{name: "version as a flag", give: []string{"--version"}, wantOut: "warden version 1.2.3\n"},
		{name: "version with an argument", give: []string{"version", "x"}, wantStatus: exitUsage, wantErr: "warden: \"version\" takes no arguments, got [\"x\"]\n"},
		{name: "help", give: []string{"help"}, wantOut: usage},
		{name: "help as a flag", give: []string{"-h"}, wantOut: usage},
		{
			name: "init without a command", give: []string{"init"}, wantStatus: exitUsage,
			wantErr: "warden: init: the command to run is missing; usage: warden init -- COMMAND [ARGUMENT …], for instance: warden init -- otelcol-warden --config config.yaml\n",
		},
		{name: "nothing", wantStatus: exitUsage, wantErr: usage},
		{
			name: "a command it does not have", give: []string{"status"}, wantStatus: exitUsage,
			wantErr: "warden: \"status\" is not a command; this version has init, version and help\n",
		},
	}
	version = "1.2.3"
	t.Cleanup(func() { version = "" })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			status := run(tt.give, &stdout, &stderr)
			assert.Equal(t, tt.wantStatus, status)
			assert.Equal(t, tt.wantOut, stdout.String())
			assert.Equal(t, tt.wantErr, stderr.String())
		})
	}
}

func TestReleased_IsNeverEmpty(t *testing.T) {
	assert.NotEmpty(t, released())
}
