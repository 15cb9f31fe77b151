// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestCredential_IsOfTheAccountUnlessSaidOtherwise(t *testing.T) {
	own, err := os.Getgroups()
	require.NoError(t, err)
	var ownGroups []uint32
	for _, g := range own {
		ownGroups = append(ownGroups, uint32(g))
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	for _, tt := range []struct {
		name   string
		give   ProcessConfig
		want   *keeper.Credential
		failed string
	}{
		{name: "nothing", want: nil},
		{name: "a user", give: ProcessConfig{User: "root"}, want: &keeper.Credential{Groups: groupsOf(t, "root")}},
		{name: "its number", give: ProcessConfig{User: "0"}, want: &keeper.Credential{Groups: groupsOf(t, "root")}},
		{name: "a number nobody has", give: ProcessConfig{User: "123456"}, failed: "user 123456 is not in /etc/passwd, so its group is not known: give a group too"},
		{name: "with a group", give: ProcessConfig{User: "123456", Group: "7"}, want: &keeper.Credential{UID: 123456, GID: 7}},
		{name: "no groups", give: ProcessConfig{User: "root", SupplementaryGroups: []string{}}, want: &keeper.Credential{}},
		{name: "a group alone", give: ProcessConfig{Group: "7"}, want: &keeper.Credential{UID: uid, GID: 7, Groups: ownGroups}},
		{name: "supplementary groups alone", give: ProcessConfig{SupplementaryGroups: []string{"8", "root"}}, want: &keeper.Credential{UID: uid, GID: gid, Groups: []uint32{8, 0}}},
		{name: "no such user", give: ProcessConfig{User: "no-such-user"}, failed: `user "no-such-user" is not in /etc/passwd: add it, or write its number and a group`},
		{name: "no such group", give: ProcessConfig{User: "root", Group: "no-such-group"}, failed: `group "no-such-group" is not in /etc/group: add it, or write its number`},
		{name: "no such supplementary group", give: ProcessConfig{SupplementaryGroups: []string{"no-such-group"}}, failed: `group "no-such-group" is not in /etc/group: add it, or write its number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.give.credential()
			if tt.failed != "" {
				assert.EqualError(t, err, tt.failed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func groupsOf(t *testing.T, name string) (groups []uint32) {
	account, err := user.Lookup(name)
	require.NoError(t, err)
	ids, err := account.GroupIds()
	require.NoError(t, err)
	for _, id := range ids {
		n, err := parseID(id)
		require.NoError(t, err)
		groups = append(groups, n)
	}
	return groups
}

func TestID_TheGreatestIsNone(t *testing.T) {
	_, err := parseID("4294967295")
	assert.EqualError(t, err, `"4294967295" is no id`)
	id, err := parseID("4294967294")
	require.NoError(t, err)
	assert.Equal(t, uint32(4294967294), id)
}

func TestEnvironment_AUserBringsItsOwn(t *testing.T) {
	own := newInheritable([]string{"NOVALUE", "=nameless", "HOME=/collector", "USER=collector", "LOGNAME=collector", "LANG=C"})
	root, err := user.Lookup("root")
	require.NoError(t, err)
	p := newDefaultProcess().Process
	p.User = "root"
	env, err := explicitEnvironment(p, own)
	require.NoError(t, err)
	assert.Equal(t, []string{"HOME=" + root.HomeDir, "LANG=C", "LOGNAME=root", "USER=root"}, env)
	p.Environment = opaque(map[string]string{"HOME": "/mine"})
	env, err = explicitEnvironment(p, own)
	require.NoError(t, err)
	assert.Contains(t, env, "HOME=/mine")
	p.User = "123456"
	env, err = explicitEnvironment(p, own)
	require.NoError(t, err)
	assert.Contains(t, env, "USER=collector", "nothing is known of that user")
}

func TestStart_AUserThatIsNotThereIsAStartThatFails(t *testing.T) {
	st := newStage(t, func(c *Config) { c.FirstStart = FirstStartRetry; c.Intensity.MaxRestarts = 0 }, sh("a", forever, func(c *ChildConfig) { c.Process.User = "no-such-user" }))
	require.NoError(t, st.Ready())
	failed := st.await("a", journal.ProcessStartFailed, 1)
	assert.Equal(t, `process "a" could not be started: user "no-such-user" is not in /etc/passwd: add it, or write its number and a group`, failed.Body)
}

func TestNotify_ReachesAProcessOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to start a process of another user")
	}
	d := &notifyDirectory{runtimeDirectory: t.TempDir()}
	defer d.closeAll()
	own, err := d.listen(nil)
	require.NoError(t, err)
	defer own.Close()
	conn, err := d.listen(&keeper.Credential{UID: 1234, GID: 5678})
	require.NoError(t, err)
	defer conn.Close()
	path := conn.LocalAddr().String()
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, uint32(1234), info.Sys().(*syscall.Stat_t).Uid)
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&0o001, "%s has mode %v", dir, info.Mode())
	}
	assert.NotEqual(t, own.LocalAddr().String(), conn.LocalAddr().String())
	d.closeAll()
	assert.NoDirExists(t, d.common)
}

func TestResource_NamesWhomAProcessRunsAs(t *testing.T) {
	p := newDefaultProcess().Process
	p.Command = []string{"true"}
	for give, want := range map[string]string{"": ownUserName(), "root": "root", "0": "root", "123456": "123456"} {
		p.User = give
		owner, _ := newInfo("a", TypeService, p, "/run", time.Time{}).Resource.Attributes().Get("process.owner")
		assert.Equal(t, want, owner.Str())
	}
}
