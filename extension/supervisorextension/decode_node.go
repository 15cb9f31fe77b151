// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
)

// kind is what a value of the raw tree is.
type kind int

const (
	kindNull kind = iota
	kindText
	kindBool
	kindInt
	kindFloat
	kindDate
	kindList
	kindMap
)

// String is the kind with its article, for error texts.
func (k kind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindText:
		return "text"
	case kindBool:
		return "a boolean"
	case kindInt, kindFloat:
		return "a number"
	case kindList:
		return "a list"
	case kindMap:
		return "a map"
	case kindDate:
		return "a date"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// node is one value of the raw tree, from the Collector or from an included file.
type node struct {
	kind kind
	// text of a scalar: as it was written if exact, else the usual form of the value.
	text  string
	exact bool
	// float of kindInt and kindFloat; int of kindInt.
	float float64
	int   int64
	bool  bool
	items []*node
	// entries of a map, by key from the Collector, which has lost the order, and as
	// written from a file.
	entries []entry
	line    int // 0: not known
}

type entry struct {
	key   string
	value *node
}

// get returns the value of key, nil if there is none.
func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// isNull is true for the word null. YAML makes it a value of its own, and only in an
// included file a key without a value differs.
func (n *node) isNull() bool { return n.kind == kindNull && !(n.exact && n.text == "") }

// shownAs returns how the values of a map are shown that are texts whatever they look
// like; nil for all other keys. Those that may be secrets are opaque.
func shownAs(key string) func(text string) any {
	switch key {
	case "environment", "headers":
		return func(text string) any { return configopaque.String(text) }
	case "resource_attributes":
		return func(text string) any { return text }
	}
	return nil
}

// plain is the value for showing; show, if not nil, shows the scalars.
func (n *node) plain(show func(text string) any) any {
	switch n.kind {
	case kindNull:
		return nil
	case kindList:
		items := make([]any, len(n.items))
		for i, item := range n.items {
			items[i] = item.plain(show)
		}
		return items
	case kindMap:
		entries := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			shown := show
			if shown == nil {
				shown = shownAs(e.key)
			}
			entries[e.key] = e.value.plain(shown)
		}
		return entries
	}
	switch {
	case show != nil:
		return show(n.text)
	case n.kind == kindBool:
		return n.bool
	case n.kind == kindInt:
		return n.int
	case n.kind == kindFloat:
		return n.float
	}
	return n.text
}

// quoted shows the value in an error text, long ones cut.
func (n *node) quoted() string {
	switch n.kind {
	case kindText:
		return quoted(n.text)
	case kindBool, kindInt, kindFloat, kindDate:
		return n.text
	}
	return n.kind.String()
}

func quoted(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}

// nodeOf builds the tree from what confmap hands out: what YAML makes, the Collector's
// own type for what it expanded, and any type that Go code put there.
func nodeOf(value any) *node {
	switch v := value.(type) {
	case nil:
		return &node{kind: kindNull}
	case time.Time:
		return &node{kind: kindDate, text: v.Format(time.RFC3339Nano)}
	case time.Duration:
		return &node{kind: kindText, text: v.String(), exact: true}
	case map[string]any:
		return nodeOfMap(v)
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.String:
		return &node{kind: kindText, text: v.String(), exact: true}
	case reflect.Bool:
		return &node{kind: kindBool, bool: v.Bool(), text: strconv.FormatBool(v.Bool())}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &node{kind: kindInt, int: v.Int(), float: float64(v.Int()), text: strconv.FormatInt(v.Int(), 10)}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		// YAML's choice for what an int64 cannot hold; no key takes so much.
		u := v.Uint()
		return &node{kind: kindInt, int: int64(min(u, math.MaxInt64)), float: float64(u), text: strconv.FormatUint(u, 10)}
	case reflect.Float32, reflect.Float64:
		return &node{kind: kindFloat, float: v.Float(), text: strconv.FormatFloat(v.Float(), 'f', -1, 64)}
	case reflect.Slice:
		n := &node{kind: kindList}
		for i := range v.Len() {
			n.items = append(n.items, nodeOf(v.Index(i).Interface()))
		}
		return n
	case reflect.Map:
		named := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			named[fmt.Sprint(key.Interface())] = v.MapIndex(key).Interface()
		}
		return nodeOfMap(named)
	}
	return nodeOfExpanded(value)
}

func nodeOfMap(v map[string]any) *node {
	n := &node{kind: kindMap}
	for key, item := range v {
		n.entries = append(n.entries, entry{key, nodeOf(item)})
	}
	slices.SortFunc(n.entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	return n
}

// nodeOfExpanded takes apart what the Collector makes of ${env:NAME}: a value of its
// own type that holds both what the text parses to and the text. Only the text is
// right for a version 1.10 or an empty variable, which parse to 1.1 and null.
func nodeOfExpanded(value any) *node {
	const key = "value"
	conf := confmap.NewFromStringMap(map[string]any{key: value})
	parsed := conf.Get(key)
	if reflect.TypeOf(parsed) == reflect.TypeOf(value) {
		// No type that YAML or the Collector makes: taken as its text.
		return &node{kind: kindText, text: fmt.Sprint(parsed), exact: true}
	}
	n := nodeOf(parsed)
	var written struct {
		Value string `mapstructure:"value"`
	}
	if err := conf.Unmarshal(&written); err == nil && n.kind != kindList && n.kind != kindMap {
		n.text, n.exact = written.Value, true
	}
	return n
}
