// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// findings collects everything that is wrong with a specification, each with the ID of the child that it is about.
type findings []error

func (f *findings) add(id, format string, args ...any) {
	where := "root"
	if id != "" {
		where = id
	}
	*f = append(*f, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

// validateRoot returns every finding of the whole tree, joined.
func validateRoot(root *Supervisor) error {
	var f findings
	f.supervisor("", root)
	return errors.Join(f...)
}

// validateChild returns every finding of a child that is to be added to parent, joined.
func validateChild(parent *node, c *Child) error {
	return invalidChild(join(parent.id, c.Name), c, parent.sup.spec)
}

// validateAlone is validateChild for one that is in the tree already, whatever the
// specification of its supervisor has become since.
func validateAlone(id string, c *Child) error {
	return invalidChild(id, c, &Supervisor{AutoShutdown: AnySignificant})
}

func invalidChild(id string, c *Child, parent *Supervisor) error {
	var f findings
	f.child(id, c, parent)
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("%w child: %w", ErrInvalid, errors.Join(f...))
}

func (f *findings) supervisor(id string, s *Supervisor) {
	if s.Strategy > RestForOne {
		f.add(id, "strategy: %v is not one of one_for_one, one_for_all, rest_for_one", s.Strategy)
	}
	if s.AutoShutdown > AllSignificant {
		f.add(id, "auto_shutdown: %v is not one of never, any_significant, all_significant", s.AutoShutdown)
	}
	if s.FirstStart > Retry {
		f.add(id, "first_start: %v is not one of strict, retry", s.FirstStart)
	}
	if s.MaxRestarts < 0 {
		f.add(id, "max_restarts: %d must be 0 or more", s.MaxRestarts)
	}
	if s.Period < 0 || s.Period == 0 && s.MaxRestarts > 0 {
		f.add(id, "period: %v must be above 0s, it is what max_restarts are counted in", s.Period)
	}
	if s.Parallel && s.Strategy != OneForOne {
		f.add(id, "parallel: needs the strategy one_for_one, not %v", s.Strategy)
	}
	if s.Template != nil {
		if len(s.Children) > 0 {
			f.add(id, "children: %d beside a template, which has none of its own; give them to another supervisor", len(s.Children))
		}
		if s.Strategy != OneForOne {
			f.add(id, "template: needs the strategy one_for_one, not %v", s.Strategy)
		}
		instance := *s.Template
		instance.Name = "*"
		f.child(join(id, instance.Name), &instance, s)
	}
	names := make(map[string]bool, len(s.Children))
	for i := range s.Children {
		c := &s.Children[i]
		f.child(join(id, c.Name), c, s)
		if names[c.Name] {
			f.add(id, "children[%d]: name %q is used before, names are unique among siblings", i, c.Name)
		}
		names[c.Name] = true
	}
}

func (f *findings) child(id string, c *Child, parent *Supervisor) {
	if c.Name == "" || strings.Contains(c.Name, ".") || !utf8.ValidString(c.Name) {
		f.add(id, "name: %q must be text without a \".\", which separates the names of an id", c.Name)
	}
	if c.Restart > Temporary {
		f.add(id, "restart: %v is not one of permanent, transient, temporary", c.Restart)
	}
	if c.Significant {
		if c.Restart == Permanent {
			f.add(id, "significant: a permanent child never ends for good; make it transient or temporary")
		}
		if parent.AutoShutdown == Never {
			f.add(id, "significant: means nothing while its supervisor's auto_shutdown is never; use any_significant or all_significant")
		}
	}
	f.backoff(id, c.Backoff)
	switch {
	case (c.Worker == nil) == (c.Supervisor == nil):
		f.add(id, "exactly one of worker and supervisor must be given")
	case c.Supervisor != nil:
		f.supervisor(id, c.Supervisor)
	case c.Worker.StartTimeout < 0:
		f.add(id, "start_timeout: %v must be 0s (none) or more", c.Worker.StartTimeout)
	}
}

func (f *findings) backoff(id string, b Backoff) {
	if b.Initial < 0 || b.Max < 0 || b.ResetAfter < 0 {
		f.add(id, "backoff: initial %v, max %v and reset after %v must be 0s or more", b.Initial, b.Max, b.ResetAfter)
	}
	if m := b.Multiplier; !(m >= 1 && m <= math.MaxFloat64 || m == 0 && b.Initial == 0) {
		f.add(id, "backoff: multiplier %v must be a number from 1 up", m)
	}
	if b.Max > 0 && b.Max < b.Initial {
		f.add(id, "backoff: max %v must not be below initial %v; use 0s for no bound", b.Max, b.Initial)
	}
	if !(b.Jitter >= 0 && b.Jitter <= 1) {
		f.add(id, "backoff: jitter %v must be from 0 to 1", b.Jitter)
	}
}

// join makes the ID of the child of that name.
func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}
