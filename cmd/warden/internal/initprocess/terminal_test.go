// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What a terminal makes signals of, for its foreground group.
const (
	ctrlC         = 3
	ctrlBackslash = 28
)

// openTerminal makes one: the side of the person at it, and that of programs.
func openTerminal(t *testing.T) (person, terminal *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return person, terminal
}

// atTerminal starts a run in the foreground of a new terminal, and returns the side
// of the person at it.
func atTerminal(t *testing.T, scripts ...string) (*initRun, *os.File) {
	t.Helper()
	person, terminal := openTerminal(t)
	r := prepare(t, scripts...)
	r.cmd.Stdin = terminal
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	r.start()
	echoed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, person)
		close(echoed)
	}()
	t.Cleanup(func() {
		// Reading ends when nobody has the other side any more.
		require.NoError(t, terminal.Close())
		r.cleanup()
		<-echoed
		require.NoError(t, person.Close())
	})
	return r, person
}

func press(t *testing.T, person *os.File, key byte) {
	t.Helper()
	_, err := person.Write([]byte{key})
	require.NoError(t, err)
}

func TestInit_CtrlCReachesTheCollectorOnce(t *testing.T) {
	t.Parallel()
	// A second SIGINT would come before SIGUSR1: init passes signals on in their order.
	r, person := atTerminal(t, "attach await=SIGINT ending=own log=ending await=SIGUSR1 exit=0")
	r.until("the keeper", func() bool { return len(r.log()) == 2 })
	press(t, person, ctrlC)
	r.untilLogged("ending")
	r.signal(syscall.SIGUSR1)
	assert.Equal(t, 0, r.wait())
	assert.Equal(t, []string{"run", "keeper", "heard SIGINT", "ending", "heard SIGUSR1", "keeper is stopping its processes", "keeper leaves"}, r.log())
}

func TestInit_AtATerminalForwardsWhatIsSentToItAlone(t *testing.T) {
	t.Parallel()
	r, _ := atTerminal(t, "await=SIGINT ending=own exit=0")
	r.untilLogged("run")
	r.signal(syscall.SIGINT)
	assert.Equal(t, 0, r.wait())
	assert.Equal(t, []string{"run", "heard SIGINT"}, r.log())
}

func TestInit_CtrlBackslashIsACrashOfTheCollectorAndNotItsOwnEnd(t *testing.T) {
	t.Parallel()
	r, person := atTerminal(t, "attach await=SIGQUIT exit=2", "ending=3 exit=3")
	r.until("the keeper", func() bool { return len(r.log()) == 2 })
	press(t, person, ctrlBackslash)
	assert.Equal(t, 3, r.wait())
	assert.Equal(t, []string{"run", "keeper", "heard SIGQUIT", "run", "keeper is stopping its processes", "keeper leaves"}, r.log())
}

func TestInit_CtrlCInTheBackOffEndsIt(t *testing.T) {
	t.Parallel()
	r, person := atTerminal(t, crashes...)
	r.untilLongBackOff()
	press(t, person, ctrlC)
	assert.Equal(t, 0, r.wait())
	r.requireStoppedByKeeper()
}

// playKeyboard tells of which signals init would think that the collector has got
// them from a terminal.
func playKeyboard() {
	for _, s := range forwarded {
		if fromKeyboard(s.(syscall.Signal)) {
			fmt.Println(unix.SignalName(s.(syscall.Signal)))
		}
	}
	os.Exit(0)
}

func TestFromKeyboard_IsOnlyWhatTheForegroundOfATerminalMayGet(t *testing.T) {
	t.Parallel()
	play := func(arrange func(*exec.Cmd)) string {
		cmd := exec.Command("/proc/self/exe", partKeyboard)
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		arrange(cmd)
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	person, terminal := openTerminal(t)
	defer person.Close()
	defer terminal.Close()
	assert.Equal(t, "SIGINT\nSIGQUIT\n", play(func(cmd *exec.Cmd) {
		cmd.Stdin = terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}), "in the foreground")
	assert.Empty(t, play(func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-mc", "/proc/" + strconv.Itoa(os.Getpid()) + "/exe " + partKeyboard + " & wait"}
		cmd.Path = "/bin/sh"
		cmd.Stdin = terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}), "in the background")
	assert.Empty(t, play(func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}), "without a terminal")
}
