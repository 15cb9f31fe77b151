// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A second route to the same result: OTP's supervisor as it is, a function that
// does one thing after the other and calls itself. It knows nothing of processes
// that take their time, and so it can be as plain as the rules.

type model struct {
	root   *modelSupervisor
	fail   map[string]int
	now    time.Duration
	parent map[string]string // of every name, the supervisor under which it stands
	log    []string
}

type modelSupervisor struct {
	m        *model
	spec     specJSON
	self     *modelChild // in the parent's list, nil for the root
	above    *modelSupervisor
	children []*modelChild
	restarts []time.Duration
	up       bool
}

type modelChild struct {
	spec specJSON
	up   bool
	sup  *modelSupervisor
}

func (m *model) tell(what, who string) { m.log = append(m.log, what+" "+who) }

// start_children of init: all, or none.
func (s *modelSupervisor) start() bool {
	s.m.tell("sup_start", s.spec.Name)
	for _, spec := range s.spec.Children {
		s.children = append(s.children, &modelChild{spec: spec})
	}
	for _, c := range s.children {
		if !s.startChild(c) {
			s.stopChildren()
			s.m.tell("sup_start_failed", s.spec.Name)
			return false
		}
	}
	s.up = true
	return true
}

func (s *modelSupervisor) startChild(c *modelChild) bool {
	if c.spec.Type == "supervisor" {
		c.sup = &modelSupervisor{m: s.m, spec: c.spec, self: c, above: s}
		c.up = c.sup.start()
		return c.up
	}
	if s.m.fail[c.spec.Name] > 0 {
		s.m.fail[c.spec.Name]--
		s.m.tell("start_failed", c.spec.Name)
		return false
	}
	s.m.tell("start", c.spec.Name)
	c.up = true
	return true
}

func (s *modelSupervisor) stopChild(c *modelChild) {
	if !c.up {
		return
	}
	c.up = false
	if c.sup == nil {
		s.m.tell("stop", c.spec.Name)
		return
	}
	s.m.tell("sup_stop", c.spec.Name)
	c.sup.stopChildren()
}

func (s *modelSupervisor) stopChildren() {
	s.up = false
	for _, c := range slices.Backward(s.children) {
		s.stopChild(c)
	}
}

func (s *modelSupervisor) remove(c *modelChild) {
	s.children = slices.DeleteFunc(s.children, func(other *modelChild) bool { return other == c })
}

// ended: c ended by itself.
func (s *modelSupervisor) ended(c *modelChild, well bool) {
	c.up = false
	if c.spec.Restart == "permanent" || c.spec.Restart == "transient" && !well {
		s.restart(c)
		return
	}
	if c.spec.Restart == "temporary" {
		s.remove(c)
	}
	others := slices.ContainsFunc(s.children, func(o *modelChild) bool { return o.spec.Significant && o.up })
	if c.spec.Significant && (s.spec.AutoShutdown == "any_significant" || s.spec.AutoShutdown == "all_significant" && !others) {
		s.shutDown()
	}
}

func (s *modelSupervisor) shutDown() {
	s.m.tell("sup_giveup", s.spec.Name)
	s.stopChildren()
	if s.above != nil {
		s.above.ended(s.self, true)
	}
}

func (s *modelSupervisor) restart(c *modelChild) {
	period := time.Duration(s.spec.PeriodMS) * time.Millisecond
	s.restarts = slices.DeleteFunc(append(s.restarts, s.m.now), func(at time.Duration) bool { return s.m.now-at >= period })
	if len(s.restarts) > s.spec.MaxRestarts {
		s.shutDown()
		return
	}
	group := []*modelChild{c}
	switch s.spec.Strategy {
	case "one_for_all":
		group = slices.Clone(s.children)
	case "rest_for_one":
		group = slices.Clone(s.children[slices.Index(s.children, c):])
	}
	for _, other := range slices.Backward(group) {
		s.stopChild(other)
		if other.spec.Restart == "temporary" {
			s.remove(other)
		}
	}
	for _, other := range group {
		if other.spec.Restart != "temporary" && !s.startChild(other) {
			s.restart(other)
			return
		}
	}
}

// find is the supervisor of that name, if it runs.
func (s *modelSupervisor) find(name string) *modelSupervisor {
	if !s.up {
		return nil
	}
	if s.spec.Name == name {
		return s
	}
	for _, c := range s.children {
		if c.sup != nil && c.up {
			if found := c.sup.find(name); found != nil {
				return found
			}
		}
	}
	return nil
}

func (s *modelSupervisor) child(name string) *modelChild {
	for _, c := range s.children {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

func (m *model) step(step stepJSON) string {
	if step.Op == "start_child" {
		m.parent[step.Spec.Name] = step.Parent
		return m.add(step)
	}
	switch step.Op {
	case "wait":
		m.now += time.Duration(step.MS) * time.Millisecond
		return "ok"
	case "fail_starts":
		m.fail[step.Child] = step.Times
		return "ok"
	case "stop_tree":
		m.tell("sup_stop", m.root.spec.Name)
		m.root.stopChildren()
		return "ok"
	}
	s := m.root.find(m.parent[step.Child])
	var c *modelChild
	if s != nil {
		c = s.child(step.Child)
	}
	if step.Op == "exit" {
		if c == nil || !c.up || c.sup != nil {
			return "error: not_running"
		}
		m.tell("exit", step.Child)
		s.ended(c, step.How == "normal")
		return "ok"
	}
	switch {
	case s == nil:
		return "error: no_parent"
	case c == nil:
		return "error: not_found"
	case step.Op == "terminate":
		s.stopChild(c)
		if c.spec.Restart == "temporary" {
			s.remove(c)
		}
	case c.up:
		return "error: running"
	case step.Op == "delete":
		s.remove(c)
	case !s.startChild(c):
		return "error: start_failed"
	}
	return "ok"
}

func (m *model) add(step stepJSON) string {
	s := m.root.find(step.Parent)
	if s == nil {
		return "error: no_parent"
	}
	if c := s.child(step.Spec.Name); c != nil {
		if c.up {
			return "error: already_started"
		}
		return "error: already_present"
	}
	c := &modelChild{spec: *step.Spec}
	if !s.startChild(c) {
		return "error: start_failed"
	}
	s.children = append(s.children, c)
	return "ok"
}

func playModel(sc scenario) observed {
	m := &model{fail: map[string]int{}, parent: map[string]string{}}
	for name, times := range sc.FailStarts {
		m.fail[name] = times
	}
	var stand func(s specJSON)
	stand = func(s specJSON) {
		for _, c := range s.Children {
			m.parent[c.Name] = s.Name
			stand(c)
		}
	}
	stand(sc.Tree)
	said := func() []string {
		log := m.log
		m.log = nil
		return append([]string{}, log...)
	}
	m.root = &modelSupervisor{m: m, spec: sc.Tree}
	m.root.start()
	got := observed{Start: said(), Steps: [][]string{}, Results: []string{}, Alive: []string{}, Down: []string{}, Root: "terminated"}
	for _, step := range sc.Steps {
		got.Results = append(got.Results, m.step(step))
		got.Steps = append(got.Steps, said())
	}
	var look func(s *modelSupervisor)
	look = func(s *modelSupervisor) {
		for _, c := range s.children {
			if !c.up {
				got.Down = append(got.Down, c.spec.Name)
				continue
			}
			got.Alive = append(got.Alive, c.spec.Name)
			if c.sup != nil {
				look(c.sup)
			}
		}
	}
	if m.root.up {
		got.Root = "alive"
		look(m.root)
	}
	return got
}

func TestModel_DoesWhatOTPDid(t *testing.T) {
	eachScenario(t, false, func(t *testing.T, sc scenario) {
		require.Equal(t, *sc.Observed, playModel(sc))
	})
}

func TestTree_DoesWhatTheModelDoes(t *testing.T) {
	for range 5 {
		rapid.Check(t, func(t *rapid.T) {
			sc := drawScenario(t)
			want, got := playModel(sc), playScenario(t, sc)
			sc.Observed = &want
			text, err := json.Marshal(sc)
			require.NoError(t, err)
			require.Equal(t, want, got, "as a scenario of the corpus: %s", text)
		})
	}
}

func drawScenario(t *rapid.T) scenario {
	pick := func(what string, words ...string) string { return rapid.SampledFrom(words).Draw(t, what) }
	names := 0
	var supervisors, all []string
	var draw func(parent *specJSON, depth int) specJSON
	draw = func(parent *specJSON, depth int) specJSON {
		s := specJSON{Name: fmt.Sprintf("n%d", names), Type: "worker"}
		names++
		if parent != nil {
			all = append(all, s.Name)
			s.Restart = pick("restart", "permanent", "transient", "temporary")
			s.Significant = s.Restart != "permanent" && parent.AutoShutdown != "never" && rapid.Bool().Draw(t, "significant")
		}
		if parent == nil || depth < 3 && rapid.IntRange(0, 2).Draw(t, "supervisor") == 0 {
			s.Type = "supervisor"
			s.Strategy = pick("strategy", "one_for_one", "one_for_all", "rest_for_one")
			s.MaxRestarts = rapid.IntRange(0, 4).Draw(t, "max restarts")
			s.PeriodMS = 1000 * rapid.IntRange(1, 5).Draw(t, "period")
			s.AutoShutdown = pick("auto shutdown", "never", "any_significant", "all_significant")
			supervisors = append(supervisors, s.Name)
			for range rapid.IntRange(1, 4).Draw(t, "children") {
				s.Children = append(s.Children, draw(&s, depth+1))
			}
		}
		return s
	}
	sc := scenario{ID: "drawn", Tree: draw(nil, 0), Steps: []stepJSON{}}
	all = append(all, "x", "y")
	if rapid.IntRange(0, 9).Draw(t, "fails at first") == 0 {
		sc.FailStarts = map[string]int{pick("which", all...): 1}
	}
	if playModel(sc).Root != "alive" {
		return sc
	}
	for range rapid.IntRange(0, 30).Draw(t, "steps") {
		step := stepJSON{Op: pick("op", "exit", "exit", "exit", "exit", "terminate", "restart", "delete", "start_child", "fail_starts", "wait", "stop_tree")}
		switch step.Op {
		case "exit":
			step.Child, step.How = pick("child", all...), pick("how", "normal", "error", "killed")
		case "wait":
			step.MS = rapid.IntRange(1, 6000).Draw(t, "ms")
		case "fail_starts":
			step.Child, step.Times = pick("child", all...), rapid.IntRange(0, 6).Draw(t, "times")
		case "start_child":
			step.Parent = pick("parent", supervisors...)
			step.Spec = &specJSON{Name: pick("name", "x", "y"), Type: "worker", Restart: pick("restart", "permanent", "transient", "temporary")}
		case "stop_tree":
		default:
			step.Child = pick("child", all...)
		}
		sc.Steps = append(sc.Steps, step)
		if playModel(sc).Root != "alive" {
			break // nothing more can happen
		}
	}
	return sc
}
