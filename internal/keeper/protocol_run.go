// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// spawn asks for a run. Its descriptors are those to hold and then, with inherits,
// the stdout and stderr that StreamInherit means.
type spawn struct {
	request  uint64
	spec     Spec // without Hold
	holds    int
	inherits bool
}

func (m spawn) append(e *wire.Encoder) {
	s := m.spec
	e.Uint(m.request)
	e.Uint(uint64(m.holds))
	e.Bool(m.inherits)
	e.String(s.ID)
	e.Uint(s.Run)
	e.Strings(s.Argv)
	e.Strings(s.Env)
	e.String(s.Dir)
	e.Uint(uint64(s.Stdout))
	e.Uint(uint64(s.Stderr))
	e.Uint(uint64(s.NotifyFD))
	s.Stop.append(e)
	s.Rights.append(e)
	e.Uint(uint64(len(s.Cgroup)))
	for _, setting := range s.Cgroup {
		e.String(setting.File)
		e.String(setting.Value)
	}
	e.Bool(s.CgroupOptional)
}

func (s Stop) append(e *wire.Encoder) {
	e.Uint(uint64(s.Signal))
	e.Int(int64(s.Grace))
	e.Uint(uint64(s.Scope))
}

func takeStop(d *wire.Decoder) Stop {
	return Stop{Signal: syscall.Signal(d.Byte(maxSignal + 1)), Grace: d.Duration(), Scope: Scope(d.Byte(uint8(ScopeProcess) + 1))}
}

const (
	// maxNotifyFD bounds how long a list of descriptors a spawn makes the keeper build.
	maxNotifyFD = 1 << 10
	maxSignal   = 64
)

func decodeSpawn(payload []byte) (spawn, error) {
	d := wire.NewDecoder(payload)
	m := spawn{request: d.Uint(), holds: int(d.Byte(MaxHold + 1)), inherits: d.Bool()}
	m.spec = Spec{
		ID: d.String(), Run: d.Uint(),
		Argv: d.Strings(), Env: d.Strings(), Dir: d.String(),
		Stdout: Stream(d.Byte(uint8(StreamJoin))), Stderr: Stream(d.Byte(uint8(StreamJoin) + 1)),
		NotifyFD: int(min(d.Uint(), maxNotifyFD+1)),
		Stop:     takeStop(d),
		Rights:   takeRights(d),
	}
	for range d.Count() {
		m.spec.Cgroup = append(m.spec.Cgroup, CgroupSetting{d.String(), d.String()})
	}
	m.spec.CgroupOptional = d.Bool()
	if err := d.Err(); err != nil {
		return m, err
	}
	return m, m.spec.check()
}

// check finds what the keeper would not understand.
func (s Spec) check() error {
	switch {
	case len(s.Argv) == 0 || s.Argv[0] == "":
		return errorf("run %d of %q has no command", s.Run, s.ID)
	case s.NotifyFD != 0 && (s.NotifyFD < 3 || s.NotifyFD > maxNotifyFD):
		return errorf("run %d of %q: %d is no descriptor for notifications, it must be from 3 to %d", s.Run, s.ID, s.NotifyFD, maxNotifyFD)
	case s.Stdout > StreamInherit || s.Stderr > StreamJoin:
		return errorf("run %d of %q: unknown kind of stream (%d, %d)", s.Run, s.ID, s.Stdout, s.Stderr)
	case s.Stop.Signal < 0 || s.Stop.Signal > maxSignal:
		return errorf("run %d of %q: %d is no signal, it must be from 1 to %d", s.Run, s.ID, s.Stop.Signal, maxSignal)
	case s.Stop.Scope > ScopeProcess:
		return errorf("run %d of %q: unknown scope %d", s.Run, s.ID, uint8(s.Stop.Scope))
	case len(s.Hold) > MaxHold:
		return errorf("run %d of %q: %d descriptors to hold, at most %d", s.Run, s.ID, len(s.Hold), MaxHold)
	}
	for _, setting := range s.Cgroup {
		if hasSlash(setting.File) || setting.File == "" || setting.File[0] == '.' {
			return errorf("run %d of %q: %q is no file of a cgroup", s.Run, s.ID, setting.File)
		}
	}
	return s.Rights.check()
}

// checkTexts finds what could not be given to a program as it is, which is the failure of
// that start and no misuse of the protocol. The environment's names are not compared: each
// comes once is the business of who makes the list, and a look for it would cost every start.
func (s Spec) checkTexts() error {
	for _, argument := range append([]string{s.Dir}, s.Argv...) {
		if hasNUL(argument) {
			return errorf("run %d of %q: %w: the command or the directory holds a NUL byte: %q", s.Run, s.ID, syscall.EINVAL, argument)
		}
	}
	for _, entry := range s.Env {
		switch name, ok := variableName(entry); {
		case !ok || name == "":
			return errorf("run %d of %q: %w: an entry of the environment is no NAME=value: %q", s.Run, s.ID, syscall.EINVAL, entry)
		case hasNUL(entry):
			return errorf("run %d of %q: %w: the variable %q holds a NUL byte", s.Run, s.ID, syscall.EINVAL, name)
		}
	}
	return nil
}

// adopted is a run that the keeper has: the answer to a spawn, and one of the runs that
// a client finds. Its descriptors are the pipes' read ends that pipes names, in that
// order, and then what is held.
type adopted struct {
	request    uint64 // of spawned
	key        runKey
	pid        int
	startTicks uint64
	at         time.Time
	mono       time.Duration
	pipes      [3]bool // stdout, stderr, notify
	gone       bool
	how        Stop
}

func (m adopted) encode() []byte {
	var e wire.Encoder
	e.Uint(m.request)
	e.String(m.key.id)
	e.Uint(m.key.run)
	e.Uint(uint64(m.pid))
	e.Uint(m.startTicks)
	e.Int(m.at.UnixNano())
	e.Int(int64(m.mono))
	for _, pipe := range m.pipes {
		e.Bool(pipe)
	}
	e.Bool(m.gone)
	m.how.append(&e)
	return e.Buf
}

func decodeAdopted(payload []byte) (adopted, error) {
	d := wire.NewDecoder(payload)
	m := adopted{
		request: d.Uint(), key: runKey{d.String(), d.Uint()},
		pid: int(d.Uint()), startTicks: d.Uint(),
		at: time.Unix(0, d.Int()), mono: d.Duration(),
		pipes: [3]bool{d.Bool(), d.Bool(), d.Bool()},
		gone:  d.Bool(), how: takeStop(d),
	}
	return m, d.Err()
}

func encodeEvents(events []Event) []byte {
	var e wire.Encoder
	for i := range events {
		appendEvent(&e, &events[i])
	}
	return e.Buf
}

func decodeEvents(payload []byte) (events []Event, err error) {
	d := wire.NewDecoder(payload)
	for d.More() {
		events = append(events, takeEvent(d))
	}
	return events, d.Err()
}

func appendEvent(e *wire.Encoder, event *Event) {
	e.Uint(event.Seq)
	e.Uint(uint64(event.Kind))
	e.String(event.ID)
	e.Uint(event.Run)
	e.Bool(event.Replayed)
	e.Uint(uint64(len(event.Processes)))
	for _, p := range event.Processes {
		e.Uint(uint64(p.PID))
		e.String(p.Name)
	}
	if event.Kind != Died {
		return
	}
	x := &event.Exit
	e.Uint(uint64(x.PID))
	e.Int(int64(x.Code))
	e.Uint(uint64(x.Signal))
	e.Bool(x.Core)
	e.Bool(x.OOM)
	e.Bool(x.Lost)
	e.Int(int64(x.User))
	e.Int(int64(x.System))
	e.Int(x.At.UnixNano())
	e.Int(int64(x.Mono))
	e.Uint(uint64(x.By))
	appendUsage(e, &x.Usage)
	e.Bool(x.IO != nil)
	if x.IO != nil {
		for _, n := range x.IO.fields() {
			e.Uint(*n)
		}
	}
}

func takeEvent(d *wire.Decoder) Event {
	event := Event{
		Seq: d.Uint(), Kind: EventKind(d.Byte(uint8(Stranger) + 1)),
		ID: d.String(), Run: d.Uint(), Replayed: d.Bool(),
	}
	for range d.Count() {
		event.Processes = append(event.Processes, ProcessName{int(d.Uint()), d.String()})
	}
	if event.Kind != Died {
		return event
	}
	x := &event.Exit
	*x = Exit{
		PID: int(d.Uint()), Code: int(d.Int()), Signal: syscall.Signal(d.Uint()),
		Core: d.Bool(), OOM: d.Bool(), Lost: d.Bool(), User: d.Duration(), System: d.Duration(),
		At: time.Unix(0, d.Int()), Mono: d.Duration(), By: StoppedBy(d.Byte(uint8(StoppedByKeeper) + 1)),
	}
	takeUsage(d, &x.Usage)
	if d.Bool() {
		x.IO = &IO{}
		for _, n := range x.IO.fields() {
			*n = d.Uint()
		}
	}
	return event
}

func (io *IO) fields() [6]*uint64 {
	return [...]*uint64{&io.ReadChars, &io.WriteChars, &io.ReadCalls, &io.WriteCalls, &io.ReadBytes, &io.WriteBytes}
}

// appendUsage appends the fields that Linux fills.
func appendUsage(e *wire.Encoder, u *syscall.Rusage) {
	e.Int(u.Utime.Nano())
	e.Int(u.Stime.Nano())
	for _, n := range [...]int64{
		int64(u.Maxrss), int64(u.Minflt), int64(u.Majflt), int64(u.Inblock), int64(u.Oublock), int64(u.Nvcsw), int64(u.Nivcsw),
	} {
		e.Int(n)
	}
}

func takeUsage(d *wire.Decoder, u *syscall.Rusage) {
	u.Utime = syscall.NsecToTimeval(d.Int())
	u.Stime = syscall.NsecToTimeval(d.Int())
	takeLong(d, &u.Maxrss, &u.Minflt, &u.Majflt, &u.Inblock, &u.Oublock, &u.Nvcsw, &u.Nivcsw)
}

// takeLong takes numbers of C's type long.
func takeLong[T int32 | int64](d *wire.Decoder, fields ...*T) {
	for _, field := range fields {
		*field = T(d.Int())
	}
}
