// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// origin is where a part of the configuration was written.
type origin struct {
	// file is the included file, "" for the Collector's own configuration, whose
	// lines are no longer known when the extension sees it.
	file string
	// order sorts findings as a reader meets them: the supervisor's own keys, then
	// the children by their place in the tree.
	order int
	// path leads to the child, for the rules that are checked once all is decoded.
	path string
	// lines of the paths below, in an included file.
	lines map[string]int
}

// lineOf returns the line of path, or of the nearest path above that has one.
func (o *origin) lineOf(path string) int {
	for path != "" {
		if line, ok := o.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndex(path, "::"), strings.LastIndex(path, "["), 0)]
	}
	return 0
}

// place is one value's position: a path such as children[1](web)::stop::signal.
type place struct {
	origin *origin
	path   string
}

func (p place) key(name string) place {
	if name == "" || strings.ContainsFunc(name, unprintable) {
		name = strconv.Quote(name)
	}
	if p.path == "" {
		return place{p.origin, name}
	}
	return place{p.origin, p.path + "::" + name}
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }

func (p place) index(i int) place {
	return place{p.origin, fmt.Sprintf("%s[%d]", p.path, i)}
}

// seen remembers the line of a value, for findings that come later.
func (p place) seen(n *node) {
	if n.line == 0 || p.origin.file == "" {
		return
	}
	if p.origin.lines == nil {
		p.origin.lines = map[string]int{}
	}
	p.origin.lines[p.path] = n.line
}

// String renders the place with its file and line, if it has them.
func (p place) String() string {
	if p.origin.file == "" {
		return p.path
	}
	file := p.origin.file
	if line := p.origin.lineOf(p.path); line > 0 {
		file = fmt.Sprintf("%s:%d", file, line)
	}
	if p.path == "" {
		return file
	}
	return file + ": " + p.path
}

// covers says whether other is this place or one below it.
func (p place) covers(other place) bool {
	if p.origin.file != other.origin.file {
		return false
	}
	rest, ok := strings.CutPrefix(other.path, p.path)
	return ok && (rest == "" || strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, "["))
}

// finding is one reason not to start. Its text names the value, what is allowed
// and the way out.
type finding struct {
	at   place
	text string
	// meant is the place of the key that stands at another, if any: it is not missing.
	meant place
	// missing: nothing was written at its place.
	missing bool
}

// follows is true if f, which is about the value that took effect, only repeats that
// what was written there could not be taken. What is missing in a place where
// something could not be taken is perhaps that.
func (f finding) follows(known finding) bool {
	return known.at.covers(f.at) || f.missing && (f.at.covers(known.at) || known.meant.origin != nil && known.meant.covers(f.at))
}

func (f finding) Error() string { return f.at.String() + ": " + f.text }

// findings is an error that shows one finding a line. The Collector puts the
// component's id before the first; the others are indented below it.
type findings []finding

func (f findings) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n  ")
}

// Unwrap gives errors.Is and errors.As each finding.
func (f findings) Unwrap() []error {
	errs := make([]error, len(f))
	for i, one := range f {
		errs[i] = one
	}
	return errs
}

// sorted orders findings as a reader meets what they are about; those of one
// child stay in the order they were found in.
func (f findings) sorted() findings {
	return slices.SortedStableFunc(slices.Values(f), func(a, b finding) int {
		return cmp.Compare(a.at.origin.order, b.at.origin.order)
	})
}
