// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"math"
	"time"
)

// longest bounds a delay that Max does not: some 146 years, with room for jitter below the range of time.Duration.
const longest = time.Duration(1) << 62

// delay is how long the restart after the row-th failure in a row waits, with
// spread from -1 to 1 as the place within the jitter.
func (b Backoff) delay(row int, spread float64) time.Duration {
	if b.Initial == 0 || row <= 1 {
		return 0
	}
	most := longest
	if b.Max > 0 {
		most = b.Max
	}
	d := float64(b.Initial) * math.Pow(b.Multiplier, float64(row-2))
	d = min(d, float64(most))
	d += d * b.Jitter * spread
	return time.Duration(min(d, float64(longest)))
}

// spread is a number from -1 to 1 that depends on nothing but its arguments.
// Hashing instead of a random sequence leaves no generator to be saved, and
// one child's delays do not depend on what happened to others.
func spread(seed uint64, id string, run uint64) float64 {
	h := seed ^ 0xcbf29ce484222325 // FNV-1a's offset basis
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 0x100000001b3
	}
	h = mix(h + mix(run))
	return float64(h>>11)/(1<<52) - 1 // 53 bits: 0 ≤ h>>11 < 2^53
}

// mix is a bijection of 64 bits in which each bit of x moves about half of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
