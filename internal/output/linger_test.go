// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPace_LetsLinesGatherWhereTheyComeInSmallPieces(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bytes int
		every time.Duration
		want  bool
	}{
		{"a line a second", 100, time.Second, true},
		{"50,000 lines a second, one by one", 128, 20 * time.Microsecond, true},
		{"half a million lines a second, one by one", 128, 2 * time.Microsecond, false},
		{"full pipes", 64 << 10, 150 * time.Microsecond, false},
		{"a full pipe now and then", 64 << 10, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p pace
			now := time.Unix(1000, 0)
			got := false
			for range 10_000 {
				got = p.lingers(tt.bytes, now)
				now = now.Add(tt.every)
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

// A writer that has become fast is held up for one window at most.
func TestPace_NoticesAWriterThatBecomesFast(t *testing.T) {
	const pipe, perSecond = 64 << 10, 64 << 20
	var p pace
	now := time.Unix(1000, 0)
	for range 100 {
		now = now.Add(time.Second)
		assert.True(t, p.lingers(100, now))
	}
	var full time.Duration
	for passed := 20 * time.Microsecond; now.Before(time.Unix(1102, 0)); {
		now = now.Add(passed)
		written := int(perSecond * passed.Seconds())
		if written > pipe {
			full += passed - time.Second*pipe/perSecond
		}
		passed = 20 * time.Microsecond
		if p.lingers(min(written, pipe), now) {
			passed += lingerFor
		}
	}
	assert.Less(t, full, lingerWindow)
}
