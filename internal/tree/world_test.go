// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// world plays the outside of a tree, badly: processes answer late or never, fail
// to start, crash, and outlive SIGKILL; operators interfere. It checks after every
// step what must hold whatever happens.
type world struct {
	t      require.TestingT
	c      chooser
	tree   *Tree
	shadow *Tree             // fed the same, and saved and loaded again now and then
	kept   map[string]string // what SaveChanges made of the state
	root   Supervisor
	seed   uint64
	now    time.Duration

	lastRun    map[string]uint64
	processes  map[string]*process // what is alive, by ID
	states     map[string]State
	tokens     uint64
	unanswered map[uint64]bool
	decisions  map[string][]time.Duration // restarts decided by each supervisor since it started
	configured configured
	event      Event    // the latest
	latest     []Action // what it led to
	stopping   bool
	ended      bool
	atRest     bool       // and all is well
	planted    specJSON   // what root was at first
	steps      []stepJSON // what was done
	took       [][]Action // what the tree did in each of them
}

// process is one that is alive, or about to be.
type process struct {
	run      uint64
	asked    bool // to stop
	spawned  bool
	ready    bool
	survivor bool // outlived SIGKILL
}

func newWorld(t require.TestingT, c chooser) *world {
	return newWorldOf(t, c, chooseRoot(c), uint64(c.pick(3, "seed")))
}

func newWorldOf(t require.TestingT, c chooser, root Supervisor, seed uint64) *world {
	w := &world{
		t: t, c: c, root: root, seed: seed,
		kept: map[string]string{}, lastRun: map[string]uint64{}, processes: map[string]*process{},
		states: map[string]State{}, unanswered: map[uint64]bool{}, decisions: map[string][]time.Duration{},
		configured: newConfigured(), planted: *rootJSON(&root),
	}
	var err error
	w.tree, err = New(w.root, w.seed)
	require.NoError(t, err)
	w.shadow, err = New(w.root, w.seed)
	require.NoError(t, err)
	return w
}

// run plays a random scenario to its end.
func (w *world) run() {
	w.feed(Start{})
	for w.c.more() {
		w.something()
	}
	w.rest()
}

// rest: whatever came before, a stop brings everything to rest.
func (w *world) rest() {
	w.feed(Stop{})
	for range 100_000 {
		if !w.answerOne(true) {
			break
		}
	}
	require.True(w.t, w.ended, "the tree does not come to rest")
	require.Empty(w.t, w.unanswered, "commands were never answered")
	for id, p := range w.processes {
		require.True(w.t, p.survivor, "%s run %d is still alive", id, p.run)
	}
	w.tree.Walk(func(id string, s Status) bool {
		require.Contains(w.t, []State{StateStopped, StateExited, StateFailed, StateUnkillable, StateGaveUp}, s.State, id)
		return true
	})
	_, armed := w.tree.NextDeadline()
	require.False(w.t, armed, "a timer is left armed")
	for _, n := range w.tree.nodes {
		require.False(w.t, n.sup != nil && n.sup.stale, "the list of %q is an old one", n.id)
	}
	w.checkLists("", &w.root)
	w.atRest = true
}

// something happens.
func (w *world) something() {
	switch w.c.pick(13, "something") {
	case 0, 1, 2, 3, 4:
		w.answerOne(false)
	case 5, 6:
		w.crash()
	case 7:
		w.pass(time.Duration(w.c.pick(40, "wait")) * 100 * time.Millisecond)
	case 8:
		if at, ok := w.tree.NextDeadline(); ok {
			w.pass(at - w.now)
		}
	case 9, 10:
		w.operate()
	case 11:
		switch w.c.pick(6, "rare") {
		case 0:
			w.feed(Stop{})
		case 1:
			w.feed(Start{})
		case 2:
			id := pickID(w, w.lastRun)
			w.stale(id, w.lastRun[id]+uint64(w.c.pick(2, "run"))-1)
		case 3:
			w.reload()
		}
	case 12:
		w.reconfigure()
	}
}

func (w *world) pass(d time.Duration) {
	w.now += d
	w.step(stepJSON{Op: "wait", MS: int(d / time.Millisecond), NS: int(d % time.Millisecond)}, Tick{})
}

// pickID is one of the IDs in m, "" if there is none.
func pickID[V any](w *world, m map[string]V) string {
	if len(m) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(m))[w.c.pick(len(m), "id")]
}

// answerOne has a process do what is expected of it, and says whether there was one.
// Kindly is: soon and well.
func (w *world) answerOne(kindly bool) bool {
	owing := map[string]*process{}
	for id, p := range w.processes {
		if !p.survivor && (p.asked || !p.ready) {
			owing[id] = p
		}
	}
	id := pickID(w, owing)
	if id == "" {
		return false
	}
	p := owing[id]
	how := 0
	if !kindly {
		how = w.c.pick(6, "how")
	}
	switch {
	case p.asked && how == 5:
		w.feed(Unkillable{id, p.run})
	case how == 5, p.asked && !p.spawned && how == 4:
		w.feed(StartFailed{id, p.run})
	case p.asked:
		w.feed(Exited{id, p.run, ExitStopped})
	case how == 4:
		w.feed(Exited{id, p.run, ExitCode})
	case !p.spawned:
		w.feed(Spawned{id, p.run})
	default:
		w.feed(Ready{id, p.run})
	}
	return true
}

// crash ends some process, a survivor perhaps.
func (w *world) crash() {
	if id := pickID(w, w.processes); id != "" {
		w.feed(Exited{id, w.processes[id].run, []ExitReason{ExitSuccess, ExitCode, ExitSignal}[w.c.pick(3, "exit")]})
	}
}

// stale: what is said of a run that is over means nothing.
func (w *world) stale(id string, run uint64) {
	if n := w.tree.nodes[id]; n != nil && n.sup != nil {
		return
	}
	if p := w.processes[id]; p != nil && p.run == run {
		return
	}
	w.record(stepJSON{Op: "stale", Child: id, Run: run})
	for _, ev := range []Event{Spawned{id, run}, Ready{id, run}, StartFailed{id, run}, Exited{id, run, ExitCode}, Unkillable{id, run}, Tick{}} {
		require.Empty(w.t, w.tree.Step(w.now, ev), "%#v", ev)
		w.shadow.Step(w.now, ev)
	}
}

func (w *world) operate() {
	ids := map[string]bool{}
	w.tree.Walk(func(id string, _ Status) bool { ids[id] = true; return true })
	ids["nobody"], ids["no.body"] = true, true
	cmd := Command{Op: Op(w.c.pick(5, "op")), ID: pickID(w, ids)}
	if cmd.Op == OpAdd {
		name := []string{"a0", "a1", "new", "x", "y", ""}[w.c.pick(6, "name")]
		parent := Supervisor{}
		if n := w.tree.nodes[cmd.ID]; n != nil && n.sup != nil {
			parent = *n.sup.spec
		}
		child := chooseChild(w.c, name, parent, strings.Count(cmd.ID, ".")+1)
		cmd.Child = &child
	}
	w.command(cmd)
}

func (w *world) command(cmd Command) {
	w.tokens++
	cmd.Token = w.tokens
	w.feed(cmd)
}

// reload replaces the shadow by what is loaded from its saved state.
func (w *world) reload() {
	w.record(stepJSON{Op: "reload"})
	saved := map[string][]byte{}
	w.shadow.Save(func(key string, value []byte) {
		require.NotContains(w.t, saved, key)
		saved[key] = value
	})
	var err error
	w.shadow, err = Load(w.root, w.seed, maps.All(saved))
	require.NoError(w.t, err)
	again := map[string][]byte{}
	w.shadow.Save(func(key string, value []byte) { again[key] = value })
	require.Equal(w.t, saved, again, "saving what was loaded")
}

// feed has an event happen, if it can.
func (w *world) feed(ev Event) {
	if w.happened(ev) {
		w.step(stepOf(ev), ev)
	}
}

// happened notes what an event means outside of the tree, and says whether it can
// be: in a replay it may be about a process that this time there is not.
func (w *world) happened(ev Event) bool {
	id, run, ofProcess := runOf(ev)
	p := w.processes[id]
	if ofProcess && (p == nil || p.run != run) {
		return false
	}
	switch ev := ev.(type) {
	case Spawned:
		p.spawned, p.ready = true, p.ready || !w.tree.nodes[id].awaitsReady
	case Ready:
		p.spawned, p.ready = true, true
	case StartFailed:
		if p.ready && !p.asked {
			return false
		}
		delete(w.processes, id)
	case Exited:
		delete(w.processes, id)
	case Unkillable:
		p.survivor = true
	case Command:
		w.unanswered[ev.Token] = true
		switch ev.Op {
		case OpAdd:
			w.configured.added[join(ev.ID, ev.Child.Name)] = true
		case OpDelete:
			w.configured.deleted[ev.ID] = true
		}
	}
	return true
}

// runOf is the run of a process that an event is about, if it is about one.
func runOf(ev Event) (id string, run uint64, ok bool) {
	switch ev := ev.(type) {
	case Spawned:
		return ev.ID, ev.Run, true
	case Ready:
		return ev.ID, ev.Run, true
	case StartFailed:
		return ev.ID, ev.Run, true
	case Exited:
		return ev.ID, ev.Run, true
	case Unkillable:
		return ev.ID, ev.Run, true
	}
	return "", 0, false
}

func (w *world) record(s stepJSON) {
	w.steps = append(w.steps, s)
	w.took = append(w.took, nil)
}

// step feeds both trees, carries the actions out and checks them.
func (w *world) step(s stepJSON, ev Event) {
	w.record(s)
	if _, ok := ev.(Stop); ok {
		w.stopping = true
	}
	if _, ok := ev.(Start); ok && !w.rootLive() {
		w.stopping, w.ended = false, false
	}
	actions := append([]Action{}, w.tree.Step(w.now, ev)...)
	w.event, w.latest = ev, actions
	w.took[len(w.took)-1] = actions
	require.Equal(w.t, actions, append([]Action{}, w.shadow.Step(w.now, ev)...), "a tree that was loaded goes on differently")
	for _, a := range actions {
		w.carryOut(a)
	}
	w.tree.SaveChanges(func(key string, value []byte) {
		if w.kept[key] = string(value); value == nil {
			delete(w.kept, key)
		}
	})
	w.check()
}

func (w *world) rootLive() bool { return w.tree.root.live() }

func (w *world) carryOut(a Action) {
	switch a := a.(type) {
	case Spawn:
		require.False(w.t, w.stopping, "%s is started after the stop was asked for", a.ID)
		require.NotContains(w.t, w.processes, a.ID, "a second run beside a live one")
		if w.numberedInATemplate(a.ID) {
			require.Greater(w.t, a.Run, w.lastRun[a.ID])
		} else {
			require.Equal(w.t, w.lastRun[a.ID]+1, a.Run, a.ID)
		}
		w.lastRun[a.ID] = a.Run
		w.processes[a.ID] = &process{run: a.Run}
	case StopProcess:
		p := w.processes[a.ID]
		require.NotNil(w.t, p, "%s is stopped and does not run", a.ID)
		require.Equal(w.t, p.run, a.Run)
		require.False(w.t, p.asked, "%s is asked twice", a.ID)
		p.asked = true
		w.checkStopOrder(a)
		w.checkLeaving(a.ID)
		require.True(w.t, a.Why != StopConfig || w.wasTouched(a.ID), "%s is stopped by a Reconfigure that did not touch it", a.ID)
	case Changed:
		if a.State != StateStopped { // which is also said of a child that is there again
			require.NotEqual(w.t, w.states[a.ID], a.State, "%s did not change", a.ID)
		}
		w.states[a.ID] = a.State
	case Restarting:
		w.checkIntensity(a)
	case SupervisorStarting:
		delete(w.decisions, a.ID)
		if n := w.tree.nodes[a.ID]; n != nil {
			w.lastRun[a.ID] = n.run
		}
	case SupervisorStopping:
		w.checkLeaving(a.ID)
	case Answer:
		require.Contains(w.t, w.unanswered, a.Token)
		delete(w.unanswered, a.Token)
	case Reconfigured:
		w.reconfigured(a)
	case Ended:
		w.ended, w.configured.awaited = true, false
	}
}

// numberedInATemplate: the runs of the child are numbered together with others, or were once.
func (w *world) numberedInATemplate(id string) bool {
	for n := w.tree.nodes[id].parent; n != nil; n = n.parent {
		if n.instances > 0 {
			return true
		}
	}
	return false
}

// checkIntensity: no more decisions in any window than the supervisor allows.
func (w *world) checkIntensity(a Restarting) {
	if a.Reason == RestartStrategy || a.Reason == RestartOperator || a.Reason == RestartConfig {
		return
	}
	p := w.tree.nodes[parentID(a.ID)]
	if p == nil {
		return // deleted within the same step
	}
	times := append(w.decisions[p.id], w.now)
	w.decisions[p.id] = times
	count := 0
	for _, at := range times {
		if w.now-at < p.sup.spec.Period {
			count++
		}
	}
	require.LessOrEqual(w.t, count, p.sup.spec.MaxRestarts, "restarts of the children of %q", p.id)
}

// checkStopOrder: when a is asked to stop as one of many, all that is after it in
// the list is down already, at each level that stops one by one.
func (w *world) checkStopOrder(a StopProcess) {
	if a.Why == StopOperator || a.Why == StopStartTimeout {
		return
	}
	for n := w.tree.nodes[a.ID]; n.parent != nil; n = n.parent {
		p := n.parent
		if a.Why == StopConfig && n.sup == nil && p.sup.stopWhy != StopConfig {
			return // the Reconfigure came first, and then its supervisor's end within the same step
		}
		if n.sup != nil && (!n.sup.asked || n.why == StopOperator || n.why == StopConfig) {
			return // it ends by itself, by an operator or by a Reconfigure, whenever that is
		}
		// Of a group the level is the one of the child whose failure it was.
		group := a.Why == StopStrategy && parentID(a.Cause) == p.id && p.state != StateStopping
		if w.together(p) || p.state != StateStopping && !group {
			continue
		}
		for later := n.next; later != nil; later = later.next {
			if group && !later.startsWithGroup() && later.spec.Restart != Temporary {
				continue // not of the group: a Manual one that an operator started meanwhile
			}
			w.requireDown(later, a.ID)
		}
	}
}

func parentID(id string) string { return id[:max(0, strings.LastIndexByte(id, '.'))] }

// check: what holds between any two steps.
func (w *world) check() {
	owed := false // some process has something to answer
	for id, p := range w.processes {
		if !p.survivor && (p.asked || !p.ready) {
			owed = true
		}
		s, ok := w.tree.Status(id)
		require.True(w.t, ok, "%s lives and is not in the tree", id)
		require.Equal(w.t, p.run, s.Run)
		switch {
		case p.survivor:
			require.Equal(w.t, StateUnkillable, s.State, id)
		case p.asked:
			require.Equal(w.t, StateStopping, s.State, id)
		case p.ready:
			require.Equal(w.t, StateRunning, s.State, id)
		default:
			require.Equal(w.t, StateStarting, s.State, id)
		}
	}
	w.tree.timers.requireInOrder(w.t)
	at, armed := w.tree.NextDeadline()
	require.True(w.t, !armed || at > w.now, "a time that has passed is awaited")
	seen := map[string]bool{}
	w.tree.Walk(func(id string, s Status) bool {
		require.False(w.t, seen[id])
		seen[id] = true
		require.Equal(w.t, w.states[id], s.State, "what Changed said of %s", id)
		restless := s.State == StateStarting || s.State == StateStopping || s.Waiting
		require.False(w.t, restless && !owed && !armed, "%s is %v, waiting %v, and nothing is awaited", id, s.State, s.Waiting)
		if live := w.processes[id] != nil; !s.Supervisor && !live {
			require.NotContains(w.t, []State{StateStarting, StateRunning, StateStopping, StateUnkillable}, s.State, id)
		}
		if s.State == StateBackoff {
			require.True(w.t, s.Waiting, "%s is in backoff and will not be started", id)
		}
		return true
	})
	require.Len(w.t, w.tree.nodes, len(seen), "children out of sight")
	for id := range w.states {
		if !seen[id] {
			delete(w.states, id)
		}
	}
	require.True(w.t, owed || armed || len(w.unanswered) == 0, "commands wait and nothing else does")
	w.checkSettling(owed || armed)
	if !w.configured.awaited {
		w.checkLists("", &w.root)
	}
	for id, n := range w.tree.nodes {
		if n.sup != nil {
			w.checkTotals(id, n.sup)
		}
	}
	saved := map[string]string{}
	w.tree.Save(func(key string, value []byte) { saved[key] = string(value) })
	require.Equal(w.t, saved, w.kept, "what SaveChanges said")
}

func (w *world) checkTotals(id string, s *supervisor) {
	var want counts
	for c := s.first; c != nil; c = c.next {
		want.live += c.counted.live
		want.significant += c.counted.significant
		want.awaited += c.counted.awaited
		want.leaving += c.counted.leaving
		require.Equal(w.t, c.live(), c.counted.live == 1, c.id)
	}
	require.Equal(w.t, want, s.totals, "totals of %q", id)
}
