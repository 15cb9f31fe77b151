// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"time"
)

// Child is one entry of a supervisor's list. Exactly one of Worker and
// Supervisor is set. A Child given to the tree must not be changed afterwards.
type Child struct {
	// Name is unique among siblings and holds no ".". A child's ID is the names
	// from below the root down to it, joined by "."; the root's ID is "".
	Name    string
	Restart Restart
	// Significant children take part in their supervisor's AutoShutdown.
	// They cannot be Permanent: a permanent child never ends for good.
	Significant bool
	Backoff     Backoff
	Worker      *Worker
	Supervisor  *Supervisor
	// Data is the caller's own and comes back in [Status]. The tree neither looks at
	// it nor saves it.
	Data any `json:"-"`
}

// Worker is a child that is a process.
type Worker struct {
	// Manual workers stay down until an operator starts them, and again after
	// every start of their supervisor.
	Manual bool
	// AwaitReady workers are running when Ready says so; the others when Spawned does.
	AwaitReady bool
	// StartTimeout is how long a run may take from Spawn to running. 0: for ever.
	StartTimeout time.Duration
}

// Supervisor is a child, or the root, that has children of its own.
type Supervisor struct {
	Strategy Strategy
	// MaxRestarts restarts are allowed within Period; the one after makes the
	// supervisor give up. 0: the first failure does.
	MaxRestarts int
	// Period is how long a restart counts: while its age is less than Period,
	// to the nanosecond. It must be above 0 unless MaxRestarts is 0.
	Period       time.Duration
	AutoShutdown AutoShutdown
	FirstStart   FirstStart
	// Parallel starts all children together and stops them together. OneForOne only.
	Parallel bool
	// Template makes this OTP's simple_one_for_one: there are no Children, each
	// OpAdd makes an instance of Template under a name of its own, an instance
	// that has ended for good is forgotten, and all are stopped together.
	// Runs of instances are numbered over the whole template, for that is what
	// they report under. OneForOne only.
	Template *Child
	// Children are started in this order and stopped in the reverse.
	Children []Child
}

// Restart says when a child that ended by itself is started again.
type Restart uint8

const (
	// Permanent children are restarted however they ended.
	Permanent Restart = iota
	// Transient children are restarted unless they ended well.
	Transient
	// Temporary children are never restarted, and their specification is gone once they end.
	Temporary
)

func (r Restart) String() string {
	switch r {
	case Permanent:
		return "permanent"
	case Transient:
		return "transient"
	case Temporary:
		return "temporary"
	}
	return fmt.Sprintf("Restart(%d)", uint8(r))
}

// Strategy says which siblings are restarted together with a child that failed.
type Strategy uint8

const (
	// OneForOne: none.
	OneForOne Strategy = iota
	// OneForAll: all of them.
	OneForAll
	// RestForOne: those after it in the list.
	RestForOne
)

func (s Strategy) String() string {
	switch s {
	case OneForOne:
		return "one_for_one"
	case OneForAll:
		return "one_for_all"
	case RestForOne:
		return "rest_for_one"
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// AutoShutdown says when a supervisor ends because significant children ended by
// themselves and are not to be restarted.
type AutoShutdown uint8

const (
	// Never: their end means nothing to the supervisor.
	Never AutoShutdown = iota
	// AnySignificant: when one of them ends.
	AnySignificant
	// AllSignificant: when the last one that runs ends.
	AllSignificant
)

func (a AutoShutdown) String() string {
	switch a {
	case Never:
		return "never"
	case AnySignificant:
		return "any_significant"
	case AllSignificant:
		return "all_significant"
	}
	return fmt.Sprintf("AutoShutdown(%d)", uint8(a))
}

// FirstStart says what a failed start means while the supervisor itself is starting.
type FirstStart uint8

const (
	// Strict is OTP's way: what is up is stopped and the supervisor's own start has failed.
	Strict FirstStart = iota
	// Retry counts it as a failure of a running child: it costs a restart and is tried again.
	Retry
)

func (f FirstStart) String() string {
	switch f {
	case Strict:
		return "strict"
	case Retry:
		return "retry"
	}
	return fmt.Sprintf("FirstStart(%d)", uint8(f))
}

// Backoff delays the restarts of a child that fails again and again. Failures
// form a row; the first restart of a row is immediate, the n-th waits
// Initial × Multiplier^(n−2). The zero value is OTP's way: every restart is immediate.
type Backoff struct {
	// Initial is the delay of the second restart in a row. 0: no delays at all.
	Initial time.Duration
	// Max bounds the delay before jitter is applied. 0: no bound.
	Max time.Duration
	// ResetAfter: a run that was up for so long ends the row. 0: only an operator's
	// start and a start of the supervisor do.
	ResetAfter time.Duration
	// Multiplier is at least 1 when Initial is set.
	Multiplier float64
	// Jitter, from 0 to 1, spreads a delay evenly over ±Jitter×delay.
	Jitter float64
}
