// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import "sync"

// tailSize is how many of the last bytes of a stream are remembered.
const tailSize = 2 << 10

// exitMark tells what was written before the process itself ended from what others
// have written since, and remembers the last bytes before that.
type exitMark struct {
	mu       sync.Mutex
	consumed uint64 // guarded by mu; bytes
	recent   []byte // guarded by mu; the last ones of those
	exited   bool   // guarded by mu
	at       uint64 // guarded by mu; how many bytes were written when it ended, if it did
}

// consume calls consume, which takes the bytes out of the stream.
func (m *exitMark) consume(bytes []byte, consume func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	consume()
	if len(bytes) == 0 {
		return
	}
	m.consumed += uint64(len(bytes))
	if m.exited {
		return // nobody will ask
	}
	bytes = bytes[max(0, len(bytes)-tailSize):]
	if kept := tailSize - len(bytes); len(m.recent) > kept {
		m.recent = append(m.recent[:0], m.recent[len(m.recent)-kept:]...)
	}
	m.recent = append(m.recent, bytes...)
}

// mark marks those of the next lines that were written after the exit.
func (m *exitMark) mark(lines []Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.exited {
		return
	}
	for i := range lines {
		lines[i].AfterExit = m.consumed+uint64(lines[i].at) >= m.at
	}
}

// Exited tells that the process itself has ended: what is in the pipe now is the last
// that it wrote. It returns the last bytes of the stream up to here, at most 2 KiB,
// whether they were taken or not, and may be called once, from any goroutine.
func (r *Reader) Exited() []byte {
	m := &r.exit
	var waiting int
	var last []byte
	look := func(fd uintptr) {
		m.mu.Lock()
		defer m.mu.Unlock()
		waiting, last = r.source.last(int(fd), tailSize)
		m.exited, m.at = true, m.consumed+uint64(waiting)
	}
	// Without the pipe, which is closed when all was read, the last bytes are known.
	_ = r.conn.Control(look)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exited = true
	recent := m.recent
	m.recent = nil
	if len(last) == tailSize || waiting > len(last) {
		return last
	}
	return append(recent[max(0, len(recent)+len(last)-tailSize):], last...)
}
