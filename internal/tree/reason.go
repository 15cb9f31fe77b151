// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "fmt"

// ExitReason says why a run ended, or why it never began. It is decided outside
// the tree, from the exit record and from what was asked of the process.
type ExitReason uint8

const (
	// ExitSuccess is an end that the process's `success` list calls good.
	ExitSuccess ExitReason = iota
	// ExitCode is an exit with a code that is not in the `success` list.
	ExitCode
	// ExitSignal is a death by a signal that is not in the `success` list.
	ExitSignal
	// ExitOOM is a kill by the kernel for want of memory, on evidence only.
	ExitOOM
	// ExitStartFailed means that no process came to be: exec or its preparation failed.
	ExitStartFailed
	// ExitStartTimeout means that the run was not ready in time and was killed for it.
	ExitStartTimeout
	// ExitLiveness means that the run was killed because its liveness probe failed.
	ExitLiveness
	// ExitStopped is an end that was asked for: neither well nor ill.
	ExitStopped

	// NumExitReasons is the number of exit reasons, for arrays indexed by them.
	NumExitReasons
)

var exitReasonNames = [NumExitReasons]string{
	"success", "exit", "signal", "oom", "start_failed", "start_timeout", "liveness", "stopped",
}

func (r ExitReason) String() string {
	if r < NumExitReasons {
		return exitReasonNames[r]
	}
	return fmt.Sprintf("ExitReason(%d)", uint8(r))
}

// RestartReason says what made a start a restart. The first seven are the exit
// reasons of the run before, with the same values.
type RestartReason uint8

const (
	RestartSuccess      = RestartReason(ExitSuccess)
	RestartCode         = RestartReason(ExitCode)
	RestartSignal       = RestartReason(ExitSignal)
	RestartOOM          = RestartReason(ExitOOM)
	RestartStartFailed  = RestartReason(ExitStartFailed)
	RestartStartTimeout = RestartReason(ExitStartTimeout)
	RestartLiveness     = RestartReason(ExitLiveness)

	// RestartStrategy: a sibling's failure, by the supervisor's strategy.
	RestartStrategy RestartReason = 7
	// RestartOperator: an operator asked for it.
	RestartOperator RestartReason = 8
	// RestartConfig: its configuration changed.
	RestartConfig RestartReason = 9

	// NumRestartReasons is the number of restart reasons, for arrays indexed by them.
	NumRestartReasons = 10
)

func (r RestartReason) String() string {
	switch r {
	case RestartStrategy:
		return "strategy"
	case RestartOperator:
		return "operator"
	case RestartConfig:
		return "config"
	}
	if r < RestartStrategy {
		return ExitReason(r).String()
	}
	return fmt.Sprintf("RestartReason(%d)", uint8(r))
}
