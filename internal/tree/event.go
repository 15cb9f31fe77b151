// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"fmt"
	"time"
)

// Event is what happened, told to [Tree.Step]. An event that names a run which
// is not the child's current one, or a child that is unknown, is ignored.
type Event interface{ isEvent() }

type (
	// Start starts the whole tree. It is ignored unless the tree is at rest.
	Start struct{}

	// Stop stops the whole tree, whatever it is in the middle of.
	Stop struct{}

	// Spawned: the exec of the run succeeded.
	Spawned struct {
		ID  string
		Run uint64
	}

	// Ready: the run is ready. It implies Spawned.
	Ready struct {
		ID  string
		Run uint64
	}

	// StartFailed: no process came to be.
	StartFailed struct {
		ID  string
		Run uint64
	}

	// Exited: nothing of the run is left. ExitSuccess means that it ended well,
	// every other reason that it did not.
	Exited struct {
		ID     string
		Run    uint64
		Reason ExitReason
	}

	// Unkillable: the run outlived SIGKILL. The tree goes on without it and does
	// not start that child again while it lives. An Exited may still follow.
	Unkillable struct {
		ID  string
		Run uint64
	}

	// Unattended: for so long until now nobody has heard what processes say. What may
	// have become ready meanwhile has as much longer for its start; back-offs go on.
	Unattended struct{ For time.Duration }

	// Tick: the time that NextDeadline named has come. A Tick too early or too many does no harm.
	Tick struct{}

	// Command is an operator's. Each is answered by exactly one [Answer] with its
	// Token, at once if it cannot be done and otherwise when it has been done.
	Command struct {
		Token uint64
		Op    Op
		// ID is the child that is meant; for OpAdd the supervisor to add to.
		ID string
		// Child is the child to add, nil for all other Ops. For a template only its Name counts.
		Child *Child
	}

	// Reconfigure makes Root the specification of the tree and touches only what
	// that changes. It is answered by [Reconfigured], at once if it is not valid
	// ([Tree.CheckReconfigure]) or leaves nothing to be done, and otherwise when all
	// stops are done and all starts are up or wait for a back-off. Another one takes
	// over what is not done yet, and both are answered by one Reconfigured. The end
	// of the root does away with it, unanswered.
	//
	// A child is the one that has its ID. Of the children of a supervisor that runs:
	//
	//   - What stays as it is, and whose process is not named in Restart, sees nothing
	//     of it: its timers go on, its failures and its supervisor's restarts count.
	//   - A change of nothing but the specification is in force from now on, for
	//     decisions still to come: no process is touched. The order of a list is part of
	//     that. A start that is under way keeps its timeout and its way to be ready;
	//     a group that is being restarted is restarted to its end.
	//   - Children that are no more in the list are stopped, for StopConfig, and
	//     forgotten. That is no failure: it costs no restart, and touches no sibling.
	//   - Workers in Restart, and children that are something else now (worker,
	//     supervisor, template, or a template of something else), are stopped, for
	//     StopConfig, and started again, for RestartConfig, without delay, and their
	//     row of failures ends. So are those that wait for a back-off and those that
	//     ended, or failed, for good: there is reason to try again. Those that are
	//     down because they were asked to stop, or are unkillable, and Manual ones that
	//     no operator wanted up, stay down. A worker is replaced by its ID wherever
	//     it is, instances of templates and children that operators added included;
	//     an ID that no worker has means nothing.
	//   - New children are started, unless Manual. One that takes the name of a child
	//     which an operator added replaces that.
	//   - What operators did stays: who was stopped stays down, who was deleted stays
	//     deleted, what was added stays, at the end of the list.
	//   - The instances of a template stay, under the template's new specification.
	//
	// Each supervisor stops its children in the reverse order of the old list, one
	// after the other, and then starts those to be started in the order of the new
	// one, as it does with a group (together if Parallel or, for stops, a template).
	// Supervisors do so independently of each other; a new one starts as one child.
	// A start that fails in that is a failure inside a restart: it costs one, and
	// its back-off decides. Under one_for_one the others do not wait for a back-off.
	// Under the other strategies what is to be started waits with the group that
	// waits for one, and a supervisor that has not been up yet goes on with its
	// first start by its FirstStart.
	//
	// Of a supervisor that is down, or ending, only the specification is replaced: its
	// next start is by that. One that ends in the middle of it has done its part. A name that a process which cannot be ended still holds
	// is free for a new child at the next start of the supervisor, or the next
	// Reconfigure, after its end.
	Reconfigure struct {
		Root    Supervisor
		Restart []string
	}
)

func (Reconfigure) isEvent() {}
func (Start) isEvent()       {}
func (Stop) isEvent()        {}
func (Spawned) isEvent()     {}
func (Ready) isEvent()       {}
func (StartFailed) isEvent() {}
func (Exited) isEvent()      {}
func (Unkillable) isEvent()  {}
func (Tick) isEvent()        {}
func (Unattended) isEvent()  {}
func (Command) isEvent()     {}

// Op is what an operator asks for. Beside each the call of OTP's supervisor.
type Op uint8

const (
	// OpStart starts a child that is down (restart_child). A start that fails is not retried.
	OpStart Op = iota
	// OpStop stops a child; it stays down until an operator, or a sibling's failure
	// under a strategy that concerns it, starts it (terminate_child).
	OpStop
	// OpRestart stops a child if it is up, and starts it.
	OpRestart
	// OpDelete drops the specification of a child that is down (delete_child).
	OpDelete
	// OpAdd adds a child as the last of a supervisor's list and starts it (start_child).
	OpAdd
)

func (o Op) String() string {
	switch o {
	case OpStart:
		return "start"
	case OpStop:
		return "stop"
	case OpRestart:
		return "restart"
	case OpDelete:
		return "delete"
	case OpAdd:
		return "add"
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// The answers to commands that could not be done; compare with errors.Is.
var (
	// ErrNotFound: the supervisor has no specification of that name.
	ErrNotFound = errors.New("no such child")
	// ErrRunning: start and delete need a child that is down.
	ErrRunning = errors.New("the child is running, stop it first")
	// ErrRestarting: start and delete of a child that already waits for its start.
	ErrRestarting = errors.New("the child is waiting to be started, stop it first")
	// ErrAlreadyStarted: a child to add has the name of one that is up or will be.
	ErrAlreadyStarted = errors.New("a child of that name is running, choose another name")
	// ErrAlreadyPresent: a child to add has the name of one that is down.
	ErrAlreadyPresent = errors.New("a child of that name exists and is down, start or delete it")
	// ErrNoParent: the child's supervisor does not run.
	ErrNoParent = errors.New("the child's supervisor is not running")
	// ErrStartFailed: the child could not be started, or was stopped before it was up.
	ErrStartFailed = errors.New("the child did not start")
	// ErrUnkillable: the child's process cannot be ended.
	ErrUnkillable = errors.New("the process survives SIGKILL")
	// ErrInvalid: the command, or the child to add, is not a valid one; the text says why.
	ErrInvalid = errors.New("invalid")
)
