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
)

func TestNotifyDirectory_IsInTheRuntimeDirectoryIfItsSocketsHaveRoomThere(t *testing.T) {
	// Not t.TempDir: its length is the test's.
	base, err := os.MkdirTemp("", "n")
	require.NoError(t, err)
	defer os.RemoveAll(base)
	t.Setenv("TMPDIR", base)
	for _, tt := range []struct{ runtimeDirectory, in string }{
		{filepath.Join(base, "run"), filepath.Join(base, "run")},
		{filepath.Join(base, strings.Repeat("long/", 20)), base},
	} {
		d := &notifyDirectory{runtimeDirectory: tt.runtimeDirectory}
		for range 2 {
			socket, err := d.listen(nil)
			require.NoError(t, err)
			assert.Equal(t, tt.in, filepath.Dir(filepath.Dir(socket.LocalAddr().String())))
			closeSocket(socket)
		}
		// One that a killed collector left goes too, and another supervisor's stays.
		left := &notifyDirectory{runtimeDirectory: tt.runtimeDirectory}
		socket, err := left.listen(nil)
		require.NoError(t, err)
		require.NoError(t, socket.Close())
		other := &notifyDirectory{runtimeDirectory: tt.runtimeDirectory + "-other"}
		socket, err = other.listen(nil)
		require.NoError(t, err)
		d.closeAll()
		assert.NoDirExists(t, d.own)
		assert.NoDirExists(t, left.own)
		assert.DirExists(t, other.own)
		closeSocket(socket)
		other.closeAll()
		assert.NoDirExists(t, other.own)
	}
}

func TestNotifyDirectory_SaysWhenAPathIsTooLong(t *testing.T) {
	base := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	require.NoError(t, os.MkdirAll(base, 0o700))
	t.Setenv("TMPDIR", base)
	d := &notifyDirectory{runtimeDirectory: filepath.Join(base, "run")}
	defer d.close()
	_, err := d.listen(nil)
	assert.ErrorContains(t, err, "bytes, and an address takes 107: choose a shorter runtime_directory, or TMPDIR")
}
