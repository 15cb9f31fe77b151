// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"
)

func TestEnvironment_TheLaterSourceWins(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	own := []string{"HOME=/root", "A=own", "B=own", "C=own", "NOTIFY_SOCKET=/run/notify", "LISTEN_FDS=3"}
	first, second := file("first", "B=first\nC=first\n"), file("second", "C=second\n")
	tests := []struct {
		name string
		give ProcessConfig
		want string
	}{
		{
			"everything is inherited but what speaks to the service manager",
			ProcessConfig{InheritEnvironment: InheritEnvironment{All: true}},
			"A=own B=own C=own HOME=/root",
		},
		{"nothing is inherited", ProcessConfig{}, ""},
		{
			"what is named is inherited, also what is not otherwise",
			ProcessConfig{InheritEnvironment: InheritEnvironment{Names: []string{"HOME", "NOTIFY_SOCKET", "UNSET"}}},
			"HOME=/root NOTIFY_SOCKET=/run/notify",
		},
		{
			"files in their order, then the process's own",
			ProcessConfig{
				InheritEnvironment: InheritEnvironment{All: true},
				EnvironmentFiles:   []string{first, second},
				Environment:        map[string]configopaque.String{"D": "config", "B": "config"},
			},
			"A=own B=config C=second D=config HOME=/root",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := environment(&tt.give, newInheritable(own), propagation{})
			require.NoError(t, err)
			assert.Equal(t, tt.want, strings.Join(got, " "))
		})
	}
}

func TestEnvironment_AMissingFileIsAnError(t *testing.T) {
	_, err := environment(&ProcessConfig{EnvironmentFiles: []string{"/nonexistent/env"}}, inheritable{}, propagation{})
	assert.EqualError(t, err, "environment file: open /nonexistent/env: no such file or directory")
}

func TestParseEnvironmentFile(t *testing.T) {
	tests := []struct {
		name, give string
		want       map[string]string
		wantErr    string
	}{
		{"plain", "A=1\nB=two words\n", map[string]string{"A": "1", "B": "two words"}, ""},
		{"comments and empty lines", "# A=1\n\n  # B\nC=3", map[string]string{"C": "3"}, ""},
		{"one pair of quotes goes", "A=\"x y\"\nB='\"'\nC=\"\nD=''", map[string]string{"A": "x y", "B": `"`, "C": `"`, "D": ""}, ""},
		{"nothing is expanded", `A=$HOME \n #x`, map[string]string{"A": `$HOME \n #x`}, ""},
		{"carriage returns", "A=1\r\nB=2\r\n", map[string]string{"A": "1", "B": "2"}, ""},
		{"a value may hold =", "A=b=c", map[string]string{"A": "b=c"}, ""},
		{"a line without =", "A=1\nsecret\n", nil, `line 2 has no "=": write KEY=value`},
		{"a bad name", "export A=1", nil, `line 1: "export A" is no name of a variable: write KEY=value`},
		{"a NUL byte", "A=\x00", nil, "line 1: the value of A holds a NUL byte, which no variable can"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseEnvironmentFile([]byte(tt.give))
			if tt.wantErr != "" {
				assert.EqualError(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func FuzzParseEnvironmentFile(f *testing.F) {
	f.Add([]byte("A=1\n# c\nB='x'\r\n"))
	f.Add([]byte("=\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := parseEnvironmentFile(content)
		if err != nil {
			return
		}
		for key, value := range got {
			assert.NotContains(t, key, "=")
			assert.NotEmpty(t, key)
			assert.NotContains(t, key+value, "\x00", "exec would refuse it")
		}
	})
}
