// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what is announced.
type Kind int

// The kinds of announcements.
const (
	Attached Kind = iota + 1
	Ending
)

// Announcement is one line.
type Announcement struct {
	Kind   Kind
	Keeper int // of Attached: the keeper's PID
	Status int // of Ending: 0 to 255, or OwnStatus
}

// longest is the length of a line, without its newline, beyond which it is no
// announcement.
const longest = 64

const (
	wordAttached = "attached"
	wordEnding   = "ending"
	wordOwn      = "own"
)

// String is the line without its newline.
func (a Announcement) String() string {
	switch {
	case a.Kind == Attached:
		return wordAttached + " " + strconv.Itoa(a.Keeper)
	case a.Kind == Ending && a.Status == OwnStatus:
		return wordEnding + " " + wordOwn
	case a.Kind == Ending:
		return wordEnding + " " + strconv.Itoa(a.Status)
	}
	return fmt.Sprintf("announcement of kind %d", int(a.Kind))
}

func (a Announcement) check() error {
	// PID 1 is init itself or the machine's; neither is a keeper.
	if a.Kind == Attached && (a.Keeper <= 1 || int(int32(a.Keeper)) != a.Keeper) {
		return fmt.Errorf("announcement %q: %d is not the PID of a keeper", a, a.Keeper)
	}
	if a.Kind == Ending && (a.Status < OwnStatus || a.Status > 255) {
		return fmt.Errorf("announcement %q: %d is not an exit status from 0 to 255, nor OwnStatus (%d)", a, a.Status, OwnStatus)
	}
	return nil
}

// parse reads a line without its newline; false: it is not an announcement, exactly
// as String writes it.
func parse(line string) (Announcement, bool) {
	word, value, _ := strings.Cut(line, " ")
	number, err := strconv.Atoi(value)
	if value == wordOwn {
		number, err = OwnStatus, nil
	}
	var a Announcement
	switch word {
	case wordAttached:
		a = Announcement{Kind: Attached, Keeper: number}
	case wordEnding:
		a = Announcement{Kind: Ending, Status: number}
	}
	return a, err == nil && a.check() == nil && a.String() == line
}

// Reader makes announcements of the bytes of one pipe, however they are cut. Its
// memory is bounded: whatever is too long for an announcement is passed over up to
// the next newline.
type Reader struct {
	begun   []byte // of the line that has not ended yet
	tooLong bool   // that line
}

// Feed takes the next bytes and returns the announcements that they complete.
func (r *Reader) Feed(b []byte) []Announcement {
	var complete []Announcement
	for {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if len(r.begun)+len(line) > longest {
			r.tooLong, r.begun = true, r.begun[:0]
		}
		if !r.tooLong {
			r.begun = append(r.begun, line...)
		}
		if !ended {
			return complete
		}
		if a, ok := parse(string(r.begun)); ok {
			complete = append(complete, a)
		}
		r.begun, r.tooLong = r.begun[:0], false
		b = rest
	}
}
