// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/announce"
)

func TestCourse_HoldsItsPromisesWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := begunWith(t)
		now, alive, keepers, asked := epoch, true, 0, false
		check := func(s step) {
			if s.verb == start {
				assert.False(t, alive, "never two collectors")
				assert.False(t, asked, "nothing is started after an end was asked for")
				alive = true
			}
			assert.True(t, s.verb != forward || alive, "a signal goes to a collector that lives")
			assert.True(t, s.verb != stopKeepers || !alive && keepers > 0, "keepers are not stopped under a collector")
			assert.Equal(t, c.phase == left, s.verb == leave)
			assert.True(t, c.phase != left || !alive && c.status >= 0 && c.status <= 255)
			assert.Equal(t, alive, c.phase == running)
			assert.True(t, c.phase != waiting && c.phase != leaving || c.wake.After(now), "it never rests for ever without a collector")
		}
		for c.phase != left {
			switch rapid.SampledFrom([]string{"announce", "end", "signal", "time", "time", "keepers"}).Draw(t, "event") {
			case "announce":
				if alive {
					a := rapid.SampledFrom([]announce.Announcement{attached(), endingWith(0), endingWith(137), endingWith(announce.OwnStatus)}).Draw(t, "announcement")
					if a.Kind == announce.Attached {
						keepers++
					}
					c.heard(a)
				}
			case "end":
				if alive {
					alive = false
					check(c.ended(now, rapid.SampledFrom([]ending{exited(0), exited(1), killedBy(9), {err: syscall.EAGAIN}}).Draw(t, "ending"), keepers))
				}
			case "signal":
				signal := rapid.SampledFrom([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}).Draw(t, "signal")
				keyboard := (signal == syscall.SIGINT || signal == syscall.SIGQUIT) && rapid.Bool().Draw(t, "keyboard")
				check(c.signalled(now, signal, keyboard, keepers))
				asked = asked || signal == syscall.SIGTERM || signal == syscall.SIGINT
			case "time":
				if !c.wake.IsZero() {
					now = c.wake
					check(c.due(now, keepers))
				}
			case "keepers":
				if keepers > 0 {
					if keepers--; keepers == 0 {
						check(c.keepersGone())
					}
				}
			}
		}
	})
}
