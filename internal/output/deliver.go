// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"sync"
	"time"
)

// delivery is what became of lines.
type delivery int

const (
	deliveryTaken delivery = iota
	// deliveryDropped: the writer was held up for longer than it may be.
	deliveryDropped
	// deliveryEnded: nobody will take them, at least not from this reader.
	deliveryEnded
)

// deliver hands lines over, again and again until they are taken, or are to be
// dropped, or ctx ends.
func (r *Reader) deliver(ctx context.Context, lines []Line) delivery {
	if len(lines) == 0 {
		return deliveryTaken
	}
	if ctx.Err() == nil && !r.hold.worthTrying() {
		return deliveryDropped
	}
	r.handing.Store(true)
	defer r.handing.Store(false)
	trying, once := r.hold.begin(ctx)
	taken := r.offer(trying, lines, once)
	switch {
	case r.hold.end(taken):
		return deliveryDropped
	case taken:
		return deliveryTaken
	}
	return deliveryEnded
}

func (r *Reader) offer(ctx context.Context, lines []Line, once bool) (taken bool) {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for pause := shortest; ctx.Err() == nil; pause = min(2*pause, longest) {
		if r.handle(ctx, lines) == nil {
			return true
		}
		if once {
			return false
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return false
}

// holdup watches for how long the writer has been held up since the taker took
// something last, and ends the attempt under way when that is too long. The kernel
// does not tell when a pipe becomes full, so it is looked at now and then while an
// attempt lasts; between two looks the worse is assumed. From then on, until the taker
// takes something, what fills its pipe is dropped at once, but for a single attempt now
// and then, which holds the writer up for a tenth of the time at most.
type holdup struct {
	wait time.Duration // negative: for ever, and nothing is watched
	full func() bool

	// Of the goroutine that delivers.
	ctx    context.Context // of attempts; made anew when it was cancelled
	cancel context.CancelFunc
	spent  bool      // lines were dropped, and none taken since
	began  time.Time // when the last attempt did
	retry  time.Time // when the next attempt is made although the pipe is full

	mu      sync.Mutex
	timer   *time.Timer   // guarded by mu
	tick    time.Duration // guarded by mu; until the next look
	limit   time.Duration // guarded by mu
	since   time.Time     // guarded by mu; when the writer was last known not to be held up
	trying  bool          // guarded by mu
	overdue bool          // guarded by mu; the attempt was ended
}

const (
	shortestTick = 10 * time.Millisecond
	longestTick  = 250 * time.Millisecond
	sparsest     = 5 * time.Second // of attempts when lines are being dropped
	retryPause   = 100 * time.Millisecond
	// attemptLimit is how long an attempt may hold the writer up when lines are being
	// dropped: longer than a taker that works again needs, for what it takes after that
	// has been counted as dropped.
	attemptLimit = 250 * time.Millisecond
)

func (h *holdup) init(wait time.Duration, full func() bool) { h.wait, h.full = wait, full }

// worthTrying is false for lines that are to be dropped without an attempt.
func (h *holdup) worthTrying() bool {
	if !h.spent {
		return true
	}
	return !time.Now().Before(h.retry) || !h.full()
}

// begin returns the context of an attempt, and whether the first refusal ends it.
func (h *holdup) begin(ctx context.Context) (trying context.Context, once bool) {
	if h.wait < 0 {
		return ctx, false
	}
	h.began = time.Now()
	if h.ctx == nil || h.ctx.Err() != nil {
		h.ctx, h.cancel = context.WithCancel(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying, h.overdue, h.since = true, false, h.began
	h.limit = h.wait
	if h.spent {
		h.limit = min(h.wait, attemptLimit)
	}
	h.tick = min(max(h.limit/20, shortestTick), longestTick)
	if h.timer == nil {
		h.timer = time.AfterFunc(h.tick, h.look)
	} else {
		h.timer.Reset(h.tick)
	}
	return h.ctx, h.spent
}

// end reports whether the attempt was ended, and its lines are to be dropped.
func (h *holdup) end(taken bool) (dropped bool) {
	if h.wait < 0 {
		return false
	}
	h.mu.Lock()
	h.trying = false
	h.timer.Stop()
	dropped = (h.overdue || h.spent && h.ctx.Err() == nil) && !taken
	h.mu.Unlock()
	h.spent = dropped
	if dropped {
		now := time.Now()
		h.retry = now.Add(max(retryPause, min(9*now.Sub(h.began), sparsest)))
	}
	return dropped
}

func (h *holdup) look() {
	full := h.full()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.trying {
		return
	}
	now := time.Now()
	if !full {
		h.since = now
	} else if now.Sub(h.since)+h.tick > h.limit {
		h.overdue = true
		h.cancel()
		return
	}
	h.timer.Reset(h.tick)
}
