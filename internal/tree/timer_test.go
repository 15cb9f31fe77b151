// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTimers_TheEarliestIsAlwaysNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q timers
		var armed []*node // in the order in which they were armed
		earliest := func() *node {
			var first *node
			for _, n := range armed {
				if first == nil || n.timer.at < first.timer.at {
					first = n
				}
			}
			return first
		}
		for range rapid.IntRange(0, 200).Draw(t, "operations") {
			if len(armed) > 0 && rapid.IntRange(0, 2).Draw(t, "disarm") == 0 {
				i := rapid.IntRange(0, len(armed)-1).Draw(t, "which")
				q.disarm(armed[i])
				require.False(t, armed[i].timer.armed())
				q.disarm(armed[i]) // harmless
				armed = append(armed[:i], armed[i+1:]...)
			} else {
				n := &node{}
				q.arm(n, time.Duration(rapid.IntRange(1, 100).Draw(t, "at")))
				armed = append(armed, n)
			}
			require.Len(t, q.heap, len(armed))
			want := earliest()
			require.Nil(t, q.due(0))
			require.Same(t, want, q.due(time.Hour))
			q.requireInOrder(t)
		}
		for want := earliest(); want != nil; want = earliest() {
			require.Same(t, want, q.due(time.Hour))
			q.disarm(want)
			for i, n := range armed {
				if n == want {
					armed = append(armed[:i], armed[i+1:]...)
					break
				}
			}
		}
	})
}

// requireInOrder: every node is armed once, and knows its place. One that is armed
// twice could never be disarmed, and the Step in which its time comes would not end.
func (q *timers) requireInOrder(t require.TestingT) {
	for i, n := range q.heap {
		require.Equal(t, i+1, n.timer.index, "%s is armed twice", n.id)
	}
}
