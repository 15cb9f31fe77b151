// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import "time"

const (
	// lingerFor is how long a reader lets lines gather where they come in small pieces. To
	// take each by itself costs many times as much, and the writer's CPU too.
	lingerFor = 2 * time.Millisecond
	// lingerBelow is how many bytes may come meanwhile: half of the pipe of a process, so
	// that a writer is never held up by it.
	lingerBelow = 32 << 10
	// lingerWindow is over how long the rate is measured.
	lingerWindow = 10 * time.Millisecond
)

// pace says when a reader does well to let lines gather.
type pace struct {
	since time.Time
	bytes int
	fast  bool // in the last window more came than there is room for
}

// lingers is told of a batch, and reports whether more is to be let gather before the
// next one.
func (p *pace) lingers(bytes int, now time.Time) bool {
	p.bytes += bytes
	if passed := now.Sub(p.since); passed >= lingerWindow {
		p.fast = float64(p.bytes)*float64(lingerFor) > lingerBelow*float64(passed)
		p.since, p.bytes = now, 0
	}
	return !p.fast && bytes < lingerBelow
}
