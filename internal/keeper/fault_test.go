// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

func TestKeeper_AnswersWhenTheKernelRefuses(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) { keeperAnswersWhenTheKernelRefuses(t, errno) })
	}
}

func keeperAnswersWhenTheKernelRefuses(t *testing.T, refusal syscall.Errno) {
	var forkFails, pipeFails atomic.Int32 // errors to come
	refuse := func(counter *atomic.Int32, errno syscall.Errno) error {
		if counter.Load() == 0 {
			return nil
		}
		counter.Add(-1)
		return errno
	}
	h := newHost(t, func(s *system, _ *wire.Calls) {
		fork, pipe := s.forkExec, s.pipe2
		s.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
			if err := refuse(&forkFails, refusal); err != nil {
				return 0, err
			}
			return fork(path, argv, attr)
		}
		s.pipe2 = func(ends []int, flags int) error {
			if err := refuse(&pipeFails, syscall.EMFILE); err != nil {
				return err
			}
			return pipe(ends, flags)
		}
	})
	b := emptyBench(t)
	b.Spawner, _ = attachTo(t, h.directory, b.note)
	held, _ := socketPair(t)
	spec := Spec{ID: "sh", Run: 1, Argv: []string{"/bin/sleep", "1000"}, Stdout: StreamPipe, Stderr: StreamPipe, NotifyFD: 3, Hold: []*os.File{held}}
	before := b.descriptors()
	forkFails.Store(3)
	for range 3 {
		_, err := b.Spawn(spec)
		assert.EqualError(t, err, `execute "/bin/sleep": `+refusal.Error())
		assert.ErrorIs(t, err, refusal)
		// Whatever else is asked for meanwhile is done.
		b.Stop("sh", 1)
		require.NoError(t, b.Spawner.(*Client).Commit(Commit{Values: []Value{{"k", []byte("v")}}}))
	}
	for range 3 { // of three pipes
		pipeFails.Store(1)
		_, err := b.Spawn(spec)
		assert.ErrorIs(t, err, syscall.EMFILE)
	}
	assert.Eventually(t, func() bool { return b.descriptors() == before }, 20*time.Second, time.Millisecond, "what was held is let go of after the answer")
	s, err := b.Spawn(spec)
	require.NoError(t, err, "the run is not used up")
	s.Close()
	b.Kill("sh", 1)
	b.await(Gone, 1)
}

func TestKeeper_TakesMessagesInTheSmallestPieces(t *testing.T) {
	byByte := func(c *wire.Calls) {
		send := c.Send
		c.Send = func(fd int, data, control []byte) (int, error) { return send(fd, data[:1], control) }
	}
	h := newHost(t, func(_ *system, c *wire.Calls) { byByte(c) })
	calls := wire.Kernel()
	byByte(&calls)
	b := emptyBench(t)
	b.Spawner, _ = attachTo(t, h.directory, b.note, func(o *Options) { o.wire = &calls })
	run, s := b.shell("echo said", captured)
	assert.Equal(t, "said", firstLine(t, s.Stdout))
	s.Close()
	b.await(Gone, run)
}

// truncating lets the n-th batch of descriptors that is received be lost, as the
// kernel does when no descriptor is free.
func truncating(n int) wire.Calls {
	calls := wire.Kernel()
	receive := calls.Receive
	batches := 0
	calls.Receive = func(fd int, data, control []byte) (got, controlN, flags int, err error) {
		got, controlN, flags, err = receive(fd, data, control)
		if err != nil || controlN == 0 {
			return got, controlN, flags, err
		}
		if batches++; batches == n {
			messages, _ := syscall.ParseSocketControlMessage(control[:controlN])
			fds, _ := syscall.ParseUnixRights(&messages[0])
			closeFDs(fds)
			controlN, flags = 0, flags|syscall.MSG_CTRUNC
		}
		return got, controlN, flags, err
	}
	return calls
}

func TestSpawn_FailsCleanlyWhenTheClientCanNotReceiveItsDescriptors(t *testing.T) {
	h := newHost(t)
	calls := truncating(1)
	b := emptyBench(t)
	b.Spawner, _ = attachTo(t, h.directory, b.note, func(o *Options) { o.wire = &calls })
	_, err := b.Spawn(Spec{ID: "sh", Run: 1, Argv: []string{"/bin/sleep", "1000"}, Stdout: StreamPipe})
	assert.ErrorIs(t, err, syscall.EMFILE)
	assert.Equal(t, StoppedByKill, b.await(Died, 1).Exit.By, "nobody could read its output")
	b.await(Gone, 1)
	s, err := b.Spawn(Spec{ID: "sh", Run: 2, Argv: []string{"/bin/echo", "said"}, Stdout: StreamPipe})
	require.NoError(t, err, "the connection lives")
	assert.Equal(t, "said", firstLine(t, s.Stdout))
	s.Close()
}

func TestSpawn_FailsCleanlyWhenTheKeeperCanNotReceiveItsDescriptors(t *testing.T) {
	h := newHost(t, func(_ *system, c *wire.Calls) { *c = truncating(1) })
	c, _ := attachTo(t, h.directory, ignoreEvents)
	held, _ := socketPair(t)
	spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/true"}, Hold: []*os.File{held}}
	_, err := c.Spawn(spec)
	assert.ErrorIs(t, err, syscall.EMFILE)
	_, err = c.Spawn(spec)
	assert.NoError(t, err)
}

func TestAttach_KillsARunWhoseDescriptorsItCanNotReceive(t *testing.T) {
	h := newHost(t)
	c, _ := attachTo(t, h.directory, ignoreEvents)
	for run := range uint64(2) {
		s, err := c.Spawn(Spec{ID: "sh", Run: run, Argv: []string{"/bin/sleep", "1000"}, Stdout: StreamPipe})
		require.NoError(t, err)
		s.Close()
	}
	require.NoError(t, c.Detach())
	calls := truncating(1)
	var warnings []string
	b := emptyBench(t)
	_, state := attachTo(t, h.directory, b.note, func(o *Options) {
		o.wire = &calls
		o.Warn = func(text string) { warnings = append(warnings, text) }
	})
	require.Len(t, state.Runs, 2)
	assert.Nil(t, state.Runs[0].Started.Stdout)
	assert.NotNil(t, state.Runs[1].Started.Stdout)
	state.Runs[1].Started.Close()
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], `run 0 of "sh" is killed: the descriptors of its output could not be received`)
	b.await(Gone, 0)
	assert.True(t, isLiving(state.Runs[1].Started.PID))
}

func TestSpawn_IsIdempotent(t *testing.T) {
	h := newHost(t)
	c, _ := attachTo(t, h.directory, ignoreEvents)
	held, _ := socketPair(t)
	spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/sh", "-c", "echo one; sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: StreamPipe, Hold: []*os.File{held}}
	first, err := c.Spawn(spec)
	require.NoError(t, err)
	first.Close()
	second, err := c.Spawn(spec)
	require.NoError(t, err)
	assert.Equal(t, identity{first.PID, first.StartTicks}, identity{second.PID, second.StartTicks})
	assert.Len(t, second.Held, 1)
	assert.Equal(t, "one", firstLine(t, second.Stdout))
	second.Close()
	leftovers, err := Leftovers(h.directory)
	require.NoError(t, err)
	for _, l := range leftovers {
		stat, err := readStat(l.PID)
		require.NoError(t, err)
		assert.Equal(t, first.PID, stat.pgid, "there is one")
	}
}

func TestKeeper_ProcessesInheritNeitherIgnoredNorBlockedSignalsNorDescriptors(t *testing.T) {
	if err := syscall.Access("/usr/bin/env", 1); err != nil {
		t.Skip("needs env(1)")
	}
	directory := runtimeDirectory(t)
	marker := filepath.Join(t.TempDir(), "marker")
	script := `exec 7>` + marker + `; exec env --ignore-signal=HUP,INT,TSTP,USR1,CHLD,PIPE,TTIN --block-signal=TERM,USR2,CHLD "$0"`
	p := startPlayer(t, roleHold, directory, time.Minute, "/bin/sh", "-c", script)
	keeper := p.hears("held")[1]
	seen := filepath.Join(t.TempDir(), "seen")
	p.run("grep -E '^Sig(Ign|Blk)' /proc/self/status > " + seen + ".new; ls -l /proc/self/fd >> " + seen + ".new; mv " + seen + ".new " + seen)
	var text []byte
	require.Eventually(t, func() bool {
		var err error
		text, err = os.ReadFile(seen)
		return err == nil
	}, 20*time.Second, time.Millisecond)
	assert.Contains(t, string(text), "SigIgn:\t0000000000000000")
	assert.Contains(t, string(text), "SigBlk:\t0000000000000000")
	assert.NotContains(t, string(text), marker)
	links, err := filepath.Glob("/proc/" + keeper + "/fd/*")
	require.NoError(t, err)
	for _, link := range links {
		target, _ := os.Readlink(link)
		assert.NotContains(t, target, marker, "the keeper has it open")
	}
	environ, err := os.ReadFile("/proc/" + keeper + "/environ")
	require.NoError(t, err)
	assert.Equal(t, strings.Join(keeperEnvironment, "\x00")+"\x00", string(environ))
}

func TestKeeper_MeansTheClientsStreamsAndDirectory(t *testing.T) {
	directory := runtimeDirectory(t)
	below := filepath.Join(filepath.Dir(directory), "below")
	require.NoError(t, os.Mkdir(below, 0o755))
	p := startPlayer(t, roleInherit, directory, time.Minute)
	p.hears("held")
	_, err := p.input.WriteString("echo said in $PWD\n")
	require.NoError(t, err)
	said := map[string][]string{}
	for range 2 { // in no certain order
		words := p.line()
		require.NotEmpty(t, words)
		said[words[0]] = words
	}
	assert.Equal(t, []string{"said", "in", below}, said["said"])
	assert.Contains(t, said, "run")
}

func TestExit_TellsOfInputAndOutputAndTime(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		before := monotonic()
		run, s := b.shell("head -c 40000 /dev/zero", captured)
		defer s.Close()
		died := b.await(Died, run)
		if os.Geteuid() == 0 { // the kernel tells nobody else of a zombie
			require.NotNil(t, died.Exit.IO)
			assert.GreaterOrEqual(t, died.Exit.IO.WriteChars, uint64(40_000))
			assert.Positive(t, died.Exit.IO.ReadCalls)
		}
		assert.GreaterOrEqual(t, died.Exit.Mono, before)
		assert.LessOrEqual(t, died.Exit.Mono, monotonic())
		assert.False(t, died.Exit.At.IsZero())
	})
}

func TestExit_SaysWhoAskedForIt(t *testing.T) {
	eachSpawner(t, func(t *testing.T, spawner makeSpawner) {
		b := newBench(t, spawner)
		stopped, _ := b.shell("sleep 1000")
		b.Stop("sh", stopped)
		assert.Equal(t, StoppedByStop, b.await(Died, stopped).Exit.By)
		killed, _ := b.shell("sleep 1000")
		b.Kill("sh", killed)
		assert.Equal(t, StoppedByKill, b.await(Died, killed).Exit.By)
		both, s := b.shell("trap '' TERM; echo up; while :; do sleep 1000; done", captured)
		firstLine(t, s.Stdout)
		s.Close()
		b.Stop("sh", both)
		b.Kill("sh", both)
		assert.Equal(t, StoppedByKill, b.await(Died, both).Exit.By)
		crashed, _ := b.shell("kill -SEGV $$")
		assert.Equal(t, StoppedByNobody, b.await(Died, crashed).Exit.By)
	})
}

func TestKeeper_AnswersASpawnWhoseRunIsForgottenAlready(t *testing.T) {
	h := newHost(t)
	c, _ := attachTo(t, h.directory, ignoreEvents)
	before := openFiles(t, os.Getpid())
	h.mu.Lock()
	holder := h.holder
	h.mu.Unlock()
	// What the keeper does for Spawn, but that the process dies, and that its death is
	// told and acknowledged, before the answer.
	spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/echo", "last words"}, Stdout: StreamPipe}
	result := make(chan spawnResult, 1)
	request, err := c.expectAnswer(runKey{"a", 1}, spec, result)
	require.NoError(t, err)
	k, r, err := h.keep(spawn{request: request, spec: spec}, nil)
	require.NoError(t, err)
	process, err := h.parent.start(r, [2]int{})
	require.NoError(t, err)
	h.eventually(t, func() bool { return k.gone })
	h.commit(Commit{Acknowledge: []uint64{1, 2}})
	h.begin(k, r, process, nil)
	h.answer(holder, request, k, false)

	got := <-result
	require.NoError(t, got.err)
	assert.Equal(t, "last words", firstLine(t, got.started.Stdout))
	got.started.Close()
	assert.Equal(t, before, openFiles(t, os.Getpid()))
}

// FuzzKeeper lets a client of the right user say anything: the keeper goes on for the
// next one.
func FuzzKeeper(f *testing.F) {
	f.Add(uint8(kindSpawn), []byte("x"), []byte{0, 0, 0, 0, kindPong, 0, 0, 0})
	f.Add(uint8(kindCommit), []byte{0, 0, 0}, []byte{1})
	f.Add(uint8(kindStop), encodeRef(runKey{"a", 1}), []byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, kind uint8, payload, rest []byte) {
		h := newHost(t, func(s *system, _ *wire.Calls) {
			s.forkExec = func(string, []string, *syscall.ProcAttr) (int, error) { return 0, syscall.EAGAIN }
		})
		// Twice: the second is what comes after.
		for range 2 {
			raw := rawClient(t, h)
			_ = raw.Post(wire.Frame{Kind: kind, Payload: payload})
			_ = raw.Control(func(fd int) error {
				_, err := syscall.Write(fd, rest)
				return err
			})
			require.NoError(t, raw.Close())
			h.mu.Lock()
			leaving := h.leaving
			h.mu.Unlock()
			if leaving || kind == kindDismiss || bytes.IndexByte(rest, kindDismiss) >= 0 {
				return // it does as it is told
			}
		}
	})
}

// rawClient attaches to a host and returns the connection.
func rawClient(t *testing.T, h *host) *wire.Socket {
	dir, err := openDirectory(h.directory)
	require.NoError(t, err)
	defer dir.close()
	fd, err := dial(dir)
	require.NoError(t, err)
	socket, err := wire.NewSocket(fd, wire.Kernel())
	require.NoError(t, err)
	require.NoError(t, socket.Post(wire.Frame{Kind: kindHello, Payload: hello{minVersion, maxVersion}.encode()}))
	require.NoError(t, socket.Post(wire.Frame{Kind: kindAttach, Payload: attach{time.Minute, 10}.encode()}))
	for {
		frame, err := socket.Receive()
		require.NoError(t, err)
		if frame.Kind == kindAttached {
			return socket
		}
	}
}
