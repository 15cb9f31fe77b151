// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"slices"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// classify says why a run ended that nobody had asked to end.
func classify(exit keeper.Exit, success SuccessList) tree.ExitReason {
	switch {
	case exit.OOM:
		return tree.ExitOOM
	case exit.Signal != 0 && slices.Contains(success.Signals, exit.Signal):
		return tree.ExitSuccess
	case exit.Signal != 0:
		return tree.ExitSignal
	case !exit.Lost && slices.Contains(success.Codes, exit.Code):
		return tree.ExitSuccess
	}
	return tree.ExitCode
}

// describe tells how a process ended, to follow its name in a sentence.
func describe(exit keeper.Exit) string {
	switch {
	case exit.Lost:
		return "ended, with what status is not known"
	case exit.OOM:
		return "was killed for want of memory"
	case exit.Core:
		return fmt.Sprintf("was ended by %s and dumped a core", signalName(exit.Signal))
	case exit.Signal != 0:
		return fmt.Sprintf("was ended by %s", signalName(exit.Signal))
	}
	return fmt.Sprintf("exited with code %d", exit.Code)
}

// shellStatus is the exit status that a shell gives for it.
func shellStatus(exit keeper.Exit) int {
	if exit.Signal != 0 {
		return 128 + int(exit.Signal)
	}
	return exit.Code
}

// signalText names the signal that ended a process, "" if none did.
func signalText(exit keeper.Exit) string {
	if exit.Signal == 0 {
		return ""
	}
	return signalName(exit.Signal)
}
