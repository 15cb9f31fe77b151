// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A test binary that is started with a role plays another client of a keeper. It says
// what it has done, a line at a time, on its stdout.
const (
	roleVariable      = "WARDEN_TEST_ROLE"
	directoryVariable = "WARDEN_TEST_DIRECTORY"
	graceVariable     = "WARDEN_TEST_GRACE"

	// roleHold attaches, says "held", starts one process for each line of its input, says
	// its run and PID, and detaches when the input ends.
	roleHold = "hold"
	// roleInherit is the same, but that the processes have its own stdout, and the
	// directory "below" its own.
	roleInherit = "inherit"
	// roleBusy attaches, says "held", and commits and spawns as fast as it can, saying
	// what is done.
	roleBusy = "busy"
	// roleKeeper is a keeper on a machine without cgroups. It reports where every keeper does.
	roleKeeper = "keeper"
)

func play(role string) int {
	if role == roleKeeper {
		return keep(os.Getenv(directoryVariable), func(string) (*cgroups, error) {
			return nil, errors.New("there are none here")
		})
	}
	grace, _ := time.ParseDuration(os.Getenv(graceVariable))
	c, state, err := Attach(context.Background(), Options{
		Directory: os.Getenv(directoryVariable), OrphanGrace: grace, JournalLimit: 1 << 20,
		Lost: func(err error) { fmt.Println("lost", err) },
		Warn: func(text string) { fmt.Fprintln(os.Stderr, "warning:", text) },
	}, func(Event) {})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("held", c.KeeperPID())
	if role == roleBusy {
		err = beBusy(c, state)
	} else {
		err = hold(c, role == roleInherit)
	}
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func hold(c *Client, inherit bool) error {
	run := uint64(0)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		run++
		spec := Spec{
			ID: "held", Run: run, Argv: []string{"/bin/sh", "-c", lines.Text()}, Env: []string{"PATH=/usr/bin:/bin"},
			Stop: Stop{Signal: syscall.SIGTERM, Grace: 10 * time.Second},
		}
		if inherit {
			spec.Stdout, spec.Dir = StreamInherit, "below"
		}
		started, err := c.Spawn(spec)
		if err != nil {
			return err
		}
		fmt.Println("run", run, started.PID)
	}
	return c.Detach()
}

// beBusy numbers its commits on from what it finds: the value n is the number of the
// last, the record too, so that one that is torn would show.
func beBusy(c *Client, state State) error {
	n, _ := strconv.Atoi(string(state.Values["n"]))
	for _, run := range state.Runs {
		run.Started.Close()
	}
	for {
		n++
		text := []byte(strconv.Itoa(n))
		if err := c.Commit(Commit{Values: []Value{{"n", text}, {"again", text}}, Journal: [][]byte{text}}); err != nil {
			return err
		}
		fmt.Println("commit", n)
		if n%8 != 0 {
			continue
		}
		started, err := c.Spawn(Spec{
			ID: "busy", Run: uint64(n), Argv: []string{"/bin/sleep", "1000"},
			Stdout: StreamPipe, Stderr: StreamPipe, Stop: Stop{Signal: syscall.SIGTERM, Grace: time.Second},
		})
		if err != nil {
			return err
		}
		fmt.Println("run", n, started.PID)
	}
}

// player is a process that plays a role.
type player struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  *os.File
	output *bufio.Reader
}

// startPlayer starts a player, as the last argument of a command if one is given.
func startPlayer(t *testing.T, role, directory string, grace time.Duration, command ...string) *player {
	read, input, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	output, write, err := os.Pipe()
	require.NoError(t, err)
	defer write.Close()
	executable, err := os.Executable()
	require.NoError(t, err)
	command = append(command, executable)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = filepath.Dir(directory)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, directoryVariable+"="+directory, graceVariable+"="+grace.String())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, write, os.Stderr
	require.NoError(t, cmd.Start())
	p := &player{t: t, cmd: cmd, input: input, output: bufio.NewReader(output)}
	t.Cleanup(func() {
		p.kill()
		_ = input.Close()
		_ = output.Close()
	})
	return p
}

// kill is SIGKILL, and waits.
func (p *player) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// line returns the next thing that is said, in words; none at the end.
func (p *player) line() []string {
	text, err := p.output.ReadString('\n')
	if err != nil {
		return nil // a line that was not finished is not said
	}
	return strings.Fields(text)
}

// hears waits for the next thing that is said, which must begin with that word.
func (p *player) hears(word string) []string {
	p.t.Helper()
	words := p.line()
	require.NotEmpty(p.t, words, "it ended before it said %q", word)
	require.Equal(p.t, word, words[0], "%q", words)
	return words
}

// run lets a holder start a script and returns its PID.
func (p *player) run(script string) int {
	p.t.Helper()
	_, err := p.input.WriteString(script + "\n")
	require.NoError(p.t, err)
	pid, err := strconv.Atoi(p.hears("run")[2])
	require.NoError(p.t, err)
	return pid
}
