// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// manyZombies are more than are reaped at once, and not twice as many.
const manyZombies = reapAtOnce + reapAtOnce/2

// playReaper is a process that may reap all its children, which no test can do
// without taking those of another.
func playReaper() {
	var pids []int
	for range manyZombies {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 3"}, nil)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		_ = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	left := func() (n int) {
		for _, pid := range pids {
			if unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil) == nil {
				n++
			}
		}
		return n
	}
	i := &initProcess{course: newCourse(), collector: collector{pidfd: absent, pipe: absent}}
	for i.zombies = true; i.zombies; {
		i.reapOrphans()
		fmt.Println("left:", left(), "look again:", i.zombies)
	}
	os.Exit(0)
}

func TestInit_LooksUpFromAStormOfZombies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("/proc/self/exe", partReaper).Output()
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("left: %d look again: true\nleft: 0 look again: false\n", manyZombies-reapAtOnce), string(out))
}
