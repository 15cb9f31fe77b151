// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/otelwarden/warden"

// rule says what the packages below one directory may import besides the standard
// library and each other.
type rule struct {
	dir string
	// ours are the packages of this module, relative to its top.
	ours []string
	// others are prefixes of packages of other modules; "" allows them all.
	others []string
}

var rules = []rule{
	{dir: "cmd/warden", ours: []string{"internal/announce"}, others: []string{"golang.org/x/sys/"}},
	{
		dir:    "extension/supervisorextension",
		ours:   []string{"internal/tree", "internal/keeper", "internal/journal", "internal/output", "internal/procfs", "internal/announce"},
		others: []string{""},
	},
	{
		dir:    "receiver/processmonitorreceiver",
		ours:   []string{"extension/supervisorextension", "internal/journal", "internal/procfs"},
		others: []string{""},
	},
	{dir: "processor/eventbatchprocessor", others: []string{""}},
	{dir: "internal/tree"},
	{dir: "internal/announce"},
	{dir: "internal/keeper", others: []string{"golang.org/x/sys/"}},
	{dir: "internal/journal", others: []string{""}},
	{dir: "internal/output", others: []string{""}},
	{dir: "internal/procfs", others: []string{""}},
	{dir: "test", others: []string{""}},
}

func (r rule) covers(dir string) bool {
	return dir == r.dir || strings.HasPrefix(dir, r.dir+"/")
}

func (r rule) allows(path string) bool {
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return r.covers(rest) || slices.Contains(r.ours, rest)
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return true
	}
	return slices.ContainsFunc(r.others, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

func TestPackages_ImportOnlyWhatTheDesignAllows(t *testing.T) {
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, top+"/test/bench/") {
			continue
		}
		dir, err := filepath.Rel(top, filepath.Dir(path))
		require.NoError(t, err)
		i := slices.IndexFunc(rules, func(r rule) bool { return r.covers(dir) })
		if !assert.GreaterOrEqual(t, i, 0, "%s: no rule says what %s may import", path, dir) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			assert.True(t, rules[i].allows(imported), "%s: %s may not import %s", path, dir, imported)
		}
	}
}

func TestRule_TellsAllowedFromForbidden(t *testing.T) {
	tests := []struct {
		dir, give string
		want      bool
	}{
		{dir: "internal/tree", give: "errors", want: true},
		{dir: "internal/tree", give: module + "/internal/tree/treetest", want: true},
		{dir: "internal/tree", give: module + "/internal/journal", want: false},
		{dir: "internal/tree", give: "golang.org/x/sys/unix", want: false},
		{dir: "internal/keeper", give: "golang.org/x/sys/unix", want: true},
		{dir: "internal/keeper", give: "go.uber.org/zap", want: false},
		{dir: "receiver/processmonitorreceiver", give: module + "/extension/supervisorextension", want: true},
		{dir: "receiver/processmonitorreceiver", give: module + "/extension/supervisorextension/internal/metadata", want: false},
		{dir: "receiver/processmonitorreceiver", give: module + "/internal/tree", want: false},
		{dir: "processor/eventbatchprocessor", give: module + "/internal/journal", want: false},
		{dir: "cmd/warden", give: module + "/extension/supervisorextension", want: false},
		{dir: "cmd/warden/internal/initprocess", give: module + "/internal/announce", want: true},
		{dir: "cmd/warden/internal/initprocess", give: module + "/internal/keeper", want: false},
		{dir: "internal/announce", give: "golang.org/x/sys/unix", want: false},
	}
	for _, tt := range tests {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.covers(tt.dir) })
		require.GreaterOrEqual(t, i, 0)
		assert.Equal(t, tt.want, rules[i].allows(tt.give), "%s imports %s", tt.dir, tt.give)
	}
}
