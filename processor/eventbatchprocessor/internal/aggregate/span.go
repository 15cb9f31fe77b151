// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// span is the time a delta point is about.
type span struct{ from, to pcommon.Timestamp }

// maxSpans bounds how many gaps are remembered; beyond it the time covered is taken to be one piece.
const maxSpans = 16

// coverage is the time that the merged points of a stream are about: disjoint spans in order. Deltas that come late fill
// its gaps, and those that overlap it are of a second writer or have come twice.
type coverage struct {
	hull  span
	parts []span // nil while it is one piece
}

func (c *coverage) reset(s span) {
	c.hull = s
	c.parts = c.parts[:0]
}

func (c *coverage) overlaps(s span) bool {
	if s.to <= c.hull.from || s.from >= c.hull.to {
		return false
	}
	if len(c.parts) == 0 {
		return true
	}
	for _, p := range c.parts {
		if s.from < p.to && s.to > p.from {
			return true
		}
	}
	return false
}

// add takes s in. Unless points lie side by side, it remembers the gaps.
func (c *coverage) add(s span) {
	hull := span{min(c.hull.from, s.from), max(c.hull.to, s.to)}
	touching := s.from <= c.hull.to && s.to >= c.hull.from
	if len(c.parts) == 0 && !touching {
		c.parts = append(c.parts, c.hull)
	}
	if len(c.parts) > 0 {
		c.parts = append(c.parts, s)
		slices.SortFunc(c.parts, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		joined := c.parts[:1]
		for _, p := range c.parts[1:] {
			if last := &joined[len(joined)-1]; p.from <= last.to {
				last.to = max(last.to, p.to)
			} else {
				joined = append(joined, p)
			}
		}
		c.parts = joined
		if len(c.parts) == 1 || len(c.parts) > maxSpans {
			c.parts = c.parts[:0]
		}
	}
	c.hull = hull
}
