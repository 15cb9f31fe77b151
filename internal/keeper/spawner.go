// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package keeper spawns processes, signals them, waits for them and holds the
// read ends of their output. It decides nothing: what to start, when and why is
// the business of its user.
//
// A run is one life of one process with everything of its Scope. It goes through these
// steps, each told by an Event, in this order:
//
//	Spawn ─▶ Died ─▶ Gone
//	  └─▶ Killed (its grace was over) ─▶ Unkillable (it outlived KILL)
//
// Died: the process itself has ended, its exit is known. Gone: nothing of its scope
// lives any longer; only then may the next run of the same process begin. Whatever of it
// survives the process is asked to stop as Spawner.Stop does.
package keeper

import (
	"os"
	"syscall"
	"time"
)

// Stream says what one of the standard output streams of a process is.
type Stream uint8

const (
	// StreamNull is /dev/null.
	StreamNull Stream = iota
	// StreamPipe is a pipe whose read end Spawn returns.
	StreamPipe
	// StreamInherit is the spawner's own stream.
	StreamInherit
	// StreamJoin, for stderr only, is whatever stdout is.
	StreamJoin
)

// Spec is what to start.
type Spec struct {
	// ID and Run name the run; a pair is used once.
	ID  string
	Run uint64
	// Argv is the argument vector. Argv[0] without a slash is looked up in the PATH
	// of Env; with one it is relative to Dir.
	Argv []string
	// Env is the whole environment, as KEY=value.
	Env []string
	// Dir is the working directory; "" is the spawner's own.
	Dir            string
	Stdout, Stderr Stream
	// NotifyFD, if not 0, is the number of one more descriptor of the process, at
	// least 3: the write end of a pipe whose read end Spawn returns.
	NotifyFD int
	// Rights are what the process may do and use.
	Rights Rights
	// Cgroup is written to files of the run's own cgroup, in this order, before the process
	// is in it. CgroupOptional: where that is not possible the run starts without.
	Cgroup         []CgroupSetting
	CgroupOptional bool
	// Stop is how the run is stopped, by Spawner.Stop and when something of it survives
	// the process.
	Stop Stop
	// Hold are descriptors of the spawner's side, at most MaxHold, that belong to the
	// run: its notification socket, say. A keeper keeps duplicates of them as long as the
	// run and gives them to who adopts it, as Started.Held. InProcess needs none.
	Hold []*os.File
}

// Stop is how a run is stopped.
type Stop struct {
	Signal syscall.Signal
	// Grace is the time between Signal and KILL. 0: KILL at once; negative: no KILL, ever.
	Grace time.Duration
	Scope Scope
}

// Scope is what belongs to a run beside the process itself: it is signalled with it,
// ended after it, and waited for before the run is Gone.
type Scope uint8

const (
	// ScopeTree is everything that descends from the process, wherever it has gone. Who
	// is not the keeper process knows no more than the group.
	ScopeTree Scope = iota
	// ScopeGroup is the group of the process.
	ScopeGroup
	// ScopeProcess is nothing: the process alone is the run.
	ScopeProcess
)

// MaxHold is how many descriptors a keeper holds for one run beside its pipes.
const MaxHold = 8

// Started is a process that has executed its program.
type Started struct {
	PID int
	// StartTicks is field 22 of /proc/PID/stat: with the PID the identity of the process.
	StartTicks uint64
	// At is when the program was executed, Mono the same in raw CLOCK_MONOTONIC.
	At   time.Time
	Mono time.Duration
	// Stdout, Stderr and Notify are the read ends of the pipes, non-blocking, and the
	// caller's to close; nil where there is no pipe.
	Stdout, Stderr, Notify *os.File
	// Held are duplicates of what Spec.Hold gave when the run was started, and the
	// caller's to close; nil if it is this Spawn that started it.
	Held []*os.File
}

// Close closes the read ends and what was held.
func (s Started) Close() {
	for _, f := range append([]*os.File{s.Stdout, s.Stderr, s.Notify}, s.Held...) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// EventKind is what an Event tells.
type EventKind uint8

const (
	// Died: the process has ended; Exit is set.
	Died EventKind = iota
	// Killed: the grace is over and KILL was sent to the group.
	Killed
	// Unkillable: something still lives UnkillableAfter after KILL. Gone may still follow.
	Unkillable
	// Gone: nothing of the run lives.
	Gone
	// Stranger: a process lives that descends from some run, nobody can tell from which;
	// Processes has it. It is left alone, and told of once. ID is "", Run 0.
	Stranger
)

// UnkillableAfter is how long KILL is given to work.
const UnkillableAfter = 5 * time.Second

// Event is something that happened to a run.
type Event struct {
	Kind EventKind
	ID   string
	Run  uint64
	Exit Exit // Died only
	// Processes are, for Killed after Died, some of those that had survived the process.
	Processes []ProcessName
	// Seq numbers the events of a keeper, from 1; Commit acknowledges by it. 0: the
	// event is of InProcess, there is nothing to acknowledge.
	Seq uint64
	// Replayed: the event came while nobody held the keeper's lease, or an earlier holder may
	// have been told of it. One that comes while this client attaches is neither.
	Replayed bool
}

// ProcessName is a living process and the name that the kernel has for it.
type ProcessName struct {
	PID  int
	Name string
}

// Exit is how a process ended.
type Exit struct {
	PID int
	// Code is the exit code, -1 if a signal ended the process.
	Code int
	// Signal ended the process; 0 if it exited.
	Signal syscall.Signal
	// Core: a core was dumped.
	Core bool
	// OOM: the kernel killed something of the run for want of memory, by the account of
	// its cgroup; false also where that has no such account.
	OOM bool
	// Lost: the exit status went to somebody else who waits for any child; Code and
	// Signal are not known.
	Lost bool
	// User and System are the CPU time of the process itself, from its zombie, in the
	// resolution and by the count of /proc/PID/stat, so that they never fall below what
	// was read there while it lived.
	User, System time.Duration
	// Usage is what the kernel charged to the process and the children it waited for.
	Usage syscall.Rusage
	// IO is what the process and the children it waited for read and wrote; nil where
	// the kernel does not tell: of a zombie it does so to root only.
	IO *IO
	// At is when the death was seen; Mono is the same in raw CLOCK_MONOTONIC, which is
	// the same for all processes until the next boot.
	At   time.Time
	Mono time.Duration
	// By is who had asked for the end when it came. Why the process ended it does not
	// say: it may have been about to anyway.
	By StoppedBy
}

// IO is /proc/PID/io: bytes and calls of read(2) and write(2) and their like, and
// bytes that went to and came from storage.
type IO struct {
	ReadChars, WriteChars uint64
	ReadCalls, WriteCalls uint64
	ReadBytes, WriteBytes uint64
}

// StoppedBy is who asked for the end of a run.
type StoppedBy uint8

const (
	// StoppedByNobody: the process ended by itself, or by somebody else's signal.
	StoppedByNobody StoppedBy = iota
	// StoppedByStop is Spawner.Stop.
	StoppedByStop
	// StoppedByKill is Spawner.Kill, Spawner.Close too.
	StoppedByKill
	// StoppedByKeeper: nobody attached to the keeper for the orphan grace, or it was
	// told to end by SIGTERM while nobody was.
	StoppedByKeeper
)

// Spawner starts runs and tells what becomes of them, through the function it was
// made with. That function is called from goroutines of the spawner, for one run
// one call after the other, and must not block for long.
type Spawner interface {
	// Spawn starts a run in a session of its own and returns once its program is
	// executed. On an error no process is left and no event follows.
	Spawn(Spec) (Started, error)
	// Stop begins to stop a run: its signal and CONT to the group, the grace, KILL.
	// It does not wait, and does nothing if the run is being stopped or is gone.
	Stop(id string, run uint64)
	// SetStop changes how a run is stopped, Spec.Stop. If its stop is under way
	// and the signal is another now, that is sent; 0 is none.
	SetStop(id string, run uint64, how Stop)
	// Signal sends a signal to the process of a run, and to nothing else of it.
	Signal(id string, run uint64, signal syscall.Signal)
	// Kill sends KILL to the group of a run at once, whatever its grace.
	Kill(id string, run uint64)
	// Close kills whatever still lives and returns when all of it is gone, or known to
	// be unkillable. Nothing can be spawned afterwards.
	Close()
}
