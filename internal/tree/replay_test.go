// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"cmp"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What a world did, as a scenario by event of testdata/oracle/README.md, and such a
// scenario played again.

// rootName stands for the root in a scenario by event.
const rootName = "root"

// scenario is what was done so far.
func (w *world) scenario() string {
	text, err := json.Marshal(scenario{ID: "failing", ByEvent: true, Seed: w.seed, Tree: w.planted, Steps: append([]stepJSON{}, w.steps...)})
	require.NoError(w.t, err)
	return string(text)
}

// tellUnlessAtRest prints the scenario of a world that has failed.
func (w *world) tellUnlessAtRest(logf func(format string, args ...any)) {
	if !w.atRest {
		logf("put this, in [], into a file testdata/oracle/….json, and go test -run ByEvent plays it again: %s", w.scenario())
	}
}

// replayScenario plays a scenario by event in a world that checks all that a random one does.
func replayScenario(t require.TestingT, sc scenario) *world {
	w := newWorldOf(t, &byteChooser{}, *sc.Tree.spec().Supervisor, sc.Seed)
	for _, step := range sc.Steps {
		w.replay(step)
	}
	return w
}

func TestTree_DoesWellInScenariosByEvent(t *testing.T) {
	eachScenario(t, true, func(t *testing.T, sc scenario) {
		replayScenario(t, sc).rest()
	})
}

func TestWorld_TellsAScenarioThatIsTheSameAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, &rapidChooser{t: t, steps: rapid.IntRange(0, 300).Draw(t, "steps")})
		w.run()
		var sc scenario
		require.NoError(t, json.Unmarshal([]byte(w.scenario()), &sc))
		again := replayScenario(t, sc)
		require.Equal(t, w.steps, again.steps)
		require.Equal(t, w.took, again.took)
		require.Equal(t, w.kept, again.kept)
	})
}

var operations = [...]string{OpStart: "restart", OpStop: "terminate", OpRestart: "operator_restart", OpDelete: "delete"}

var hows = map[ExitReason]string{ExitSuccess: "normal", ExitCode: "error", ExitSignal: "killed"}

// stepOf is the step that has ev happen. Of a Tick only the world knows it.
func stepOf(ev Event) stepJSON {
	switch ev := ev.(type) {
	case Start:
		return stepJSON{Op: "start"}
	case Stop:
		return stepJSON{Op: "stop_tree"}
	case Spawned:
		return stepJSON{Op: "spawned", Child: ev.ID, Run: ev.Run}
	case Ready:
		return stepJSON{Op: "ready", Child: ev.ID, Run: ev.Run}
	case StartFailed:
		return stepJSON{Op: "start_failed", Child: ev.ID, Run: ev.Run}
	case Exited:
		return stepJSON{Op: "exit", Child: ev.ID, Run: ev.Run, How: cmp.Or(hows[ev.Reason], ev.Reason.String())}
	case Unkillable:
		return stepJSON{Op: "unkillable", Child: ev.ID, Run: ev.Run}
	case Command:
		if ev.Op == OpAdd {
			return stepJSON{Op: "start_child", Parent: orRoot(ev.ID), Spec: jsonOf(ev.Child)}
		}
		return stepJSON{Op: operations[ev.Op], Child: orRoot(ev.ID)}
	case Reconfigure:
		return stepJSON{Op: "reconfigure", Spec: rootJSON(&ev.Root), Restart: ev.Restart}
	}
	panic("no such event")
}

// replay has a step happen that stepOf, or the world itself, made.
func (w *world) replay(s stepJSON) {
	switch s.Op {
	case "start":
		w.feed(Start{})
	case "stop_tree":
		w.feed(Stop{})
	case "wait":
		w.pass(milliseconds(s.MS) + time.Duration(s.NS))
	case "spawned":
		w.feed(Spawned{s.Child, s.Run})
	case "ready":
		w.feed(Ready{s.Child, s.Run})
	case "start_failed":
		w.feed(StartFailed{s.Child, s.Run})
	case "exit":
		for reason := range NumExitReasons {
			if s.How == cmp.Or(hows[reason], reason.String()) {
				w.feed(Exited{s.Child, s.Run, reason})
				return
			}
		}
		require.Fail(w.t, "unknown way to exit", s.How)
	case "unkillable":
		w.feed(Unkillable{s.Child, s.Run})
	case "start_child":
		child := s.Spec.spec()
		w.command(Command{Op: OpAdd, ID: namedID(s.Parent), Child: &child})
	case "reconfigure":
		if root := *s.Spec.spec().Supervisor; validateRoot(&root) != nil {
			w.feed(Reconfigure{Root: root})
		} else {
			w.reconfigureTo(root, s.Restart)
		}
	case "stale":
		w.stale(s.Child, s.Run)
	case "reload":
		w.reload()
	default:
		for op, word := range operations {
			if s.Op == word {
				w.command(Command{Op: Op(op), ID: namedID(s.Child)})
				return
			}
		}
		require.Fail(w.t, "unknown step", s.Op)
	}
}

// namedID is the inverse of orRoot.
func namedID(name string) string {
	if name == rootName {
		return ""
	}
	return name
}

func rootJSON(s *Supervisor) *specJSON {
	j := jsonOf(&Child{Name: rootName, Supervisor: s})
	j.Restart = ""
	return j
}

// jsonOf is the inverse of specJSON's spec.
func jsonOf(c *Child) *specJSON {
	ms := func(d time.Duration) int { return int(d.Milliseconds()) }
	j := &specJSON{Name: c.Name, Type: "worker", Restart: c.Restart.String(), Significant: c.Significant}
	if b := c.Backoff; b != (Backoff{}) {
		j.Backoff = &backoffJSON{ms(b.Initial), ms(b.Max), ms(b.ResetAfter), b.Multiplier, b.Jitter}
	}
	if c.Worker != nil {
		j.Manual, j.AwaitReady, j.StartTimeoutMS = c.Worker.Manual, c.Worker.AwaitReady, ms(c.Worker.StartTimeout)
		return j
	}
	s := c.Supervisor
	j.Type, j.Strategy, j.AutoShutdown = "supervisor", s.Strategy.String(), s.AutoShutdown.String()
	j.MaxRestarts, j.PeriodMS, j.Parallel = s.MaxRestarts, ms(s.Period), s.Parallel
	if s.FirstStart != Strict {
		j.FirstStart = s.FirstStart.String()
	}
	if s.Template != nil {
		j.Template = jsonOf(s.Template)
	}
	for i := range s.Children {
		j.Children = append(j.Children, *jsonOf(&s.Children[i]))
	}
	return j
}
