// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"slices"
	"strings"
)

// command does what an operator asks for, as OTP's supervisor would: it takes
// calls one after the other and is blocked while it stops or starts. So a child
// that is stopping is looked at again when it is down, a start is answered when
// the child is up, and one that is starting counts as running.
func (t *Tree) command(cmd Command) {
	if cmd.Op == OpAdd {
		t.add(cmd)
		return
	}
	n, err := t.commanded(cmd.ID)
	if err != nil {
		t.answer(cmd, err)
		return
	}
	switch cmd.Op {
	case OpStart:
		t.commandStart(n, cmd)
	case OpStop:
		t.commandStop(n, cmd)
	case OpRestart:
		t.commandRestart(n, cmd)
	case OpDelete:
		t.commandDelete(n, cmd)
	default:
		t.answer(cmd, fmt.Errorf("%w command: %v is not one of start, stop, restart, delete, add", ErrInvalid, cmd.Op))
	}
}

func (t *Tree) answer(cmd Command, err error) { t.emit(Answer{cmd.Token, err}) }

// commanded is the child that a command is for.
func (t *Tree) commanded(id string) (*node, error) {
	if id == "" {
		return nil, ErrNoParent // the root has none; it is started and stopped by Start and Stop
	}
	parent := t.root
	if i := strings.LastIndexByte(id, '.'); i >= 0 {
		parent = t.nodes[id[:i]]
	}
	if parent == nil || !parent.commandable() {
		return nil, ErrNoParent
	}
	if n := t.nodes[id]; n != nil && !n.gone {
		return n, nil
	}
	return nil, ErrNotFound
}

func (t *Tree) commandStart(n *node, cmd Command) {
	switch {
	case n.state == StateStopping:
		t.await(n, cmd)
	case n.live() || n.state == StateUnkillable:
		t.answer(cmd, ErrRunning)
	case n.waiting():
		t.answer(cmd, ErrRestarting)
	default:
		t.startByOperator(n, cmd)
	}
}

func (t *Tree) commandStop(n *node, cmd Command) {
	n.wanted, n.row = false, 0
	t.dismiss(n)
	switch {
	case n.state == StateUnkillable:
		t.answer(cmd, ErrUnkillable)
	case n.live():
		t.answerStarts(n, ErrStartFailed)
		t.await(n, cmd)
		t.halt(n, StopOperator, "")
	default:
		t.setAwaited(n, false)
		t.wake(n)
		t.answer(cmd, nil)
		if n.spec.Restart == Temporary {
			t.drop(n)
		}
	}
}

// commandRestart is OTP's terminate_child and restart_child in one, so that a
// temporary child can be restarted too. A child that waits for its own back-off
// alone is started at once.
func (t *Tree) commandRestart(n *node, cmd Command) {
	switch {
	case n.state == StateUnkillable:
		t.answer(cmd, ErrUnkillable)
	case n.waiting() && !n.waitsAlone():
		t.answer(cmd, ErrRestarting)
	case n.state == StateStopping:
		t.await(n, cmd)
	case n.live():
		decided := restarting{reason: RestartOperator}
		t.announce(n, decided, decided)
		t.answerStarts(n, ErrStartFailed)
		t.await(n, cmd)
		t.halt(n, StopOperator, "")
	default:
		t.startByOperator(n, cmd)
	}
}

// waitsAlone: n, which is waiting, is in nobody's way and nobody is in its.
func (n *node) waitsAlone() bool {
	s := n.parent.sup
	return s.spec.Strategy == OneForOne && s.gate != n && !n.inStoppingGroup()
}

func (t *Tree) commandDelete(n *node, cmd Command) {
	switch {
	case n.state == StateStopping:
		t.await(n, cmd)
	case n.live() || n.state == StateUnkillable:
		t.answer(cmd, ErrRunning)
	case n.waiting():
		t.answer(cmd, ErrRestarting)
	default:
		t.bury(n)
		t.answer(cmd, nil)
	}
}

// add does an OpAdd. A supervisor in the middle of its start, or of a group's, comes to it later.
func (t *Tree) add(cmd Command) {
	p := t.nodes[cmd.ID]
	if p == nil || !p.commandable() {
		t.answer(cmd, ErrNoParent)
		return
	}
	if cmd.Child == nil {
		t.answer(cmd, fmt.Errorf("%w child: add needs one", ErrInvalid))
		return
	}
	spec := *cmd.Child
	if instance := p.sup.spec.Template; instance != nil {
		spec = *instance
		spec.Name = cmd.Child.Name
	}
	if err := validateChild(p, &spec); err != nil {
		t.answer(cmd, err)
		return
	}
	if p.sup.phase != phaseLoop {
		t.postpone(p, cmd)
		return
	}
	if old := t.nodes[join(p.id, spec.Name)]; old != nil {
		switch {
		case old.live() || old.waiting() || haunted(old):
			t.answer(cmd, ErrAlreadyStarted)
			return
		case !old.gone:
			t.answer(cmd, ErrAlreadyPresent)
			return
		}
		t.bury(old)
	}
	p.sup.altered = true
	n := t.grow(p, &spec, false)
	t.link(n)
	t.startByOperator(n, cmd)
}

// startByOperator starts n, which is down, for a command that is answered when n
// is up. While the group around it is being stopped it is not the time for that.
func (t *Tree) startByOperator(n *node, cmd Command) {
	if n.inStoppingGroup() {
		t.postpone(n.parent, cmd)
		return
	}
	n.manual, n.wanted, n.row = true, true, 0
	t.await(n, cmd)
	t.start(n)
}

// startByOperatorFailed: it is not retried, and of a child that was being added nothing stays.
func (t *Tree) startByOperatorFailed(n *node) {
	n.manual = false
	t.setAwaited(n, false)
	t.wake(n)
	added := n.commanded(OpAdd)
	t.answerStarts(n, ErrStartFailed)
	if added {
		t.bury(n)
	}
}

func (n *node) commanded(op Op) bool {
	return slices.ContainsFunc(n.commands, func(c Command) bool { return c.Op == op })
}

// await keeps a command until n is up or down.
func (t *Tree) await(n *node, cmd Command) {
	n.commands = append(n.commands, cmd)
	t.touch(n)
}

// answerStarts answers the commands that wait for n to be up.
func (t *Tree) answerStarts(n *node, err error) {
	t.answerThose(n, err, func(c Command) bool { return c.Op != OpStop && c.Op != OpDelete })
}

// answerStops answers the commands that wait for n to be down.
func (t *Tree) answerStops(n *node, err error) {
	t.answerThose(n, err, func(c Command) bool { return c.Op == OpStop })
}

func (t *Tree) answerThose(n *node, err error, those func(Command) bool) {
	n.commands = slices.DeleteFunc(n.commands, func(c Command) bool {
		if those(c) {
			t.answer(c, err)
			t.touch(n)
			return true
		}
		return false
	})
}

// redo looks again at what n's stopping had put off.
func (t *Tree) redo(n *node) {
	for _, cmd := range n.commands {
		t.agenda = append(t.agenda, item{command: cmd})
	}
	n.commands = nil
	t.touch(n)
}

// postpone keeps a command until p is back in its loop.
func (t *Tree) postpone(p *node, cmd Command) {
	p.sup.deferred = append(p.sup.deferred, cmd)
	t.touch(p)
}

// redoDeferred looks again at what the start of n, or of a group, had put off.
func (t *Tree) redoDeferred(n *node) {
	for _, cmd := range n.sup.deferred {
		t.agenda = append(t.agenda, item{command: cmd})
	}
	n.sup.deferred = nil
	t.touch(n)
}
