// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCgroupPlace_IsWhereTheProcessWasStarted(t *testing.T) {
	const unified = "30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	for _, tt := range []struct {
		name, own, mounts, want string
	}{
		{"a unit", "0::/system.slice/warden.service\n", unified, "/sys/fs/cgroup/system.slice/warden.service"},
		{"beside version 1", "9:name=systemd:/a\n4:memory:/b\n0::/\n", "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"part of the hierarchy", "0::/pods/x/y\n", "30 23 0:27 /pods/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/y"},
		{"a mount point with a space", "0::/a\n", `30 23 0:27 / /sys/my\040cgroups rw - cgroup2 cgroup2 rw` + "\n", "/sys/my cgroups/a"},
		{"where a keeper has moved it", "0::/unit/warden-1a2b/manager\n", unified, "/sys/fs/cgroup/unit"},
		{"where two keepers have", "0::/unit/warden-1a2b/manager/warden-3c/manager\n", unified, "/sys/fs/cgroup/unit"},
		{"another's manager", "0::/unit/manager\n", unified, "/sys/fs/cgroup/unit/manager"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := cgroupPlace([]byte(tt.own), []byte(tt.mounts))
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestCgroupPlace_SaysWhatIsMissing(t *testing.T) {
	_, err := cgroupPlace([]byte("4:memory:/b\n"), nil)
	assert.EqualError(t, err, "this process is in no cgroup of the unified hierarchy (v2)")
	_, err = cgroupPlace([]byte("0::/\n"), []byte("36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"))
	assert.EqualError(t, err, "the unified hierarchy of cgroups (v2) is not mounted here")
	_, err = cgroupPlace([]byte("0::/../other\n"), []byte("30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
	assert.EqualError(t, err, "this process is in the cgroup /../other, which can not be seen from its cgroup namespace")
	_, err = cgroupPlace([]byte("0::/elsewhere\n"), []byte("30 23 0:27 /pods/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
	assert.Error(t, err, "this process is not below what is mounted")
}

func FuzzCgroupPlace(f *testing.F) {
	f.Add([]byte("0::/a\n"), []byte("30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
	f.Add([]byte("0::/"), []byte(`1 2 3 / /a\04 - cgroup2`))
	f.Fuzz(func(t *testing.T, own, mounts []byte) {
		if place, err := cgroupPlace(own, mounts); err == nil {
			assert.NotEmpty(t, place)
		}
	})
}

func TestCgroupNames_AreReadBack(t *testing.T) {
	for _, key := range []runKey{{"web", 1}, {"a.b-0.c_d", 18446744073709551615}, {"(command)", 7}} {
		got, ok := parseCgroupName(key.cgroupName())
		assert.True(t, ok)
		assert.Equal(t, key, got)
	}
	for _, name := range []string{managerCgroup, "probe-12", "web.", ".5", "web.-1"} {
		_, ok := parseCgroupName(name)
		assert.False(t, ok, name)
	}
	long := runKey{strings.Repeat("x", 63) + strings.Repeat("."+strings.Repeat("y", 63), 5), 1}
	other := long
	other.id += "z"
	assert.Less(t, len(long.cgroupName()), 256)
	assert.NotEqual(t, long.cgroupName(), other.cgroupName())
}

// delegatedTree is what looks like a delegated cgroup, of files, with what the keeper
// would make in it.
func delegatedTree(t *testing.T, controllers string) *cgroups {
	top := t.TempDir()
	c := &cgroups{base: filepath.Join(top, "warden-test"), mkdir: os.Mkdir, delegated: map[string]bool{}}
	require.NoError(t, os.MkdirAll(filepath.Join(c.base, managerCgroup), 0o755))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(top, name), []byte(text), 0o644))
	}
	write("cgroup.controllers", controllers)
	write("cgroup.procs", "10\n11\n12\n")
	write("cgroup.subtree_control", "")
	write("warden-test/cgroup.subtree_control", "")
	write("warden-test/cgroup.procs", "")
	write("warden-test/manager/cgroup.procs", "")
	return c
}

func TestDelegate_NamesTheControllerThatIsMissing(t *testing.T) {
	c := delegatedTree(t, "cpu pids\n")
	top := filepath.Dir(c.base)
	_, _, err := c.make(runKey{"a", 1}, []CgroupSetting{{"memory.max", "1"}}, nil)
	assert.EqualError(t, err, "the cgroup "+top+` has no memory controller, only "cpu pids": delegate it to this service (Delegate=yes of a unit, a writable cgroup namespace of a container), or set optional: true`)
	assert.NoDirExists(t, filepath.Join(c.base, "a.1"))
}

func TestDelegate_HandsAControllerOnOnce(t *testing.T) {
	c := delegatedTree(t, "cpu memory\n")
	top := filepath.Dir(c.base)
	require.NoError(t, c.delegate([]CgroupSetting{{"memory.max", "1"}, {"memory.high", "1"}}, nil))
	for _, dir := range []string{top, c.base} {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		require.NoError(t, err)
		assert.Equal(t, "+memory", string(text))
	}
	require.NoError(t, os.Remove(filepath.Join(top, "cgroup.subtree_control")))
	assert.NoError(t, c.delegate([]CgroupSetting{{"memory.max", "1"}}, nil), "it is handed on already")
	assert.Equal(t, top, c.home(), "nothing was in the way")
}

func TestDelegate_MovesItsOwnOutOfTheWayAndNobodyElse(t *testing.T) {
	c := delegatedTree(t, "memory\n")
	require.NoError(t, c.moveOut(filepath.Dir(c.base), []int{11, 99}))
	text, err := os.ReadFile(filepath.Join(c.base, managerCgroup, "cgroup.procs"))
	require.NoError(t, err)
	assert.Equal(t, "11", string(text), "10 and 12 are not its own, 99 is elsewhere")
	assert.Equal(t, filepath.Join(c.base, managerCgroup), c.home())
}

// realCgroups are those of this machine, for a directory of the test.
func realCgroups(t *testing.T) *cgroups {
	c, err := openCgroups(t.TempDir())
	if err != nil {
		t.Skipf("no cgroups can be made here: %v", err)
	}
	t.Cleanup(c.close)
	return c
}

func TestCgroups_EachRunHasAFreshOneThatGoesWithIt(t *testing.T) {
	c := realCgroups(t)
	for range 2 {
		// One that was killed as a whole kills what is started into it, for ever.
		g, fd, err := c.make(runKey{"a", 1}, nil, nil)
		require.NoError(t, err)
		assert.False(t, g.populated())
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
		require.NoError(t, err)
		require.NoError(t, syscall.Close(fd))
		assert.True(t, g.populated())
		assert.Equal(t, []int{pid}, g.pids())
		g.kill()
		var status syscall.WaitStatus
		_, err = syscall.Wait4(pid, &status, 0, nil)
		require.NoError(t, err)
		assert.Equal(t, syscall.SIGKILL, status.Signal())
		assert.False(t, g.populated())
		c.discard(g)
		require.Eventually(t, func() bool { _, err := os.Stat(g.path); return os.IsNotExist(err) }, 20*time.Second, time.Millisecond)
	}
}

func TestCgroups_OneThatIsStillInUseIsRemovedLater(t *testing.T) {
	c := realCgroups(t)
	g, fd, err := c.make(runKey{"a", 1}, nil, nil)
	require.NoError(t, err)
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
	require.NoError(t, err)
	require.NoError(t, syscall.Close(fd))
	c.discard(g)
	c.removeStale()
	assert.DirExists(t, g.path)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	_, err = syscall.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
	c.removeStale()
	assert.NoDirExists(t, g.path)
}

// The only controller of the unified hierarchy on some machines is hugetlb.
func TestCgroups_ASettingIsInForceBeforeTheProcess(t *testing.T) {
	b := newBench(t, inKeeper)
	setting := CgroupSetting{"hugetlb.2MB.max", "0"}
	if c := realCgroups(t); c.delegate([]CgroupSetting{setting}, func() []int { return []int{os.Getpid()} }) != nil {
		t.Skip("the hugetlb controller is not delegated here")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	root, err := cgroupPlace([]byte("0::/\n"), mounts)
	require.NoError(t, err)
	_, s := b.shell(`cat "`+root+`/$(sed -n 's#^0::##p' /proc/self/cgroup)/`+setting.File+`"`, captured, func(s *Spec) {
		s.Cgroup = []CgroupSetting{setting}
	})
	defer s.Close()
	assert.Equal(t, "0", firstLine(t, s.Stdout))
}

func TestCgroups_ASettingThatIsNotToBeHadIsAnErrorUnlessOptional(t *testing.T) {
	eachKeeper(t, func(t *testing.T, b *bench, cgroups bool) {
		spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/sleep", "1000"}, Cgroup: []CgroupSetting{{"nonsense.max", "1"}}}
		_, err := b.Spawn(spec)
		if cgroups {
			assert.ErrorContains(t, err, "has no nonsense controller")
		} else {
			assert.EqualError(t, err, "cgroup: there are none here")
		}
		spec.Run, spec.CgroupOptional = 2, true
		s, err := b.Spawn(spec)
		require.NoError(t, err)
		assert.True(t, isLiving(s.PID))
		b.Kill("a", 2)
		b.await(Gone, 2)
	})
}

func TestCgroups_WhereTheyFailARunStartsWithoutUnlessItMustNot(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mkdir, clone syscall.Errno
		want         string // of a run that must have one
	}{
		{"the file system is read-only", syscall.EROFS, 0, "cgroup: make the cgroup BASE/a.1: read-only file system"},
		{"there are too many", syscall.ENOSPC, 0, "cgroup: make the cgroup BASE/a.1: no space left on device"},
		{"it may not be cloned into", 0, syscall.EACCES, ""},
		{"the kernel is too old", 0, syscall.ENOSYS, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			h := newPreparedHost(t, func(s *server) {
				s.parent.cgroups = &cgroups{base: base, delegated: map[string]bool{"memory": true}, mkdir: func(name string, mode os.FileMode) error {
					if tt.mkdir != 0 {
						return &os.PathError{Op: "mkdir", Path: name, Err: tt.mkdir}
					}
					return os.Mkdir(name, mode)
				}}
				fork := s.parent.system.forkExec
				s.parent.system.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
					if attr.Sys.UseCgroupFD {
						return 0, tt.clone
					}
					return fork(path, argv, attr)
				}
			})
			b := emptyBench(t)
			b.Spawner, _ = attachTo(t, h.directory, b.note)
			run, _ := b.shell("exit 4")
			assert.Equal(t, 4, b.await(Died, run).Exit.Code)
			if tt.mkdir == 0 {
				return // to ask for a setting takes files that only a kernel makes
			}
			spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/true"}, Cgroup: []CgroupSetting{{"memory.max", "1"}}}
			_, err := b.Spawn(spec)
			assert.EqualError(t, err, strings.ReplaceAll(tt.want, "BASE", base))
			spec.Run, spec.CgroupOptional = 2, true
			_, err = b.Spawn(spec)
			assert.NoError(t, err)
		})
	}
}

func TestCgroup_TellsOfAnOOMKillIfItCountsThem(t *testing.T) {
	for text, want := range map[string]bool{
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n": true,
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n": false,
		"": false,
	} {
		g := &cgroup{t.TempDir()}
		require.NoError(t, os.WriteFile(filepath.Join(g.path, "memory.events"), []byte(text), 0o600))
		assert.Equal(t, want, g.ranOutOfMemory(), "%q", text)
	}
	assert.False(t, (&cgroup{t.TempDir()}).ranOutOfMemory(), "it has no memory controller")
}
