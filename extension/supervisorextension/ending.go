// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/announce"
)

// ending hears the signals that end the collector, from the extension's Start on:
// the Collector itself listens only once everything is up, and without a listener
// SIGTERM would end it at once and leave the processes behind.
//
// It is also how the extension ends the collector: by the signal that an operator
// would send, until the Collector shows that it has taken it. A fatal status would
// not do: alone it makes the exit status 0, and during a shutdown it hangs.
type ending struct {
	raise func()
	// of is the runtime directory: the next ending of it in this process is told that the
	// end was asked for, if this one is closed for a reload that came first. "": none is.
	of string
	// announce is told of the end once it is decided or heard of, and with which status an
	// init process is to end; nil: nobody wants to know.
	announce func(status int)
	told     sync.Once

	signals chan os.Signal
	asked   atomic.Bool

	ask       chan chan struct{} // each is closed once the signals so far are dealt with
	quit      chan struct{}
	taken     chan struct{} // closed once the Collector is shutting down
	takenOnce sync.Once
	insisted  sync.Once

	mu      sync.Mutex
	closed  bool // guarded by mu; nothing runs any more, or is about to end
	running sync.WaitGroup
}

func newEnding(raise func()) *ending {
	return &ending{
		raise:   raise,
		signals: make(chan os.Signal, 4),
		ask:     make(chan chan struct{}),
		quit:    make(chan struct{}),
		taken:   make(chan struct{}),
	}
}

// listen calls stop for the first SIGTERM or SIGINT. SIGHUP is taken too: it must not
// end a collector that is not yet ready to reload.
func (e *ending) listen(stop func(os.Signal)) {
	signal.Notify(e.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Stop(between)
	take := func(s os.Signal) {
		if s != syscall.SIGHUP && e.asked.CompareAndSwap(false, true) {
			e.tell(announce.OwnStatus)
			stop(s)
		}
	}
	select {
	case s := <-between:
		take(s)
	default:
	}
	if _, ok := askedToEnd.LoadAndDelete(e.of); ok {
		take(syscall.SIGTERM)
	}
	e.run(func() {
		for {
			select {
			case s := <-e.signals:
				take(s)
			case done := <-e.ask:
				for {
					select {
					case s := <-e.signals:
						take(s)
						continue
					default:
					}
					break
				}
				close(done)
			case <-e.quit:
				return
			}
		}
	})
}

// between hears the signals to end that come while a reload has closed one ending and
// not yet made the next. The Collector takes them when the reload is over.
var between = make(chan os.Signal, 1)

// afterEnd hears the calls for a reload that come when the collector has ended in order
// and its process has not: nobody else listens any more, and one would end it with the
// status of a crash.
var afterEnd = make(chan os.Signal, 1)

// askedToEnd holds ending.of where an end was asked for. The Collector may be at a reload when
// that comes, and then makes another instance before it takes the signal: one that
// starts nothing, and does not take that signal for another reload.
var askedToEnd sync.Map

// leave is close, but for the signals that the next instance has to hear of.
func (e *ending) leave() {
	signal.Notify(between, syscall.SIGTERM, syscall.SIGINT)
	e.close()
}

// expect is told that the collector ends, by somebody else's doing.
func (e *ending) expect() {
	e.asked.Store(true)
	e.tell(announce.OwnStatus)
}

func (e *ending) tell(status int) {
	if e.announce != nil {
		e.told.Do(func() { e.announce(status) })
	}
}

// signalled reports whether the Collector, which is shutting down, does so for an end
// that was asked for. It hears the same signals, and perhaps a moment earlier.
func (e *ending) signalled() bool {
	// The runtime gives a signal to all who want it before it takes another request, so
	// after this one what the Collector has is in the channel too.
	signal.Notify(e.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	done := make(chan struct{})
	select {
	case e.ask <- done:
		<-done
	case <-e.quit:
	}
	return e.begun()
}

// begun reports whether a signal to end has come.
func (e *ending) begun() bool { return e.asked.Load() }

// insist ends the collector, and an init process with that status.
func (e *ending) insist(status int) {
	e.tell(status)
	e.raiseUntilAccepted()
}

// raiseUntilAccepted sends the signal until accepted is called.
func (e *ending) raiseUntilAccepted() {
	e.insisted.Do(func() {
		e.asked.Store(true)
		e.run(func() {
			pause := time.NewTicker(50 * time.Millisecond)
			defer pause.Stop()
			for {
				e.raise()
				select {
				case <-pause.C:
				case <-e.taken:
					return
				case <-e.quit:
					return
				}
			}
		})
	})
}

// end ends what run began.
func (e *ending) end() {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.quit)
	}
	e.mu.Unlock()
	e.running.Wait()
}

// run runs f in a goroutine that end waits for, unless that has been called.
func (e *ending) run(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.running.Go(f)
	}
}

// accepted is called once the Collector is shutting down.
func (e *ending) accepted() { e.takenOnce.Do(func() { close(e.taken) }) }

// close ends what listen and insist began.
func (e *ending) close() {
	if e.begun() {
		signal.Notify(afterEnd, syscall.SIGHUP)
	}
	signal.Stop(e.signals)
	e.end()
	if e.begun() && e.of != "" {
		askedToEnd.Store(e.of, nil)
	}
}
