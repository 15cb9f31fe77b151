// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import "bytes"

const escape = 0x1b

// appendPlain appends text without the escape sequences of terminals (ECMA-48): colours,
// movements of the cursor, titles of windows. One that the text ends in goes to its end.
func appendPlain(plain, text []byte) []byte {
	for {
		at := bytes.IndexByte(text, escape)
		if at < 0 {
			return append(plain, text...)
		}
		plain = append(plain, text[:at]...)
		text = text[at+sequenceLength(text[at:]):]
	}
}

// sequenceLength is how many bytes the escape sequence has that text begins with.
func sequenceLength(text []byte) int {
	if len(text) == 1 {
		return 1
	}
	switch text[1] {
	case '[': // CSI: parameters, intermediates, and one final byte
		for i := 2; i < len(text); i++ {
			if c := text[i]; c >= 0x40 && c <= 0x7e {
				return i + 1
			} else if c < 0x20 || c > 0x7e {
				return i // it was broken off
			}
		}
		return len(text)
	case ']', 'P', '_', '^', 'X': // OSC, DCS, APC, PM, SOS: a string up to BEL or ST
		for i := 2; i < len(text); i++ {
			switch {
			case text[i] == '\a':
				return i + 1
			case text[i] == escape && i+1 < len(text) && text[i+1] == '\\':
				return i + 2
			case text[i] == escape:
				return i // another one begins
			}
		}
		return len(text)
	}
	i := 1
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x2f { // intermediates
		i++
	}
	if i < len(text) && text[i] >= 0x30 && text[i] <= 0x7e {
		i++
	}
	return i
}
