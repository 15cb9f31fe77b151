// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// engine drives the tree. Everything of it that is not said to be otherwise
// belongs to the goroutine of loop; others talk to it through its mailbox.
//
//	engine.go    the loop and its messages
//	parent.go    what the processes are children of
//	memory.go    what outlives the collector
//	adopt.go     what the last collector left, taken over
//	decision.go  what the tree decides, carried out
//	follow.go    the children there are
//	command.go   what operators ask for
//	run.go       the life of one run
//	unread.go    what a run has written, and when the run may be forgotten
//	propagate.go what a run is told of the resource that it is reported as
//	health.go    readiness and liveness
//	story.go     what is told in the journal
type engine struct {
	logger  *zap.Logger
	journal *journal.Journal
	spawner keeper.Spawner
	runner  *runner
	notify  *notifyDirectory
	capture *capture
	roster  *roster
	environ inheritable // the collector's own variables
	// otlp is where the processes may send what they tell of themselves; nil: not known.
	otlp atomic.Pointer[[]otlpEndpoint]

	tree    *tree.Tree
	spec    specification           // what tree was made with
	wanted  tree.Supervisor         // what the configuration says
	kept    map[string]*ChildConfig // what is kept of configurations
	left    *inheritance            // what the last collector left; nil: nothing
	mailbox mailbox
	// listening is who hears from the processes themselves.
	listening sync.WaitGroup

	unread   map[runKey]*unread
	waiting  map[string][]uint64 // the ended ones of those that are bounded, by process, the oldest first
	commands map[uint64]pending  // by token
	token    uint64              // the last one given

	// What follows from the messages since the last settle: see there.
	keeperPID   int
	memory      memory // nil: nothing outlives the collector
	stepped     bool
	values      []keeper.Value
	acknowledge []uint64
	outbox      []func()

	// started is closed when all children are up, ended when the tree rests for good;
	// end and endReason are set before.
	started, ended chan struct{}
	startedOnce    sync.Once
	hasEnded       bool // ended is closed, or about to be
	end            tree.Ended
	endReason      string // readable, with the last thing that went wrong
	endStatus      int    // of a program that ends because of that

	begun      atomic.Bool
	startAgain bool  // at the end that an earlier collector had begun, unless it is one for good
	startNow   bool  // that has come
	lostErr    error // the parent is no more; set before ended is closed
	quit, done chan struct{}
}

// killAll is the message to end what is left without grace.
type killAll struct{}

// lost is the message that the parent of the processes is no more.
type lost struct{ err error }

func newEngine(ctx context.Context, logger *zap.Logger, root tree.Supervisor, roster *roster, j *journal.Journal, c *capture, notify *notifyDirectory, environ []string, newParent newParent) (*engine, error) {
	e := &engine{
		logger:  logger,
		journal: j,
		notify:  notify,
		capture: c,
		roster:  roster,
		environ: newInheritable(environ),
		mailbox: mailbox{wake: make(chan struct{}, 1)},
		// A tree that outlives this engine must not give its answers to the commands of another.
		unread: map[runKey]*unread{}, waiting: map[string][]uint64{},
		commands: map[uint64]pending{}, token: uint64(time.Now().UnixNano()),
		started: make(chan struct{}),
		ended:   make(chan struct{}),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	e.runner = newRunner()
	parent, err := newParent(ctx, listener{
		event: func(event keeper.Event) {
			if event.ID == commandID {
				e.runner.deliver(event)
			}
			e.mailbox.post(event) // which acknowledges it
		},
		warn: func(text string) { logger.Warn(text) },
		lost: func(err error) { e.mailbox.post(lost{err}) },
	})
	if err != nil {
		return nil, err
	}
	c.hear(func(t trouble) bool { return e.mailbox.post(t) }, func(of runKey) { e.mailbox.post(outputRead{of}) })
	e.runner.spawner = parent.Spawner
	e.spawner, e.memory, e.keeperPID = parent.Spawner, parent.memory, parent.left.KeeperPID
	if err := e.takeOver(root, parent.left); err != nil {
		if e.memory == nil {
			e.spawner.Close()
			return nil, err
		}
		// Nothing is touched: another version may understand it.
		return nil, errors.Join(err, e.memory.Detach())
	}
	if why := parent.left.NoCgroups; why != "" && !parent.left.Reload {
		logger.Info("processes have no cgroup of their own here: what leaves its session and its group, loses its parent and clears its environment is reported when its process is stopped, and not ended with it", zap.String("reason", why))
	}
	if e.memory != nil {
		j.OnMove(func(c journal.Cursor) {
			e.keepNow(cursorPrefix+c.Name, strconv.AppendUint(nil, c.Seq, 10))
		})
		var left map[string]position
		if e.left != nil {
			left = e.left.streams
		}
		c.positions.start(left, e.keepNow)
	}
	return e, nil
}

// takeOver makes the tree, or has the one that the last collector left.
func (e *engine) takeOver(root tree.Supervisor, left keeper.State) (err error) {
	if e.left, err = inherit(left); err != nil {
		return err
	}
	e.wanted = root
	if e.left != nil {
		e.tree, e.spec = e.left.tree, e.left.spec
		e.roster.inherit(e.left)
		return e.journal.Restore(e.left.journal)
	}
	e.spec = specification{Root: root, Seed: uint64(time.Now().UnixNano())}
	e.tree, err = tree.New(root, e.spec.Seed)
	return err
}

// begin starts the loop, with the tree's start or with the adoption of what runs.
// Until then messages wait.
func (e *engine) begin()   { e.begun.Store(true); go e.loop() }
func (e *engine) stop()    { e.mailbox.post(tree.Stop{}) }
func (e *engine) killAll() { e.mailbox.post(killAll{}) }

// freeze ends the loop and leaves the processes as they are. What is told from now
// on is for the next collector.
func (e *engine) freeze() {
	close(e.quit)
	if e.begun.Load() {
		<-e.done
	} else {
		close(e.done)
	}
	for _, message := range e.mailbox.close() {
		switch m := message.(type) {
		case spawned:
			m.leave()
		case becameReady:
			e.onReady(m) // a process says it only once
		case trouble:
			e.tellTrouble(m)
		case outputRead:
			e.onRead(m.of)
		}
	}
	if e.begun.Load() {
		e.settle()
	}
}

// caughtUp is the message that all before it have been dealt with.
type caughtUp chan struct{}

// catchUp returns when what was told so far is in the journal.
func (e *engine) catchUp() {
	told := make(caughtUp)
	if e.begun.Load() && e.mailbox.post(told) {
		select {
		case <-told:
		case <-e.done:
		}
	}
}

// tellUntold tells what came after the freeze.
func (e *engine) tellUntold() {
	if !e.begun.Load() {
		return
	}
	for _, t := range e.capture.takeUntold() {
		e.tellTrouble(t)
	}
	e.settle()
}

// inherits: the processes of the last collector are there, and not yet adopted.
func (e *engine) inherits() bool { return !e.begun.Load() && e.left != nil }

// detach gives the processes to the next collector. The engine is frozen.
func (e *engine) detach() error {
	e.runner.close()
	return e.memory.Detach()
}

// close ends what still lives, and the engine. It does not wait for a spawn that
// hangs: the spawner is closed, no process can come of it any more.
func (e *engine) close() {
	e.spawner.Close()
	e.runner.close()
	e.freeze()
}

func (e *engine) loop() {
	defer close(e.done)
	e.open()
	e.settle()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Stop()
		if at, ok := e.tree.NextDeadline(); ok {
			timer.Reset(max(0, at-monotonic()))
		}
		select {
		case <-e.mailbox.wake:
			for _, message := range e.mailbox.take() {
				e.handle(message)
			}
		case <-timer.C:
			e.step(tree.Tick{})
		case <-e.quit:
			e.stopListening()
			return
		}
		e.settle()
	}
}

func (e *engine) handle(message any) {
	switch m := message.(type) {
	case tree.Stop:
		e.startAgain, e.startNow = false, false
		e.step(m)
	case tree.Event:
		e.step(m)
	case request:
		e.onRequest(m)
	case reload:
		e.onReload(m)
	case stopCommandFailed:
		e.onStopCommandFailed(m)
	case spawned:
		e.onSpawned(m)
	case abandon:
		if c := e.roster.current(m.id, m.run); c != nil {
			e.abandon(c)
		}
	case keeper.Event:
		e.onKeeper(m)
	case becameReady:
		e.onReady(m)
	case checked:
		e.onChecked(m)
	case killAll:
		for _, c := range e.roster.all() {
			if c.alive {
				c.hurried = true
				e.roster.changed(c)
				e.later(func() { e.spawner.Kill(c.id, c.run) })
			}
			e.abandon(c)
		}
	case lost:
		e.onLost(m.err)
	case swept:
		e.onSwept(m)
	case trouble:
		e.tellTrouble(m)
	case outputRead:
		e.onRead(m.of)
	case caughtUp:
		e.later(func() { close(m) })
	}
}

// monotonic is the raw CLOCK_MONOTONIC, which other processes read the same.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // the kernel has had this clock since before Go
	}
	return time.Duration(now.Nano())
}

// mailbox is a queue without a bound, so that nobody who tells of an event ever waits.
type mailbox struct {
	mu     sync.Mutex
	queue  []any // guarded by mu
	closed bool  // guarded by mu
	wake   chan struct{}
}

// post returns false if nobody reads messages any more.
func (m *mailbox) post(message any) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.queue = append(m.queue, message)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// close returns what nobody read.
func (m *mailbox) close() []any {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.take()
}

func (m *mailbox) take() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.queue
	m.queue = nil
	return queue
}
