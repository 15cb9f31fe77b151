// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

// latest keeps the newest point: of cumulative streams, of gauges by Last, and of summaries. Points that are older than
// what is held or was sent are left out, as they tell nothing that the newer one does not.
type latest[P point[P]] struct {
	make func() P
	// reset reports whether next, which is newer, belongs to a new run of the source. Then last is not superseded.
	reset func(last, next P) bool
}

func (l *latest[P]) create() P         { return l.make() }
func (l *latest[P]) finish(*stream[P]) {}
func (l *latest[P]) join(_, _ P) bool  { return true }

func (l *latest[P]) add(s *stream[P], p P, c *counts) bool {
	// A source that leaves the time out is taken by its order of arrival.
	if t := p.Timestamp(); t != 0 {
		switch {
		case t < s.newest:
			c.unmerged[OutOfOrder]++
			return false
		case t == s.newest:
			c.unmerged[DuplicateTimestamp]++
			return false
		}
	}
	switch {
	case !s.live:
		return s.begin(p, c)
	case l.reset(s.cur, p):
		c.resets++
		s.complete(l)
		return s.begin(p, c)
	default:
		return s.replace(p, c)
	}
}

// restarted reports whether both points say when their source started, and say it differently.
func restarted[P point[P]](last, next P) bool {
	a, b := last.StartTimestamp(), next.StartTimestamp()
	return a != 0 && b != 0 && a != b
}
