// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTree_KeepsItsPromisesInABadWorld(t *testing.T) {
	for range 10 { // rapid's own number of checks is a matter of a moment
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t, &rapidChooser{t: t, steps: rapid.IntRange(0, 300).Draw(t, "steps")})
			defer w.tellUnlessAtRest(t.Logf)
			w.run()
		})
	}
}

func FuzzTree(f *testing.F) {
	for _, seed := range []string{"", "\x01\x03\x02\x00\x01\x03", "warden supervises processes by the rules of Erlang/OTP and tells what happened to them"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t, &byteChooser{data[:min(len(data), 300)]}) // longer ones show nothing new, slowly
		defer w.tellUnlessAtRest(t.Logf)
		w.run()
	})
}
