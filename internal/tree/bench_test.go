// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var sizes = []int{10, 1_000, 100_000}

// broad is a running tree of n workers under one supervisor.
func broad(tb testing.TB, n int, s Supervisor) *Tree {
	s.MaxRestarts, s.Period = 1, time.Nanosecond // a restart is forgotten by the next step
	for i := range n {
		s.Children = append(s.Children, Child{
			Name: fmt.Sprintf("w%d", i), Worker: &Worker{},
			Backoff: Backoff{Initial: time.Second, Max: time.Minute, ResetAfter: time.Minute, Multiplier: 2, Jitter: 0.2},
		})
	}
	t, err := New(s, 1)
	require.NoError(tb, err)
	playWell(tb, t, Start{})
	return t
}

// playWell carries out what the tree asks for, at once, until it asks for nothing; it returns how many steps that took.
func playWell(tb testing.TB, t *Tree, ev Event) int {
	queue := []Event{ev}
	steps := 0
	for ; steps < len(queue); steps++ {
		for _, a := range t.Step(0, queue[steps]) {
			switch a := a.(type) {
			case Spawn:
				queue = append(queue, Spawned(a))
			case StopProcess:
				queue = append(queue, Exited{a.ID, a.Run, ExitStopped})
			}
		}
	}
	return steps
}

// BenchmarkTree_Crash is one process's crash, its restart and its coming up
// under one_for_one: the cost of a failure in the tree itself.
func BenchmarkTree_Crash(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := broad(b, n, Supervisor{})
			id, run, now := fmt.Sprintf("w%d", n/2), uint64(1), time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += time.Minute
				t.Step(now, Exited{id, run, ExitSignal})
				run++
				t.Step(now, Spawned{id, run})
			}
			s, _ := t.Status(id)
			require.Equal(b, StateRunning, s.State)
		})
	}
}

// BenchmarkTree_Backoff is the same when every child has a timer armed.
func BenchmarkTree_Backoff(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := broad(b, n, Supervisor{})
			t.root.sup.spec.MaxRestarts = 1 << 40
			for i := range n {
				id := fmt.Sprintf("w%d", i)
				t.Step(1, Exited{id, 1, ExitSignal})
				t.Step(1, Spawned{id, 2})
				t.Step(1, Exited{id, 2, ExitSignal})
			}
			b.ReportAllocs()
			for b.Loop() {
				at, _ := t.NextDeadline()
				actions := t.Step(at, Tick{})
				spawn := actions[len(actions)-1].(Spawn)
				t.Step(at, Spawned(spawn))
				t.Step(at, Exited{spawn.ID, spawn.Run, ExitSignal})
			}
		})
	}
}

// BenchmarkTree_Reconfigure replaces the process of one child, and takes it out and in again.
func BenchmarkTree_Reconfigure(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := broad(b, n, Supervisor{})
			all := *t.root.sup.spec
			fewer := all
			fewer.Children = slices.Delete(slices.Clone(all.Children), n/2, n/2+1)
			restart := []string{all.Children[n/2].Name}
			b.ReportAllocs()
			for b.Loop() {
				playWell(b, t, Reconfigure{Root: all, Restart: restart})
				playWell(b, t, Reconfigure{Root: fewer})
				playWell(b, t, Reconfigure{Root: all})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(3*n), "ns/child")
		})
	}
}

// BenchmarkTree_StartAndStop is of all n children, and reports the time for one.
func BenchmarkTree_StartAndStop(b *testing.B) {
	for _, parallel := range []bool{false, true} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("parallel=%v/%d", parallel, n), func(b *testing.B) {
				t := broad(b, n, Supervisor{Parallel: parallel})
				playWell(b, t, Stop{})
				b.ReportAllocs()
				for b.Loop() {
					playWell(b, t, Start{})
					playWell(b, t, Stop{})
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/child")
			})
		}
	}
}
