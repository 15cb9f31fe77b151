// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/otelwarden/warden/internal/tree"
)

// request is a command on its way to the engine.
type request struct {
	Command
	answer chan error // has room for the one that comes
}

// pending is a command that the tree has and has not answered.
type pending struct {
	request
	target string // the child that it is about; for OpAdd the new one
	err    error  // the tree's answer, explained
}

// Command implements Operator.
func (s *supervisor) Command(ctx context.Context, command Command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e := s.commanded.Load()
	if e == nil {
		return command.wrap(ErrClosed)
	}
	if !e.begun.Load() {
		return command.wrap(ErrNoParent) // nothing is started yet
	}
	r := request{command, make(chan error, 1)}
	e.mailbox.post(r)
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
	}
	select {
	case err := <-r.answer: // it came just before the end
		return err
	default:
		return command.wrap(ErrClosed)
	}
}

// wrap names the command that an error is the answer to.
func (c Command) wrap(err error) error {
	if err == nil {
		return nil
	}
	if c.Op == OpAdd {
		return fmt.Errorf("add to %q: %w", c.ID, err)
	}
	return fmt.Errorf("%v %q: %w", c.Op, c.ID, err)
}

func (e *engine) onRequest(r request) {
	e.token++
	command := tree.Command{Token: e.token, Op: r.Op, ID: r.ID}
	target := r.ID
	if r.Op == OpAdd {
		child, err := e.roster.newcomer(r.ID, r.Child)
		if err != nil {
			r.answer <- r.wrap(err)
			return
		}
		command.Child = child
		target = childID(r.ID, child.Name)
	}
	e.commands[e.token] = pending{request: r, target: target}
	e.step(command)
}

// explain takes an answer in while the child that it is about is still known. Why a
// start failed the tree does not know.
func (e *engine) explain(a tree.Answer) {
	p, ok := e.commands[a.Token]
	if !ok {
		return // its operator asked another engine
	}
	p.err = a.Err
	if c := e.roster.byID[p.target]; errors.Is(a.Err, ErrStartFailed) && c != nil && c.lastTrouble != "" {
		p.err = fmt.Errorf("%w: %s", a.Err, c.lastTrouble)
	}
	e.commands[a.Token] = p
}

// answer gives an operator the answer that was explained.
func (e *engine) answer(token uint64) {
	if p, ok := e.commands[token]; ok {
		delete(e.commands, token)
		p.answer <- p.wrap(p.err)
	}
}

// newcomer decodes a child that is to be added to a supervisor, by the rules and with
// the defaults that hold for its other children.
func (r *roster) newcomer(to string, raw map[string]any) (*tree.Child, error) {
	if c := r.byID[to]; c != nil && c.info.Template {
		return newInstance(raw)
	}
	parent := r.supervisorOf(to)
	if parent == nil {
		return nil, ErrNoParent
	}
	d := newDecoder()
	d.base = r.base(to)
	var list []ChildConfig
	d.child(place{&origin{}, "child"}, nodeOfMap(raw), &list)
	if len(list) != 1 {
		at := place{list[0].origin, list[0].origin.path}
		d.report(at.key("instances"), "%d are as many children: add them one by one, or add a supervisor that has them", len(list))
	}
	child := &list[0]
	rules := &rules{}
	at := place{child.origin, child.origin.path}
	rules.name(at.key("name"), child.Name)
	rules.child(at, child, parent, nil)
	if err := invalid(d, rules); err != nil {
		return nil, err
	}
	spec := treeChild(child, parent)
	return &spec, nil
}

// newInstance decodes an instance that is to be added to a template.
func newInstance(raw map[string]any) (*tree.Child, error) {
	d, rules, at := newDecoder(), &rules{}, place{&origin{}, "instance"}
	var instance ChildConfig
	instanceKeys.decode(d, at, nodeOfMap(raw), &instance)
	rules.name(at.key("name"), instance.Name)
	return &tree.Child{Name: instance.Name}, invalid(d, rules)
}

// invalid returns what is wrong with a child, nil if nothing is.
func invalid(d *decoder, r *rules) error {
	all := d.findings
	for _, f := range r.findings {
		if !slices.ContainsFunc(d.findings, f.follows) {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("%w child: %w", ErrInvalid, all.sorted())
}
