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
	ignored  atomic.Bool  // nobody had claimed the output by the time of the first start
	unpeeked sync.Once    // to say that lines can be lost with the collector

	positions positions

	detaching atomic.Bool // readers end, and what they read does not
	runningMu sync.Mutex
	running   map[*output.Reader]struct{} // guarded by runningMu

	mu    sync.RWMutex // held for reading during calls of claim.handle
	claim *claim       // guarded by mu
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

// ignoreUnclaimed is called before the first start: who wanted the output has
// claimed it by now. Without anybody, lines are read and thrown away, since a
// process whose pipe is full stands still.
func (c *capture) ignoreUnclaimed() (ignored bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.ignored.Store(c.claim == nil)
	return c.claim == nil
}

var errUnheeded = errors.New("the next collector has to see the output")

var errUnclaimed = errors.New("nobody takes the output at the moment")

// follow reads the pipes of a run until they end. watch, if not nil, is shown the
// lines before anybody else.
func (c *capture) follow(of *child, m spawned, watch func([]output.Line) bool) {
	of.readers = nil
	for _, stream := range []struct {
		name string
		pipe *os.File
	}{{"stdout", m.started.Stdout}, {"stderr", m.started.Stderr}} {
		if stream.pipe == nil {
			continue
		}
		out := Output{Process: of.info, Instance: of.instance(), Run: m.run, PID: m.started.PID, Started: m.at, Stream: stream.name}
		name := streamKey(of.id, stream.name)
		reader, err := output.NewReader(stream.pipe, c.positions.take(name, m.run), c.handler(out, watch, name))
		if err != nil {
			c.logger.Error("the output of a process can not be read", zap.String("process", of.id), zap.String("stream", stream.name), zap.Error(err))
			_ = stream.pipe.Close()
			continue
		}
		if !reader.Peeks() {
			c.unpeeked.Do(func() {
				c.logger.Warn("lines of output that are being delivered are lost if the collector is killed: the kernel, or a filter of system calls, does not allow tee(2) or splice(2)")
			})
		}
		of.readers = append(of.readers, reader)
		c.runningMu.Lock()
		c.running[reader] = struct{}{}
		c.runningMu.Unlock()
		c.readers.Go(func() { c.run(reader, of.id, &out) })
	}
}

// run reads a stream to its end.
func (c *capture) run(reader *output.Reader, id string, of *Output) {
	lost, err := reader.Run(c.ctx)
	if c.detaching.Load() {
		c.positions.save(streamKey(id, of.Stream), of.Run, reader.Taken())
	}
	c.runningMu.Lock()
	delete(c.running, reader)
	c.runningMu.Unlock()
	stream := []zap.Field{zap.String("process", id), zap.Uint64("run", of.Run), zap.String("stream", of.Stream)}
	if err != nil {
		c.logger.Error("the output of a process is read no longer", append(stream, zap.Error(err))...)
	}
	if lost > 0 {
		c.lost.Add(int64(lost))
		c.logger.Error("lines of output were not delivered before the end", append(stream, zap.Int("lines", lost))...)
	}
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

// handler returns the function that takes the lines of one stream.
func (c *capture) handler(out Output, watch func([]output.Line) bool, stream string) func(context.Context, []output.Line) error {
	saved := time.Now()
	return func(_ context.Context, lines []output.Line) error {
		if watch != nil && !watch(lines) {
			return errUnheeded
		}
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.claim == nil {
			if c.ignored.Load() {
				return nil
			}
			return errUnclaimed
		}
		out.Lines = lines
		if err := c.claim.handle(c.claim.ctx, out); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(saved) > positionInterval {
			saved = now
			c.positions.save(stream, out.Run, lines[len(lines)-1].Seq)
		}
		return nil
	}
}

// finish tells the readers of a run that nothing more will be written.
func (c *capture) finish(of *child) {
	for _, reader := range of.readers {
		reader.Finish()
	}
}

// drain waits until everything that was written has been taken, or, from the
// deadline on, counted. All processes must be gone.
func (c *capture) drain(deadline time.Time) {
	giveUp := time.AfterFunc(time.Until(deadline), c.cancel)
	defer giveUp.Stop()
	c.readers.Wait()
}
