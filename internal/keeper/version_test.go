// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/protocol anew, with what the newest version is encoded as now")

// letter is a message as it goes over the socket.
type letter struct {
	name    string
	kind    uint8
	payload []byte
	// reads has the other side take the payload apart and make it anew.
	reads func(payload []byte) ([]byte, error)
}

// again makes letter.reads of a pair of functions.
func again[M any](decode func([]byte) (M, error), encode func(M) []byte) func([]byte) ([]byte, error) {
	return func(payload []byte) ([]byte, error) {
		m, err := decode(payload)
		return encode(m), err
	}
}

// letters are one of every kind of message, with nothing in it left zero.
func letters(version uint64) []letter {
	empty := again(func(payload []byte) ([]byte, error) { return payload, nil }, func(payload []byte) []byte { return payload })
	encodeSpawn := func(m spawn) []byte {
		var e wire.Encoder
		m.append(&e)
		return e.Buf
	}
	encodeCommit := func(c Commit) []byte {
		var e wire.Encoder
		appendCommit(&e, c)
		return e.Buf
	}
	encodeGranted := func(m granted) []byte { return m.encode(version) }
	mask, nice, score := 0o27, -5, 500
	how := Stop{syscall.SIGQUIT, 90 * time.Second, ScopeGroup}
	request := spawn{request: 300, holds: 2, inherits: true, spec: Spec{
		ID: "web.1", Run: 7, Argv: []string{"/bin/web", "-p", "80"}, Env: []string{"A=b", "C="}, Dir: "/srv",
		Stdout: StreamPipe, Stderr: StreamInherit, NotifyFD: 3, Stop: how,
		Rights: Rights{
			Credential: &Credential{UID: 33, GID: 34, Groups: []uint32{35, 1000}},
			Umask:      &mask, Nice: &nice, OOMScoreAdj: &score, NoNewPrivileges: true,
			Limits: []Limit{{OpenFiles, 1024, Unlimited}, {LockedMemory, LimitUnchanged, 1}},
		},
		Cgroup: []CgroupSetting{{"memory.max", "1000000"}}, CgroupOptional: true,
	}}
	run := adopted{
		request: 300, key: runKey{"web.1", 7}, pid: 4711, startTicks: 123456,
		at: time.Unix(1_700_000_000, 5), mono: time.Hour, pipes: [3]bool{true, false, true}, gone: true, how: how,
	}
	events := []Event{
		{Kind: Killed, ID: "web.1", Run: 7, Seq: 1, Replayed: true, Processes: []ProcessName{{4712, "helper"}}},
		{Kind: Died, ID: "web.1", Run: 7, Seq: 2, Exit: Exit{
			PID: 4711, Code: -1, Signal: syscall.SIGSEGV, Core: true, OOM: true, Lost: true, User: time.Second, System: time.Minute,
			At: time.Unix(1_700_000_001, 6), Mono: 2 * time.Hour, By: StoppedByKeeper,
			Usage: syscall.Rusage{
				Utime: syscall.NsecToTimeval(8000), Stime: syscall.NsecToTimeval(9000),
				Maxrss: 10, Minflt: 11, Majflt: 12, Inblock: 13, Oublock: 14, Nvcsw: 15, Nivcsw: 16,
			},
			IO: &IO{1, 2, 3, 4, 5, 6},
		}},
		{Kind: Unkillable, ID: "web.1", Run: 7, Seq: 3},
		{Kind: Gone, ID: "web.1", Run: 7, Seq: 4},
		{Kind: Stranger, Seq: 5, Processes: []ProcessName{{4713, "daemon"}}},
	}
	commit := Commit{
		Values:  []Value{{"key", []byte("value")}, {"empty", []byte{}}, {"deleted", nil}},
		Journal: [][]byte{[]byte("record"), []byte("another")}, Acknowledge: []uint64{1, 300},
	}
	st := newStore()
	st.setLimit(10)
	st.apply(Commit{Values: commit.Values[:1], Journal: commit.Journal})
	dumped := map[uint8][]byte{}
	for kind, payload := range st.dump() {
		dumped[kind] = bytes.Clone(payload)
	}
	g := granted{fresh: true, reload: true, unattended: time.Minute, openFiles: 20_000, notice: "notice", journalFirst: 9}
	if version >= versionCgroups {
		g.noCgroups = "there are none"
	}
	not := notSpawned{300, true, syscall.EAGAIN, "text"}
	return []letter{
		{"hello", kindHello, hello{1, 2}.encode(), again(decodeHello, hello.encode)},
		{"attach", kindAttach, attach{-1, 10_000}.encode(), again(decodeAttach, attach.encode)},
		{"spawn", kindSpawn, encodeSpawn(request), again(decodeSpawn, encodeSpawn)},
		{"stop", kindStop, encodeRef(run.key), again(decodeRef, encodeRef)},
		{"kill", kindKill, encodeRef(run.key), again(decodeRef, encodeRef)},
		{"commit", kindCommit, encodeCommit(commit), again(decodeCommit, encodeCommit)},
		{"pong", kindPong, nil, empty},
		{"detach", kindDetach, nil, empty},
		{"dismiss", kindDismiss, nil, empty},
		{"setStop", kindSetStop, setStop{run.key, how}.encode(), again(decodeSetStop, setStop.encode)},
		{"signal", kindSignal, sendSignal{run.key, syscall.SIGHUP}.encode(), again(decodeSendSignal, sendSignal.encode)},
		{"welcome", kindWelcome, welcome{version, 4710}.encode(), again(decodeWelcome, welcome.encode)},
		{"refused", kindRefused, refusal{refusedVersion, "text"}.encode(), again(decodeRefusal, refusal.encode)},
		{"granted", kindGranted, encodeGranted(g), again(func(payload []byte) (granted, error) { return decodeGranted(payload, version) }, encodeGranted)},
		{"values", kindValues, dumped[kindValues], empty},
		{"records", kindRecords, dumped[kindRecords], empty},
		{"adopted", kindAdopted, run.encode(), again(decodeAdopted, adopted.encode)},
		{"attached", kindAttached, nil, empty},
		{"events", kindEvents, encodeEvents(events), again(decodeEvents, encodeEvents)},
		{"spawned", kindSpawned, run.encode(), again(decodeAdopted, adopted.encode)},
		{"notSpawned", kindNotSpawned, not.encode(), again(decodeNotSpawned, notSpawned.encode)},
		{"warning", kindWarning, []byte("text"), empty},
		{"ping", kindPing, nil, empty},
		{"detached", kindDetached, nil, empty},
		{"dismissed", kindDismissed, nil, empty},
	}
}

// posted is what a message looks like on the socket.
func posted(t *testing.T, kind uint8, payload []byte) (sent []byte) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer syscall.Close(fds[1])
	calls := wire.Kernel()
	calls.Send = func(_ int, data, _ []byte) (int, error) {
		sent = append(sent, data...)
		return len(data), nil
	}
	socket, err := wire.NewSocket(fds[0], calls)
	require.NoError(t, err)
	require.NoError(t, socket.Post(wire.Frame{Kind: kind, Payload: payload}))
	require.NoError(t, socket.Close())
	return sent
}

// golden is what a version's messages are, a line each, "name hex".
func golden(t *testing.T, version uint64) map[string]string {
	text, err := os.ReadFile(goldenName(version))
	require.NoError(t, err)
	lines := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			lines[name] = value
		}
	}
	return lines
}

func goldenName(version uint64) string {
	return filepath.Join("testdata", "protocol", fmt.Sprintf("v%d.txt", version))
}

// A program that is in use encodes as these files say. What is to be encoded in another
// way is another version.
func TestProtocol_EveryVersionIsEncodedAsItAlwaysWas(t *testing.T) {
	if *rewrite {
		b := []byte("# One message of every kind in version " + fmt.Sprint(maxVersion) + ", header and payload.\n")
		for _, l := range letters(maxVersion) {
			b = fmt.Appendf(b, "%s %x\n", l.name, posted(t, l.kind, l.payload))
		}
		require.NoError(t, os.WriteFile(goldenName(maxVersion), b, 0o644))
	}
	files, err := filepath.Glob(filepath.Join("testdata", "protocol", "*"))
	require.NoError(t, err)
	assert.Len(t, files, maxVersion-minVersion+1, "one for each version that is spoken, and no other")
	for version := uint64(minVersion); version <= maxVersion; version++ {
		want := golden(t, version)
		kinds := map[uint8]bool{}
		for _, l := range letters(version) {
			assert.Equal(t, want[l.name], hex.EncodeToString(posted(t, l.kind, l.payload)), "%s of version %d", l.name, version)
			delete(want, l.name)
			read, err := l.reads(l.payload)
			require.NoError(t, err, l.name)
			assert.Equal(t, l.payload, read, "%s of version %d loses something", l.name, version)
			kinds[l.kind] = true
		}
		assert.Empty(t, want, "version %d has lost messages", version)
		for kind := uint8(kindHello); kind <= kindDismissed; kind++ {
			assert.Equal(t, kind <= kindSignal || kind >= kindWelcome, kinds[kind], "kind %d", kind)
		}
	}
}

func TestProtocol_WhatComesBeforeAnAgreementIsTheSameInEveryVersion(t *testing.T) {
	first := golden(t, minVersion)
	for version := uint64(minVersion + 1); version <= maxVersion; version++ {
		for _, name := range []string{"hello", "refused"} {
			assert.Equal(t, first[name], golden(t, version)[name], "%s of version %d", name, version)
		}
	}
}

func TestProtocol_IsSpokenOneVersionBack(t *testing.T) {
	assert.Equal(t, maxVersion-1, minVersion)
}

func TestNegotiate_TakesTheHighestThatBothSpeak(t *testing.T) {
	tests := []struct {
		a, b hello
		want uint64 // 0: none
	}{
		{hello{1, 1}, hello{1, 1}, 1},
		{hello{1, 2}, hello{1, 3}, 2},
		{hello{2, 3}, hello{1, 2}, 2},
		{hello{1, 1}, hello{2, 2}, 0},
		{hello{3, 4}, hello{1, 2}, 0},
		{hello{2, 1}, hello{1, 2}, 0},
	}
	for _, tt := range tests {
		got, ok := negotiate(tt.a, tt.b)
		assert.Equal(t, tt.want != 0, ok, "%v %v", tt.a, tt.b)
		if ok {
			assert.Equal(t, tt.want, got, "%v %v", tt.a, tt.b)
		}
	}
}

// programs are the versions that a collector or a keeper of another release may speak,
// and what this one agrees on with it; 0: nothing.
var programs = []struct {
	name   string
	speaks hello
	agreed uint64
}{
	{"of before the oldest that is spoken", hello{minVersion - 1, minVersion - 1}, 0},
	{"that speaks the oldest at most", hello{minVersion - 1, minVersion}, minVersion},
	{"that speaks the oldest only", hello{minVersion, minVersion}, minVersion},
	{"of this release", hello{minVersion, maxVersion}, maxVersion},
	{"that speaks the newest only", hello{maxVersion, maxVersion}, maxVersion},
	{"of the next release", hello{maxVersion, maxVersion + 1}, maxVersion},
	{"of a release after that", hello{maxVersion + 1, maxVersion + 2}, 0},
}

// newcomer says hello over a connection of its own and returns the answer.
func newcomer(t *testing.T, h *host, speaks hello) (*wire.Socket, wire.Frame) {
	dir, err := openDirectory(h.directory)
	require.NoError(t, err)
	defer dir.close()
	fd, err := dial(dir)
	require.NoError(t, err)
	socket, err := wire.NewSocket(fd, wire.Kernel())
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	require.NoError(t, socket.Post(wire.Frame{Kind: kindHello, Payload: speaks.encode()}))
	answer, err := socket.Receive()
	require.NoError(t, err)
	return socket, answer
}

func TestKeeper_SpeaksWithACollector(t *testing.T) {
	for _, tt := range programs {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			socket, answer := newcomer(t, h, tt.speaks)
			if tt.agreed == 0 {
				require.Equal(t, uint8(kindRefused), answer.Kind)
				r, err := decodeRefusal(answer.Payload)
				require.NoError(t, err)
				assert.Equal(t, refusedVersion, r.reason)
				h.mu.Lock()
				defer h.mu.Unlock()
				assert.Nil(t, h.holder)
				assert.False(t, h.held, "it has not had the lease")
				return
			}
			require.Equal(t, uint8(kindWelcome), answer.Kind)
			w, err := decodeWelcome(answer.Payload)
			require.NoError(t, err)
			assert.Equal(t, welcome{tt.agreed, os.Getpid()}, w)
			require.NoError(t, socket.Post(wire.Frame{Kind: kindAttach, Payload: attach{time.Minute, 10}.encode()}))
			answer, err = socket.Receive()
			require.NoError(t, err)
			require.Equal(t, uint8(kindGranted), answer.Kind)
			g, err := decodeGranted(answer.Payload, tt.agreed)
			require.NoError(t, err, "neither more nor less than that version has")
			assert.True(t, g.fresh)
			assert.Equal(t, tt.agreed >= versionCgroups, g.noCgroups != "")
		})
	}
}

func TestAttach_SpeaksWithAKeeper(t *testing.T) {
	for _, tt := range programs {
		t.Run(tt.name, func(t *testing.T) {
			h := newPreparedHost(t, func(s *server) { s.versions = tt.speaks })
			if tt.agreed == 0 {
				_, _, err := Attach(context.Background(), options(t, h.directory), ignoreEvents)
				assert.ErrorIs(t, err, ErrVersion)
				return
			}
			b := emptyBench(t)
			c, state := attachTo(t, h.directory, b.note)
			b.Spawner = c
			assert.Equal(t, tt.agreed >= versionCgroups, state.NoCgroups != "")
			run, s := b.shell("echo said; exit 3", captured)
			assert.Equal(t, "said", firstLine(t, s.Stdout))
			s.Close()
			assert.Equal(t, 3, b.await(Died, run).Exit.Code)
			require.NoError(t, c.Commit(Commit{Values: []Value{{"k", []byte("v")}}}))
			require.NoError(t, c.Detach())
			_, state = attachTo(t, h.directory, ignoreEvents)
			assert.Equal(t, map[string][]byte{"k": []byte("v")}, state.Values)
		})
	}
}

// An upgrade finds the older keeper, and who goes back to the release before finds the
// newer one: its processes are taken over either way.
func TestAttach_TakesOverFromAnotherRelease(t *testing.T) {
	older, newer := hello{minVersion, minVersion}, hello{minVersion, maxVersion}
	for _, tt := range []struct {
		name                  string
		keeper, first, second hello
	}{
		{"a newer collector, an older keeper", older, older, newer},
		{"an older collector, a newer keeper", newer, newer, older},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newPreparedHost(t, func(s *server) { s.versions = tt.keeper })
			speaks := func(versions hello) func(*Options) { return func(o *Options) { o.versions = &versions } }
			c, _ := attachTo(t, h.directory, ignoreEvents, speaks(tt.first))
			held, _ := socketPair(t)
			started, err := c.Spawn(Spec{ID: "a", Run: 1, Argv: []string{"/bin/sh", "-c", "echo said; exec sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: StreamPipe, Hold: []*os.File{held}})
			require.NoError(t, err)
			started.Close()
			require.NoError(t, c.Detach())

			b := emptyBench(t)
			next, state := attachTo(t, h.directory, b.note, speaks(tt.second))
			require.Len(t, state.Runs, 1)
			run := state.Runs[0]
			assert.Equal(t, identity{started.PID, started.StartTicks}, identity{run.Started.PID, run.Started.StartTicks})
			assert.Len(t, run.Started.Held, 1)
			assert.Equal(t, "said", firstLine(t, run.Started.Stdout))
			run.Started.Close()
			next.Kill("a", 1)
			assert.Equal(t, StoppedByKill, b.await(Died, 1).Exit.By)
			b.await(Gone, 1)
		})
	}
}

func TestVersions_WithoutOneInCommonNothingIsChanged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		speaks hello
	}{
		{"too old", hello{minVersion - 1, minVersion - 1}},
		{"too new", hello{maxVersion + 1, maxVersion + 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			spec := Spec{ID: "a", Run: 1, Argv: []string{"/bin/sleep", "1000"}}
			comes := func() {
				_, _, err := Attach(context.Background(), options(t, h.directory, func(o *Options) { o.versions = &tt.speaks }), ignoreEvents)
				assert.ErrorIs(t, err, ErrVersion)
				assert.EqualError(t, err, fmt.Sprintf("the keeper speaks other versions of the protocol: the keeper of %q (PID %d) speaks the protocol's versions 1 to 2, this program %d to %d: "+
					"nothing was changed; use a program that is closer to the one that started the keeper, or end the keeper with its processes by SIGTERM while nobody is attached",
					h.directory, os.Getpid(), tt.speaks.min, tt.speaks.max))
			}
			c, _ := attachTo(t, h.directory, ignoreEvents)
			started, err := c.Spawn(spec)
			require.NoError(t, err)
			comes() // while the lease is held
			assert.True(t, isLiving(started.PID))
			_, err = c.Spawn(spec)
			require.NoError(t, err, "the holder has the lease")

			require.NoError(t, c.Detach())
			h.clock.await(t, time.Minute)
			comes() // while it is free
			assert.True(t, isLiving(started.PID))
			h.clock.await(t, time.Minute) // the grace goes on
			_, state := attachTo(t, h.directory, ignoreEvents)
			require.Len(t, state.Runs, 1)
			assert.Equal(t, started.PID, state.Runs[0].Started.PID)
			assert.True(t, state.Reload, "nobody else has had the lease")
		})
	}
}

// A keeper that does not keep to what it was told is not believed.
func TestAttach_RefusesAVersionThatItDoesNotSpeak(t *testing.T) {
	for _, version := range []uint64{minVersion - 1, maxVersion + 1} {
		directory := runtimeDirectory(t)
		served := make(chan struct{})
		home, err := moveIn(directory, func(fd int) {
			defer close(served)
			socket, err := wire.NewSocket(fd, wire.Kernel())
			if !assert.NoError(t, err) {
				return
			}
			defer socket.Close()
			_, err = socket.Receive()
			assert.NoError(t, err)
			assert.NoError(t, socket.Post(wire.Frame{Kind: kindWelcome, Payload: welcome{version, 4710}.encode()}))
			_, err = socket.Receive()
			assert.Error(t, err, "it has nothing more to say")
		})
		require.NoError(t, err)
		_, _, err = Attach(context.Background(), options(t, directory), ignoreEvents)
		assert.ErrorIs(t, err, ErrVersion)
		assert.ErrorContains(t, err, fmt.Sprintf("(PID 4710) chose version %d of the protocol, this program speaks 1 to 2: nothing was changed", version))
		<-served
		home.moveOut()
	}
}
