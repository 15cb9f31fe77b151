// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestReader_TakesExactlyWhatIsAnAnnouncement(t *testing.T) {
	tests := []struct {
		name, give string
		want       []Announcement
	}{
		{name: "attached", give: "attached 4711\n", want: []Announcement{{Kind: Attached, Keeper: 4711}}},
		{name: "ending with a status", give: "ending 137\n", want: []Announcement{{Kind: Ending, Status: 137}}},
		{name: "ending with the smallest status", give: "ending 0\n", want: []Announcement{{Kind: Ending}}},
		{name: "ending with the largest status", give: "ending 255\n", want: []Announcement{{Kind: Ending, Status: 255}}},
		{name: "ending with the collector's own", give: "ending own\n", want: []Announcement{{Kind: Ending, Status: OwnStatus}}},
		{name: "two", give: "attached 2\nending 1\n", want: []Announcement{{Kind: Attached, Keeper: 2}, {Kind: Ending, Status: 1}}},
		{name: "an unfinished line", give: "ending 0"},
		{name: "a line of a newer collector", give: "watering 3\nending 0\n", want: []Announcement{{Kind: Ending}}},
		{name: "an empty line", give: "\nending 0\n", want: []Announcement{{Kind: Ending}}},
		{name: "a line that is far too long", give: strings.Repeat("ending 0 ", 1000) + "\nending 1\n", want: []Announcement{{Kind: Ending, Status: 1}}},
		{name: "a line that only ends like one", give: strings.Repeat("x", longest) + "ending 0\n"},
		{name: "a status above 255", give: "ending 256\n"},
		{name: "a status below 0", give: "ending -1\n"},
		{name: "no status", give: "ending\n"},
		{name: "a status and more", give: "ending 0 0\n"},
		{name: "a status in other digits", give: "ending +0\nending 00\nending 0x0\n"},
		{name: "init as its own keeper", give: "attached 1\n"},
		{name: "everybody as a keeper", give: "attached -1\nattached 0\n"},
		{name: "a keeper beyond all PIDs", give: "attached 4294967298\n"},
		{name: "a keeper of its own", give: "attached own\n"},
		{name: "a carriage return", give: "ending 0\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r Reader
			assert.Equal(t, tt.want, r.Feed([]byte(tt.give)))
		})
	}
}

// announcements draws any that may be announced.
func announcements() *rapid.Generator[Announcement] {
	return rapid.OneOf(
		rapid.Map(rapid.IntRange(2, 1<<22), func(pid int) Announcement { return Announcement{Kind: Attached, Keeper: pid} }),
		rapid.Map(rapid.IntRange(OwnStatus, 255), func(status int) Announcement { return Announcement{Kind: Ending, Status: status} }),
	)
}

func TestReader_GivesBackWhatWasWrittenHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(announcements()).Draw(t, "announcements")
		var text []byte
		for _, a := range want {
			text = append(text, a.String()+"\n"...)
		}
		var r Reader
		got := []Announcement{}
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "n")
			got = append(got, r.Feed(text[:n])...)
			text = text[n:]
		}
		assert.Equal(t, append([]Announcement{}, want...), got)
	})
}

func TestAnnouncement_OfNoKindIsNamedByItsNumber(t *testing.T) {
	assert.Equal(t, "announcement of kind 7", Announcement{Kind: 7}.String())
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("attached 4711\nending 137\nending own\n"), 3)
	f.Add([]byte(strings.Repeat("x", longest+1)+"ending 0\n"), longest+1)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		var whole, pieces Reader
		cut = min(max(cut, 0), len(text))
		want := whole.Feed(text)
		got := append(pieces.Feed(text[:cut]), pieces.Feed(text[cut:])...)
		assert.Equal(t, want, got, "cut at %d", cut)
		assert.LessOrEqual(t, cap(whole.begun), 2*longest, "memory")
		for _, a := range want {
			assert.NoError(t, a.check())
			assert.True(t, bytes.Contains(text, []byte(a.String())), "%q was never written", a)
		}
	})
}
