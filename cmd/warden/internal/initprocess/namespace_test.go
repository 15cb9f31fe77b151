// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asPID1 starts a run as PID 1 of a namespace with a /proc of its own: as root, or
// as root of a user namespace.
func asPID1(t *testing.T, scripts ...string) *initRun {
	t.Helper()
	r := prepare(t, scripts...)
	command := r.cmd.Args
	r.cmd = exec.Command("/bin/sh", append([]string{"-c", `mount --make-rprivate / && mount -t proc proc /proc && exec "$@"`, "sh"}, command...)...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		r.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		r.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		r.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	probe := exec.Command("/bin/sh", "-c", "mount --make-rprivate / && mount -t proc proc /proc")
	probe.SysProcAttr = r.cmd.SysProcAttr
	if out, err := probe.CombinedOutput(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) || errors.Is(err, syscall.EPERM) {
			t.Skipf("no PID namespace with a /proc of its own for this user: %s: %s", err, out)
		}
		require.NoError(t, err)
	}
	r.start()
	return r
}

func TestInit_AsPID1ReapsStrangersAndNobodyElsesChildren(t *testing.T) {
	t.Parallel()
	r := asPID1(t, "orphans=300 commands=200 orphans=300 until-no-zombie log=clean exit=9")
	assert.Equal(t, 9, r.wait())
	assert.Equal(t, []string{"run", "0 of 200 exit codes wrong", "clean"}, r.log())
}

func TestInit_AsPID1HearsASignalInAStormOfOrphans(t *testing.T) {
	t.Parallel()
	r := asPID1(t, "storm commands=100 log=raging await=SIGTERM exit=4")
	r.untilLogged("raging")
	r.signal(syscall.SIGTERM)
	assert.Equal(t, 4, r.wait(), "and what rages on ends with the namespace")
	assert.Equal(t, []string{"run", "0 of 100 exit codes wrong", "raging", "heard SIGTERM"}, r.log())
	r.untilGone()
}

func TestInit_AsPID1EndsOfASignalThatItsCollectorDiesOf(t *testing.T) {
	t.Parallel()
	r := asPID1(t, "deaf=SIGINT log=deaf await=SIGUSR1")
	r.untilLogged("deaf")
	r.signal(syscall.SIGINT)
	assert.Equal(t, 130, r.wait())
}

func TestInit_AsPID1RestartsAndAdoptsTheKeeper(t *testing.T) {
	t.Parallel()
	// The collector is the keeper's parent; when it is dead, that is init.
	r := asPID1(t, "attach die=SIGKILL", "attach-again await=SIGTERM die=SIGKILL")
	r.untilSaid("again in 500ms")
	r.until("the second run", func() bool { return len(r.log()) == 3 })
	r.signal(syscall.SIGTERM)
	assert.Equal(t, 137, r.wait())
	assert.Equal(t, []string{"run", "keeper", "run", "heard SIGTERM", "keeper is stopping its processes", "keeper leaves"}, r.log())
	r.untilGone()
}

func TestInit_AsPID1WithoutACollectorStopsTheKeeperAndEnds(t *testing.T) {
	t.Parallel()
	r := asPID1(t, crashes...)
	r.untilLongBackOff()
	r.signal(syscall.SIGTERM)
	assert.Equal(t, 0, r.wait())
	r.requireStoppedByKeeper()
	r.untilGone()
}
