// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"slices"
	"time"
)

// deriveSupervisor chooses a valid specification that has something in common with s.
func deriveSupervisor(c chooser, s Supervisor, depth int) Supervisor {
	s.Children = slices.Clone(s.Children)
	if odds(c, 3, "other supervision") {
		s.MaxRestarts = c.pick(4, "max restarts")
		s.Period = time.Duration(1+c.pick(5, "period")) * time.Second
		s.AutoShutdown = AutoShutdown(c.pick(3, "auto shutdown"))
		s.FirstStart = FirstStart(c.pick(2, "first start"))
		if s.Template == nil {
			s.Strategy = Strategy(c.pick(3, "strategy"))
		}
		s.Parallel = s.Strategy == OneForOne && odds(c, 3, "parallel")
	}
	if s.Template != nil {
		instance := deriveChild(c, *s.Template, s, depth+1)
		s.Template = &instance
		return s
	}
	var list []Child
	for _, child := range s.Children {
		if !odds(c, 6, "drop") {
			list = append(list, deriveChild(c, child, s, depth+1))
		}
	}
	s.Children = list
	for odds(c, 2, "new child") && len(s.Children) < 6 {
		name := []string{"x", "y", "new", fmt.Sprintf("a%d", depth), fmt.Sprintf("b%d", depth)}[c.pick(5, "name")]
		if !slices.ContainsFunc(s.Children, func(c Child) bool { return c.Name == name }) {
			child := chooseChild(c, name, s, depth+1)
			s.Children = slices.Insert(s.Children, c.pick(len(s.Children)+1, "place"), child)
		}
	}
	if n := len(s.Children); n > 1 && odds(c, 4, "move") {
		i, j := c.pick(n, "from"), c.pick(n, "to")
		s.Children[i], s.Children[j] = s.Children[j], s.Children[i]
	}
	return s
}

func deriveChild(c chooser, child Child, parent Supervisor, depth int) Child {
	switch c.pick(8, "derive") {
	case 6:
		return chooseChild(c, child.Name, parent, depth)
	case 5:
		fresh := chooseChild(c, child.Name, parent, 3) // a worker
		if child.Worker != nil {
			child.Worker = fresh.Worker
		}
		child.Restart, child.Significant, child.Backoff = fresh.Restart, fresh.Significant, fresh.Backoff
	case 4, 3:
		if child.Supervisor != nil {
			s := deriveSupervisor(c, *child.Supervisor, depth)
			child.Supervisor = &s
		}
	}
	child.Significant = child.Significant && parent.AutoShutdown != Never
	return child
}
