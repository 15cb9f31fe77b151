// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// What is kept outside of the collector, as keyed values:
//
//	specification     what the tree was made with
//	tree/KEY          the state of the tree
//	child/ID          what the roster knows of a child
//	config/ID         the configuration that the child has
//	count/TOPIC/NAME  how many such events there were
//	cursor/NAME       how far a reader of the journal has come
//	position/ID/NAME  how far the output of a stream was taken
//	history/ID/N      a run of the child that has ended
//
// Every change of them goes in one commit with the events that tell of it and with
// the acknowledgement of what caused it, before anything is done for it. So each
// commit leaves a whole state, whenever the collector ends.
const (
	specificationKey = "specification"
	treePrefix       = "tree/"
	childPrefix      = "child/"
	configPrefix     = "config/"
	countPrefix      = "count/"
	cursorPrefix     = "cursor/"
	historyPrefix    = "history/"
	positionPrefix   = "position/"
)

// specification is what a tree is loaded with.
type specification struct {
	Root tree.Supervisor
	Seed uint64
}

// encode never fails: what is kept holds nothing but numbers, text and times.
func encode(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("encoding %#v: %v", value, err))
	}
	return data
}

// settle makes safe what was decided, tells of it, and then carries it out.
func (e *engine) settle() {
	if e.startNow {
		e.startNow = false
		e.step(tree.Start{})
	}
	if e.memory != nil {
		// ErrClosed is no loss: close has ended everything, and there is nobody to tell.
		if err := e.commit(e.changes()); err != nil && !errors.Is(err, keeper.ErrClosed) {
			e.mailbox.post(lost{err})
		}
	}
	e.journal.Publish()
	for _, do := range e.outbox {
		do()
	}
	clear(e.outbox)
	e.outbox = e.outbox[:0]
}

// maxCommit is how many bytes of values one commit has at most; the keeper takes 8 MiB.
const maxCommit = 4 << 20

// commit is atomic up to maxCommit, which only thousands of configurations exceed. What
// is over goes first: it is the configuration of children that the rest then speaks of.
func (e *engine) commit(c keeper.Commit) error {
	if len(c.Values)+len(c.Journal)+len(c.Acknowledge) == 0 {
		return nil
	}
	size := 0
	for i := len(c.Values) - 1; i >= 0; i-- {
		if size += len(c.Values[i].Key) + len(c.Values[i].Data); size > maxCommit && i < len(c.Values)-1 {
			if err := e.commit(keeper.Commit{Values: c.Values[:i+1]}); err != nil {
				return err
			}
			c.Values = c.Values[i+1:]
			break
		}
	}
	return e.memory.Commit(c)
}

// later has something done once what was decided is safe.
func (e *engine) later(do func()) { e.outbox = append(e.outbox, do) }

// changes is everything that is not yet kept.
func (e *engine) changes() keeper.Commit {
	commit := keeper.Commit{Values: e.values, Acknowledge: e.acknowledge}
	e.values, e.acknowledge = nil, nil
	put := func(key string, data []byte) {
		commit.Values = append(commit.Values, keeper.Value{Key: key, Data: data})
	}
	if e.stepped {
		e.stepped = false
		e.tree.SaveChanges(func(key string, value []byte) { put(treePrefix+key, value) })
	}
	for _, c := range e.roster.takeChanged() {
		if c.template != nil && e.roster.byID[c.id] != c {
			put(childPrefix+c.id, nil) // what it counted its template has
			put(positionPrefix+streamKey(c.id, "stdout"), nil)
			put(positionPrefix+streamKey(c.id, "stderr"), nil)
			continue
		}
		put(childPrefix+c.id, encode(c.save()))
	}
	events, counts := e.journal.Staged()
	for i := range events {
		commit.Journal = append(commit.Journal, journal.Encode(&events[i]))
	}
	for _, c := range counts {
		put(countPrefix+c.Topic+"/"+c.Name, strconv.AppendUint(nil, c.N, 10))
	}
	return commit
}

// keep adds a value to the next commit; nil deletes it.
func (e *engine) keep(key string, data []byte) {
	if e.memory == nil {
		return
	}
	e.values = append(e.values, keeper.Value{Key: key, Data: data})
}

// keepNow keeps a value that no decision depends on; any goroutine may call it.
func (e *engine) keepNow(key string, data []byte) {
	// If the keeper is lost that is told elsewhere.
	_ = e.memory.Commit(keeper.Commit{Values: []keeper.Value{{Key: key, Data: data}}})
}

// inheritance is what the last collector left.
type inheritance struct {
	spec     specification
	tree     *tree.Tree
	children map[string]savedChild
	configs  map[string]*ChildConfig
	history  map[string][]EndedRun
	streams  map[string]position
	journal  journal.Snapshot
	runs     []keeper.Run
	byRun    map[runKey]keeper.Run
	// unattended is how long there was no collector.
	unattended time.Duration
}

type runKey struct {
	id  string
	run uint64
}

// inherit reads what was kept; nil if there is nothing.
func inherit(left keeper.State) (*inheritance, error) {
	if _, ok := left.Values[specificationKey]; !ok {
		return nil, nil
	}
	in := &inheritance{children: map[string]savedChild{}, configs: map[string]*ChildConfig{}, history: map[string][]EndedRun{}, streams: map[string]position{}, runs: left.Runs, byRun: map[runKey]keeper.Run{}, unattended: left.Unattended}
	for _, run := range left.Runs {
		in.byRun[runKey{run.ID, run.Run}] = run
	}
	states := map[string][]byte{}
	for key, data := range left.Values {
		if err := in.read(key, data, states); err != nil {
			return nil, fmt.Errorf("what the last collector left, %q: %w", key, err)
		}
	}
	for _, record := range left.Journal {
		event, err := journal.Decode(record)
		if err != nil {
			return nil, fmt.Errorf("what the last collector left: %w", err)
		}
		in.journal.Events = append(in.journal.Events, event)
	}
	var err error
	in.tree, err = tree.Load(in.spec.Root, in.spec.Seed, func(yield func(string, []byte) bool) {
		for key, data := range states {
			if !yield(key, data) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("what the last collector left: %w", err)
	}
	in.tree.Walk(func(id string, s tree.Status) bool {
		if s.Template {
			in.tree.SetData(id, in.configs[id[:strings.LastIndexByte(id, '.')]])
		} else if config := in.configs[id]; config != nil {
			in.tree.SetData(id, config)
		}
		return true
	})
	return in, nil
}

// read takes one value.
func (in *inheritance) read(key string, data []byte, states map[string][]byte) (err error) {
	kind, rest, _ := strings.Cut(key, "/")
	switch kind + "/" {
	case specificationKey + "/":
		err = json.Unmarshal(data, &in.spec)
	case treePrefix:
		states[rest] = data
	case childPrefix:
		var saved savedChild
		err = json.Unmarshal(data, &saved)
		in.children[rest] = saved
	case configPrefix:
		in.configs[rest], err = decodeChild(data)
	case historyPrefix:
		var run EndedRun
		err = json.Unmarshal(data, &run)
		id, _, _ := strings.Cut(rest, "/")
		in.history[id] = append(in.history[id], run)
	case positionPrefix:
		var p position
		err = json.Unmarshal(data, &p)
		in.streams[rest] = p
	case countPrefix:
		var n uint64
		topic, name, _ := strings.Cut(rest, "/")
		n, err = strconv.ParseUint(string(data), 10, 64)
		in.journal.Counts = append(in.journal.Counts, journal.Count{Topic: topic, Name: name, N: n})
	case cursorPrefix:
		var n uint64
		n, err = strconv.ParseUint(string(data), 10, 64)
		in.journal.Cursors = append(in.journal.Cursors, journal.Cursor{Name: rest, Seq: n})
	}
	// Anything else is of a later version, and nothing that this one needs.
	return err
}

// keepConfigs keeps the configuration of every child that there is or may be again.
func (e *engine) keepConfigs() {
	if e.memory == nil {
		return
	}
	wanted := map[string]*ChildConfig{}
	e.roster.config.each("", func(id string, c *ChildConfig) { wanted[id] = c })
	for _, c := range e.roster.all() {
		if c.config != nil && c.template == nil {
			wanted[c.id] = c.config
		}
	}
	for id, c := range wanted {
		if e.kept[id] != c {
			e.keep(configPrefix+id, encodeChild(c))
		}
	}
	for id := range e.kept {
		if wanted[id] == nil {
			e.keep(configPrefix+id, nil)
		}
	}
	e.kept = wanted
}

// each visits all children below, each before its own.
func (s *SupervisorConfig) each(of string, visit func(id string, c *ChildConfig)) {
	for i := range s.Children {
		c := &s.Children[i]
		id := childID(of, c.Name)
		visit(id, c)
		if c.Supervisor != nil {
			c.Supervisor.each(id, visit)
		}
	}
}
