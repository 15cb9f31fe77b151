// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// chooser makes the choices of a random scenario.
type chooser interface {
	// pick is a number from 0 to n-1; what explains it in a failure.
	pick(n int, what string) int
	// more says whether the scenario is to go on.
	more() bool
}

type rapidChooser struct {
	t     *rapid.T
	steps int
}

func (c *rapidChooser) pick(n int, what string) int { return rapid.IntRange(0, n-1).Draw(c.t, what) }

func (c *rapidChooser) more() bool {
	c.steps--
	return c.steps >= 0
}

// byteChooser takes its choices from the bytes of a fuzzer's input.
type byteChooser struct{ data []byte }

func (c *byteChooser) pick(n int, _ string) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

func (c *byteChooser) more() bool { return len(c.data) > 0 }

// odds is true in one of n cases.
func odds(c chooser, n int, what string) bool { return c.pick(n, what) == n-1 }

func chooseRoot(c chooser) Supervisor { return chooseSupervisor(c, 0) }

func chooseSupervisor(c chooser, depth int) Supervisor {
	s := Supervisor{
		Strategy:     Strategy(c.pick(3, "strategy")),
		MaxRestarts:  c.pick(4, "max restarts"),
		Period:       time.Duration(1+c.pick(5, "period")) * time.Second,
		AutoShutdown: AutoShutdown(c.pick(3, "auto shutdown")),
		FirstStart:   FirstStart(c.pick(2, "first start")),
	}
	if s.Strategy == OneForOne {
		s.Parallel = odds(c, 4, "parallel")
		if depth > 0 && odds(c, 4, "template") {
			instance := chooseChild(c, "instance", s, depth+1)
			s.Template = &instance
			return s
		}
	}
	for i := range c.pick(5, "children") {
		s.Children = append(s.Children, chooseChild(c, fmt.Sprintf("%c%d", 'a'+i, depth), s, depth+1))
	}
	return s
}

func chooseChild(c chooser, name string, parent Supervisor, depth int) Child {
	child := Child{Name: name, Restart: Restart(c.pick(3, "restart"))}
	if child.Restart != Permanent && parent.AutoShutdown != Never {
		child.Significant = odds(c, 2, "significant")
	}
	if odds(c, 2, "backoff") {
		child.Backoff = Backoff{Initial: time.Second, Max: 4 * time.Second, ResetAfter: 5 * time.Second, Multiplier: 2, Jitter: 0.5}
	}
	if depth < 3 && odds(c, 3, "supervisor") {
		s := chooseSupervisor(c, depth)
		child.Supervisor = &s
		return child
	}
	child.Worker = &Worker{Manual: odds(c, 6, "manual"), AwaitReady: odds(c, 2, "await ready")}
	if odds(c, 2, "has start timeout") {
		child.Worker.StartTimeout = 3 * time.Second
	}
	return child
}
