// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

func ignoreEvents(Event) {}

// number is the number that a player said.
func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func TestKeeper_KeepsAPrefixOfWhatAKilledClientSent(t *testing.T) {
	directory := runtimeDirectory(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	runs := map[uint64]int{} // PIDs of the runs that were said to be started
	commits := 0
	for range 6 {
		p := startPlayer(t, roleBusy, directory, time.Minute)
		p.hears("held")
		for range random.IntN(200) {
			switch words := p.line(); words[0] {
			case "commit":
				commits = number(t, words[1])
			case "run":
				runs[uint64(number(t, words[1]))] = number(t, words[2])
			}
		}
		require.NoError(t, p.cmd.Process.Kill())
		for words := p.line(); words != nil; words = p.line() { // what was said before it died
			switch words[0] {
			case "commit":
				commits = number(t, words[1])
			case "run":
				runs[uint64(number(t, words[1]))] = number(t, words[2])
			}
		}
		p.kill()

		c, state := attachTo(t, directory, ignoreEvents)
		assert.False(t, state.Reload)
		got := number(t, string(state.Values["n"]))
		assert.GreaterOrEqual(t, got, commits, "what Commit had returned of is lost")
		assert.LessOrEqual(t, got, commits+1, "more than was begun")
		commits = got // the next one may be killed before it says anything
		assert.Equal(t, state.Values["n"], state.Values["again"], "a commit is torn")
		require.Len(t, state.Journal, got)
		assert.Equal(t, uint64(1), state.JournalFirst)
		for i, record := range state.Journal {
			require.Equal(t, strconv.Itoa(i+1), string(record))
		}
		found := map[uint64]int{}
		for _, run := range state.Runs {
			found[run.Run] = run.Started.PID
			assert.True(t, identity{run.Started.PID, run.Started.StartTicks}.lives())
			assert.NotNil(t, run.Started.Stdout)
			assert.NotNil(t, run.Started.Stderr)
			run.Started.Close()
		}
		for run, pid := range runs {
			assert.Equal(t, pid, found[run], "run %d is lost, or another", run)
		}
		assert.LessOrEqual(t, len(found), len(runs)+1, "one may have been started without being heard of")
		leftovers, err := Leftovers(directory)
		require.NoError(t, err)
		assert.Len(t, leftovers, len(found), "each run is one process")
		runs = found
		require.NoError(t, c.Detach())
	}
}

func TestKeeper_KeepsTheOutputAndTheExitOfARunThatEndsWithoutAClient(t *testing.T) {
	directory := runtimeDirectory(t)
	c, _ := attachTo(t, directory, ignoreEvents)
	held, other := socketPair(t)
	started, err := c.Spawn(Spec{
		ID: "a", Run: 7, Argv: []string{"sh", "-c", "read x; echo last words; exit 9"}, Stdout: StreamPipe, Stderr: StreamJoin,
		NotifyFD: 3, Stop: Stop{Signal: syscall.SIGTERM}, Hold: []*os.File{held},
	})
	require.NoError(t, err)
	assert.Nil(t, started.Held)
	require.NoError(t, held.Close())
	started.Close()
	require.NoError(t, c.Detach())
	require.Eventually(t, func() bool { return !isLiving(started.PID) }, 20*time.Second, time.Millisecond)

	b := emptyBench(t)
	c, state := attachTo(t, directory, b.note)
	assert.True(t, state.Reload)
	assert.False(t, state.Fresh)
	require.Len(t, state.Runs, 1)
	run := state.Runs[0]
	assert.Equal(t, "a", run.ID)
	assert.Equal(t, uint64(7), run.Run)
	assert.Equal(t, started.PID, run.Started.PID)
	assert.Equal(t, started.StartTicks, run.Started.StartTicks)
	assert.WithinDuration(t, time.Now(), run.Started.At, time.Hour)
	died := b.await(Died, 7)
	assert.Equal(t, uint64(1), died.Seq)
	assert.Equal(t, 9, died.Exit.Code)
	assert.Equal(t, StoppedByNobody, died.Exit.By)
	assert.GreaterOrEqual(t, died.Exit.Mono, run.Started.Mono)
	assert.Equal(t, uint64(2), b.await(Gone, 7).Seq)
	text, err := io.ReadAll(run.Started.Stdout)
	require.NoError(t, err)
	assert.Equal(t, "last words\n", string(text))
	require.Len(t, run.Started.Held, 1)
	_, err = other.Write([]byte("x"))
	require.NoError(t, err)
	_, err = run.Started.Held[0].Read(make([]byte, 1))
	require.NoError(t, err, "what was held is the same socket")
	run.Started.Close()

	// What is acknowledged is not told again; the rest is.
	require.NoError(t, c.Commit(Commit{Acknowledge: []uint64{died.Seq}}))
	require.NoError(t, c.Detach())
	b = emptyBench(t)
	c, state = attachTo(t, directory, b.note)
	require.Len(t, state.Runs, 1)
	assert.True(t, state.Runs[0].Gone)
	state.Runs[0].Started.Close()
	assert.True(t, b.await(Gone, 7).Replayed)
	assert.Equal(t, []EventKind{Gone}, b.kinds(7))
	require.NoError(t, c.Commit(Commit{Acknowledge: []uint64{2}}))
	require.NoError(t, c.Detach())
	_, state = attachTo(t, directory, ignoreEvents)
	assert.Empty(t, state.Runs)
}

func socketPair(t *testing.T) (a, b *os.File) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func TestKeeper_HasOneLease(t *testing.T) {
	directory := runtimeDirectory(t)
	p := startPlayer(t, roleHold, directory, time.Minute)
	p.hears("held")
	_, _, err := Attach(context.Background(), options(t, directory), ignoreEvents)
	assert.ErrorIs(t, err, ErrHeld)
	assert.ErrorContains(t, err, "process "+strconv.Itoa(p.cmd.Process.Pid)+" holds the lease")
	pid := p.run("sleep 1000")
	require.NoError(t, p.input.Close())
	require.NoError(t, p.cmd.Wait())
	_, state := attachTo(t, directory, ignoreEvents)
	require.Len(t, state.Runs, 1)
	assert.Equal(t, pid, state.Runs[0].Started.PID)
	assert.False(t, state.Reload, "it was another process that detached")
}

func TestKeeper_IsStartedOnceByTwoClientsAtOnce(t *testing.T) {
	directory := runtimeDirectory(t)
	players := []*player{}
	for range 4 {
		players = append(players, startPlayer(t, roleHold, directory, time.Minute))
	}
	held := 0
	for _, p := range players {
		words := p.line()
		require.NotEmpty(t, words)
		if words[0] == "held" {
			held++
		} else {
			assert.Contains(t, words, "lease")
		}
	}
	assert.Equal(t, 1, held)
}

func TestAttach_AnswersThatItLivesWhileItIsToldWhatThereIs(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	keeper, err := wire.NewSocket(fds[0], wire.Kernel())
	require.NoError(t, err)
	defer keeper.Close()
	c := &Client{known: map[runKey]*knownRun{}}
	c.socket, err = wire.NewSocket(fds[1], wire.Kernel())
	require.NoError(t, err)
	defer c.socket.Close()
	for _, kind := range []uint8{kindPing, kindGranted, kindPing, kindValues, kindPing, kindAttached} {
		payload := []byte(nil)
		if kind == kindGranted {
			payload = granted{fresh: true}.encode(maxVersion)
		}
		require.NoError(t, keeper.Post(wire.Frame{Kind: kind, Payload: payload}))
	}
	_, err = c.expect(kindGranted)
	require.NoError(t, err)
	require.NoError(t, c.hearState(&State{Values: map[string][]byte{}}))
	for range 3 {
		frame, err := keeper.Receive()
		require.NoError(t, err)
		assert.Equal(t, kindPong, frame.Kind)
	}
}

func TestKeeper_OutlivesItsClientsTerminal(t *testing.T) {
	directory := runtimeDirectory(t)
	c, _ := attachTo(t, directory, ignoreEvents)
	pid := c.KeeperPID()
	stat, err := readStat(pid)
	require.NoError(t, err)
	assert.Equal(t, pid, stat.pgid, "the signals of a terminal do not reach its group")
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM} {
		require.NoError(t, syscall.Kill(pid, s))
	}
	_, err = c.Spawn(Spec{ID: "a", Run: 1, Argv: []string{"/bin/true"}})
	assert.NoError(t, err)
	for fd, want := range map[string]string{"0": "/dev/null", "1": "/dev/null", "2": "/dev/null"} {
		got, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "fd", fd))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	require.NoError(t, err)
	assert.Equal(t, "/", cwd)
}

func TestAttach_TellsHowLongNobodyWasThere(t *testing.T) {
	directory := runtimeDirectory(t)
	first, _ := attachTo(t, directory, ignoreEvents)
	left := monotonic()
	require.NoError(t, first.Detach())
	_, state := attachTo(t, directory, ignoreEvents)
	assert.Positive(t, state.Unattended)
	assert.LessOrEqual(t, state.Unattended, monotonic()-left)
}
