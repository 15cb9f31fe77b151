// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// noted is a stub's system that notes the calls, and lets one fail.
type noted struct {
	calls []string
	fails string
	with  error
}

func (n *noted) call(name string, args ...any) error {
	n.calls = append(n.calls, strings.TrimSpace(name+" "+fmt.Sprintln(args...)))
	if name == n.fails {
		return n.with
	}
	return nil
}

func (n *noted) system() stubSystem {
	return stubSystem{
		setrlimit: func(resource int, limit *syscall.Rlimit) error {
			return n.call("setrlimit", resource, limit.Cur, limit.Max)
		},
		getrlimit: func(_ int, limit *syscall.Rlimit) error {
			*limit = syscall.Rlimit{Cur: 100, Max: 1000}
			return nil
		},
		setpriority:  func(nice int) error { return n.call("setpriority", nice) },
		setOOMScore:  func(text string) error { return n.call("oom_score_adj", text) },
		clearAmbient: func() error { return n.call("clearAmbient") },
		setgroups:    func(groups []int) error { return n.call("setgroups", groups) },
		setgid:       func(gid int) error { return n.call("setgid", gid) },
		setuid:       func(uid int) error { return n.call("setuid", uid) },
		umask:        func(mask int) { _ = n.call("umask", fmt.Sprintf("%04o", mask)) },
		chdir:        func(dir string) error { return n.call("chdir", dir) },
		noNewPrivs:   func() error { return n.call("noNewPrivs") },
		exec: func(path string, argv, env []string, late []lateLimit, set func()) error {
			set()
			return n.call("exec", path, argv, env, late)
		},
	}
}

func ptr(n int) *int { return &n }

func everyRight() order {
	return order{
		rights: Rights{
			Credential: &Credential{UID: 7, GID: 8, Groups: []uint32{9, 10}},
			Umask:      ptr(0o27), Nice: ptr(5), OOMScoreAdj: ptr(-3), NoNewPrivileges: true,
			Limits: []Limit{{OpenFiles, 10, 20}, {AddressSpace, 30, 2000}, {CoreSize, 0, LimitUnchanged}},
		},
		dir: "/there", argv: []string{"/bin/x", "y"}, env: []string{"A=b"},
	}
}

func TestStub_GivesRightsUpAfterWhatTakesThemAndLimitsMemoryLast(t *testing.T) {
	n := &noted{}
	set := false
	require.NoError(t, everyRight().carryOut(n.system(), func() { set = true }))
	assert.True(t, set)
	assert.Equal(t, []string{
		"setrlimit 7 10 20",
		"setrlimit 9 100 2000",
		"setrlimit 4 0 1000",
		"setpriority 5",
		"oom_score_adj -3",
		"setgroups [9 10]",
		"setgid 8",
		"clearAmbient",
		"setuid 7",
		"umask 0027",
		"chdir /there",
		"noNewPrivs",
		"exec /bin/x [/bin/x y] [A=b] [{9 {30 2000}}]",
	}, n.calls)
}

func TestStub_WhateverFailsNothingIsExecuted(t *testing.T) {
	for _, tt := range []struct {
		call string
		give error
		want string
	}{
		{"setrlimit", syscall.EPERM, "limit open files: setrlimit: operation not permitted"},
		{"setpriority", syscall.EACCES, "set the niceness to 5: setpriority: permission denied"},
		{"oom_score_adj", syscall.EACCES, "set the OOM score's adjustment to -3: oom_score_adj: permission denied"},
		{"setgroups", syscall.EPERM, "change the supplementary groups: setgroups: operation not permitted"},
		{"setgid", syscall.EPERM, "change to group 8: setgid: operation not permitted"},
		{"clearAmbient", syscall.EPERM, "drop the ambient capabilities: prctl: operation not permitted"},
		{"setuid", syscall.EPERM, "change to user 7: setuid: operation not permitted"},
		{"chdir", syscall.EACCES, `working directory "/there": chdir: permission denied`},
		{"noNewPrivs", syscall.EINVAL, "set no_new_privs: prctl: invalid argument"},
	} {
		t.Run(tt.call, func(t *testing.T) {
			n := &noted{fails: tt.call, with: tt.give}
			err := everyRight().carryOut(n.system(), func() { assert.Fail(t, "not everything is set") })
			assert.EqualError(t, err, tt.want)
			assert.ErrorIs(t, err, tt.give)
			assert.True(t, strings.HasPrefix(n.calls[len(n.calls)-1], tt.call), "it goes on after that: %v", n.calls)
		})
	}
}

func TestStub_AnOldKernelHasNoAmbientCapabilitiesToDrop(t *testing.T) {
	n := &noted{fails: "clearAmbient", with: syscall.EINVAL}
	require.NoError(t, everyRight().carryOut(n.system(), func() {}))
}

func TestRights_SurviveTheirEncoding(t *testing.T) {
	for _, want := range []Rights{{}, everyRight().rights} {
		var e wire.Encoder
		want.append(&e)
		d := wire.NewDecoder(e.Buf)
		assert.Equal(t, want, takeRights(d))
		assert.NoError(t, d.Err())
	}
	want := everyRight()
	got, err := decodeOrder(want.encode())
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func FuzzOrder(f *testing.F) {
	f.Add(everyRight().encode())
	f.Add(order{argv: []string{"x"}}.encode())
	f.Fuzz(func(t *testing.T, payload []byte) {
		if o, err := decodeOrder(payload); err == nil {
			again, err := decodeOrder(o.encode())
			require.NoError(t, err)
			assert.Equal(t, o, again)
		}
	})
}

// asks returns what a process with these rights says of itself.
func asks(t *testing.T, spawner makeSpawner, script string, change func(*Spec)) string {
	b := newBench(t, spawner)
	run, s := b.shell(script, captured, change)
	defer s.Close()
	text, err := io.ReadAll(s.Stdout)
	require.NoError(t, err)
	assert.Zero(t, b.await(Died, run).Exit.Code)
	return string(text)
}

func TestRights_AreThoseTheProcessHas(t *testing.T) {
	root := os.Geteuid() == 0
	for _, tt := range []struct {
		name   string
		root   bool // it takes root
		script string
		rights Rights
		want   string
	}{
		{name: "umask", script: "umask", rights: Rights{Umask: ptr(0o137)}, want: "0137\n"},
		{name: "a soft limit", script: "ulimit -Sn; ulimit -Hn >/dev/null", rights: Rights{Limits: []Limit{{OpenFiles, 77, LimitUnchanged}}}, want: "77\n"},
		{name: "both limits", script: "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hf", rights: Rights{Limits: []Limit{
			{OpenFiles, 70, 80}, {CoreSize, 0, 0}, {FileSize, 4096, 8192},
		}}, want: "70\n80\n0\n16\n"},
		{name: "the soft limit that there was", script: "ulimit -Sn; ulimit -Hn", rights: Rights{Limits: []Limit{{OpenFiles, LimitUnchanged, 500}}}, want: itoaOf(min(500, softOpenFiles(t))) + "\n500\n"},
		{name: "little address space", script: "ulimit -Sv", rights: Rights{Limits: []Limit{{AddressSpace, 64 << 20, 64 << 20}}}, want: "65536\n"},
		{
			name: "one process of another user", root: true,
			script: `while read -r line; do case $line in "Max processes"*) echo $line; esac; done </proc/self/limits`,
			rights: Rights{Credential: &Credential{UID: 1234, GID: 5678}, Limits: []Limit{{Processes, 1, 1}}},
			want:   "Max processes 1 1 processes\n",
		},
		{name: "niceness", script: "nice", rights: Rights{Nice: ptr(7)}, want: "7\n"},
		{name: "OOM score", script: "cat /proc/self/oom_score_adj", rights: Rights{OOMScoreAdj: ptr(345)}, want: "345\n"},
		{name: "no new privileges", script: "grep NoNewPrivs /proc/self/status", rights: Rights{NoNewPrivileges: true}, want: "NoNewPrivs:\t1\n"},
		{
			name: "user, group and groups", root: true, script: "id -u; id -g; id -G; grep CapEff /proc/self/status",
			rights: Rights{Credential: &Credential{UID: 1234, GID: 5678, Groups: []uint32{90, 91}}},
			want:   "1234\n5678\n5678 90 91\nCapEff:\t0000000000000000\n",
		},
		{
			name: "a user by the stub", root: true, script: "id -u; id -g; id -G; umask; grep -E 'CapEff|CapPrm|CapAmb' /proc/self/status",
			rights: Rights{Credential: &Credential{UID: 1234, GID: 5678}, Umask: ptr(0o77)},
			want:   "1234\n5678\n5678\n0077\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\n",
		},
		{name: "its own output once more", root: true, script: "echo again >/dev/stdout", rights: Rights{Credential: &Credential{UID: 1234, GID: 5678}}, want: "again\n"},
	} {
		if tt.root && !root {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
				assert.Equal(t, tt.want, asks(t, spawner, tt.script, func(s *Spec) { s.Rights = tt.rights }))
			})
		})
	}
}

func itoaOf(n uint64) string { return strconv.FormatUint(n, 10) }

// softOpenFiles is what a program that is started here has for a soft limit.
func softOpenFiles(t *testing.T) uint64 {
	said, err := exec.Command("/bin/sh", "-c", "ulimit -Sn").Output()
	require.NoError(t, err)
	n, err := strconv.ParseUint(strings.TrimSpace(string(said)), 10, 64)
	require.NoError(t, err)
	return n
}

func TestRights_ThatCanNotBeSetLeaveNoProcess(t *testing.T) {
	for _, tt := range []struct {
		name   string
		as     string // user or root
		change func(*Spec)
		want   string
		errno  syscall.Errno
	}{
		{"another user", "user", func(s *Spec) { s.Rights.Credential = &Credential{UID: 1, GID: 1} }, "change the supplementary groups: setgroups: operation not permitted", syscall.EPERM},
		{"less nice", "user", func(s *Spec) { s.Rights.Nice = ptr(-5) }, "set the niceness to -5: setpriority: permission denied", syscall.EACCES},
		{"no directory", "", func(s *Spec) { s.Dir, s.Rights.Umask = "/nonexistent", ptr(0o22) }, `working directory "/nonexistent": chdir: no such file or directory`, syscall.ENOENT},
		{"no program", "", func(s *Spec) { s.Argv, s.Rights.Umask = []string{"/nonexistent"}, ptr(0o22) }, `execute "/nonexistent": no such file or directory`, syscall.ENOENT},
		{"no program in PATH", "", func(s *Spec) { s.Argv, s.Rights.Umask = []string{"nonexistent"}, ptr(0o22) }, `"nonexistent" is in no directory of PATH "/usr/bin:/bin": no such file or directory`, syscall.ENOENT},
		{"a directory closed to the user", "root", func(s *Spec) {
			s.Dir, s.Rights.Credential = "/root", &Credential{UID: 1234, GID: 5678}
		}, `working directory "/root": chdir: permission denied`, syscall.EACCES},
	} {
		if tt.as != "" && (tt.as == "root") != (os.Geteuid() == 0) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
				b := newBench(t, spawner)
				spec := Spec{ID: "a", Run: 1, Argv: []string{"sleep", "1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: StreamPipe}
				tt.change(&spec)
				_, err := b.Spawn(spec)
				before := b.descriptors() // by now there is a helper, if one is used
				_, again := b.Spawn(spec)
				assert.Equal(t, err.Error(), again.Error())
				assert.EqualError(t, err, tt.want)
				assert.ErrorIs(t, err, tt.errno)
				assert.LessOrEqual(t, b.descriptors(), before)
				assert.Empty(t, b.kinds(1), "no event follows")
			})
		})
	}
}

func TestRights_AStubThatIsKilledIsAStartThatFailed(t *testing.T) {
	h := newPreparedHost(t, func(s *server) {
		fork := s.parent.system.forkExec
		s.parent.system.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
			pid, err := fork(path, argv, attr)
			if err == nil && argv[0] == stubName {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return pid, err
		}
	})
	b := emptyBench(t)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	before := len(zombies(t))
	for run := range uint64(20) {
		_, err := b.Spawn(Spec{ID: "a", Run: run, Argv: []string{"/bin/sleep", "1000"}, Rights: Rights{Umask: ptr(0)}})
		if err == nil {
			continue // it was faster
		}
		assert.EqualError(t, err, `the exec stub was ended before it could execute "/bin/sleep"`)
	}
	require.Eventually(t, func() bool { return len(zombies(t)) <= before }, 20*time.Second, time.Millisecond, "a zombie is left")
}

// zombies are the children of this process that are dead.
func zombies(t *testing.T) []string {
	return slices.DeleteFunc(childrenOf(t, os.Getpid()), func(pid string) bool {
		n, _ := strconv.Atoi(pid)
		stat, err := readStat(n)
		return err != nil || stat.living()
	})
}
