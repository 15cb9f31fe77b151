// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// text takes a text. A value that the Collector expanded, or that stands in an
// included file, is taken as it was written; another number was perhaps written
// differently, and the way out is a pair of quotes.
func (d *decoder) text(at place, n *node, into *string, want string) bool {
	switch {
	case n.kind == kindText || n.exact && n.kind != kindNull:
		*into = n.text
		return true
	case n.kind == kindBool || n.kind == kindInt || n.kind == kindFloat:
		d.report(at, "%s is %s: write it in quotes, %q", n.text, n.kind, n.text)
	default:
		d.wrongKind(at, n, want)
	}
	return false
}

// textList takes a list of texts.
func (d *decoder) textList(at place, n *node, into *[]string, want string) {
	if n.kind != kindList {
		d.wrongKind(at, n, want)
		return
	}
	list := make([]string, len(n.items))
	for i, item := range n.items {
		at.index(i).seen(item)
		d.text(at.index(i), item, &list[i], "a text")
	}
	*into = list
}

func (d *decoder) boolean(at place, n *node, into *bool) {
	if n.kind != kindBool {
		d.wrongKind(at, n, "true or false")
		return
	}
	*into = n.bool
}

func (d *decoder) integer(at place, n *node, into *int, example string) {
	if n.kind != kindInt || n.int != int64(int(n.int)) {
		d.wrongKind(at, n, "a whole number such as "+example)
		return
	}
	*into = int(n.int)
}

func (d *decoder) number(at place, n *node, into *float64, example string) {
	if n.kind != kindInt && n.kind != kindFloat {
		d.wrongKind(at, n, "a number such as "+example)
		return
	}
	*into = n.float
}

// duration takes Go's notation. A number without a unit is refused: seconds to
// some, nanoseconds to others.
func (d *decoder) duration(at place, n *node, into *time.Duration, example string) {
	switch n.kind {
	case kindText, kindInt, kindFloat:
	default:
		d.wrongKind(at, n, "a duration such as "+example)
		return
	}
	value, err := time.ParseDuration(n.text)
	number, notNumber := strconv.ParseFloat(n.text, 64)
	switch {
	case notNumber == nil && !math.IsInf(number, 0) && !math.IsNaN(number):
		// Even 0: time.ParseDuration takes it, but YAML's 0 and "0s" should not differ.
		d.report(at, "%s has no unit: write %ss", n.quoted(), strings.TrimSpace(n.text))
	case err != nil:
		d.report(at, "%s is not a duration: write one such as %s; units are h, m, s, ms, us, ns", n.quoted(), example)
	default:
		*into = value
	}
}

// decodeName takes one of a few names.
func decodeName[T ~string](d *decoder, at place, n *node, into *T, allowed []T) {
	var text string
	if n.kind != kindText {
		d.wrongKind(at, n, "one of "+joined(allowed))
	} else if d.text(at, n, &text, "") {
		*into = T(text)
	}
}

// joined lists names in an error text.
func joined[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

// literal takes a scalar of a command or an environment as text. opaque values are
// not shown in findings.
func (d *decoder) literal(at place, n *node, opaque bool) (string, bool) {
	shown := fmt.Sprintf("the number %g", n.float)
	if opaque {
		shown = "this number"
	}
	switch {
	case n.kind == kindText, n.kind == kindBool, n.kind == kindInt:
		return n.text, true
	case n.exact && n.kind != kindList && n.kind != kindMap && !(n.kind == kindNull && n.line > 0):
		return n.text, true
	case n.kind == kindFloat && !restorable(n.float):
		d.report(at, "%s was written in a way that YAML forgets, such as 2.0 or 1e6: put it in quotes", shown)
	case n.kind == kindFloat:
		d.warn(at, "%s is passed on in its shortest form, without zeros at its end: put it in quotes if it must stay as written", shown)
		return n.text, true
	case n.kind == kindNull:
		d.report(at, `null is no text: write "" for an empty one`)
	case n.kind == kindDate:
		d.report(at, "YAML takes this for a date: put it in quotes")
	default:
		d.report(at, "%s is not allowed here: write a text", n.kind)
	}
	return "", false
}

// restorable is true for a fraction that was most likely written in its shortest
// form. A whole number that YAML takes for a fraction was written 1.0 or 1e3, and
// one of many digits has lost some.
func restorable(f float64) bool {
	short := strconv.FormatFloat(f, 'f', -1, 64)
	return f != math.Trunc(f) && !math.IsNaN(f) && len(short) <= 17
}
