// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// RunIDVariable is in the environment of every process that a keeper starts, and so in
// that of its descendants: <directory>:<id>:<run>.
const RunIDVariable = "WARDEN_RUN_ID"

// Leftover is a living process of a run of an earlier keeper.
type Leftover struct {
	PID        int
	StartTicks uint64
	ID         string
	Run        uint64
}

// Leftovers returns the living processes that carry the RunIDVariable of a
// directory, as far as this user may look at them.
func Leftovers(directory string) ([]Leftover, error) {
	directory, err := canonical(directory)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	err = eachEnvironment(func(pid int, environ []byte) {
		key, ok := parseRunID(environ, directory)
		if !ok {
			return
		}
		if stat, err := readStat(pid); err == nil && stat.living() {
			found = append(found, Leftover{pid, stat.startTicks, key.id, key.run})
		}
	})
	return found, err
}

// eachEnvironment yields the environment of every other process that this user may
// look at.
func eachEnvironment(yield func(pid int, environ []byte)) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if environ, err := os.ReadFile("/proc/" + entry.Name() + "/environ"); err == nil {
			yield(pid, environ)
		}
	}
	return nil
}

// marked returns the living processes with exactly that RunIDVariable.
func marked(runID string) (found []identity) {
	want := []byte(RunIDVariable + "=" + runID)
	_ = eachEnvironment(func(pid int, environ []byte) {
		for entry := range bytes.SplitSeq(environ, []byte{0}) {
			if !bytes.Equal(entry, want) {
				continue
			}
			if stat, err := readStat(pid); err == nil {
				found = append(found, identity{pid, stat.startTicks})
			}
		}
	})
	return found
}

// parseRunID finds the run of a directory in an environment.
func parseRunID(environ []byte, directory string) (runKey, bool) {
	prefix := []byte(RunIDVariable + "=" + directory + ":")
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		rest, ok := bytes.CutPrefix(entry, prefix)
		if !ok {
			continue
		}
		// A longer directory may begin likewise; an id has no colon.
		id, number, ok := bytes.Cut(rest, []byte(":"))
		run, err := strconv.ParseUint(string(number), 10, 64)
		return runKey{string(id), run}, ok && err == nil
	}
	return runKey{}, false
}

// leftoverGrace is what the processes of an earlier keeper have after TERM.
const leftoverGrace = 5 * time.Second

// SweepLeftovers ends the leftovers of a directory: TERM and CONT, a short grace, KILL.
// It returns when nothing of them lives, with how many it found living; the error names
// what outlives KILL. Attach does so when it has started a keeper.
func SweepLeftovers(directory string) (ended int, err error) {
	return newSweep(directory, nil).run()
}

func (c *Client) sweepLeftovers() {
	ended, err := SweepLeftovers(c.o.Directory)
	if ended > 0 {
		c.o.Warn(sprintf("%d processes that an earlier keeper of %q had left behind were ended", ended, c.o.Directory))
	}
	if err != nil {
		c.o.Warn(err.Error())
	}
}

// signalProcess signals a process unless it is dead, or its PID another's by now.
func (i identity) signal(signals ...syscall.Signal) {
	pidfd, err := pidfdOpen(i.pid)
	if err != nil {
		return
	}
	defer syscall.Close(pidfd)
	if !i.lives() {
		return
	}
	for _, s := range signals {
		_ = pidfdSignal(pidfd, s)
	}
}

// lives reports whether the process is there and no zombie.
func (i identity) lives() bool {
	stat, err := readStat(i.pid)
	return err == nil && stat.startTicks == i.startTicks && stat.living()
}
