// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
)

// modelKeeper is a keeper without processes: what it is to remember, told as simply as
// can be. Collectors come and go, and one may die at any step of what it does.
type modelKeeper struct {
	t *testing.T

	mu      sync.Mutex
	holder  *modelClient      // guarded by mu; nil: none
	values  map[string][]byte // guarded by mu
	journal [][]byte          // guarded by mu
	runs    []*modelRun       // guarded by mu; in the order of their starts, until their Gone is acknowledged
	events  []keeper.Event    // guarded by mu; not acknowledged
	seq     uint64            // guarded by mu
	pid     int               // guarded by mu
	spawned map[string]int    // guarded by mu; how often each run was started
	stops   []string          // guarded by mu; what SetStop was called with

	lingering bool // Gone comes later than Died
	reload    bool // the next collector is the last one's process
	noCgroups string
	stepped   time.Duration // how far the wall clock was off when something was started
	later     time.Duration // than now is a crash
	log       zapcore.Core  // of the collectors
}

type modelRun struct {
	id   string
	run  uint64
	pid  int
	gone bool
}

// modelClient is what one collector has of it.
type modelClient struct {
	keeper *modelKeeper
	listen listener

	steps int           // guarded by keeper.mu; until the collector is killed; negative: never
	died  chan struct{} // closed at that moment
	ended chan struct{} // closed when the keeper was dismissed
}

func newModelKeeper(t *testing.T) *modelKeeper {
	return &modelKeeper{t: t, log: zapcore.NewNopCore(), values: map[string][]byte{}, spawned: map[string]int{}}
}

// attach is the parent of a collector that is killed after so many steps.
func (k *modelKeeper) attach(c *modelClient, steps int) newParent {
	return func(_ context.Context, l listener) (parent, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.holder != nil {
			return parent{}, errors.New("held")
		}
		*c = modelClient{keeper: k, listen: l, steps: steps, died: make(chan struct{}), ended: make(chan struct{})}
		k.holder = c
		left := keeper.State{Fresh: len(k.values) == 0, Values: maps.Clone(k.values), Journal: slices.Clone(k.journal), JournalFirst: 1, Reload: k.reload, NoCgroups: k.noCgroups}
		for _, r := range k.runs {
			left.Runs = append(left.Runs, keeper.Run{
				ID: r.id, Run: r.run, Started: keeper.Started{PID: r.pid, StartTicks: uint64(r.pid), At: time.Now().Add(k.stepped), Mono: monotonic()}, Gone: r.gone,
			})
		}
		for _, e := range k.events {
			e.Replayed = true
			l.event(e)
		}
		return parent{Spawner: c, memory: c, left: left}, nil
	}
}

// step is one durable step: nothing that a dead collector does has an effect.
func (c *modelClient) step() (alive bool) {
	if c.keeper.holder != c {
		return false
	}
	if c.steps == 0 {
		c.keeper.holder = nil
		close(c.died)
		return false
	}
	c.steps--
	return true
}

// dead: what the collector says does not count any more.
func (c *modelClient) dead() bool {
	select {
	case <-c.died:
		return true
	default:
		return false
	}
}

func (c *modelClient) Commit(commit keeper.Commit) error {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if !c.step() {
		return nil
	}
	for _, v := range commit.Values {
		if v.Data == nil {
			delete(k.values, v.Key)
		} else {
			k.values[v.Key] = v.Data
		}
	}
	k.journal = append(k.journal, commit.Journal...)
	k.events = slices.DeleteFunc(k.events, func(e keeper.Event) bool {
		acknowledged := slices.Contains(commit.Acknowledge, e.Seq)
		if acknowledged && e.Kind == keeper.Gone {
			k.runs = slices.DeleteFunc(k.runs, func(r *modelRun) bool { return r.id == e.ID && r.run == e.Run })
		}
		return acknowledged
	})
	c.step() // it may also die right after
	return nil
}

func (c *modelClient) Spawn(spec keeper.Spec) (keeper.Started, error) {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if !c.step() {
		return keeper.Started{}, keeper.ErrLost
	}
	r := k.find(spec.ID, spec.Run)
	if r == nil {
		for _, other := range k.runs {
			assert.False(k.t, other.id == spec.ID && !other.gone, "a second run of %s", spec.ID)
		}
		k.pid++
		k.spawned[fmt.Sprintf("%s/%d", spec.ID, spec.Run)]++
		r = &modelRun{id: spec.ID, run: spec.Run, pid: 1_000_000_000 + k.pid}
		k.runs = append(k.runs, r)
	}
	c.step()
	return keeper.Started{PID: r.pid, StartTicks: uint64(r.pid), At: time.Now().Add(k.stepped), Mono: monotonic()}, nil
}

func (k *modelKeeper) find(id string, run uint64) *modelRun {
	for _, r := range k.runs {
		if r.id == id && r.run == run {
			return r
		}
	}
	return nil
}

func (c *modelClient) Stop(id string, run uint64) {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.step() {
		k.over(k.find(id, run), keeper.Exit{Code: -1, Signal: syscall.SIGTERM, By: keeper.StoppedByStop})
	}
}

func (c *modelClient) SetStop(id string, run uint64, how keeper.Stop) {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	c.keeper.stops = append(c.keeper.stops, fmt.Sprintf("%s%d %v %v", id, run, how.Signal, how.Grace))
}

func (c *modelClient) Signal(string, uint64, syscall.Signal) {}

func (c *modelClient) Kill(id string, run uint64) { c.Stop(id, run) }

// over tells of the end of a run, unless it has ended.
func (k *modelKeeper) over(r *modelRun, exit keeper.Exit) {
	if r == nil || r.gone {
		return
	}
	r.gone = true
	exit.PID = r.pid
	k.happens(keeper.Event{Kind: keeper.Died, ID: r.id, Run: r.run, Exit: exit})
	if !k.lingering {
		k.happens(keeper.Event{Kind: keeper.Gone, ID: r.id, Run: r.run})
		return
	}
	// What the process left in its group ends a little later.
	time.AfterFunc(2*time.Millisecond, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.happens(keeper.Event{Kind: keeper.Gone, ID: r.id, Run: r.run})
	})
}

func (k *modelKeeper) happens(e keeper.Event) {
	k.seq++
	e.Seq = k.seq
	k.events = append(k.events, e)
	if k.holder != nil {
		k.holder.listen.event(e)
	}
}

// crash ends the n-th run of a process, if that is what lives.
func (k *modelKeeper) crash(id string, run uint64, code int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over(k.find(id, run), keeper.Exit{Code: code, At: time.Now(), Mono: monotonic() + k.later})
}

func (c *modelClient) Detach() error {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holder == c {
		k.holder = nil
	}
	return nil
}

func (c *modelClient) Close() {
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holder == c {
		k.holder = nil
		close(c.ended)
	}
}

func (c *modelClient) Sweep() (int, error) { return 0, nil }

// loses the keeper: nothing is heard of it any more.
func (c *modelClient) loses(err error) {
	c.keeper.mu.Lock()
	c.keeper.holder = nil
	c.keeper.mu.Unlock()
	c.listen.lost(err)
}

// engine is a collector's, which is killed after so many steps.
func (k *modelKeeper) engine(cfg *Config, steps int) (*engine, *modelClient) {
	client := &modelClient{}
	e, err := newEngine(k.t.Context(), zap.New(k.log), treeSpec(&cfg.SupervisorConfig), newRoster(cfg, k.t.TempDir(), time.Now()),
		journal.New(journalCapacity), newCapture(zap.NewNop()), &notifyDirectory{}, nil, k.attach(client, steps))
	require.NoError(k.t, err)
	e.begin()
	return e, client
}

// events decodes the journal.
func (k *modelKeeper) told() (events []journal.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, record := range k.journal {
		e, err := journal.Decode(record)
		require.NoError(k.t, err)
		assert.EqualValues(k.t, i+1, e.Seq, "the numbers have no holes, and none comes twice")
		events = append(events, e)
	}
	return events
}

// living are the runs that live, as "a1 b2".
func (k *modelKeeper) living() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, r := range k.runs {
		if !r.gone {
			names = append(names, fmt.Sprint(r.id, r.run))
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// scene is what happens once so much lives.
type scene struct {
	living string
	act    func(*modelKeeper, *engine)
}

func crash(id string, run uint64, code int) func(*modelKeeper, *engine) {
	return func(k *modelKeeper, _ *engine) { k.crash(id, run, code) }
}

// play has collectors act the scenes until the tree has ended. The first is killed
// after so many steps; died says that it came to that, again that the last scene was
// over by then.
func (k *modelKeeper) play(cfg *Config, steps int, scenes []scene) (died, again bool) {
	e, client := k.engine(cfg, steps)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	stopping := false
	for {
		if len(scenes) > 0 && k.living() == scenes[0].living {
			scenes[0].act(k, e)
			stopping = len(scenes) == 1
			scenes = scenes[1:]
		}
		select {
		case <-e.ended:
			if !client.dead() {
				e.close()
				return died, again
			}
		case <-client.died:
		case <-look.C:
		}
		if client.dead() {
			died = true
			e.freeze()
			e.runner.close()
			e, client = k.engine(cfg, -1)
			if stopping {
				again = true
				e.stop()
			}
		}
	}
}

// Whatever the step at which a collector is killed: the next one goes on as if
// nothing had happened. No run is started twice, and no end is told twice or not at all.
func TestSurvival_OfACollectorKilledAtAnyStep(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		scenes []scene
		ends   []string
	}{
		{
			name:   "a group is restarted",
			change: func(cfg *Config) { cfg.Strategy = StrategyRestForOne },
			scenes: []scene{
				{"a1 b1 c1", crash("b", 1, 7)},
				{"a1 b2 c2", crash("c", 2, 0)},
				{"a1 b2 c3", func(_ *modelKeeper, e *engine) { e.stop() }},
			},
			ends: []string{"a1 stopped", "b1 crashed 7", "b2 stopped", "c1 stopped", "c2 exited 0", "c3 stopped"},
		},
		{
			name:   "a supervisor gives up",
			change: func(cfg *Config) { cfg.Intensity.MaxRestarts = 1 },
			scenes: []scene{
				{"a1 b1 c1", crash("b", 1, 7)},
				{"a1 b2 c1", crash("c", 1, 8)},
			},
			ends: []string{"a1 stopped", "b1 crashed 7", "b2 stopped", "c1 crashed 8"},
		},
		{
			name:   "all at once",
			change: func(cfg *Config) { cfg.Parallel = true },
			scenes: []scene{
				{"a1 b1 c1", func(k *modelKeeper, _ *engine) { k.crash("a", 1, 1); k.crash("b", 1, 2); k.crash("c", 1, 3) }},
				{"a2 b2 c2", func(_ *modelKeeper, e *engine) { e.stop() }},
			},
			ends: []string{"a1 crashed 1", "a2 stopped", "b1 crashed 2", "b2 stopped", "c1 crashed 3", "c2 stopped"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Every number twice: with and without processes that linger.
			for n, died := 0, true; died || n%2 == 1; n++ {
				steps := n / 2
				cfg := newDefaultConfig()
				cfg.Children = []ChildConfig{sh("a", ""), sh("b", ""), sh("c", "")}
				tt.change(cfg)
				k := newModelKeeper(t)
				k.lingering = n%2 == 1
				var again bool
				died, again = k.play(cfg, steps, tt.scenes)
				k.check(tt.ends, again)
				if t.Failed() {
					for _, e := range k.told() {
						t.Log(e.Seq, e.Body)
					}
					t.Fatalf("killed at step %d", steps)
				}
			}
		})
	}
}

// check: what the keeper has at the end is one story without holes.
func (k *modelKeeper) check(ends []string, again bool) {
	assert.Empty(k.t, k.living())
	assert.Empty(k.t, k.events, "every event is acknowledged")
	assert.Empty(k.t, k.runs, "and so every run forgotten")
	for run, times := range k.spawned {
		assert.Equal(k.t, 1, times, "starts of %s", run)
	}
	var ended []string
	counts := map[string]uint64{}
	restarts := map[string]uint64{}
	for _, e := range k.told() {
		counts[countPrefix+e.Topic+"/"+e.Name]++
		switch e.Name {
		case journal.ProcessRestarting:
			restarts[e.Process]++
		case journal.ProcessStopped:
			ended = append(ended, fmt.Sprintf("%s%d stopped", e.Process, e.Run))
		case journal.ProcessCrashed, journal.ProcessExited:
			ended = append(ended, fmt.Sprintf("%s%d %s %d", e.Process, e.Run, strings.TrimPrefix(e.Name, "process."), attribute(e, journal.KeyExitCode)))
		}
	}
	// The collector after one that was killed while it ended everything starts it again.
	ended = slices.DeleteFunc(ended, func(end string) bool {
		return again && !slices.Contains(ends, end) && strings.HasSuffix(end, " stopped")
	})
	slices.Sort(ended)
	assert.Equal(k.t, ends, ended)
	for key, data := range k.values {
		if n, ok := counts[key]; ok || strings.HasPrefix(key, countPrefix) {
			assert.Equal(k.t, strconv.FormatUint(n, 10), string(data), key)
		}
		if id, ok := strings.CutPrefix(key, childPrefix); ok {
			var saved savedChild
			require.NoError(k.t, json.Unmarshal(data, &saved))
			var n uint64
			for _, of := range saved.Totals.Restarts {
				n += of
			}
			assert.Equal(k.t, restarts[id], n, "restarts of %s", id)
		}
	}
}
