// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// quoteLimit is how much of an input an error shows.
const quoteLimit = 64

func quote(b []byte) string {
	if len(b) > quoteLimit {
		return fmt.Sprintf("%q…", b[:quoteLimit])
	}
	return fmt.Sprintf("%q", b)
}

// cutField returns the first field of b, which ends at a blank or at the end of a
// line, and what follows it. The field is empty if b has none on this line.
func cutField(b []byte) (field, rest []byte) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for i, c := range b {
		if c == ' ' || c == '\t' || c == '\n' {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// cutLine returns the first line of b without its end, and what follows it.
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	return line, rest
}

// parseUint reads a decimal number without sign; false if b is not one, or is too
// large.
func parseUint(b []byte) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		digit := uint64(c - '0')
		if n > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}

// parseInt reads a decimal number that may be negative.
func parseInt(b []byte) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n, ok := parseUint(b)
	switch {
	case !ok:
		return 0, false
	case negative && n <= -math.MinInt64:
		return -int64(n), true
	case !negative && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// maxFraction keeps parseDecimal exact: below it the power of ten is a float64
// without rounding.
const maxFraction = 15

// parseDecimal reads a number such as 12.34, without sign or exponent. The result
// is the nearest float64 as long as all digits together fit 53 bits.
func parseDecimal(b []byte) (float64, bool) {
	whole, fraction, hasPoint := bytes.Cut(b, []byte{'.'})
	n, ok := parseUint(whole)
	if !ok || !hasPoint {
		return float64(n), ok
	}
	if len(fraction) > maxFraction {
		return 0, false
	}
	scale := 1.0
	digits := n
	for _, c := range fraction {
		if c < '0' || c > '9' || digits > (math.MaxUint64-9)/10 {
			return 0, false
		}
		digits = digits*10 + uint64(c-'0')
		scale *= 10
	}
	return float64(digits) / scale, len(fraction) > 0
}
