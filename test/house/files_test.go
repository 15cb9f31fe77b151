// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// top is the checkout, seen from this package's directory.
const top = "../.."

// sources returns the paths of all files of the checkout below its top, without
// what is built, hidden or, as testdata is, meant to be odd.
func sources(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != top && (strings.HasPrefix(name, ".") && name != ".ci" || name == "_build" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type().IsRegular() {
			paths = append(paths, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

func goFiles(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(sources(t), func(path string) bool { return filepath.Ext(path) != ".go" })
}

const header = "// Copyright The Warden Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"

func TestGoFiles_BeginWithTheLicenceHeader(t *testing.T) {
	for _, path := range goFiles(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		if bytes.HasPrefix(text, []byte("// Code generated ")) {
			continue
		}
		assert.True(t, bytes.HasPrefix(text, []byte(header)), "%s does not begin with the two lines of the licence header", path)
	}
}

func TestFiles_NameNoMachine(t *testing.T) {
	checkout, err := filepath.Abs(top)
	require.NoError(t, err)
	forbidden := []string{checkout + "/"}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		forbidden = append(forbidden, home+"/")
	}
	for _, path := range sources(t) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, place := range forbidden {
			assert.False(t, bytes.Contains(text, []byte(place)), "%s names a place of this machine: %s", path, place)
		}
	}
}
