// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decodeInclude appends the children of the included files: the globs in their
// order, the files of each by name, a file that two globs match once.
func decodeInclude(d *decoder, at place, n *node, c *Config) {
	var globs []string
	d.textList(at, n, &globs, "a list of files such as [/etc/warden/conf.d/*.yaml]")
	c.Include = globs
	var read []string
	for i, glob := range globs {
		here := at.index(i)
		if glob == "" {
			if n.items[i].kind == kindText {
				d.report(here, `"" names no file: write one such as /etc/warden/conf.d/*.yaml`)
			}
			continue
		}
		files, err := filepath.Glob(glob)
		switch {
		case err != nil:
			d.report(here, `%s is not a pattern: a "[" has no "]"; write \[ for the character itself`, quoted(glob))
		case len(files) == 0 && !strings.ContainsAny(glob, `*?[\`):
			d.report(here, "%s does not exist; a name without a wildcard has to: create it, or remove it here%s", quoted(glob), workingDirectory(glob))
		}
		slices.Sort(files)
		for _, file := range files {
			if !slices.Contains(read, file) {
				read = append(read, file)
				d.includeFile(here, file, &c.Children)
			}
		}
	}
}

// workingDirectory tells what a relative path was looked for in.
func workingDirectory(path string) string {
	if filepath.IsAbs(path) {
		return ""
	}
	wd, err := os.Getwd()
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (it is relative to the collector's working directory, %s)", wd)
}

// includeFile reads one file, a list of children.
func (d *decoder) includeFile(at place, file string, into *[]ChildConfig) {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		d.report(at, "%s is a directory: write its files, such as %s", quoted(file), filepath.Join(file, "*.yaml"))
		return
	}
	content, err := os.ReadFile(file)
	if err != nil {
		d.report(at, "%s", err)
		return
	}
	d.includeContent(file, content, into)
}

func (d *decoder) includeContent(file string, content []byte, into *[]ChildConfig) {
	own := place{origin: &origin{file: file, order: d.order + 1, lines: map[string]int{}}}
	tree, err := parseFile(content)
	switch {
	case err != nil:
		d.report(own, "%s", err)
	case tree == nil: // nothing but comments
	case tree.kind != kindList:
		own.seen(tree)
		d.report(own, "%s is not what an included file holds: write a list of processes, - {name: web, command: [./web]}", tree.kind)
	default:
		d.children(own, tree, into)
	}
}

// parseFile returns the tree of the only document in content, nil if it is empty.
func parseFile(content []byte) (*node, error) {
	documents := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	if err := documents.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := documents.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New(`more than one document: write one list and no "---" after it`)
	}
	if document.Kind != yaml.DocumentNode || document.Content[0].Tag == "!!null" && document.Content[0].Value == "" {
		return nil, nil
	}
	b := treeBuilder{room: maxNodes}
	return b.build(document.Content[0])
}

// maxNodes bounds the tree of one file, for aliases of aliases grow exponentially.
const maxNodes = 1_000_000

// treeBuilder turns parsed YAML into nodes, with aliases and merge keys resolved.
type treeBuilder struct {
	room int
	// open are the aliases being resolved: one inside itself has no end.
	open []*yaml.Node
}

func (b *treeBuilder) build(n *yaml.Node) (*node, error) {
	if b.room--; b.room < 0 {
		return nil, fmt.Errorf("line %d: more than %d values once the aliases are resolved", n.Line, maxNodes)
	}
	switch n.Kind {
	case yaml.AliasNode:
		if slices.Contains(b.open, n.Alias) {
			return nil, fmt.Errorf("line %d: the alias %q contains itself", n.Line, n.Value)
		}
		b.open = append(b.open, n.Alias)
		defer func() { b.open = b.open[:len(b.open)-1] }()
		return b.build(n.Alias)
	case yaml.SequenceNode:
		list := &node{kind: kindList, line: n.Line}
		for _, content := range n.Content {
			item, err := b.build(content)
			if err != nil {
				return nil, err
			}
			list.items = append(list.items, item)
		}
		return list, nil
	case yaml.MappingNode:
		return b.buildMap(n)
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return nil, fmt.Errorf("line %d: %s", n.Line, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	scalar := nodeOf(value)
	scalar.line, scalar.exact = n.Line, true
	if scalar.kind != kindText {
		scalar.text = n.Value
	}
	return scalar, nil
}

// buildMap keeps keys that are given twice, for they are reported with their place.
func (b *treeBuilder) buildMap(n *yaml.Node) (*node, error) {
	table := &node{kind: kindMap, line: n.Line}
	var merged []*node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		value, err := b.build(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("line %d: a key has to be text", key.Line)
		case key.Tag == "!!merge" && value.kind == kindList:
			merged = append(merged, value.items...)
		case key.Tag == "!!merge":
			merged = append(merged, value)
		default:
			value.line = key.Line
			table.entries = append(table.entries, entry{key.Value, value})
		}
	}
	for _, m := range merged {
		if m.kind != kindMap {
			return nil, fmt.Errorf("line %d: << merges maps only", n.Line)
		}
		for _, e := range m.entries {
			if table.get(e.key) == nil {
				table.entries = append(table.entries, e)
			}
		}
	}
	return table, nil
}
