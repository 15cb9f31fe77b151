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

// trouble is what the kernel does to a keeper for as long as it is armed.
type trouble struct {
	armed atomic.Bool
	// fork and pipe are what a clone and a pipe fail with; 0: nothing.
	fork, pipe syscall.Errno
	pipes      atomic.Int32 // that come before those that fail
	// smallest: a send takes one byte.
	smallest bool
	// truncated: descriptors that are received are lost.
	truncated bool
}

func (f *trouble) injectInto(s *system, c *wire.Calls) {
	fork, pipe, send, receive := s.forkExec, s.pipe2, c.Send, c.Receive
	s.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		if f.armed.Load() && f.fork != 0 {
			return 0, f.fork
		}
		return fork(path, argv, attr)
	}
	s.pipe2 = func(ends []int, flags int) error {
		if f.armed.Load() && f.pipe != 0 && f.pipes.Add(-1) < 0 {
			return f.pipe
		}
		return pipe(ends, flags)
	}
	c.Send = func(fd int, data, control []byte) (int, error) {
		if f.armed.Load() && f.smallest {
			data = data[:1]
		}
		return send(fd, data, control)
	}
	c.Receive = func(fd int, data, control []byte) (n, controlN, flags int, err error) {
		n, controlN, flags, err = receive(fd, data, control)
		if err == nil && controlN > 0 && f.armed.Load() && f.truncated {
			messages, _ := syscall.ParseSocketControlMessage(control[:controlN])
			fds, _ := syscall.ParseUnixRights(&messages[0])
			closeFDs(fds)
			controlN, flags = 0, flags|syscall.MSG_CTRUNC
		}
		return n, controlN, flags, err
	}
}

// Whatever the kernel refuses, a spawn is answered, every other command is carried out,
// nothing leaks, and the run is not used up.
func TestKeeper_AnswersWhenTheKernelRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault *trouble
		pipes int32         // that come before the one that fails
		want  syscall.Errno // of a spawn; 0: it succeeds
		text  string
	}{
		{"no process (EAGAIN)", &trouble{fork: syscall.EAGAIN}, 0, syscall.EAGAIN, `execute "/bin/sleep": resource temporarily unavailable`},
		{"no memory (ENOMEM)", &trouble{fork: syscall.ENOMEM}, 0, syscall.ENOMEM, `execute "/bin/sleep": cannot allocate memory`},
		{"no descriptor for the process (EMFILE)", &trouble{fork: syscall.EMFILE}, 0, syscall.EMFILE, `execute "/bin/sleep": too many open files`},
		{"no first pipe (EMFILE)", &trouble{pipe: syscall.EMFILE}, 0, syscall.EMFILE, "too many open files"},
		{"no second pipe (EMFILE)", &trouble{pipe: syscall.EMFILE}, 1, syscall.EMFILE, "too many open files"},
		{"no third pipe (ENFILE)", &trouble{pipe: syscall.ENFILE}, 2, syscall.ENFILE, "too many open files in system"},
		{"short writes", &trouble{smallest: true}, 0, 0, ""},
		{"no descriptor for what is received (MSG_CTRUNC)", &trouble{truncated: true}, 0, syscall.EMFILE, "the keeper could not receive the descriptors of the run: too many open files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, tt.fault.injectInto)
			b := emptyBench(t)
			c, _ := attachTo(t, h.directory, b.note)
			b.Spawner = c
			held, _ := socketPair(t)
			before := openFiles(t, os.Getpid()) // keeper and client are one process here
			stopped, s := b.shell("trap 'echo heard' HUP; trap 'echo asked; exit 4' USR1; echo up; while :; do sleep 0.01; done",
				captured, func(s *Spec) { s.Stderr = StreamNull })
			killed, _ := b.shell("exec sleep 1000")
			assert.Equal(t, "up", firstLine(t, s.Stdout))

			tt.fault.armed.Store(true)
			spec := Spec{ID: "sh", Run: 100, Argv: []string{"/bin/sleep", "1000"}, Stdout: StreamPipe, Stderr: StreamPipe, NotifyFD: 3, Hold: []*os.File{held}}
			end := func(started Started) {
				started.Close()
				b.Kill("sh", spec.Run)
				b.await(Gone, spec.Run)
				spec.Run++
			}
			for range 3 {
				tt.fault.pipes.Store(tt.pipes)
				started, err := b.Spawn(spec)
				if tt.want != 0 {
					assert.ErrorIs(t, err, tt.want)
					assert.ErrorContains(t, err, tt.text)
				} else if assert.NoError(t, err) {
					end(started)
				}
			}
			b.Signal("sh", stopped, syscall.SIGHUP)
			assert.Equal(t, "heard", firstLine(t, s.Stdout))
			b.SetStop("sh", stopped, Stop{Signal: syscall.SIGUSR1, Grace: 20 * time.Second})
			b.Stop("sh", stopped)
			assert.Equal(t, "asked", firstLine(t, s.Stdout))
			s.Close()
			died := b.await(Died, stopped)
			assert.Equal(t, 4, died.Exit.Code)
			assert.Equal(t, StoppedByStop, died.Exit.By)
			b.Kill("sh", killed)
			assert.Equal(t, StoppedByKill, b.await(Died, killed).Exit.By)
			require.NoError(t, c.Commit(Commit{Values: []Value{{"k", []byte("v")}}}))
			h.eventually(t, func() bool { return string(h.store.values["k"]) == "v" })

			tt.fault.armed.Store(false)
			started, err := b.Spawn(spec)
			require.NoError(t, err, "the run is not used up")
			end(started)
			b.await(Gone, stopped)
			b.await(Gone, killed)
			b.acknowledgeAll()
			assert.Eventually(t, func() bool { return openFiles(t, os.Getpid()) == before }, 20*time.Second, time.Millisecond, "something leaks")
		})
	}
}

// acknowledgeAll has the keeper forget what has come to its end.
func (b *bench) acknowledgeAll() {
	b.mu.Lock()
	var seqs []uint64
	for _, e := range b.events {
		seqs = append(seqs, e.Seq)
	}
	b.mu.Unlock()
	require.NoError(b.t, b.Spawner.(*Client).Commit(Commit{Acknowledge: seqs}))
}

// A connection that the keeper can not write to is over, for both sides at once: its
// runs live on, for the same process to have them again.
func TestKeeper_LosesNothingWithAConnectionThatBreaks(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPIPE, syscall.ECONNRESET, syscall.ENOBUFS} {
		t.Run(errno.Error(), func(t *testing.T) {
			var breaks atomic.Bool
			h := newHost(t, func(_ *system, c *wire.Calls) {
				send := c.Send
				c.Send = func(fd int, data, control []byte) (int, error) {
					if breaks.Swap(false) {
						return 0, errno
					}
					return send(fd, data, control)
				}
			})
			before := openFiles(t, os.Getpid())
			lost := make(chan error, 1)
			hears := func(o *Options) { o.Lost = func(err error) { lost <- err } }
			c, _ := attachTo(t, h.directory, ignoreEvents, hears)
			spec := Spec{ID: "sh", Run: 1, Argv: []string{"/bin/sh", "-c", "echo said; exec sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: StreamPipe}
			breaks.Store(true)
			_, err := c.Spawn(spec) // carried out, and the answer is what breaks it
			assert.ErrorIs(t, err, ErrLost)
			assert.ErrorIs(t, <-lost, ErrLost)
			assert.ErrorIs(t, c.Commit(Commit{}), ErrLost)

			second, state := attachTo(t, h.directory, ignoreEvents, hears)
			require.Len(t, state.Runs, 1)
			assert.False(t, state.Runs[0].Gone)
			state.Runs[0].Started.Close()
			again, err := second.Spawn(spec)
			require.NoError(t, err)
			assert.Equal(t, state.Runs[0].Started.PID, again.PID, "it is the one that was asked for")
			assert.Equal(t, "said", firstLine(t, again.Stdout))
			again.Close()
			breaks.Store(true)
			second.Kill("sh", 1) // what is told of it is what breaks it
			assert.ErrorIs(t, <-lost, ErrLost)

			b := emptyBench(t)
			b.Spawner, state = attachTo(t, h.directory, b.note, hears)
			require.Len(t, state.Runs, 1)
			state.Runs[0].Started.Close()
			assert.Equal(t, StoppedByKill, b.await(Died, 1).Exit.By)
			b.await(Gone, 1)
			b.acknowledgeAll()
			require.NoError(t, b.Spawner.(*Client).Detach())
			assert.Eventually(t, func() bool { return openFiles(t, os.Getpid()) == before }, 20*time.Second, time.Millisecond, "something leaks")
			assert.Empty(t, lost)
		})
	}
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
	before := openFiles(t, os.Getpid())
	_, err := b.Spawn(Spec{ID: "sh", Run: 1, Argv: []string{"/bin/sleep", "1000"}, Stdout: StreamPipe})
	assert.ErrorIs(t, err, syscall.EMFILE)
	assert.Equal(t, StoppedByKill, b.await(Died, 1).Exit.By, "nobody could read its output")
	b.await(Gone, 1)
	s, err := b.Spawn(Spec{ID: "sh", Run: 2, Argv: []string{"/bin/echo", "said"}, Stdout: StreamPipe})
	require.NoError(t, err, "the connection lives")
	assert.Equal(t, "said", firstLine(t, s.Stdout))
	s.Close()
	b.await(Gone, 2)
	b.acknowledgeAll()
	assert.Eventually(t, func() bool { return openFiles(t, os.Getpid()) == before }, 20*time.Second, time.Millisecond, "something leaks")
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
