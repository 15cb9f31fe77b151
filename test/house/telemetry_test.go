// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names that users rely on, where the code has them.
var namings = []struct {
	kind string
	file string
	// name has the name as its first group.
	name *regexp.Regexp
}{
	{"event", "internal/journal/event.go", regexp.MustCompile(`(?m)^\t(?:Process|Supervisor|Config|Output|Journal)\w+ += "([^"]+)"`)},
	{"attribute", "internal/journal/event.go", regexp.MustCompile(`(?m)^\tKey\w+ += "([^"]+)"`)},
	{"metric", "receiver/processmonitorreceiver/metadata.yaml", regexp.MustCompile(`(?m)^  ((?:process|supervisor|system|event)[a-z_.0-9]*):\n    (?:enabled|stability)`)},
}

func TestTelemetryDocument_NamesWhatTheCodeEmits(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(top, "docs/telemetry.md"))
	require.NoError(t, err)
	// The three load averages share a line.
	text := regexp.MustCompile("`system.cpu.load_average.1m`, `.5m`, `.15m`").
		ReplaceAllString(string(document), "`system.cpu.load_average.1m`, `system.cpu.load_average.5m`, `system.cpu.load_average.15m`")
	for _, naming := range namings {
		code, err := os.ReadFile(filepath.Join(top, naming.file))
		require.NoError(t, err)
		matches := naming.name.FindAllStringSubmatch(string(code), -1)
		assert.NotEmpty(t, matches, "%s has no %s any more: the expression is out of date", naming.file, naming.kind)
		for _, match := range matches {
			assert.True(t, strings.Contains(text, "`"+match[1]+"`"), "docs/telemetry.md does not name the %s %s", naming.kind, match[1])
		}
	}
}
