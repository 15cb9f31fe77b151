// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGroupLives_DoesNotCountZombies(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		stat, err := readStat(pid)
		return err == nil && stat.state == 'Z'
	}, 10*time.Second, time.Millisecond)
	assert.NoError(t, syscall.Kill(-pid, 0), "for the kernel the group exists")
	assert.False(t, groupLives(pid))
	assert.False(t, groupExists(pid), "a zombie that is a child of this process is reaped")
}

func TestParseStat_TakesAnyName(t *testing.T) {
	const rest = " S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 1 0 987654 10 20"
	for _, name := range []string{"sh", "a b", ") S 9 9 9", "\n)(", ""} {
		got, err := parseStat([]byte("42 (" + name + ")" + rest))
		require.NoError(t, err)
		assert.Equal(t, stat{state: 'S', ppid: 1, pgid: 42, session: 42, user: 1500 * time.Millisecond, system: 250 * time.Millisecond, startTicks: 987654}, got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 1 0 987654 10 20"))
	f.Add([]byte("42 (sh"))
	f.Add([]byte("42 (sh) S 1 x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := parseStat(text); err == nil {
			assert.NotZero(t, got.state)
		}
	})
}
