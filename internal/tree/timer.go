// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "time"

// timers is a heap of the nodes that wait for a time, the earliest first and of
// equal times the one armed first. A node waits for one thing at a time, told by
// its state: the start timeout while it is starting, the end of its back-off
// while it is down.
type timers struct {
	heap  []*node
	armed uint64 // how many were ever armed; orders equal deadlines
}

// timer is a node's place in it.
type timer struct {
	at    time.Duration
	order uint64
	index int // in the heap, from 1; 0: not armed
}

func (t *timer) armed() bool { return t.index != 0 }

func (q *timers) arm(n *node, at time.Duration) {
	q.armed++
	q.insert(n, timer{at: at, order: q.armed})
}

func (q *timers) insert(n *node, tm timer) {
	q.heap = append(q.heap, n)
	tm.index = len(q.heap)
	n.timer = tm
	q.up(tm.index - 1)
}

func (q *timers) disarm(n *node) {
	i := n.timer.index - 1
	if i < 0 {
		return
	}
	n.timer.index = 0
	last := len(q.heap) - 1
	moved := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	if i == last {
		return
	}
	q.put(i, moved)
	q.up(i)
	q.down(moved.timer.index - 1)
}

// due is a node whose time has come, nil if there is none.
func (q *timers) due(now time.Duration) *node {
	if len(q.heap) == 0 || q.heap[0].timer.at > now {
		return nil
	}
	return q.heap[0]
}

func (q *timers) put(i int, n *node) {
	q.heap[i] = n
	n.timer.index = i + 1
}

func (q *timers) before(a, b *node) bool {
	if a.timer.at != b.timer.at {
		return a.timer.at < b.timer.at
	}
	return a.timer.order < b.timer.order
}

func (q *timers) up(i int) {
	n := q.heap[i]
	for i > 0 {
		above := (i - 1) / 2
		if !q.before(n, q.heap[above]) {
			break
		}
		q.put(i, q.heap[above])
		i = above
	}
	q.put(i, n)
}

func (q *timers) down(i int) {
	n := q.heap[i]
	for {
		below := 2*i + 1
		if below >= len(q.heap) {
			break
		}
		if right := below + 1; right < len(q.heap) && q.before(q.heap[right], q.heap[below]) {
			below = right
		}
		if !q.before(q.heap[below], n) {
			break
		}
		q.put(i, q.heap[below])
		i = below
	}
	q.put(i, n)
}
