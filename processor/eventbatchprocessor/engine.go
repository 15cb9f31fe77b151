// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/processor"
)

// maxSenders bounds the calls of the next consumer that run at the same time. A group has at most one of them, so a group
// whose data the next consumer takes slowly holds up itself only.
const maxSenders = 8

var errShutdown = errors.New("event_batch has been shut down")

// signal is what the engine knows about the kind of telemetry it carries.
type signal[T any] interface {
	create() T
	count(T) int
	// moveAll appends everything in from to to and leaves from empty.
	moveAll(from, to T)
	// split takes the first n items out of data.
	split(data T, n int) T
	// classify tells c the group of every item, in the order of the data. It changes nothing.
	classify(data T, c *classification)
	// distribute moves the items into n parts as classify numbered them, and appends them to parts.
	distribute(data T, assigned []int32, n int, parts []T) []T
	// compact merges equal resources.
	compact(T)
	send(context.Context, T) error
}

// engine groups, batches and bounds the items of one pipeline. It has no goroutine of its own: requests, a timer and the
// senders move it on, each under mu. No downstream call is made and no data is grouped under mu.
type engine[T any] struct {
	signal    signal[T]
	grouping  bool
	compact   bool
	capacity  int
	reserve   int // of capacity, open only to groups below their share
	highWater int
	batchSize int
	batchMax  int // 0: without limit
	maxGroups int
	timeout   time.Duration
	onFull    string
	delivered bool
	immediate bool // a group's items leave as soon as none of it are being sent

	// newAbsorber makes the store of a partition's window; nil: items are not joined.
	newAbsorber func() absorber[T]
	interval    time.Duration

	metadataKeys  []string
	metadataLimit int // 0: without limit

	telemetry *telemetry
	scratch   sync.Pool // of *scratch[T]

	// sendCtx is canceled when the deadline of Shutdown is over.
	sendCtx    context.Context
	cancelSend context.CancelFunc

	mu         sync.Mutex
	startedAt  time.Time
	started    bool           // guarded by mu, as everything below
	closed     bool           // no request is taken any more
	held       int            // items admitted and not settled: ≤ capacity
	busy       int            // groups that hold items
	groupCount int            // in all partitions, overflow groups not counted
	idle       list[group[T]] // groups without items, the longest idle first
	waiting    list[group[T]] // groups whose batch fills, by since
	ready      list[group[T]] // groups whose turn to be sent comes
	waiters    []*request[T]  // that are blocked, in the order of arrival
	senders    int            // goroutines that run sendLoop
	timer      *time.Timer    // for the head of waiting
	timerArmed bool           // the timer has not fired since it was set
	partitions partitions[T]  // by metadata
	drained    chan struct{}  // closed when closed and nothing is held
	totals     totals         // for the telemetry
	sending    sync.WaitGroup // counts senders
}

// totals are read by callbacks of the telemetry, so that a request costs an addition rather than an instrument's call.
type totals struct {
	accepted, sent, overflow int64
}

func newEngine[T any](set processor.Settings, cfg *Config, kind string, sig signal[T], grouping bool) (*engine[T], error) {
	e := &engine[T]{
		signal:        sig,
		grouping:      grouping,
		compact:       grouping,
		capacity:      cfg.QueueSize,
		highWater:     cfg.QueueSize - cfg.QueueSize/5,
		batchSize:     cfg.SendBatchSize,
		batchMax:      cfg.SendBatchMaxSize,
		maxGroups:     cfg.MaxGroups,
		timeout:       cfg.Timeout,
		onFull:        cfg.OnFull,
		delivered:     cfg.Acknowledge == AcknowledgeDelivered,
		immediate:     cfg.Acknowledge == AcknowledgeDelivered || cfg.Timeout == 0 || cfg.SendBatchSize == 0,
		metadataKeys:  sortedLower(cfg.MetadataKeys),
		metadataLimit: cfg.MetadataCardinalityLimit,
		drained:       make(chan struct{}),
	}
	if grouping || len(cfg.MetadataKeys) > 0 {
		e.reserve = e.capacity / 8
	}
	e.scratch.New = func() any { return new(scratch[T]) }
	e.sendCtx, e.cancelSend = context.WithCancel(context.Background())
	if len(e.metadataKeys) == 0 {
		e.partitions.single = e.newPartition(nil)
	}
	e.idle.links = func(g *group[T]) *links[group[T]] { return &g.links }
	e.waiting.links, e.ready.links = e.idle.links, e.idle.links
	var err error
	if e.telemetry, err = newTelemetry(set, kind, cfg.MaxGroups, e.observe); err != nil {
		return nil, fmt.Errorf("creating the telemetry of event_batch: %w", err)
	}
	return e, nil
}

// join makes the engine aggregate over an interval. It is called before the engine is used.
func (e *engine[T]) join(interval time.Duration, newAbsorber func() absorber[T]) {
	// The telemetry is read from now on.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.interval, e.newAbsorber = interval, newAbsorber
	if e.partitions.single != nil {
		e.partitions.single.window = &window[T]{store: newAbsorber()}
	}
}

// Capabilities says that data is changed: requests are emptied into batches.
func (e *engine[T]) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// Start lets batches go.
func (e *engine[T]) Start(context.Context, component.Host) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.startedAt = time.Now()
	e.openLocked()
	return nil
}

// Shutdown refuses what comes, sends what is held and returns when the next consumer has taken it or, with an error that
// says how much was lost, when ctx ends. It may be called without Start and again.
func (e *engine[T]) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	e.openLocked()
	for _, r := range e.waiters {
		r.decideLocked(errShutdown)
	}
	e.waiters = nil
	e.sendWaitingLocked(triggerShutdown)
	e.checkDrainedLocked()
	e.mu.Unlock()
	e.closeWindows(triggerShutdown)

	select {
	case <-e.drained:
	default:
		select {
		case <-e.drained:
		case <-ctx.Done():
			return e.abandon(ctx)
		}
	}
	e.sending.Wait()
	if first {
		e.cancelSend()
		e.telemetry.shutdown()
	}
	return nil
}

// abandon gives up what has not been sent: its callers get the error, and it is counted and logged.
func (e *engine[T]) abandon(ctx context.Context) error {
	err := fmt.Errorf("event_batch: shutdown ended before everything was sent: %w", context.Cause(ctx))
	e.mu.Lock()
	var lost []loss
	total := 0
	for _, p := range e.partitions.all() {
		for _, g := range p.allGroups() {
			if n := e.discardLocked(g, g.pending, err); n > 0 {
				lost = append(lost, loss{g.label, n})
				total += n
			}
		}
	}
	inFlight := e.held
	e.checkDrainedLocked()
	e.cancelSend() // not before: what it ends would make room for more to be sent
	e.mu.Unlock()
	for _, l := range lost {
		e.telemetry.dropped(l.label, reasonShutdown, l.items)
		e.telemetry.logLost("Items lost: the shutdown deadline passed before they were sent", l)
	}
	if total+inFlight == 0 {
		return nil
	}
	return fmt.Errorf("%w; %d items were dropped and %d were still being sent", err, total, inFlight)
}

// consume takes a request. After an error that refuses it, data is as it was.
func (e *engine[T]) consume(ctx context.Context, data T) error {
	n := e.signal.count(data)
	if n == 0 {
		return nil
	}
	p, err := e.partition(ctx)
	if err != nil {
		e.telemetry.refused(labelAll, reasonMetadata, n)
		return err
	}
	// A request that never fits as a whole is taken in pieces, or nothing of it would ever get through.
	most := e.capacity - e.reserve
	if n <= most {
		return e.consumePiece(ctx, p, data, n)
	}
	if e.onFull == OnFullReject {
		e.telemetry.refused(labelAll, reasonTooLarge, n)
		return consumererror.NewPermanent(fmt.Errorf(
			"event_batch: a request of %d items is larger than the %d that a request may have with 'queue_size' %d; raise 'queue_size' or send smaller requests",
			n, most, e.capacity))
	}
	return e.consumePieces(ctx, p, data, n, most)
}

// consumePieces takes a request in pieces of at most most items. An error ends it; that items were dropped does not.
func (e *engine[T]) consumePieces(ctx context.Context, p *partition[T], data T, n, most int) (dropped error) {
	for n > 0 {
		piece, k := data, min(n, most)
		if k < n {
			piece = e.signal.split(data, k)
		}
		n -= k
		switch err := e.consumePiece(ctx, p, piece, k); {
		case err == nil:
		case errors.Is(err, errDroppedFull):
			dropped = err
		default:
			e.telemetry.refused(labelAll, reasonIncomplete, n)
			return err
		}
	}
	return dropped
}

func (e *engine[T]) consumePiece(ctx context.Context, p *partition[T], data T, n int) error {
	var a *ack
	if e.delivered {
		a = newAck()
	}
	var err error
	switch {
	case e.newAbsorber != nil:
		err = e.takeJoined(ctx, p, data, n, a)
	case e.grouping:
		err = e.takeGrouped(ctx, p, data, n, a)
	default:
		err = e.takeWhole(ctx, p, data, n, a)
	}
	if err != nil || a == nil {
		return err
	}
	return e.awaitOutcome(ctx, p, a)
}

// takeWhole hands a request over as it is: the path without grouping.
func (e *engine[T]) takeWhole(ctx context.Context, p *partition[T], data T, n int, a *ack) error {
	e.mu.Lock()
	if e.admitsAtOnceLocked(p.all, n) {
		e.takeLockedAndUnlock(p.all, data, n, a)
		return nil
	}
	e.mu.Unlock()

	r := &request[T]{part: p, n: n, shares: []share[T]{{n: n}}}
	if err := e.admit(ctx, r); err != nil {
		return err
	}
	e.handOver(r, []T{data}, a)
	return r.dropError(e)
}

// scratch is what taking a request apart needs, kept to be used again.
type scratch[T any] struct {
	classification
	request request[T]
	parts   []T
}

// takeGrouped finds the groups of a request's items, admits them, and only then takes the request apart.
func (e *engine[T]) takeGrouped(ctx context.Context, p *partition[T], data T, n int, a *ack) error {
	w := e.scratch.Get().(*scratch[T])
	defer e.scratch.Put(w)
	w.reset()
	e.signal.classify(data, &w.classification)
	if len(w.shares) == 1 && e.takeOneGroup(p, w.shares[0].key, data, n, a) {
		return nil
	}
	r := &w.request
	*r = request[T]{part: p, n: n, shares: r.shares[:0]}
	for _, s := range w.shares {
		r.shares = append(r.shares, share[T]{key: s.key, n: s.n})
	}
	if err := e.admit(ctx, r); err != nil {
		return err
	}
	w.parts = e.signal.distribute(data, w.assigned, len(w.shares), w.parts[:0])
	e.handOver(r, w.parts, a)
	clear(w.parts)
	return r.dropError(e)
}

// takeOneGroup takes a request whose items are all of one group that exists, if there is room.
func (e *engine[T]) takeOneGroup(p *partition[T], key string, data T, n int, a *ack) bool {
	e.mu.Lock()
	g := e.lookupLocked(p, key)
	if g == nil || !e.admitsAtOnceLocked(g, n) {
		e.mu.Unlock()
		return false
	}
	e.takeLockedAndUnlock(g, data, n, a)
	return true
}

// takeLockedAndUnlock books and puts in one hold of mu.
func (e *engine[T]) takeLockedAndUnlock(g *group[T], data T, n int, a *ack) {
	if g.overflow {
		e.totals.overflow += int64(n)
	}
	e.bookLocked(g, n)
	e.putLocked(g, data, n, a, false)
	held := e.held
	e.mu.Unlock()
	e.warn(held, g.overflow)
}

func (e *engine[T]) warn(held int, overflow bool) {
	if held >= e.highWater {
		e.telemetry.warnHighWater(held, e.capacity, e.onFull)
	}
	if overflow {
		e.telemetry.warnOverflow(e.maxGroups)
	}
}

// handOver puts the parts of an admitted request into the batches of their groups.
func (e *engine[T]) handOver(r *request[T], parts []T, a *ack) {
	for i := range r.shares {
		parts[i] = r.shares[i].trim(e.signal, parts[i])
	}
	overflow := false
	e.mu.Lock()
	for i := range r.shares {
		if s := &r.shares[i]; s.n > 0 {
			e.putLocked(s.group, parts[i], s.n, a, true)
			overflow = overflow || s.group.overflow
		}
	}
	if a != nil && a.parts == 0 {
		a.resolveLocked() // everything was dropped
	}
	held := e.held
	e.mu.Unlock()
	e.warn(held, overflow)
}

func (e *engine[T]) observe() observed {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := observed{size: e.held, capacity: e.capacity, groups: e.groupCount, combinations: len(e.partitions.list), totals: e.totals}
	if !e.grouping {
		o.groups = 1
	}
	if e.newAbsorber != nil {
		for _, p := range e.partitions.all() {
			o.points.Add(p.window.store.Stats())
		}
	}
	return o
}
