// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// ctrlC is the byte that a terminal turns into SIGINT for its foreground group.
const ctrlC = 3

// terminal opens a new one: what the person at it has, and what programs get.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { person.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return person, program
}

func TestMakeRun_CtrlCEndsTheCollectorAndTheStatusIsItsOwn(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	c.script("polite", politeScript)
	foreground, err := filepath.Abs("../run-foreground")
	require.NoError(t, err)
	c.write("Makefile", fmt.Sprintf("run:\n\t@%s %s --config %s --set %s\n", foreground, binary(t), c.path("config.yaml"), c.runtimeDirectory()))

	person, program := terminal(t)
	c.cmd = exec.Command("make", "-f", c.path("Makefile"), "run")
	c.cmd.Stdin = program
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c.start()
	go func() { _, _ = io.Copy(io.Discard, person) }()
	c.untilPrinted("a", "b", "c")

	_, err = person.Write([]byte{ctrlC})
	require.NoError(t, err)
	assert.Equal(t, 0, c.wait(), "the status of make")
	c.requireNothingLeft()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
}

func TestTerminal_CtrlCReachesTheCollectorAloneWhichEndsAllInOrder(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	c.script("polite", politeScript)
	person, program := terminal(t)
	c.cmd.Stdin = program
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c.start()
	go func() { _, _ = io.Copy(io.Discard, person) }()
	c.untilPrinted("a", "b", "c")
	require.NotZero(t, ofTerminal(t, c.cmd.Process.Pid))
	for _, pid := range append(c.descendants(), c.keeper()) {
		assert.Zero(t, ofTerminal(t, pid), "the terminal of process %d", pid)
	}

	_, err := person.Write([]byte{ctrlC})
	require.NoError(t, err)
	assert.Equal(t, 0, c.wait())
	c.requireNothingLeft()
	assert.Equal(t, []string{"c", "b", "a"}, c.lines("order"))
	assert.Equal(t, told(down("c", "b", "a"), "root stopped"), tail(c.story(), 7))
	for _, r := range c.events("process.stopped") {
		assert.Contains(t, r.body, "exited with code 0", "by TERM, not by the terminal's INT")
	}
}

// ofTerminal is the number of the terminal that can send a process signals; 0: none, or
// the process is gone.
func ofTerminal(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return number(t, strings.Fields(rest)[4])
}
