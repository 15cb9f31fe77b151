// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import "time"

// window holds the times of the restarts that still count, oldest first.
//
// OTP keeps whole seconds, so that the age at which a restart stops counting
// varies by up to a second. Here a restart counts while its age is less than the
// period, to the nanosecond of the monotonic clock that Step is given.
type window struct {
	times []time.Duration
	old   int // how many of times, at its front, are known to count no longer
}

// take records a restart at now and says whether the intensity allows it.
func (w *window) take(now time.Duration, most int, period time.Duration) bool {
	w.old = len(w.times) - w.count(now, period)
	if len(w.times)-w.old >= most {
		return false
	}
	// Moving the rest down once half is old costs nothing per restart, on average,
	// and keeps the array below twice MaxRestarts.
	if w.old > len(w.times)/2 {
		w.times = w.times[:copy(w.times, w.times[w.old:])]
		w.old = 0
	}
	w.times = append(w.times, now)
	return true
}

// count is how many restarts count at now.
func (w *window) count(now, period time.Duration) int {
	i := w.old
	for i < len(w.times) && now-w.times[i] >= period {
		i++
	}
	return len(w.times) - i
}

func (w *window) reset() { w.times, w.old = w.times[:0], 0 }
