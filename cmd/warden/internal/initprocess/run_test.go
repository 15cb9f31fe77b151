// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun_RefusesACommandLineThatNamesNoCommand(t *testing.T) {
	tests := []struct {
		name string
		give []string
		want string
	}{
		{"nothing", nil, "warden: init: the command to run is missing; "},
		{"no dashes", []string{"otelcol-warden", "--config", "c"}, `warden: init: no "--" before the command in ["otelcol-warden" "--config" "c"]; `},
		{"an argument of its own", []string{"-v", "--", "otelcol-warden"}, `warden: init: ["-v"] stands before "--", where init takes no arguments; `},
		{"no command", []string{"--"}, `warden: init: no command after "--"; `},
		{"an empty command", []string{"--", ""}, `warden: init: no command after "--"; `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stderr strings.Builder
			assert.Equal(t, exitUsage, Run(tt.give, &stderr))
			assert.Equal(t, tt.want+usage+"\n", stderr.String())
		})
	}
}

func TestRun_SaysWhyACommandCannotBeRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", "/nowhere:")
	require.NoError(t, os.WriteFile("data", nil, 0o600))
	require.NoError(t, os.WriteFile("here", []byte("#!/bin/sh\n"), 0o700))
	const wayOut = "; name an executable file in PATH, or its path\n"
	data, missing := filepath.Join(dir, "data"), filepath.Join(dir, "missing")
	tests := []struct {
		name, give string
		status     int
		want       string
	}{
		{"not in PATH", "otelcol", exitNotFound, `warden: init: command "otelcol": executable file not found in $PATH` + wayOut},
		{"no such file", missing, exitNotFound, `warden: init: command "` + missing + `": stat ` + missing + `: no such file or directory` + wayOut},
		{"not executable", data, exitNotExecutable, `warden: init: command "` + data + `": permission denied` + wayOut},
		{"a directory", dir, exitNotExecutable, `warden: init: command "` + dir + `": is a directory` + wayOut},
		{"in the working directory", "here", exitNotFound, "warden: init: command \"here\": cannot run executable found relative to current directory; write \"./here\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stderr strings.Builder
			assert.Equal(t, tt.status, Run([]string{"--", tt.give}, &stderr))
			assert.Equal(t, tt.want, stderr.String())
		})
	}
}

func TestInit_SaysWhatCannotBeExecutedAfterAll(t *testing.T) {
	t.Parallel()
	r := prepare(t)
	script := filepath.Join(r.dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("no program\n"), 0o700))
	r.cmd.Args = []string{"warden", "init", "--", script}
	r.start()
	assert.Equal(t, exitNotExecutable, r.wait())
	assert.Equal(t, "warden: init: start \""+script+"\": exec format error\n", r.stderr())
}
