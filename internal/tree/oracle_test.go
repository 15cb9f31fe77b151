// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The corpus: what Erlang/OTP's supervisor did, scenario by scenario. Its format is
// told in testdata/oracle/FORMAT.md, and in testdata/oracle/README.md what is
// added to it for scenarios by event, which are played in replay_test.go.

type (
	scenario struct {
		ID         string         `json:"id"`
		Tree       specJSON       `json:"tree"`
		FailStarts map[string]int `json:"fail_starts,omitempty"`
		Steps      []stepJSON     `json:"steps"`
		Observed   *observed      `json:"observed,omitempty"`
		// Of a scenario by event:
		ByEvent bool   `json:"by_event,omitempty"`
		Seed    uint64 `json:"seed,omitempty"`
	}
	specJSON struct {
		Name         string     `json:"name"`
		Type         string     `json:"type"`
		Strategy     string     `json:"strategy,omitempty"`
		MaxRestarts  int        `json:"max_restarts,omitempty"`
		PeriodMS     int        `json:"period_ms,omitempty"`
		AutoShutdown string     `json:"auto_shutdown,omitempty"`
		Restart      string     `json:"restart,omitempty"`
		Significant  bool       `json:"significant,omitempty"`
		Children     []specJSON `json:"children,omitempty"`
		// What only scenarios by event have:
		FirstStart     string       `json:"first_start,omitempty"`
		Parallel       bool         `json:"parallel,omitempty"`
		Template       *specJSON    `json:"template,omitempty"`
		Backoff        *backoffJSON `json:"backoff,omitempty"`
		Manual         bool         `json:"manual,omitempty"`
		AwaitReady     bool         `json:"await_ready,omitempty"`
		StartTimeoutMS int          `json:"start_timeout_ms,omitempty"`
	}
	backoffJSON struct {
		InitialMS    int     `json:"initial_ms"`
		MaxMS        int     `json:"max_ms"`
		ResetAfterMS int     `json:"reset_after_ms"`
		Multiplier   float64 `json:"multiplier"`
		Jitter       float64 `json:"jitter"`
	}
	stepJSON struct {
		Op     string    `json:"op"`
		Child  string    `json:"child,omitempty"`
		How    string    `json:"how,omitempty"`
		MS     int       `json:"ms,omitempty"`
		Times  int       `json:"times,omitempty"`
		Parent string    `json:"parent,omitempty"`
		Spec   *specJSON `json:"spec,omitempty"`
		// What only scenarios by event have:
		NS      int      `json:"ns,omitempty"`
		Run     uint64   `json:"run,omitempty"`
		Restart []string `json:"restart,omitempty"`
	}
	observed struct {
		Start   []string   `json:"start"`
		Steps   [][]string `json:"steps"`
		Results []string   `json:"results"`
		Alive   []string   `json:"alive"`
		Down    []string   `json:"down"`
		Root    string     `json:"root"`
	}
)

// MarshalJSON writes what the format demands even where it is zero.
func (s specJSON) MarshalJSON() ([]byte, error) {
	type plain specJSON
	switch {
	case s.Type == "supervisor" && s.Restart == "": // the root
		return json.Marshal(struct {
			plain
			MaxRestarts int `json:"max_restarts"`
		}{plain(s), s.MaxRestarts})
	case s.Type == "supervisor":
		return json.Marshal(struct {
			plain
			MaxRestarts int  `json:"max_restarts"`
			Significant bool `json:"significant"`
		}{plain(s), s.MaxRestarts, s.Significant})
	default:
		return json.Marshal(struct {
			plain
			Significant bool `json:"significant"`
		}{plain(s), s.Significant})
	}
}

// MarshalJSON likewise.
func (s stepJSON) MarshalJSON() ([]byte, error) {
	type plain stepJSON
	switch s.Op {
	case "wait":
		return json.Marshal(struct {
			plain
			MS int `json:"ms"`
		}{plain(s), s.MS})
	case "fail_starts":
		return json.Marshal(struct {
			plain
			Times int `json:"times"`
		}{plain(s), s.Times})
	default:
		return json.Marshal(plain(s))
	}
}

func TestTree_DoesWhatOTPDid(t *testing.T) {
	eachScenario(t, false, func(t *testing.T, sc scenario) {
		require.Equal(t, *sc.Observed, playScenario(t, sc))
	})
}

// What a failing test prints has to be what the format demands.
func TestScenario_IsWrittenAsItWasRead(t *testing.T) {
	eachCorpus(t, func(text []byte, corpus []scenario) {
		written, err := json.Marshal(corpus)
		require.NoError(t, err)
		require.JSONEq(t, string(text), string(written))
	})
}

// eachScenario runs a test for every scenario of every corpus in testdata/oracle, either
// of those by event or of the others.
func eachScenario(t *testing.T, byEvent bool, test func(*testing.T, scenario)) {
	eachCorpus(t, func(_ []byte, corpus []scenario) {
		for _, sc := range corpus {
			if sc.ByEvent == byEvent {
				t.Run(sc.ID, func(t *testing.T) { test(t, sc) })
			}
		}
	})
}

func eachCorpus(t *testing.T, do func(text []byte, corpus []scenario)) {
	files, err := filepath.Glob("testdata/oracle/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var corpus []scenario
		require.NoError(t, json.Unmarshal(data, &corpus))
		require.NotEmpty(t, corpus)
		do(data, corpus)
	}
}

// perfectWorld carries out a tree's actions at once: spawns succeed unless they
// are to fail, and a process that is asked to stop ends.
type perfectWorld struct {
	t      require.TestingT
	tree   *Tree
	now    time.Duration
	rename map[string]string // ID → the scenario's name
	fail   map[string]int    // name → how many starts will fail
	log    []string
	answer error
	tokens uint64
}

func playScenario(t require.TestingT, sc scenario) observed {
	tree, err := New(*sc.Tree.spec().Supervisor, 1)
	require.NoError(t, err)
	w := &perfectWorld{t: t, tree: tree, rename: map[string]string{}, fail: map[string]int{}}
	ids := map[string]string{} // the scenario's name → ID
	var name func(s specJSON, id string)
	name = func(s specJSON, id string) {
		ids[s.Name], w.rename[id] = id, s.Name
		for _, c := range s.Children {
			name(c, join(id, c.Name))
		}
	}
	name(sc.Tree, "")
	for child, times := range sc.FailStarts {
		w.fail[child] = times
	}
	got := observed{Steps: [][]string{}, Results: []string{}, Alive: []string{}, Down: []string{}, Root: "terminated"}
	got.Start = w.feed(Start{})
	for _, step := range sc.Steps {
		result := "ok"
		events := []string{}
		if _, known := ids[step.Child]; !known && step.Child != "" {
			ids[step.Child] = "nowhere." + step.Child
		}
		switch step.Op {
		case "exit":
			s, ok := tree.Status(ids[step.Child])
			if !ok || s.Supervisor || s.State != StateRunning {
				result = "error: not_running"
				break
			}
			w.log = append(w.log, "exit "+step.Child)
			reason := map[string]ExitReason{"normal": ExitSuccess, "error": ExitCode, "killed": ExitSignal}[step.How]
			events = w.feed(Exited{ids[step.Child], s.Run, reason})
		case "wait":
			w.now += time.Duration(step.MS) * time.Millisecond
		case "fail_starts":
			w.fail[step.Child] = step.Times
		case "terminate":
			events, result = w.command(OpStop, ids[step.Child], nil)
		case "restart":
			events, result = w.command(OpStart, ids[step.Child], nil)
		case "delete":
			events, result = w.command(OpDelete, ids[step.Child], nil)
		case "start_child":
			id := join(ids[step.Parent], step.Spec.Name)
			ids[step.Spec.Name], w.rename[id] = id, step.Spec.Name
			spec := step.Spec.spec()
			events, result = w.command(OpAdd, ids[step.Parent], &spec)
		case "stop_tree":
			events = w.feed(Stop{})
		default:
			require.Fail(t, "unknown step", step.Op)
		}
		got.Steps = append(got.Steps, events)
		got.Results = append(got.Results, result)
	}
	if s, _ := tree.Status(""); s.State == StateRunning {
		got.Root = "alive"
	}
	tree.Walk(func(id string, s Status) bool {
		switch {
		case id == "" || s.Gone || got.Root != "alive":
		case s.State == StateRunning:
			got.Alive = append(got.Alive, w.rename[id])
		case w.parentRuns(id):
			got.Down = append(got.Down, w.rename[id])
		}
		return true
	})
	return got
}

func (w *perfectWorld) parentRuns(id string) bool {
	s, _ := w.tree.Status(parentID(id))
	return s.State == StateRunning
}

func (w *perfectWorld) command(op Op, id string, child *Child) (events []string, result string) {
	w.tokens++
	w.answer = errors.New("never answered")
	events = w.feed(Command{Token: w.tokens, Op: op, ID: id, Child: child})
	results := map[error]string{
		nil: "ok", ErrNoParent: "error: no_parent", ErrNotFound: "error: not_found", ErrRunning: "error: running",
		ErrAlreadyStarted: "error: already_started", ErrAlreadyPresent: "error: already_present", ErrStartFailed: "error: start_failed",
	}
	result, ok := results[w.answer]
	if !ok {
		result = w.answer.Error()
	}
	return events, result
}

// feed steps the tree until it has nothing more to do, and returns what happened.
func (w *perfectWorld) feed(ev Event) []string {
	for queue := []Event{ev}; len(queue) > 0; {
		ev, queue = queue[0], queue[1:]
		for _, a := range w.tree.Step(w.now, ev) {
			switch a := a.(type) {
			case Spawn:
				name := w.rename[a.ID]
				if w.fail[name] > 0 {
					w.fail[name]--
					w.log = append(w.log, "start_failed "+name)
					queue = append(queue, StartFailed(a))
				} else {
					w.log = append(w.log, "start "+name)
					queue = append(queue, Spawned(a))
				}
			case StopProcess:
				w.log = append(w.log, "stop "+w.rename[a.ID])
				queue = append(queue, Exited{a.ID, a.Run, ExitStopped})
			case SupervisorStarting:
				w.log = append(w.log, "sup_start "+w.rename[a.ID])
			case SupervisorStartFailed:
				w.log = append(w.log, "sup_start_failed "+w.rename[a.ID])
			case SupervisorStopping:
				w.log = append(w.log, "sup_stop "+w.rename[a.ID])
			case SupervisorGaveUp:
				w.log = append(w.log, "sup_giveup "+w.rename[a.ID])
			case Answer:
				require.Equal(w.t, w.tokens, a.Token)
				w.answer = a.Err
			}
		}
	}
	_, armed := w.tree.NextDeadline()
	require.False(w.t, armed, "a timer is left armed")
	events := w.log
	if events == nil {
		events = []string{}
	}
	w.log = nil
	return events
}

func (s specJSON) spec() Child {
	c := Child{Name: s.Name, Significant: s.Significant}
	if b := s.Backoff; b != nil {
		c.Backoff = Backoff{
			Initial: milliseconds(b.InitialMS), Max: milliseconds(b.MaxMS), ResetAfter: milliseconds(b.ResetAfterMS),
			Multiplier: b.Multiplier, Jitter: b.Jitter,
		}
	}
	switch s.Restart {
	case "transient":
		c.Restart = Transient
	case "temporary":
		c.Restart = Temporary
	}
	if s.Type == "worker" {
		c.Worker = &Worker{Manual: s.Manual, AwaitReady: s.AwaitReady, StartTimeout: milliseconds(s.StartTimeoutMS)}
		return c
	}
	c.Supervisor = &Supervisor{
		Strategy:     map[string]Strategy{"one_for_all": OneForAll, "rest_for_one": RestForOne}[s.Strategy],
		MaxRestarts:  s.MaxRestarts,
		Period:       milliseconds(s.PeriodMS),
		AutoShutdown: map[string]AutoShutdown{"any_significant": AnySignificant, "all_significant": AllSignificant}[s.AutoShutdown],
		FirstStart:   map[string]FirstStart{"retry": Retry}[s.FirstStart],
		Parallel:     s.Parallel,
	}
	if s.Template != nil {
		instance := s.Template.spec()
		c.Supervisor.Template = &instance
	}
	for _, child := range s.Children {
		c.Supervisor.Children = append(c.Supervisor.Children, child.spec())
	}
	return c
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
