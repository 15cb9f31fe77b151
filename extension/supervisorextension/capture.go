// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/output"
)

// capture hands the output of all runs to the one component that claimed it.
type capture struct {
	logger *zap.Logger

	// ctx ends when output is no longer delivered but only counted.
	ctx    context.Context
	cancel context.CancelFunc

	readers  sync.WaitGroup
	lost     atomic.Int64 // lines that nobody took
	unpeeked sync.Once    // to say that lines can be lost with the collector

	positions positions

	detaching atomic.Bool // readers end, and what they read does not
	runningMu sync.Mutex
	running   map[*output.Reader]struct{} // guarded by runningMu
	tell      func(trouble) bool          // guarded by runningMu; false: nobody hears it any more
	read      func(of runKey)             // guarded by runningMu
	untold    []trouble                   // guarded by runningMu

	mu    sync.RWMutex // held for reading during calls of claim.handle
	claim *claim       // guarded by mu
	// console takes the output while nobody claims it; nil before the first start, and
	// if somebody had claimed it by then. Guarded by mu.
	console *console
}

type claim struct {
	owner  component.ID
	handle OutputHandler
	ctx    context.Context
	cancel context.CancelFunc
}

func newCapture(logger *zap.Logger) *capture {
	c := &capture{logger: logger, running: map[*output.Reader]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// claimOutput implements Supervisor.ClaimOutput.
func (c *capture) claimOutput(owner component.ID, handle OutputHandler) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claim != nil {
		return nil, fmt.Errorf("%q takes the output of this supervisor already: use it in all logs pipelines that want the output", c.claim.owner)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	own := &claim{owner: owner, handle: handle, ctx: ctx, cancel: cancel}
	c.claim = own
	return func() {
		cancel() // ends the calls under way, for whose end Lock waits
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.claim == own {
			c.claim = nil
		}
	}, nil
}

// begin is called before the first start: who wanted the output has claimed it by now.
// Without anybody the lines go to the collector's own streams, since a process whose
// pipe is full stands still.
func (c *capture) begin() (claimed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claim == nil && c.console == nil {
		c.console = newConsole(c.logger)
	}
	return c.claim != nil
}

var errUnheeded = errors.New("the next collector has to see the output")

var errUnclaimed = errors.New("nobody takes the output at the moment")

// follow reads the pipes of a run until they end, as cfg says. watch, if not nil, is
// shown the lines before anybody else.
func (c *capture) follow(of *child, m spawned, cfg *OutputConfig, watch func([]output.Line) bool) (streams []*stream) {
	for _, pipe := range []struct {
		stream string
		file   *os.File
	}{{"stdout", m.started.Stdout}, {"stderr", m.started.Stderr}} {
		if pipe.file == nil {
			continue
		}
		s := &stream{
			capture: c, id: of.id, key: streamKey(of.id, pipe.stream), watch: watch,
			of: Output{
				Instance: of.instance(), Run: m.run, PID: m.started.PID, Started: m.at,
				Stream: pipe.stream, Severity: NewSeverityPattern(cfg.Severity),
			},
			saved: time.Now(),
		}
		s.process.Store(of.info)
		s.dropped.tell = s.tell(journal.OutputDropped, droppedFull)
		s.truncated.tell = s.tell(journal.OutputTruncated, "")
		set := cfg.settings()
		set.After, set.Dropped = c.positions.take(s.key, m.run), s.dropped.add
		var err error
		if s.reader, err = output.NewReader(pipe.file, set, s.take); err != nil {
			c.logger.Error("the output of a process can not be read", zap.String("process", of.id), zap.String("stream", pipe.stream), zap.Error(err))
			_ = pipe.file.Close()
			continue
		}
		if !s.reader.Peeks() {
			c.unpeeked.Do(func() {
				c.logger.Warn("lines of output that are being delivered are lost if the collector is killed: the kernel, or a filter of system calls, does not allow tee(2) or splice(2)")
			})
		}
		s.life, s.giveUp = context.WithCancel(c.ctx)
		streams = append(streams, s)
		c.runningMu.Lock()
		c.running[s.reader] = struct{}{}
		c.runningMu.Unlock()
		c.readers.Go(func() { c.run(s) })
	}
	return streams
}

// run reads a stream to its end.
func (c *capture) run(s *stream) {
	lost, err := s.reader.Run(s.life)
	s.release()
	s.giveUp()
	if c.detaching.Load() && !s.over.Load() {
		c.positions.save(s.key, s.of.Run, s.reader.Taken())
	}
	c.runningMu.Lock()
	delete(c.running, s.reader)
	c.runningMu.Unlock()
	fields := []zap.Field{zap.String("process", s.id), zap.Uint64("run", s.of.Run), zap.String("stream", s.of.Stream)}
	if err != nil {
		c.logger.Error("the output of a process is read no longer", append(fields, zap.Error(err))...)
	}
	s.dropped.end()
	s.truncated.end()
	if lost > 0 {
		c.lost.Add(int64(lost))
		c.logger.Error("lines of output were not delivered before the end", append(fields, zap.Int("lines", lost))...)
		why := droppedFull
		if c.ctx.Err() != nil {
			why = droppedShutdown
		}
		s.tell(journal.OutputDropped, why)(lost, 0)
	}
	if !c.detaching.Load() {
		c.toldRead(runKey{s.id, s.of.Run})
	}
}

// hear has tell told of troubles from now on, and read of each stream that has been read
// to its end.
func (c *capture) hear(tell func(trouble) bool, read func(of runKey)) {
	c.runningMu.Lock()
	defer c.runningMu.Unlock()
	c.tell, c.read = tell, read
}

func (c *capture) toldRead(of runKey) {
	c.runningMu.Lock()
	read := c.read
	c.runningMu.Unlock()
	if read != nil {
		read(of)
	}
}

// report tells of a trouble, or keeps it for who asks later.
func (c *capture) report(t trouble) {
	c.runningMu.Lock()
	defer c.runningMu.Unlock()
	if c.tell == nil || !c.tell(t) {
		c.untold = append(c.untold, t)
	}
}

// takeUntold returns the troubles that nobody heard of.
func (c *capture) takeUntold() []trouble {
	c.runningMu.Lock()
	defer c.runningMu.Unlock()
	untold := c.untold
	c.untold = nil
	return untold
}

// detach ends all readers and leaves what was not taken in the pipes, for whoever
// reads them next. Deliveries under way are cancelled. No run may begin meanwhile.
func (c *capture) detach() {
	c.detaching.Store(true)
	c.mu.RLock()
	if c.claim != nil {
		c.claim.cancel()
	}
	c.mu.RUnlock()
	c.runningMu.Lock()
	for reader := range c.running {
		go reader.Detach() // it has ended when Run has
	}
	c.runningMu.Unlock()
	c.readers.Wait()
}

// finish tells the readers of a run that nothing more will be written.
func finish(streams []*stream) {
	for _, s := range streams {
		s.reader.Finish()
	}
}

// drain waits until everything that was written has been taken, or, from the
// deadline on, counted. All processes must be gone; what others that they left write
// from now on is not waited for.
func (c *capture) drain(deadline time.Time) {
	c.runningMu.Lock()
	for reader := range c.running {
		reader.Finish()
	}
	c.runningMu.Unlock()
	giveUp := time.AfterFunc(time.Until(deadline), c.cancel)
	defer giveUp.Stop()
	c.readers.Wait()
}
