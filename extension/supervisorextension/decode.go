// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
)

// Unmarshal decodes the raw tree on top of c: included files are read, and the
// defaults applied to every child. It does not fail over what was written: that is
// kept for Validate. The Collector shows only the first component whose decoding
// fails, behind three lines of its own, and then asks nobody to validate; the
// errors of Validate it shows all together, each after the component's id.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	// Into a plain map, values that the Collector expanded keep their text (nodeOf).
	var raw map[string]any
	if err := conf.Unmarshal(&raw); err != nil {
		return err
	}
	d := newDecoder()
	c.Include, c.Defaults, c.Children, c.base = nil, nil, nil, nil
	rootKeys.decode(d, place{origin: &origin{}}, nodeOfMap(raw), c)
	c.findings, c.warnings = d.findings, d.warnings
	return nil
}

// decoder collects what it finds instead of stopping at the first.
type decoder struct {
	// base is what the own keys of a process are applied to, here.
	base ChildConfig
	// order counts the children met so far.
	order    int
	findings findings
	warnings []string
	// keys tell what else a key that stands in the wrong place is for.
	keys struct{ root, supervisor, process []string }
}

func newDecoder() *decoder {
	d := &decoder{base: newDefaultProcess()}
	// Not a variable with an initial value: the decoders of the tables refer to it.
	d.keys.root, d.keys.supervisor, d.keys.process = rootKeys.names(), supervisorKeys.names(), processKeys.names()
	return d
}

func (d *decoder) report(at place, format string, args ...any) {
	d.findings = append(d.findings, finding{at: at, text: fmt.Sprintf(format, args...)})
}

func (d *decoder) warn(at place, format string, args ...any) {
	d.warnings = append(d.warnings, at.String()+": "+fmt.Sprintf(format, args...))
}

// wrongKind reports a value of a kind that the key does not take. want completes
// "write …".
func (d *decoder) wrongKind(at place, n *node, want string) {
	switch n.kind {
	case kindNull:
		value, otherwise := "null is no value", "leave the key out"
		if n.exact && n.line == 0 {
			value = "empty, as a variable that is not set"
		}
		if strings.HasSuffix(at.path, "]") {
			otherwise = "remove it"
		}
		d.report(at, "%s: write %s, or %s", value, want, otherwise)
	case kindList, kindMap:
		d.report(at, "%s is not allowed here: write %s", n.kind, want)
	default:
		d.report(at, "%s is %s: write %s", n.quoted(), n.kind, want)
	}
}

// keysOfEach are those that a process cannot share with others.
var keysOfEach = []string{"name", "command", "instances", "template"}

// decodeDefaults reads the keys given for all processes below into the base of each.
func decodeDefaults(d *decoder, at place, n *node, s *SupervisorConfig) {
	if n.kind != kindMap {
		d.wrongKind(at, n, "a map of process keys, such as {restart: transient}")
		return
	}
	s.Defaults = make(map[string]any, len(n.entries))
	shared := &node{kind: kindMap}
	for _, e := range n.entries {
		if slices.Contains(keysOfEach, e.key) {
			d.report(at.key(e.key), "each process has its own %s: move it to the children", e.key)
			continue
		}
		shared.entries = append(shared.entries, e)
		s.Defaults[e.key] = e.value.plain(shownAs(e.key))
	}
	processKeys.decode(d, at, shared, &d.base)
	base := d.base.clone()
	s.base = &base
}

func decodeChildren(d *decoder, at place, n *node, s *SupervisorConfig) {
	if n.kind != kindList {
		d.wrongKind(at, n, "a list of processes, such as [{name: web, command: [./web]}]")
		return
	}
	d.children(at, n, &s.Children)
}

// children appends the children of a list.
func (d *decoder) children(at place, list *node, into *[]ChildConfig) {
	for i, item := range list.items {
		d.child(at.index(i), item, into)
	}
}

// child appends one child, or its instances. Its name stands in the path of all that
// is found in it.
func (d *decoder) child(at place, n *node, into *[]ChildConfig) {
	d.order++
	own := &origin{file: at.origin.file, order: d.order, path: at.path, lines: at.origin.lines}
	if n.kind == kindMap {
		if name := n.get("name"); name != nil && name.kind == kindText && name.text != "" &&
			len(name.text) <= maxNameLength && !strings.ContainsFunc(name.text, unprintable) {
			own.path += "(" + name.text + ")"
		}
	}
	here := place{own, own.path}
	here.seen(n)
	switch {
	case n.kind != kindMap:
		d.wrongKind(here, n, "a map such as {name: web, command: [./web]}")
		child := d.base.clone()
		child.origin = own
		*into = append(*into, child)
	case d.meansSupervisor(n):
		*into = append(*into, d.nested(here, n))
	default:
		child := d.base.clone()
		child.origin = own
		processKeys.decode(d, here, n, &child)
		d.contradictions(here, n, &child)
		*into = d.instances(*into, here, n, child)
	}
}

// meansSupervisor is true for a map with children, and for one that has no command
// but keys that only a supervisor has, of which the children were forgotten.
func (d *decoder) meansSupervisor(n *node) bool {
	return n.get("children") != nil || n.get("command") == nil &&
		slices.ContainsFunc(d.keys.supervisor, func(key string) bool { return n.get(key) != nil })
}

// nested decodes a supervisor. What defaults give is for the processes below it, not
// for itself.
func (d *decoder) nested(at place, n *node) ChildConfig {
	child, supervisor := newDefaultChild(), newDefaultSupervisor()
	child.Supervisor, child.origin = &supervisor, at.origin
	outer := d.base
	d.base = outer.clone()
	nestedKeys.decode(d, at, n, &child)
	d.base = outer
	if n.get("children") == nil {
		d.report(at.key("children"), "missing: write the list of what it supervises, or command for a process")
	}
	if child.Restart == RestartTemporary && n.get("backoff") != nil {
		d.report(at.key("backoff"), "a temporary supervisor is never restarted, so nothing is delayed: remove backoff, or write restart: transient")
	}
	return child
}

const (
	maxInstances = 10_000
	// instanceVariable tells a process which of its instances it is.
	instanceVariable = "WARDEN_INSTANCE"
)

// instances appends child, or, if so many were asked for, several siblings like it.
func (d *decoder) instances(list []ChildConfig, at place, n *node, child ChildConfig) []ChildConfig {
	count := child.Process.instances
	child.Process.instances = 0
	if count <= 1 || child.Process.Template || !namePattern.MatchString(child.Name) {
		return append(list, child)
	}
	if variables := n.get("environment"); variables != nil && variables.get(instanceVariable) != nil {
		d.report(at.key("environment").key(instanceVariable), "instances sets it, to 0 in the first: remove it, or remove instances")
	}
	if last := fmt.Sprintf("%s-%d", child.Name, count-1); len(last) > maxNameLength {
		d.report(at.key("name"), "%s, the name of the last of %d instances, has %d characters, and %d are allowed: write a name of at most %d",
			quoted(last), count, len(last), maxNameLength, maxNameLength-len(last)+len(child.Name))
		return append(list, child)
	}
	for i := range count {
		one := child.clone()
		one.Name = fmt.Sprintf("%s-%d", child.Name, i)
		one.Process.instances, one.Process.instance = count, i
		if one.Process.Environment == nil {
			one.Process.Environment = map[string]configopaque.String{}
		}
		one.Process.Environment[instanceVariable] = configopaque.String(strconv.Itoa(i))
		list = append(list, one)
	}
	return list
}

// contradictions checks what only the text tells: that a process itself has a key
// which another of its keys makes useless. From defaults it may well come.
func (d *decoder) contradictions(at place, n *node, c *ChildConfig) {
	if c.Restart == RestartTemporary && n.get("backoff") != nil {
		d.report(at.key("backoff"), "a temporary process is never restarted, so nothing is delayed: remove backoff, or write restart: transient")
	}
	if stop := n.get("stop"); stop != nil && c.Process.Stop.Signal == syscall.SIGKILL && c.Process.Stop.Timeout != 0 && stop.get("timeout") != nil {
		d.report(at.key("stop").key("timeout"), "SIGKILL leaves nothing to wait for: remove timeout, or choose another signal")
	}
	d.pointless(at, n, c.Process)
	d.uncaptured(at, n, &c.Process.Output)
	if c.Process.Template && n.get("instances") != nil {
		d.report(at.key("instances"), "a template has as many instances as operators start, at first none: remove instances, or template for so many siblings")
	}
	if c.Process.Template && n.get("autostart") != nil {
		d.report(at.key("autostart"), "a template is always up, and starts no instance by itself: remove autostart, or template")
	}
}
