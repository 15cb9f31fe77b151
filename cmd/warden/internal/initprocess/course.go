// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"fmt"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/announce"
)

// The back-off between a crash of the collector and its next start doubles from
// firstDelay to longestDelay, and begins anew after a run of steadyAfter.
const (
	firstDelay   = 500 * time.Millisecond
	longestDelay = time.Minute
	steadyAfter  = time.Minute
)

// keepersPatience is how long keepers may take to stop their processes and leave.
const keepersPatience = time.Minute

// remindKeepers is the pause between two SIGTERM to a keeper. One is not enough: a
// keeper ignores it while it believes that its collector lives, and init may know
// better for a moment.
const remindKeepers = time.Second

// keyboardPatience is how long the collector has to show that it has heard a
// signal from the keyboard before init passes it on.
const keyboardPatience = time.Second

type phase int

const (
	running phase = iota // the collector lives
	waiting              // it crashed; the back-off runs
	leaving              // it has ended for good; the keepers are told to stop
	left                 // init ends with status
)

// course decides what init does next. It knows no process and no clock; what it
// decides is carried out by its caller before the next event.
//
// An end of the collector is final if an extension announced it, if somebody asked
// init to end, or if no extension was ever attached to a keeper: then there are no
// processes that would outlive it, and whoever started init shall see the failure.
// Every other end, with whatever status, is a crash: a keeper holds the processes
// meanwhile, and the collector is started again.
//
// After a final end init leaves as soon as no keeper lives. One that does has lost
// its collector, or the collector has not dismissed it as it should, so it is told
// to stop its processes.
type course struct {
	phase     phase
	attached  bool // an extension has attached to a keeper, in this run or an earlier one
	announced bool // this run's end
	asked     bool // somebody wants init to end

	// status is what init ends with; announce.OwnStatus until it is known: the
	// collector's own.
	status int

	started time.Time     // of the last start of the collector
	delay   time.Duration // of the next one, unless this run is steady
	// wake is when due is to be called, zero for never. The phase says what for; in
	// running it is to pass on held, a signal from the keyboard.
	wake     time.Time
	held     syscall.Signal
	deadline time.Time // of the keepers, in leaving
}

func newCourse() *course {
	return &course{status: announce.OwnStatus, delay: firstDelay}
}

type verb int

const (
	nothing verb = iota
	start        // the collector
	forward      // signal to the collector
	stopKeepers
	leave
)

// step is what to do now.
type step struct {
	verb   verb
	signal syscall.Signal // of forward
	say    string         // a line for the operator, if not empty
}

// begin is the first event.
func (c *course) begin(now time.Time) step { return c.becomeRunning(now) }

// heard takes an announcement of the present run.
func (c *course) heard(a announce.Announcement) {
	switch a.Kind {
	case announce.Attached:
		c.attached = true
	case announce.Ending:
		c.announced = true
		if c.status == announce.OwnStatus {
			c.status = a.Status
		}
		c.held, c.wake = 0, time.Time{}
	}
}

// ended is called when the collector is dead, or could not be started, and all that
// it announced has been heard. keepers is here and below the number of those that live.
func (c *course) ended(now time.Time, e ending, keepers int) step {
	if c.phase != running {
		return step{}
	}
	if c.announced || c.asked || !c.attached {
		if c.status == announce.OwnStatus {
			c.status = e.status()
		}
		s := c.becomeLeaving(now, keepers)
		if e.err != nil && s.say == "" {
			s.say = e.String()
		}
		return s
	}
	return c.becomeWaiting(now, e)
}

func (c *course) becomeWaiting(now time.Time, e ending) step {
	if now.Sub(c.started) >= steadyAfter {
		c.delay = firstDelay
	}
	delay := c.delay
	c.delay = min(2*delay, longestDelay)
	c.phase, c.held, c.wake = waiting, 0, now.Add(delay)
	return step{say: fmt.Sprintf("the collector crashed (%s) and is started again in %s; its processes are left as they are", e, delay)}
}

func (c *course) becomeLeaving(now time.Time, keepers int) step {
	if keepers == 0 {
		return c.becomeLeft()
	}
	c.phase, c.held, c.wake, c.deadline = leaving, 0, now.Add(remindKeepers), now.Add(keepersPatience)
	return step{verb: stopKeepers, say: "the collector has ended; waiting for its keeper to stop the processes that it left"}
}

func (c *course) becomeLeft() step {
	c.phase, c.held, c.wake = left, 0, time.Time{}
	return step{verb: leave}
}

func (c *course) becomeRunning(now time.Time) step {
	c.phase, c.wake, c.started = running, time.Time{}, now
	return step{verb: start}
}

// signalled takes a signal that was sent to init. keyboard: it may well come from a
// terminal, which then sent it to the collector too.
func (c *course) signalled(now time.Time, signal syscall.Signal, keyboard bool, keepers int) step {
	end := signal == syscall.SIGTERM || signal == syscall.SIGINT
	switch c.phase {
	case running:
		c.asked = c.asked || end
		if !keyboard {
			return step{verb: forward, signal: signal}
		}
		if !c.announced {
			c.held, c.wake = signal, now.Add(keyboardPatience)
		}
	case waiting:
		switch {
		case end:
			c.status = 0
			return c.becomeLeaving(now, keepers)
		case signal == syscall.SIGHUP: // read the configuration, which may be mended
			return c.becomeRunning(now)
		}
	}
	return step{}
}

// keepersGone is called when the last keeper has left.
func (c *course) keepersGone() step {
	if c.phase != leaving {
		return step{}
	}
	return c.becomeLeft()
}

// due is called when wake has come.
func (c *course) due(now time.Time, keepers int) step {
	switch c.phase {
	case running:
		signal := c.held
		c.held, c.wake = 0, time.Time{}
		return step{verb: forward, signal: signal}
	case waiting:
		return c.becomeRunning(now)
	case leaving:
		if now.Before(c.deadline) {
			c.wake = now.Add(remindKeepers)
			return step{verb: stopKeepers}
		}
		if c.status == 0 {
			c.status = exitFailure
		}
		s := c.becomeLeft()
		s.say = fmt.Sprintf("%d keepers have not stopped their processes within %s and are left behind", keepers, keepersPatience)
		return s
	}
	return step{}
}
