// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/keeper"
)

// rootMachine is one where root may do everything.
func rootMachine() *machine {
	known := func(ids map[string]int) func(string) (int, bool) {
		return func(name string) (int, bool) { id, ok := ids[name]; return id, ok }
	}
	return &machine{
		capabilities: ^uint64(0), lowestNice: 0, mostOpenFiles: 1 << 20,
		hardLimit: func(keeper.Resource) uint64 { return 4096 },
		userID:    known(map[string]int{"root": 0, "www-data": 33, "me": 1000}),
		groupID:   known(map[string]int{"root": 0, "www-data": 33, "me": 1000, "video": 44}),
	}
}

// userMachine is the same for user 1000.
func userMachine() *machine {
	m := rootMachine()
	m.uid, m.gid, m.groups, m.capabilities = 1000, 1000, []int{44, 1000}, 0
	return m
}

func TestWarnings_TellWhatThisProgramMayNotGive(t *testing.T) {
	with := func(capabilities ...int) *machine {
		m := userMachine()
		for _, c := range capabilities {
			m.capabilities |= 1 << c
		}
		return m
	}
	const noRight = "needs root (CAP_SETUID and CAP_SETGID), and this is user 1000: the process will not start"
	for _, tt := range []struct {
		give string
		on   *machine
		want string
	}{
		{"user: www-data", rootMachine(), ""},
		{"user: www-data", with(unix.CAP_SETUID, unix.CAP_SETGID), ""},
		{"user: www-data", with(unix.CAP_SETUID), "user: " + noRight},
		{"user: www-data, group: www-data, supplementary_groups: []", userMachine(), "user: " + noRight},
		{"user: 33", userMachine(), "user: " + noRight},
		{"user: 1000, group: 1000", userMachine(), ""},
		{"user: me, group: me, supplementary_groups: [me, video, 44]", userMachine(), ""},
		{"group: www-data", userMachine(), "group: " + noRight},
		{"group: www-data", with(unix.CAP_SETGID), ""},
		{"supplementary_groups: []", userMachine(), "supplementary_groups: " + noRight},
		{"supplementary_groups: [video]", userMachine(), "supplementary_groups: " + noRight},
		{"supplementary_groups: [video]", with(unix.CAP_SETGID), ""},
		{"user: nobody-here", rootMachine(), `user: there is no user "nobody-here" here: the process will not start before there is`},
		{"user: 12345", rootMachine(), ""},
		{"group: nobody-here", rootMachine(), `group: there is no group "nobody-here" here: the process will not start before there is`},
		{"supplementary_groups: [video, nobody-here]", userMachine(), `supplementary_groups[1]: there is no group "nobody-here" here: the process will not start before there is`},

		{"limits: {processes: 4096}", userMachine(), ""},
		{"limits: {processes: 4097}", rootMachine(), ""},
		{"limits: {processes: 4097}", with(unix.CAP_SYS_RESOURCE), ""},
		{"limits: {processes: 4097}", userMachine(), "limits::processes: 4097 is more than this program's own hard limit, 4096, and needs root (CAP_SYS_RESOURCE): the process will not start"},
		{"limits: {processes: {soft: 1, hard: unlimited}}", userMachine(), "limits::processes: unlimited is more than this program's own hard limit, 4096, and needs root (CAP_SYS_RESOURCE): the process will not start"},
		{"limits: {processes: {soft: unlimited}}", rootMachine(), "limits::processes: unlimited is more than this program's own hard limit, 4096, and hard is not given: the process will not start"},
		{"limits: {processes: {soft: 4096}}", userMachine(), ""},
		{"limits: {processes: {hard: 4097}}", userMachine(), "limits::processes: 4097 is more than this program's own hard limit, 4096, and needs root (CAP_SYS_RESOURCE): the process will not start"},
		{"limits: {open_files: 1048576}", rootMachine(), ""},
		{"limits: {open_files: unlimited}", rootMachine(), "limits::open_files: unlimited is more than the kernel gives to any process here, 1048576 (fs.nr_open): the process will not start"},

		{"nice: -1", rootMachine(), ""},
		{"nice: 0", userMachine(), ""},
		{"nice: -1", with(unix.CAP_SYS_NICE), ""},
		{"nice: -1", userMachine(), "nice: -1 is below 0, the lowest that this program may give, and needs root (CAP_SYS_NICE): the process will not start"},
		{"oom_score_adj: -1", rootMachine(), ""},
		{"oom_score_adj: 0", userMachine(), ""},
		{"oom_score_adj: -1", with(unix.CAP_SYS_RESOURCE), ""},
		{"oom_score_adj: -1", userMachine(), "oom_score_adj: -1 is below 0, this program's own, and needs root (CAP_SYS_RESOURCE): the process will not start"},

		{`umask: "077", no_new_privileges: true, reload: {signal: HUP}`, userMachine(), ""},
	} {
		cfg := loadGood(t, "children: [{name: a, command: [./a], "+tt.give+"}]")
		cfg.machine = tt.on
		if tt.want != "" {
			tt.want = "children[0](a)::" + tt.want
		}
		assert.Equal(t, tt.want, strings.Join(cfg.Warnings(), "\n"), tt.give)
	}
}

// What defaults give is told once, and what is different for each child for each.
func TestWarnings_OfRightsAreToldOnce(t *testing.T) {
	cfg := loadGood(t, `
defaults: {user: www-data, nice: -5}
children:
  - {name: a, command: [./a]}
  - {name: b, command: [./b]}
  - {name: c, command: [./c], nice: -6, instances: 3}
  - {name: d, intensity: {max_restarts: 2, period: 1m}, children: [{name: e, command: [./e]}]}
`)
	assert.Empty(t, cfg.Warnings())
	cfg.machine = userMachine()
	warnings := strings.Join(cfg.Warnings(), "\n")
	assert.Equal(t, 1, strings.Count(warnings, "::user: "))
	assert.Equal(t, 1, strings.Count(warnings, "::nice: -5 "))
	assert.Equal(t, 1, strings.Count(warnings, "::nice: -6 "))
	assert.Contains(t, warnings, "children[2](c)::nice: -6 ")
}

func TestMachine_ThisOneTellsWhatItIs(t *testing.T) {
	m := newMachine()
	assert.Equal(t, os.Geteuid(), m.uid)
	assert.Equal(t, os.Getegid(), m.gid)
	assert.Greater(t, m.mostOpenFiles, uint64(0))
	for _, l := range limitResources {
		var limit unix.Rlimit
		assert.Contains(t, rlimits, l.resource)
		assert.NoError(t, unix.Getrlimit(rlimits[l.resource], &limit))
		assert.Equal(t, limit.Max, m.hardLimit(l.resource))
	}
	assert.LessOrEqual(t, m.lowestNice, 19)
	_, ok := m.userID("no such user")
	assert.False(t, ok)
	root, ok := m.userID("root")
	assert.True(t, ok)
	assert.Zero(t, root)
	_, ok = m.groupID("no such group")
	assert.False(t, ok)
	status, err := os.ReadFile("/proc/self/status")
	assert.NoError(t, err)
	assert.Contains(t, string(status), fmt.Sprintf("CapEff:\t%016x\n", m.capabilities))
}
