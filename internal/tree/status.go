// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"time"
)

// State is what a child is doing. Workers use all but StateGaveUp; supervisors
// use StateStopped, StateStarting, StateRunning, StateStopping and StateGaveUp.
type State uint8

const (
	// StateStopped: down, because it was not started yet or because it was asked to end.
	StateStopped State = iota
	// StateStarting: a worker has been spawned and is not up yet; children of a supervisor are not all up yet.
	StateStarting
	// StateRunning: up.
	StateRunning
	// StateStopping: asked to end, not yet down.
	StateStopping
	// StateBackoff: down after a failure, waiting to be started again.
	StateBackoff
	// StateExited: ended by itself and will not be restarted.
	StateExited
	// StateFailed: could not be started and will not be tried again.
	StateFailed
	// StateUnkillable: outlived SIGKILL. Its process may still be there.
	StateUnkillable
	// StateGaveUp: a supervisor ended by itself for too many restarts.
	StateGaveUp

	// NumStates is the number of states, for arrays indexed by them.
	NumStates
)

var stateNames = [NumStates]string{
	"stopped", "starting", "running", "stopping", "backoff", "exited", "failed", "unkillable", "gave_up",
}

func (s State) String() string {
	if s < NumStates {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Status is what there is to know about a child or supervisor.
type Status struct {
	State State
	// Data is that of the specification; for an instance of a template that of
	// the template's Child, nil for the root.
	Data any
	// Run is the latest run, 0 before the first. A supervisor's counts its starts.
	Run uint64
	// Supervisor says that it is one.
	Supervisor bool
	// Template says that it is an instance of one.
	Template bool
	// Gone: its specification no longer exists, this is only how it ended or, after a
	// Reconfigure, what still runs of it. Operator commands answer ErrNotFound.
	Gone bool
	// Waiting: it will be started (again) without an operator's doing, at RestartAt
	// or, if that is 0, when its supervisor gets to it.
	Waiting   bool
	RestartAt time.Duration
	// Since is when State was entered, on the clock of Step's now.
	Since time.Duration
	// Row counts the failures in a row that the next back-off is computed from.
	Row int
	// Ended says that some run has ended; Exit is then why the latest of these did.
	Ended bool
	Exit  ExitReason
}
