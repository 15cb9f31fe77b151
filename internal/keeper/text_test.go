// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These packages, and what they import, are initialised before reflect is.
var early = []string{
	"bytes", "context", "errors", "io", "io/fs", "iter", "maps", "math", "os", "os/signal", "path", "runtime", "slices", "strconv",
	"sync", "sync/atomic", "syscall", "time", "unsafe", "github.com/otelwarden/warden/internal/keeper/wire",
}

func TestPackage_ImportsOnlyWhatIsInitialisedEarly(t *testing.T) {
	for _, pattern := range []string{"*.go", "wire/*.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, paths)
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				assert.Contains(t, early, imported, path)
			}
		}
	}
}

func TestErrorf_IsThatOfPackageFmt(t *testing.T) {
	tests := []struct {
		format string
		args   []any
	}{
		{"plain", nil},
		{"", nil},
		{"%d and %d and %d", []any{-1, uint64(1 << 63), uint8(7)}},
		{"a %q b %s", []any{"quoted \"\n", "plain"}},
		{"%q: %w", []any{"/run", os.ErrNotExist}},
		{"%w: %w", []any{ErrLost, syscall.EPIPE}},
		{"for %v: %v", []any{10 * time.Second, syscall.ENOSPC}},
		{"signal %d", []any{syscall.SIGTERM}},
		{"%s", []any{[]byte("bytes")}},
	}
	for _, tt := range tests {
		want, got := fmt.Errorf(tt.format, tt.args...), errorf(tt.format, tt.args...)
		assert.Equal(t, want.Error(), got.Error())
		for _, arg := range tt.args {
			if cause, ok := arg.(error); ok {
				assert.Equal(t, strings.Contains(tt.format, "%w"), errors.Is(got, cause), tt.format)
			}
		}
	}
	assert.Equal(t, "0640", octal(0o640|os.ModeDir))
	assert.Equal(t, "0007", octal(0o7))
}

func TestSplitList_IsThatOfPackageFilepath(t *testing.T) {
	for _, list := range []string{"", "/bin", "/bin:/usr/bin", ":/bin::", ":"} {
		assert.Equal(t, filepath.SplitList(list), append([]string{}, splitList(list)...), list)
	}
}
