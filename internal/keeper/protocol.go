// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// The protocol. A connection begins with
//
//	client  hello           the versions it speaks, from min to max
//	keeper  welcome         the version to speak, its PID
//	client  attach          orphan grace, journal limit
//	keeper  granted         how it came to it, a notice for the log
//	        values, records, adopted …   what is in it
//	        attached        that was all
//
// or ends at either answer with a refusal. After that the client sends what it likes,
// and the keeper carries out what it reads in that order:
//
//	spawn    is answered by spawned or notSpawned with the same request number
//	stop, setStop, signal, kill, commit, pong
//	detach   is answered by detached; the lease is given back
//	dismiss  is answered by dismissed once nothing lives; the keeper leaves
//
// and the keeper sends events, warnings and pings. hello and refused never
// change, so that any two versions understand at least each other's refusal.
//
// What a version adds, the versions before it do not send:
//
//	2   granted says why runs have no cgroups of their own
const (
	kindHello uint8 = iota + 1
	kindAttach
	kindSpawn
	kindStop
	kindKill
	kindCommit
	kindPong
	kindDetach
	kindDismiss
	kindSetStop
	kindSignal
)

const (
	kindWelcome uint8 = iota + 65
	kindRefused
	kindGranted
	kindValues
	kindRecords
	kindAdopted
	kindAttached
	kindEvents
	kindSpawned
	kindNotSpawned
	kindWarning
	kindPing
	kindDetached
	kindDismissed
)

// The versions of the protocol that this program speaks. A collector that is
// upgraded finds the keeper of the one before it, so a version stays spoken for as
// long as one after it.
const (
	minVersion = 1
	maxVersion = 2

	// versionCgroups is the first that tells of cgroups.
	versionCgroups = 2
)

// hello is the first message of a client.
type hello struct{ min, max uint64 }

func (m hello) encode() []byte {
	var e wire.Encoder
	e.Uint(m.min)
	e.Uint(m.max)
	return e.Buf
}

// decodeHello ignores what a later version may add.
func decodeHello(payload []byte) (hello, error) {
	d := wire.NewDecoder(payload)
	m := hello{d.Uint(), d.Uint()}
	if d.More() {
		return m, nil
	}
	return m, d.Err()
}

// speaks reports whether a version is among them.
func (m hello) speaks(version uint64) bool { return m.min <= version && version <= m.max }

// negotiate returns the highest version that both speak.
func negotiate(a, b hello) (version uint64, ok bool) {
	version = min(a.max, b.max)
	return version, version >= max(a.min, b.min)
}

type welcome struct {
	version uint64
	pid     int
}

func (m welcome) encode() []byte {
	var e wire.Encoder
	e.Uint(m.version)
	e.Uint(uint64(m.pid))
	return e.Buf
}

func decodeWelcome(payload []byte) (welcome, error) {
	d := wire.NewDecoder(payload)
	m := welcome{d.Uint(), int(d.Uint())}
	return m, d.Err()
}

// refusal is why a client does not get what it asked for.
type refusal struct {
	reason uint8
	text   string // the whole of it, for people
}

const (
	refusedHeld uint8 = iota + 1
	refusedVersion
	refusedEnding
	refusedOther
)

func (m refusal) encode() []byte {
	var e wire.Encoder
	e.Uint(uint64(m.reason))
	e.String(m.text)
	return e.Buf
}

func decodeRefusal(payload []byte) (refusal, error) {
	d := wire.NewDecoder(payload)
	m := refusal{reason: d.Byte(255), text: d.String()}
	if d.More() {
		return m, nil
	}
	return m, d.Err()
}

type attach struct {
	grace        time.Duration
	journalLimit int
}

func (m attach) encode() []byte {
	var e wire.Encoder
	e.Int(int64(m.grace))
	e.Uint(uint64(m.journalLimit))
	return e.Buf
}

func decodeAttach(payload []byte) (attach, error) {
	d := wire.NewDecoder(payload)
	m := attach{grace: d.Duration(), journalLimit: int(min(d.Uint(), maxJournal))}
	return m, d.Err()
}

// maxJournal bounds what a client can ask the keeper to hold.
const maxJournal = 1 << 20

type granted struct {
	fresh, reload bool
	unattended    time.Duration
	openFiles     uint64
	notice        string // "" for none
	journalFirst  uint64
	noCgroups     string // why there are none; from versionCgroups on
}

func (m granted) encode(version uint64) []byte {
	var e wire.Encoder
	e.Bool(m.fresh)
	e.Bool(m.reload)
	e.Int(int64(m.unattended))
	e.Uint(m.openFiles)
	e.String(m.notice)
	e.Uint(m.journalFirst)
	if version >= versionCgroups {
		e.String(m.noCgroups)
	}
	return e.Buf
}

func decodeGranted(payload []byte, version uint64) (granted, error) {
	d := wire.NewDecoder(payload)
	m := granted{fresh: d.Bool(), reload: d.Bool(), unattended: d.Duration(), openFiles: d.Uint(), notice: d.String(), journalFirst: d.Uint()}
	if version >= versionCgroups {
		m.noCgroups = d.String()
	}
	return m, d.Err()
}

// ref names a run, in stop and kill.
func encodeRef(key runKey) []byte {
	var e wire.Encoder
	e.String(key.id)
	e.Uint(key.run)
	return e.Buf
}

func decodeRef(payload []byte) (runKey, error) {
	d := wire.NewDecoder(payload)
	key := runKey{d.String(), d.Uint()}
	return key, d.Err()
}

// setStop changes how a run is stopped.
type setStop struct {
	key runKey
	how Stop
}

func (m setStop) encode() []byte {
	e := wire.Encoder{Buf: encodeRef(m.key)}
	m.how.append(&e)
	return e.Buf
}

func decodeSetStop(payload []byte) (setStop, error) {
	d := wire.NewDecoder(payload)
	m := setStop{key: runKey{d.String(), d.Uint()}, how: takeStop(d)}
	return m, d.Err()
}

// sendSignal has a signal sent to the process of a run.
type sendSignal struct {
	key    runKey
	signal syscall.Signal
}

func (m sendSignal) encode() []byte {
	e := wire.Encoder{Buf: encodeRef(m.key)}
	e.Uint(uint64(m.signal))
	return e.Buf
}

func decodeSendSignal(payload []byte) (sendSignal, error) {
	d := wire.NewDecoder(payload)
	m := sendSignal{key: runKey{d.String(), d.Uint()}, signal: syscall.Signal(d.Byte(maxSignal + 1))}
	return m, d.Err()
}

// notSpawned is the failure of a spawn.
type notSpawned struct {
	request uint64
	closed  bool // it is ErrClosed
	errno   syscall.Errno
	text    string
}

func (m notSpawned) encode() []byte {
	var e wire.Encoder
	e.Uint(m.request)
	e.Bool(m.closed)
	e.Uint(uint64(m.errno))
	e.String(m.text)
	return e.Buf
}

func decodeNotSpawned(payload []byte) (notSpawned, error) {
	d := wire.NewDecoder(payload)
	m := notSpawned{request: d.Uint(), closed: d.Bool(), errno: syscall.Errno(d.Uint()), text: d.String()}
	return m, d.Err()
}
