// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/output"
	"github.com/otelwarden/warden/internal/tree"
)

// Supervisor is what other components may ask of the extension. They find it as
// host.GetExtensions()[id] and assert it to this interface. All methods may be
// called from any goroutine, from the extension's Start to its Shutdown.
type Supervisor interface {
	// Resource describes the supervisor itself; it must not be changed.
	Resource() pcommon.Resource
	// Journal is the record of lifecycle events.
	Journal() *journal.Journal
	// Processes appends the state of every child at one moment, in the order in which
	// they start, the root supervisor first, and returns the slice. A template is
	// followed by its instances.
	Processes(dst []Process) []Process
	// ClaimOutput makes handler the only taker of the captured output, under the
	// name of its owner. It fails, naming the present owner, if there is one. The
	// claim holds until release is called; release ends the contexts of the calls of
	// handler that are under way, and waits for them.
	ClaimOutput(owner component.ID, handler OutputHandler) (release func(), err error)
}

// Informant knows every child there was. Other components find it as they find a
// Supervisor.
type Informant interface {
	// Info describes the child of that id, or, if there is none, the last one that had
	// it: what happened to a child is perhaps delivered when it is gone. It is nil if
	// there never was one.
	Info(id string) *Info
}

// Operator is how an operator intervenes. Other components find it as they find a
// Supervisor.
type Operator interface {
	// Command does what an operator asks for, as the call of OTP's supervisor that
	// stands beside the Op does, and returns when it is done, or why it is not: one of
	// the errors below, for errors.Is. Commands for one supervisor are taken one after
	// the other. Once ctx ends nobody waits any more; the command is carried out all
	// the same.
	Command(ctx context.Context, command Command) error
	// Reload has a process read its configuration again, as its reload key says, and
	// returns when it has been told to. The errors are those of commands, and
	// ErrNotRunning.
	Reload(ctx context.Context, id string) error
}

// Command is what an operator asks for.
type Command struct {
	Op Op
	// ID is the child that is meant. For OpAdd it is the supervisor that gets a child,
	// "" for the root, or the template that gets an instance.
	ID string
	// Child is, for OpAdd, one entry of children as YAML decodes it, whole numbers
	// being integers: the keys of a process or supervisor, on top of the defaults that
	// hold there. An instance of a template has a name and nothing else.
	Child map[string]any
}

// The answers to commands that could not be done.
var (
	ErrNotFound       = tree.ErrNotFound
	ErrRunning        = tree.ErrRunning
	ErrRestarting     = tree.ErrRestarting
	ErrAlreadyStarted = tree.ErrAlreadyStarted
	ErrAlreadyPresent = tree.ErrAlreadyPresent
	ErrNoParent       = tree.ErrNoParent
	ErrStartFailed    = tree.ErrStartFailed
	ErrUnkillable     = tree.ErrUnkillable
	ErrInvalid        = tree.ErrInvalid
	// ErrClosed: there is nobody who could do it, before Start and after Shutdown. One
	// that was under way may have been done.
	ErrClosed = errors.New("the supervisor is not there any more, or not yet")
)

// ProcessType is the kind of a child.
type ProcessType string

const (
	TypeService    ProcessType = "service"
	TypeJob        ProcessType = "job"
	TypeSupervisor ProcessType = "supervisor"
)

// Info is what does not change about a child while the extension lives.
type Info struct {
	// ID is the names from the root on, joined by "."; "" for the root.
	ID   string
	Type ProcessType
	// Template: its processes are the instances, and all of them report as this one.
	Template bool
	// Resource is the one resource of all the child's signals. It must not be changed.
	Resource pcommon.Resource
	// Created is when the counters of Totals began.
	Created time.Time
}

// The Ops.
const (
	OpStart   = tree.OpStart
	OpStop    = tree.OpStop
	OpRestart = tree.OpRestart
	OpDelete  = tree.OpDelete
	OpAdd     = tree.OpAdd
)

// RestartStrategy is the RestartReason that Totals tells more of.
const RestartStrategy = tree.RestartStrategy

// Aliases, so that users of this package need not know the internal ones.
type (
	Op            = tree.Op
	OutputLine    = output.Line
	State         = tree.State
	ExitReason    = tree.ExitReason
	RestartReason = tree.RestartReason
)

// Process is a child at one moment.
type Process struct {
	// Info of an instance is that of its template.
	Info *Info
	// Instance is the id of an instance of a template, "" for everything else.
	Instance string
	State    State
	// Run numbers the runs from 1; 0 before the first.
	Run uint64
	// PID and StartTicks (field 22 of /proc/PID/stat) name the living process; PID is
	// 0 if there is none. PIDs are reused, the pair is not.
	PID        int
	StartTicks uint64
	// Started is when the living process was spawned.
	Started time.Time
	// Totals cover the runs that have ended; those of instances are their template's.
	Totals Totals
}

// Totals are counters over all ended runs of a child since Info.Created.
type Totals struct {
	// CPUUser and CPUSystem are what the ended runs used, read from the zombie, so
	// that they include what a run used after the last look at it.
	CPUUser, CPUSystem time.Duration
	Restarts           [tree.NumRestartReasons]uint64 // indexed by RestartReason
	Exits              [tree.NumExitReasons]uint64    // indexed by ExitReason
	Lifetime           Lifetime
	// LastStrategy is the latest of the Restarts for which a sibling was the reason.
	LastStrategy StrategyRestart
}

// StrategyRestart is a restart that a supervisor's strategy called for.
type StrategyRestart struct {
	// Cause is the id of the child whose failure it was; "" if there was no such restart.
	Cause string
	Time  time.Time
}

// LifetimeBounds are the upper bounds, in seconds, of the lifetime histogram.
var LifetimeBounds = [...]float64{1, 10, 60, 300, 900, 3600}

// Lifetime is a histogram of how long the ended runs lasted.
type Lifetime struct {
	Count   uint64
	Sum     time.Duration
	Buckets [len(LifetimeBounds) + 1]uint64 // the last one: above all bounds
}

// OutputHandler takes lines of one stream and returns once they are somebody
// else's concern. Lines are valid until it returns. After an error the same lines
// are offered again, until ctx ends.
type OutputHandler func(ctx context.Context, output Output) error

// Output is a batch of consecutive lines of one stream of one run.
type Output struct {
	Process *Info
	// Instance is as in Process.
	Instance string
	Run      uint64
	PID      int
	// Started is when the run was spawned.
	Started time.Time
	// Stream is "stdout" or "stderr".
	Stream string
	// Severity finds that of a line; nil finds none.
	Severity *SeverityPattern
	Lines    []OutputLine
}

// ProcessStates are the states of a process, in the order in which it may see them.
var ProcessStates = [...]State{
	tree.StateStopped, tree.StateStarting, tree.StateRunning, tree.StateStopping,
	tree.StateBackoff, tree.StateExited, tree.StateFailed, tree.StateUnkillable,
}
