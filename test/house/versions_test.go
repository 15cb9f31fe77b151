// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collectorVersions are the two numbers of one release of the Collector: modules
// that are not yet stable and those that are.
var collectorVersions = []string{"v0.158.0", "v1.64.0"}

// moduleVersion finds "path version" in a line of go.mod or of the ocb manifest.
var moduleVersion = regexp.MustCompile(`(\S+\.\S+/\S+) (v\d\S*)`)

func TestVersions_AreOneSetEverywhere(t *testing.T) {
	files := []string{"go.mod", "tools/go.mod", "builder-config.yaml"}
	nested, err := filepath.Glob(filepath.Join(top, "test/bench/*/go.mod"))
	require.NoError(t, err)
	for _, path := range nested {
		files = append(files, strings.TrimPrefix(path, top+"/"))
	}

	found := map[string]map[string][]string{} // module, version, files
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(top, file))
		require.NoError(t, err)
		seen := 0
		for line := range strings.Lines(string(text)) {
			match := moduleVersion.FindStringSubmatch(line)
			if match == nil || !isCollector(match[1]) {
				continue
			}
			seen++
			path, version := match[1], match[2]
			assert.True(t, slices.Contains(collectorVersions, version), "%s: %s %s is not of the pinned release (%s)",
				file, path, version, strings.Join(collectorVersions, ", "))
			if found[path] == nil {
				found[path] = map[string][]string{}
			}
			found[path][version] = append(found[path][version], file)
		}
		assert.Positive(t, seen, "%s names no module of the Collector", file)
	}
	for path, versions := range found {
		assert.Len(t, versions, 1, "%s has several versions: %v", path, versions)
	}
}

func isCollector(path string) bool {
	return strings.HasPrefix(path, "go.opentelemetry.io/collector/") ||
		strings.HasPrefix(path, "github.com/open-telemetry/opentelemetry-collector-contrib/")
}
