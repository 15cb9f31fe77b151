// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"time"
)

// Action is what [Tree.Step] decided: something to do (Spawn, StopProcess),
// or something that is now so. Actions are carried out in their order.
type Action interface{ isAction() }

type (
	// Spawn starts a run. Answer: Spawned and, for AwaitReady workers, Ready; or StartFailed.
	Spawn struct {
		ID string
		// Run counts up from 1 for each child and is never used again, not even for
		// a child of the same ID that is added later.
		Run uint64
	}

	// StopProcess ends a run, by the process's own way of stopping. Answer: Exited or
	// Unkillable; StartFailed if it never came to be. A run is asked once.
	StopProcess struct {
		ID  string
		Run uint64
		Why StopReason
		// Cause is the child whose failure or end led to this, "" where there is none:
		// for StopShutdown, StopOperator, StopStartTimeout and StopConfig.
		Cause string
	}

	// Changed: the state of a child or supervisor is now this. Before the first one it
	// is StateStopped; one more says so of a child that is there again after a deletion.
	Changed struct {
		ID    string
		State State
	}

	// Restarting: a restart was decided. There is one for every child that has run
	// before and will be started again, those inside a nested supervisor included.
	Restarting struct {
		ID string
		// Run is the one that the restart replaces.
		Run    uint64
		Reason RestartReason
		// Cause is, for RestartStrategy, the child whose failure it was.
		Cause string
		// Delay is how long the failed child's back-off will last.
		Delay time.Duration
	}

	// SupervisorStarting: its children are about to be started.
	SupervisorStarting struct{ ID string }

	// SupervisorStarted: its children are up.
	SupervisorStarted struct{ ID string }

	// SupervisorStartFailed: a child could not be started and those that were up have been stopped.
	SupervisorStartFailed struct {
		ID string
		// Cause is the process that could not be started.
		Cause string
	}

	// SupervisorStopping: it was asked to stop, its children are about to be stopped.
	SupervisorStopping struct{ ID string }

	// SupervisorStopped: all its children are down after SupervisorStopping or SupervisorGaveUp.
	SupervisorStopped struct{ ID string }

	// SupervisorGaveUp: it ends by itself, its children are about to be stopped.
	SupervisorGaveUp struct {
		ID string
		// Cause is the process that failed or ended last.
		Cause  string
		Reason GiveUpReason
	}

	// Answer is the one to the command with that token; Err is nil if it has been done.
	Answer struct {
		Token uint64
		Err   error
	}

	// Reconfigured: all that the last Reconfigure asked for is done.
	Reconfigured struct {
		// Err names every finding if the Reconfigure was not a valid one. It changed nothing then.
		Err error
	}

	// Ended: the root is at rest, nothing will happen until the next Start.
	Ended struct {
		Outcome Outcome
		// Cause is the process that caused it, "" for OutcomeStopped; Reason is its last exit reason.
		Cause  string
		Reason ExitReason
	}
)

func (Spawn) isAction()                 {}
func (StopProcess) isAction()           {}
func (Changed) isAction()               {}
func (Restarting) isAction()            {}
func (SupervisorStarting) isAction()    {}
func (SupervisorStarted) isAction()     {}
func (SupervisorStartFailed) isAction() {}
func (SupervisorStopping) isAction()    {}
func (SupervisorStopped) isAction()     {}
func (SupervisorGaveUp) isAction()      {}
func (Answer) isAction()                {}
func (Reconfigured) isAction()          {}
func (Ended) isAction()                 {}

// StopReason says why a run is asked to end.
type StopReason uint8

const (
	// StopShutdown: the whole tree stops.
	StopShutdown StopReason = iota
	// StopStrategy: a sibling failed.
	StopStrategy
	// StopGaveUp: its supervisor, or one above it, gave up or failed to start.
	StopGaveUp
	// StopAutoShutdown: its supervisor, or one above it, ends because significant children did.
	StopAutoShutdown
	// StopOperator: an operator asked for it.
	StopOperator
	// StopStartTimeout: it was not running in time.
	StopStartTimeout
	// StopConfig: a Reconfigure removed it or has it replaced.
	StopConfig
)

func (r StopReason) String() string {
	switch r {
	case StopShutdown:
		return "shutdown"
	case StopStrategy:
		return "strategy"
	case StopGaveUp:
		return "gave_up"
	case StopAutoShutdown:
		return "auto_shutdown"
	case StopOperator:
		return "operator"
	case StopStartTimeout:
		return "start_timeout"
	case StopConfig:
		return "config"
	}
	return fmt.Sprintf("StopReason(%d)", uint8(r))
}

// GiveUpReason says why a supervisor ends by itself.
type GiveUpReason uint8

const (
	// GiveUpIntensity: one more restart would have been more than MaxRestarts within Period.
	GiveUpIntensity GiveUpReason = iota
	// GiveUpAutoShutdown: significant children ended.
	GiveUpAutoShutdown
)

func (r GiveUpReason) String() string {
	switch r {
	case GiveUpIntensity:
		return "intensity_exceeded"
	case GiveUpAutoShutdown:
		return "auto_shutdown"
	}
	return fmt.Sprintf("GiveUpReason(%d)", uint8(r))
}

// Outcome says how the root came to rest.
type Outcome uint8

const (
	// OutcomeStopped: by Stop.
	OutcomeStopped Outcome = iota
	// OutcomeGaveUp: by too many restarts.
	OutcomeGaveUp
	// OutcomeStartFailed: a child failed its first start.
	OutcomeStartFailed
	// OutcomeAutoShutdown: significant children ended.
	OutcomeAutoShutdown
)

func (o Outcome) String() string {
	switch o {
	case OutcomeStopped:
		return "stopped"
	case OutcomeGaveUp:
		return "gave_up"
	case OutcomeStartFailed:
		return "start_failed"
	case OutcomeAutoShutdown:
		return "auto_shutdown"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}
