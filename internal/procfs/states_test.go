// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStates_CountsProcessesAndOnlyThem(t *testing.T) {
	got, err := New(fixtures).States(nil)
	assert.Equal(t, States{Running: 1, Sleeping: 1, Stopped: 1, Defunct: 1}, got)
	assert.Equal(t, 4, got.Total())
	assert.ErrorContains(t, err, "testdata/proc/46/stat", "the one that cannot be read is told of, the others count")
}

func TestStates_TakesWhatIsKnown(t *testing.T) {
	got, err := New(fixtures).States(map[int]byte{46: 'D', 1: 'Z', 4711: 'R'})
	require.NoError(t, err)
	assert.Equal(t, States{Running: 1, Sleeping: 1, Stopped: 1, Defunct: 2}, got, "4711 is not there, whatever is known of it")
}

func TestStates_ReadsTheLivingSystem(t *testing.T) {
	got, err := New("/proc").States(nil)
	require.NoError(t, err)
	assert.Positive(t, got.Total(), "this process at least")
}

func TestStates_MissingMountIsAnError(t *testing.T) {
	_, err := New("testdata/none").States(nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestStates_ReadsMoreThanOneBufferOfEntries(t *testing.T) {
	dir := t.TempDir()
	const n = 3000 // of 24 bytes each: more than dirBuffer
	stat, err := os.ReadFile(filepath.Join(fixtures, "1", "stat"))
	require.NoError(t, err)
	for pid := 1; pid <= n; pid++ {
		require.NoError(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(pid)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(pid), "stat"), stat, 0o600))
	}
	got, err := New(dir).States(nil)
	require.NoError(t, err)
	assert.Equal(t, States{Sleeping: n}, got)
}

func entry(name string) []byte {
	length := (entryName + len(name) + 1 + 7) / 8 * 8
	b := make([]byte, length)
	binary.NativeEndian.PutUint16(b[entryLength:], uint16(length))
	copy(b[entryName:], name)
	return b
}

func TestParseEntries_FindsNumbers(t *testing.T) {
	var b []byte
	for _, name := range []string{".", "1", "4194304", "0", "12x", "", "-5", "99999999999999999999", "self"} {
		b = append(b, entry(name)...)
	}
	var got []int
	require.NoError(t, parseEntries(b, func(pid int) { got = append(got, pid) }))
	assert.Equal(t, []int{1, 4194304}, got)
}

func TestParseEntries_RejectsBrokenRecords(t *testing.T) {
	none := func(int) { t.Error("there is no entry") }
	assert.EqualError(t, parseEntries(make([]byte, 10), none), "a directory entry is cut off after 10 bytes")
	assert.EqualError(t, parseEntries(make([]byte, 24), none), "a directory entry of 24 bytes claims 0")
	whole := entry("1234")
	assert.EqualError(t, parseEntries(whole[:20], none), "a directory entry of 20 bytes claims 24")
}

func FuzzParseEntries(f *testing.F) {
	f.Add(append(entry("1"), entry("self")...))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Broken input must neither hang nor reach beyond its end; both fail by themselves.
		_ = parseEntries(data, func(pid int) { assert.Positive(t, pid) })
	})
}
