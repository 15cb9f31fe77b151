// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

func configured(change func(*Config), children ...ChildConfig) *Config {
	cfg := newDefaultConfig()
	cfg.Children = children
	if change != nil {
		change(cfg)
	}
	return cfg
}

// until waits until so much lives.
func (k *modelKeeper) until(living string) {
	k.t.Helper()
	require.Eventually(k.t, func() bool { return k.living() == living }, 20*time.Second, time.Millisecond, "waited for %q", living)
}

// await returns the n-th event of that name about a process, as it is kept.
func (k *modelKeeper) await(process, name string, n int) (event journal.Event) {
	k.t.Helper()
	require.Eventually(k.t, func() bool {
		left := n
		for _, e := range k.told() {
			if e.Process == process && e.Name == name {
				if left--; left == 0 {
					event = e
					return true
				}
			}
		}
		return false
	}, 20*time.Second, time.Millisecond, "waited for %s %s", process, name)
	return event
}

// leave is what a reload does with the engine.
func (k *modelKeeper) leave(e *engine) {
	e.freeze()
	require.NoError(k.t, e.detach())
}

func (k *modelKeeper) end(e *engine) {
	e.stop()
	<-e.ended
	e.close()
}

func TestAdoption_AnExitThatCameWithoutACollectorIsToldOnceAndMarked(t *testing.T) {
	k := newModelKeeper(t)
	cfg := configured(nil, sh("a", ""), sh("b", ""))
	e, _ := k.engine(cfg, -1)
	k.until("a1 b1")
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)
	k.crash("a", 1, 9)

	e, _ = k.engine(cfg, -1)
	k.until("a2 b1")
	crash := k.await("a", journal.ProcessCrashed, 1)
	assert.EqualValues(t, 9, attribute(crash, journal.KeyExitCode))
	assert.EqualValues(t, 1, attribute(crash, journal.KeyReplayed))
	assert.Equal(t, `process "b" goes on with pid 1000000002 under a new collector`, k.await("b", journal.ProcessAdopted, 1).Body)
	k.crash("b", 1, 8)
	k.until("a2 b2")
	assert.Nil(t, attribute(k.await("b", journal.ProcessCrashed, 1), journal.KeyReplayed))
	k.end(e)
}

func TestAdoption_AStepOfTheWallClockChangesNoDuration(t *testing.T) {
	k := newModelKeeper(t)
	k.stepped, k.later = 1000*time.Hour, 90*time.Second
	cfg := configured(nil, sh("a", ""))
	e, _ := k.engine(cfg, -1)
	k.until("a1")
	k.leave(e)
	e, _ = k.engine(cfg, -1)
	k.await("a", journal.ProcessAdopted, 1)
	k.crash("a", 1, 1)
	k.until("a2")
	lasted := (&supervisor{roster: e.roster}).History("a")[0].Lasted
	assert.GreaterOrEqual(t, lasted, k.later)
	assert.Less(t, lasted, k.later+time.Minute)
	k.end(e)
}

func TestAttach_SaysOnceWhyThereAreNoCgroups(t *testing.T) {
	for _, why := range []string{"", "this process is in no cgroup of the unified hierarchy (v2)"} {
		log, logged := observer.New(zapcore.InfoLevel)
		k := newModelKeeper(t)
		k.log, k.noCgroups = log, why
		cfg := configured(nil, sh("a", ""))
		e, _ := k.engine(cfg, -1)
		k.until("a1")
		k.leave(e)
		k.reload = true
		e, _ = k.engine(cfg, -1)
		k.end(e)
		var said []string
		for _, entry := range logged.FilterMessageSnippet("no cgroup of their own").All() {
			said = append(said, entry.ContextMap()["reason"].(string))
		}
		if why == "" {
			assert.Empty(t, said)
		} else {
			assert.Equal(t, []string{why}, said, "a reload does not say it again")
		}
	}
}

func TestAdoption_HistoriesTotalsAndTheBeginningOfCountersGoOn(t *testing.T) {
	k := newModelKeeper(t)
	cfg := configured(func(c *Config) { c.Intensity.MaxRestarts = 1000 }, sh("a", "", func(c *ChildConfig) { c.Backoff.InitialInterval = 0 }))
	e, _ := k.engine(cfg, -1)
	created := e.roster.snapshot(nil)
	for run := uint64(1); run <= 105; run++ {
		k.until(fmt.Sprintf("a%d", run))
		k.await("a", journal.ProcessReady, int(run))
		if run%10 == 0 {
			k.leave(e)
			e, _ = k.engine(cfg, -1)
		}
		k.crash("a", run, int(run))
	}
	k.until("a106")
	k.leave(e)
	e, _ = k.engine(cfg, -1)
	s := &supervisor{roster: e.roster}
	history := s.History("a")
	require.Len(t, history, historyLength)
	for i, run := range history {
		assert.EqualValues(t, i+6, run.Run)
		assert.Equal(t, i+6, run.Code)
	}
	assert.Empty(t, s.History("nobody"))
	now := e.roster.snapshot(nil)
	assert.EqualValues(t, 105, now[1].Totals.Restarts[tree.RestartCode])
	assert.EqualValues(t, 105, now[1].Totals.Lifetime.Count)
	for i := range now {
		assert.True(t, created[i].Info.Created.Equal(now[i].Info.Created), "%q", now[i].Info.ID)
	}
	k.end(e)
}

func TestConfigApplied_NamesTheFirstTwoHundredAndCountsTheRest(t *testing.T) {
	for children, want := range map[int]string{200: "c199", 201: "c199 and 1 more", 450: "c199 and 250 more"} {
		k := newModelKeeper(t)
		cfg := configured(nil)
		for i := range children {
			cfg.Children = append(cfg.Children, sh(fmt.Sprintf("c%d", i), ""))
		}
		e, _ := k.engine(cfg, -1)
		k.await("", journal.SupervisorStarted, 1)
		k.leave(e)
		e, _ = k.engine(cfg, -1)
		applied := k.await("", journal.ConfigApplied, 1)
		k.leave(e)
		_, list, _ := strings.Cut(applied.Body, "kept: ")
		assert.True(t, strings.HasPrefix(list, "c0, c1, ") && strings.HasSuffix(list, ", "+want), "%d children: %s", children, list)
		assert.Equal(t, maxListed, strings.Count(list, ",")+1)
		assert.EqualValues(t, children, attribute(applied, journal.KeyConfigKept))
	}
}

func TestAdoption_ABackOffGoesOnWhereItWas(t *testing.T) {
	k := newModelKeeper(t)
	cfg := configured(nil, sh("a", "", func(c *ChildConfig) { c.Backoff.InitialInterval, c.Backoff.MaxInterval = time.Hour, time.Hour }))
	e, _ := k.engine(cfg, -1)
	for run := uint64(1); run <= 2; run++ {
		k.until(fmt.Sprintf("a%d", run))
		k.await("a", journal.ProcessReady, int(run))
		k.crash("a", run, 1)
	}
	k.await("a", journal.ProcessRestarting, 2)
	k.leave(e)
	before, _ := e.tree.NextDeadline()
	e, _ = k.engine(cfg, -1)
	k.await("", journal.ConfigApplied, 1)
	k.leave(e)
	after, armed := e.tree.NextDeadline()
	assert.True(t, armed)
	assert.Equal(t, before, after)
	assert.Empty(t, k.living())
}

func TestReconfigure_TouchesOnlyWhatChangedAndSaysWhatThatWas(t *testing.T) {
	k := newModelKeeper(t)
	nested := func(children ...ChildConfig) ChildConfig { return nested("n", nil, children...) }
	e, _ := k.engine(configured(nil, sh("a", ""), sh("b", ""), sh("c", ""), nested(sh("x", ""), sh("y", ""))), -1)
	k.until("a1 b1 c1 n.x1 n.y1")
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)

	e, _ = k.engine(configured(func(c *Config) { c.Strategy = StrategyOneForAll },
		sh("d", ""),
		sh("a", "", func(c *ChildConfig) { c.Process.Stop = StopConfig{Signal: syscall.SIGINT, Timeout: time.Minute} }),
		sh("b", "another"),
		nested(sh("y", "")),
	), -1)
	k.until("a1 b2 d1 n.y1")
	applied := k.await("", journal.ConfigApplied, 1)
	assert.Equal(t, `the supervisor has its configuration applied; kept: a (stop), n, n.y; restarted: b (command); started: d; stopped: c, n.x`, applied.Body)
	assert.Equal(t, "strategy", attribute(applied, journal.KeyConfigKeys))
	assert.EqualValues(t, 3, attribute(applied, journal.KeyConfigKept))
	for id, want := range map[string]string{
		"a":   `"a" is kept by the configuration, changed: stop`,
		"b":   `"b" is restarted by the configuration, changed: command`,
		"c":   `"c" is stopped by the configuration`,
		"d":   `"d" is started by the configuration`,
		"n.x": `"n.x" is stopped by the configuration`,
	} {
		assert.Equal(t, want, k.await(id, journal.ConfigApplied, 1).Body)
	}
	assert.Equal(t, "config", attribute(k.await("b", journal.ProcessRestarting, 1), journal.KeyRestartReason))
	k.await("d", journal.ProcessReady, 1)
	assert.Equal(t, []string{"a1 interrupt 1m0s"}, k.stops)
	k.leave(e)
	for _, id := range []string{"c", "n.x"} {
		assert.NotContains(t, k.values, configPrefix+id)
	}

	// What it is now is what the next one compares with.
	e, _ = k.engine(configured(nil, sh("d", ""), sh("b", "another")), -1)
	assert.Equal(t, `the supervisor has its configuration applied; kept: d, b; stopped: a, n, n.y`, k.await("", journal.ConfigApplied, 2).Body)
	k.until("b2 d1")
	k.end(e)
}

func TestReconfigure_AChildThatBecomesSomethingElseEndsFirst(t *testing.T) {
	k := newModelKeeper(t)
	e, _ := k.engine(configured(nil, sh("a", ""), sh("b", "")), -1)
	k.until("a1 b1")
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)
	e, _ = k.engine(configured(nil, nested("a", nil, sh("x", "")), sh("b", "")), -1)
	k.until("a.x1 b1")
	k.await("a", journal.ProcessStopped, 1)
	k.await("a", journal.SupervisorStarted, 1)
	k.leave(e)
	e, _ = k.engine(configured(nil, sh("a", ""), sh("b", "")), -1)
	k.until("a3 b1") // the supervisor had a run of its own
	k.end(e)
}

func TestSurvival_OfOperatorsDoings(t *testing.T) {
	k := newModelKeeper(t)
	template := sh("t", "", func(c *ChildConfig) { c.Process.Template = true })
	cfg := configured(nil, sh("a", ""), sh("b", ""), sh("c", ""), template)
	command := func(e *engine, op Op, id string, child map[string]any) {
		r := request{Command{Op: op, ID: id, Child: child}, make(chan error, 1)}
		e.mailbox.post(r)
		require.NoError(t, <-r.answer)
	}
	e, _ := k.engine(cfg, -1)
	k.await("", journal.SupervisorStarted, 1)
	command(e, OpStop, "a", nil)
	command(e, OpStop, "b", nil)
	command(e, OpDelete, "b", nil)
	command(e, OpAdd, "", shell("x", ""))
	command(e, OpAdd, "t", map[string]any{"name": "one"})
	const living = "c1 t.one1 x1"
	k.until(living)
	k.leave(e)
	e, _ = k.engine(cfg, -1)
	k.await("", journal.ConfigApplied, 1)
	assert.Equal(t, living, k.living())
	command(e, OpStart, "a", nil)
	k.until("a2 " + living)
	command(e, OpRestart, "x", nil)
	command(e, OpRestart, "t.one", nil)
	k.until("a2 c1 t.one2 x2")
	command(e, OpStop, "x", nil)
	command(e, OpDelete, "x", nil)
	k.leave(e)
	assert.NotContains(t, k.values, configPrefix+"x")
	e, _ = k.engine(cfg, -1)
	k.end(e)
}

func TestReconfigure_AChildThatIsNotToStartByItselfIsThereAllTheSame(t *testing.T) {
	k := newModelKeeper(t)
	k.lingering = true
	manual := sh("m", "", func(c *ChildConfig) { c.Process.Autostart = false })
	e, _ := k.engine(configured(nil, sh("a", ""), sh("b", "")), -1)
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)
	e, _ = k.engine(configured(nil, manual, sh("a", ""), sh("b", "other")), -1)
	k.until("a1 b2")
	k.await("b", journal.ProcessReady, 2)
	require.Eventually(t, func() bool {
		var ids []string
		for _, p := range e.roster.snapshot(nil) {
			ids = append(ids, p.Info.ID)
		}
		return slices.Equal(ids, []string{"", "m", "a", "b"})
	}, 20*time.Second, time.Millisecond)
	k.end(e)
}

func TestReconfigure_TheInstancesOfATemplateAreReplacedWithIt(t *testing.T) {
	k := newModelKeeper(t)
	template := func(script string) *Config {
		return configured(nil, sh("t", script, func(c *ChildConfig) { c.Process.Template = true }))
	}
	e, _ := k.engine(template("one"), -1)
	k.await("", journal.SupervisorStarted, 1)
	for _, name := range []string{"x", "y"} {
		r := request{Command{Op: OpAdd, ID: "t", Child: map[string]any{"name": name}}, make(chan error, 1)}
		e.mailbox.post(r)
		require.NoError(t, <-r.answer)
	}
	k.until("t.x1 t.y2")
	k.leave(e)
	e, _ = k.engine(template("one"), -1)
	k.await("", journal.ConfigApplied, 1)
	assert.Equal(t, "t.x1 t.y2", k.living())
	k.leave(e)
	e, _ = k.engine(template("two"), -1)
	k.await("t", journal.ProcessReady, 4)
	assert.NotContains(t, k.living(), "t.x1")
	assert.NotContains(t, k.living(), "t.y2")
	k.end(e)
}

func TestAdoption_ARunThatNobodyWaitsForIsEnded(t *testing.T) {
	k := newModelKeeper(t)
	cfg := configured(nil, sh("a", ""))
	e, _ := k.engine(cfg, -1)
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)
	k.mu.Lock()
	for _, id := range []string{"a", "stranger", commandID} {
		k.runs = append(k.runs, &modelRun{id: id, run: 7, pid: 1_000_000_007})
	}
	k.mu.Unlock()
	e, _ = k.engine(cfg, -1)
	k.until("a1")
	k.end(e)
	assert.Empty(t, k.runs)
}

func TestAdoption_WhatACollectorWasEndingIsStartedAgainByTheNext(t *testing.T) {
	k := newModelKeeper(t)
	k.lingering = true
	cfg := configured(nil, sh("a", ""), sh("b", ""))
	e, _ := k.engine(cfg, -1)
	k.await("", journal.SupervisorStarted, 1)
	e.stop()
	k.await("b", journal.ProcessStopping, 1)
	k.leave(e)
	e, _ = k.engine(cfg, -1)
	k.until("a2 b2")
	k.await("", journal.SupervisorStarted, 2)
	k.end(e)
}

func TestEngine_WhatALostKeeperRanIsEndedAndItsExitsAreUnknown(t *testing.T) {
	k := newModelKeeper(t)
	e, client := k.engine(configured(nil, sh("a", ""), sh("b", "")), -1)
	k.await("", journal.SupervisorStarted, 1)
	client.loses(errors.New("it is gone"))
	client.listen.lost(errors.New("and again"))
	<-e.ended
	assert.EqualError(t, e.lostErr, "it is gone")
	var ends []string
	events, _ := readAll(t, e.journal)
	for _, event := range events {
		if event.Name == journal.ProcessStopped {
			ends = append(ends, event.Body[:strings.Index(event.Body, " after")])
		}
	}
	assert.ElementsMatch(t, []string{`process "a" ended, with what status is not known`, `process "b" ended, with what status is not known`}, ends)
	e.close()
}

func readAll(t *testing.T, j *journal.Journal) ([]journal.Event, uint64) {
	reader, err := j.Open(t.Name())
	require.NoError(t, err)
	defer reader.Close()
	return reader.Read(nil, journalCapacity)
}

// commits notes what is committed.
type commits struct {
	memory
	all []keeper.Commit
	err error
}

func (c *commits) Commit(one keeper.Commit) error {
	c.all = append(c.all, one)
	return c.err
}

func TestCommit_ThatFailsMeansThatTheKeeperIsLostUnlessWeClosedIt(t *testing.T) {
	for _, tt := range []struct {
		give error
		want []any
	}{
		{give: keeper.ErrClosed},
		{give: keeper.ErrLost, want: []any{lost{keeper.ErrLost}}},
	} {
		e := &engine{memory: &commits{err: tt.give}, journal: journal.New(1), roster: &roster{}, mailbox: mailbox{wake: make(chan struct{}, 1)}}
		e.keep("key", []byte("value"))
		e.settle()
		assert.Equal(t, tt.want, e.mailbox.take())
	}
}

func TestCommit_IsDividedOnlyIfTheKeeperWouldNotTakeIt(t *testing.T) {
	value := func(key string, size int) keeper.Value { return keeper.Value{Key: key, Data: make([]byte, size)} }
	keys := func(c keeper.Commit) (keys []string) {
		for _, v := range c.Values {
			keys = append(keys, v.Key)
		}
		return keys
	}
	m := &commits{}
	e := &engine{memory: m}
	require.NoError(t, e.commit(keeper.Commit{}))
	assert.Empty(t, m.all, "nothing to say")
	require.NoError(t, e.commit(keeper.Commit{Values: []keeper.Value{value("a", maxCommit/2), value("b", maxCommit/3)}, Acknowledge: []uint64{1}}))
	require.Len(t, m.all, 1)
	require.NoError(t, e.commit(keeper.Commit{
		Values:  []keeper.Value{value("a", maxCommit), value("b", maxCommit/3), value("c", maxCommit/2), value("d", maxCommit/3), value("e", maxCommit/3)},
		Journal: [][]byte{{1}}, Acknowledge: []uint64{2},
	}))
	require.Len(t, m.all, 4)
	for i, want := range [][]string{{"a"}, {"b", "c"}, {"d", "e"}} {
		assert.Equal(t, want, keys(m.all[1+i]))
		assert.Equal(t, i == 2, len(m.all[1+i].Journal) == 1 && len(m.all[1+i].Acknowledge) == 1)
	}
}
