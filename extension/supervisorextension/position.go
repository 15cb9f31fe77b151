// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"sync"
	"time"
)

// position is how many lines of a stream of a run were taken.
type position struct{ Run, Taken uint64 }

// positions are kept outside of the collector, so that the next one numbers the lines
// on: exactly when this one lets go of the streams, and every positionInterval in case
// it is killed. They say nothing about which lines there are: those that were not taken
// are in the pipe.
type positions struct {
	mu   sync.Mutex
	left map[string]position // guarded by mu; what the last collector left, by stream
	keep func(key string, data []byte)
}

const positionInterval = time.Second

// streamKey names a stream of a child.
func streamKey(id, stream string) string { return id + "/" + stream }

// start makes positions go on where they were left, and keeps them from now on.
func (p *positions) start(left map[string]position, keep func(key string, data []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.keep = left, keep
}

// take returns how many lines of a stream were taken before, once.
func (p *positions) take(stream string, run uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.left[stream]
	if left.Run != run {
		return 0
	}
	delete(p.left, stream)
	return left.Taken
}

func (p *positions) save(stream string, run, taken uint64) {
	p.mu.Lock()
	keep := p.keep
	p.mu.Unlock()
	if keep != nil {
		keep(positionPrefix+stream, encode(position{run, taken}))
	}
}
