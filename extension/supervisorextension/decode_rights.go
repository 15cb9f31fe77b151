// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/otelwarden/warden/internal/keeper"
)

// rightsKeys say who a process is, and what it may do and use.
var rightsKeys = table[ProcessConfig]{
	{"user", orNull(func(p *ProcessConfig) *string { return &p.User }, func(d *decoder, at place, n *node, into *string) {
		d.identity(at, n, into, "a name such as www-data, or a number")
	})},
	{"group", orNull(func(p *ProcessConfig) *string { return &p.Group }, func(d *decoder, at place, n *node, into *string) {
		d.identity(at, n, into, "a name such as www-data, or a number")
	})},
	{"supplementary_groups", orNull(func(p *ProcessConfig) *[]string { return &p.SupplementaryGroups }, decodeGroups)},
	{"umask", orNull(func(p *ProcessConfig) **Umask { return &p.Umask }, decodeUmask)},
	{"limits", decodeMap(limitsKeys(), func(p *ProcessConfig) *Limits { return &p.Limits }, "{open_files: 65536}")},
	{"nice", orNull(func(p *ProcessConfig) **int { return &p.Nice }, decodeGiven("5"))},
	{"oom_score_adj", orNull(func(p *ProcessConfig) **int { return &p.OOMScoreAdj }, decodeGiven("500"))},
	{"no_new_privileges", func(d *decoder, at place, n *node, p *ProcessConfig) { d.boolean(at, n, &p.NoNewPrivileges) }},
	{"cgroup", decodeMap(cgroupKeys, func(p *ProcessConfig) *CgroupConfig { return &p.Cgroup }, "{memory_max: 512MiB}")},
}

// orNull is the decoder of a key that null takes away, if defaults gave it.
func orNull[T, U any](field func(*T) *U, decode func(*decoder, place, *node, *U)) func(*decoder, place, *node, *T) {
	return func(d *decoder, at place, n *node, into *T) {
		value := field(into)
		if n.isNull() && !reflect.ValueOf(value).Elem().IsZero() {
			*value = *new(U)
			return
		}
		decode(d, at, n, value)
	}
}

// identity takes a name or a number.
func (d *decoder) identity(at place, n *node, into *string, want string) {
	if n.kind == kindInt {
		*into = n.text
		return
	}
	d.text(at, n, into, want)
}

func decodeGroups(d *decoder, at place, n *node, into *[]string) {
	if n.kind != kindList {
		d.wrongKind(at, n, "a list of groups such as [video, 1005]")
		return
	}
	list := make([]string, len(n.items))
	for i, item := range n.items {
		at.index(i).seen(item)
		d.identity(at.index(i), item, &list[i], "a name such as video, or a number")
	}
	*into = list
}

var umaskText = regexp.MustCompile(`^0?[0-7]{3}$`)

// decodeUmask takes octal digits. YAML reads 022 as 18 and 22 as 22, and says not
// which of them was written.
func decodeUmask(d *decoder, at place, n *node, into **Umask) {
	const want = `three octal digits in quotes, such as "022"`
	switch {
	case n.kind == kindInt && !n.exact:
		d.report(at, `%s is perhaps not what was written, since YAML takes 022 for the number 18: write %s`, n.text, want)
	case n.kind != kindText && n.kind != kindInt:
		d.wrongKind(at, n, want)
	case !umaskText.MatchString(n.text):
		d.report(at, "%s is not a umask: write %s", n.quoted(), want)
	default:
		value, _ := strconv.ParseUint(n.text, 8, 16)
		umask := Umask(value)
		*into = &umask
	}
}

// decodeGiven is decoder.integer for what is nil unless it is given.
func decodeGiven(example string) func(*decoder, place, *node, **int) {
	return func(d *decoder, at place, n *node, into **int) {
		value := new(int)
		if d.integer(at, n, value, example); n.kind == kindInt {
			*into = value
		}
	}
}

func limitsKeys() table[Limits] {
	keys := make(table[Limits], len(limitResources))
	for i, l := range limitResources {
		keys[i] = key[Limits]{l.name, l.decode}
	}
	return keys
}

// keys are those of a limit that is given as a map.
func (l limitResource) keys() table[Limit] {
	return table[Limit]{
		{"soft", func(d *decoder, at place, n *node, into *Limit) { l.decodeNumber(d, at, n, &into.Soft, "") }},
		{"hard", func(d *decoder, at place, n *node, into *Limit) { l.decodeNumber(d, at, n, &into.Hard, "") }},
	}
}

// decode takes one value for both, or a map. It replaces what defaults gave.
func (l limitResource) decode(d *decoder, at place, n *node, into *Limits) {
	limit := Limit{keeper.LimitUnchanged, keeper.LimitUnchanged}
	before := len(d.findings)
	switch {
	case n.kind != kindMap:
		l.decodeNumber(d, at, n, &limit.Soft, ", or {soft: …, hard: …}")
		limit.Hard = limit.Soft
	case len(n.entries) == 0:
		d.report(at, "neither soft nor hard is given: write one of them, or both, or remove %s", l.name)
	default:
		l.keys().decode(d, at, n, &limit)
	}
	if len(d.findings) > before {
		return
	}
	if *into == nil {
		*into = Limits{}
	}
	(*into)[l.name] = limit
}

// decodeNumber takes a number, which for sizes may have a unit, or the word unlimited.
// otherwise is what the key takes too.
func (l limitResource) decodeNumber(d *decoder, at place, n *node, into *uint64, otherwise string) {
	want := "a whole number such as 1024, unlimited" + otherwise
	if l.bytes {
		want = "bytes, a size such as 64MiB, unlimited" + otherwise
	}
	switch {
	case n.kind == kindText && n.text == "unlimited":
		*into = keeper.Unlimited
	case n.endless():
		d.report(at, "%s is not the word for no limit here: write unlimited", n.quoted())
	case l.bytes:
		d.size(at, n, into, want)
	default:
		d.whole(at, n, into, want)
	}
}

// endless is true for what programs take for "no limit", each another one.
func (n *node) endless() bool {
	switch n.kind {
	case kindInt:
		return n.int == -1
	case kindFloat:
		return math.IsInf(n.float, 0)
	case kindText:
		return slices.Contains([]string{"-1", "inf", ".inf", "infinite", "infinity", "max", "none", "unlimited"}, strings.ToLower(n.text))
	}
	return false
}

// whole takes a number that is not negative.
func (d *decoder) whole(at place, n *node, into *uint64, want string) {
	switch {
	case n.kind != kindInt:
		d.wrongKind(at, n, want)
	case n.int < 0:
		d.report(at, "%s is negative: write %s", n.text, want)
	default:
		*into = uint64(n.int)
	}
}

var (
	sizeText  = regexp.MustCompile(`^([0-9]+) ?([A-Za-z]*)$`)
	sizeUnits = map[string]uint64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
)

// size takes a number of bytes, or a text with a unit. Decimal units are refused: a
// kB has 1000 bytes to some, 1024 to others.
func (d *decoder) size(at place, n *node, into *uint64, want string) {
	if n.kind != kindText {
		d.whole(at, n, into, want)
		return
	}
	parts := sizeText.FindStringSubmatch(n.text)
	if parts == nil {
		d.report(at, "%s is not a whole number, with or without a unit: write %s", n.quoted(), want)
		return
	}
	unit, known := sizeUnits[parts[2]]
	number, err := strconv.ParseUint(parts[1], 10, 64)
	switch {
	case parts[2] == "":
		d.report(at, "%s is text: write it without quotes, or with a unit such as %s", n.quoted(), parts[1]+"MiB")
	case !known:
		d.report(at, "%s has another unit than B, KiB, MiB, GiB, TiB: write %s", n.quoted(), want)
	case err != nil || number > largestLimit/unit:
		d.report(at, "%s is more than any machine has: write %s", n.quoted(), want)
	default:
		*into = number * unit
	}
}
