// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"time"

	"github.com/otelwarden/warden/internal/tree"
)

// step feeds the tree and carries out what it decides, in its order. Operators have
// their answers when all else is done, so that they see what became of it.
func (e *engine) step(event tree.Event) {
	e.stepped = true
	actions := e.tree.Step(monotonic(), event)
	left := e.follow(actions)
	for _, action := range actions {
		e.carryOut(action)
	}
	e.roster.drop(left)
	for _, action := range actions {
		if a, ok := action.(tree.Answer); ok {
			e.later(func() { e.answer(a.Token) })
		}
	}
}

func (e *engine) carryOut(action tree.Action) {
	switch a := action.(type) {
	case tree.Spawn:
		e.spawn(a)
	case tree.StopProcess:
		e.stopProcess(a)
	case tree.Changed:
		e.onChanged(a)
	case tree.Restarting:
		c := e.roster.byID[a.ID]
		if !c.info.Template || c.template != nil { // what a template counts is its instances'
			e.roster.countRestart(c, a, time.Now())
		}
		if c.cfg != nil {
			e.tellRestarting(c, a)
		}
	case tree.SupervisorStarted:
		e.tellSupervisorStarted(a.ID)
		if a.ID == "" {
			e.isStarted()
		}
	case tree.SupervisorStartFailed:
		e.tellSupervisorStartFailed(a)
	case tree.SupervisorGaveUp:
		e.tellGaveUp(a)
	case tree.SupervisorStopped:
		e.tellSupervisorStopped(a.ID)
	case tree.Ended:
		e.onEnded(a)
	case tree.Answer:
		e.explain(a)
	case tree.SupervisorStarting, tree.SupervisorStopping:
		// They show as states and in what is told of the children.
	}
}

func (e *engine) onChanged(a tree.Changed) {
	c := e.roster.byID[a.ID]
	if c == nil {
		return // it came and went within one step
	}
	e.roster.setState(c, a.State)
	if c.cfg != nil && a.State == tree.StateRunning {
		e.tellReady(c)
		e.watchLiveness(c)
	}
}

func (e *engine) stopProcess(a tree.StopProcess) {
	c := e.roster.byID[a.ID]
	c.stopping, c.stopWhy = true, a.Why
	c.endHealth()
	e.roster.changed(c)
	e.tellStopping(c, a)
	e.stopRun(c)
	if c.spawning && a.Why == tree.StopShutdown && c.cfg.Stop.Timeout >= 0 {
		// What stops for good need not wait longer for a start than for a stop. In
		// every other case waiting is what keeps two runs from living at once.
		time.AfterFunc(c.cfg.Stop.Timeout, func() { e.mailbox.post(abandon{a.ID, a.Run}) })
	}
}

// isStarted: all children are up. Who waits for it finds it in the journal.
func (e *engine) isStarted() { e.later(func() { e.startedOnce.Do(func() { close(e.started) }) }) }

func (e *engine) onEnded(a tree.Ended) {
	if byItself := a.Outcome == tree.OutcomeGaveUp || a.Outcome == tree.OutcomeAutoShutdown; e.startAgain && !byItself {
		e.startAgain, e.startNow = false, true
		return
	}
	if e.hasEnded {
		return // a stop of what is at rest; why it came to rest is the first answer
	}
	e.hasEnded, e.end, e.endStatus = true, a, 1
	if c := e.roster.byID[a.Cause]; c != nil && c.cfg != nil {
		e.endReason, e.endStatus = fmt.Sprintf("process %q: %s", a.Cause, c.lastTrouble), max(1, c.lastStatus)
	}
	e.later(func() { close(e.ended) })
}
