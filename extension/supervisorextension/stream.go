// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/output"
)

// stream is one captured stream of one run.
type stream struct {
	capture *capture
	of      Output // without lines, and without the process
	process atomic.Pointer[Info]
	id      string // of the process, or of the instance
	key     string // of its position
	watch   func([]output.Line) bool
	reader  *output.Reader
	// over: nothing of the run lives. The position that is kept is the next run's.
	over atomic.Bool
	// life ends with giveUp: what has not been taken then is lost.
	life   context.Context
	giveUp context.CancelFunc

	dropped, truncated tally

	// Of the reader's goroutine.
	saved  time.Time       // when the position was kept last
	within context.Context // that of calls of a claim: it ends with asked, or with the claim
	asked  context.Context
	claim  *claim
	cancel context.CancelFunc
}

// take is what the reader hands lines to.
func (s *stream) take(ctx context.Context, lines []output.Line) error {
	if s.watch != nil && !s.watch(lines) {
		return errUnheeded
	}
	c := s.capture
	c.mu.RLock()
	defer c.mu.RUnlock()
	var err error
	switch {
	case c.claim != nil:
		of := s.reported()
		of.Lines = lines
		err = c.claim.handle(s.contextWithin(ctx, c.claim), of)
	case c.console != nil:
		err = c.console.of(s.of.Stream).take(ctx, s.id, lines)
	default:
		err = errUnclaimed
	}
	if err != nil {
		return err
	}
	for i := range lines {
		if lines[i].Truncated {
			s.truncated.add(lines[i : i+1])
		}
	}
	if now := time.Now(); now.Sub(s.saved) > positionInterval && !s.over.Load() {
		s.saved = now
		c.positions.save(s.key, s.of.Run, lines[len(lines)-1].Seq)
	}
	return nil
}

// reported is of, with the process as it is described now.
func (s *stream) reported() Output {
	of := s.of
	of.Process = s.process.Load()
	return of
}

// contextWithin is ctx that ends with the claim too. It stays the same from call to
// call, so that a line costs no context.
func (s *stream) contextWithin(ctx context.Context, claim *claim) context.Context {
	if s.asked != ctx || s.claim != claim {
		s.release()
		var cancel context.CancelFunc
		s.within, cancel = context.WithCancel(ctx)
		stop := context.AfterFunc(claim.ctx, cancel)
		s.asked, s.claim, s.cancel = ctx, claim, func() { stop(); cancel() }
	}
	return s.within
}

func (s *stream) release() {
	if s.cancel != nil {
		s.cancel()
	}
}

// trouble is the message that something became of lines that nobody wanted.
type trouble struct {
	of    Output // without lines
	id    string
	event string // output.dropped or output.truncated
	why   dropReason
	lines int
	bytes int
}

// dropReason says why lines were dropped.
type dropReason string

const (
	droppedFull     dropReason = "on_full"  // the pipeline did not take them in time
	droppedShutdown dropReason = "shutdown" // nor before the end of everything
)

func (s *stream) tell(event string, why dropReason) func(lines, bytes int) {
	return func(lines, bytes int) { s.capture.report(trouble{s.reported(), s.id, event, why, lines, bytes}) }
}

// tallyInterval is how often the same trouble is told of.
const tallyInterval = 10 * time.Second

// tally counts lines and tells of them: of the first at once, of more in sums.
type tally struct {
	tell func(lines, bytes int)

	mu           sync.Mutex
	lines, bytes int         // guarded by mu; not told yet
	timer        *time.Timer // guarded by mu; nil: the next ones are told at once
}

func (t *tally) add(lines []output.Line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines += len(lines)
	for i := range lines {
		t.bytes += len(lines[i].Text)
	}
	if t.timer == nil {
		t.tellLocked()
		t.timer = time.AfterFunc(tallyInterval, t.again)
	}
}

func (t *tally) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer == nil:
	case t.lines == 0:
		t.timer = nil
	default:
		t.tellLocked()
		t.timer.Reset(tallyInterval)
	}
}

// end tells what has not been told.
func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if t.lines > 0 {
		t.tellLocked()
	}
}

func (t *tally) tellLocked() {
	t.tell(t.lines, t.bytes)
	t.lines, t.bytes = 0, 0
}

// maxLastLines is how many lines an event has of the end of a stream.
const maxLastLines = 10

// lastLines makes text of the last bytes of a stream, cut at a line where there are more.
func lastLines(tail []byte) string {
	tail = bytes.TrimRight(tail, "\r\n")
	lines := bytes.Split(tail, []byte{'\n'})
	if len(lines) > maxLastLines {
		tail = bytes.Join(lines[len(lines)-maxLastLines:], []byte{'\n'})
	}
	return strings.ToValidUTF8(string(tail), "\uFFFD")
}

// lastWords has the readers of a run know that its process has ended, and returns what
// it wrote last.
func (c *child) lastWords() (attrs []journal.Attr) {
	for _, s := range c.streams {
		if text := lastLines(s.reader.Exited()); text != "" {
			attrs = append(attrs, journal.String(journal.KeyOutputTail+"."+s.of.Stream, text))
		}
	}
	return attrs
}
