// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.opentelemetry.io/collector/config/configopaque"
)

// command takes the list of a program and its arguments.
func (d *decoder) command(at place, n *node, into *[]string) {
	if n.kind == kindText {
		d.report(at, "%s is one text and no shell splits it: write the list %s", n.quoted(), asCommand(n.text))
		return
	}
	if n.kind != kindList {
		d.wrongKind(at, n, `a list such as [sleep, "5"]`)
		return
	}
	list := make([]string, len(n.items))
	for i, item := range n.items {
		here := at.index(i)
		here.seen(item)
		list[i], _ = d.literal(here, item, false)
	}
	*into = list
}

func decodeInstances(d *decoder, at place, n *node, p *ProcessConfig) {
	var count int
	switch d.integer(at, n, &count, "4"); {
	case n.kind != kindInt:
	case count < 1:
		d.report(at, "%d is less than 1: write 1 or more, or remove the process", count)
	case count > maxInstances:
		d.report(at, "%d is more than %d, the most that are allowed: write less, or several processes", count, maxInstances)
	default:
		p.instances = count
	}
}

var plainWord = regexp.MustCompile(`^[A-Za-z./_-][A-Za-z0-9./_=+@%-]*$`)

// asCommand shows the list that a command line stands for, in YAML: through a shell
// if it has anything that only a shell understands.
func asCommand(line string) string {
	words := strings.Fields(line)
	if strings.ContainsAny(line, "\"'`$|&;<>()*?[]{}~#\\\n") || len(line) > 200 {
		return fmt.Sprintf("[sh, -c, %s]", quoted(line))
	}
	for i, word := range words {
		if _, err := strconv.ParseBool(word); !plainWord.MatchString(word) || err == nil || word == "null" {
			words[i] = strconv.Quote(word)
		}
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// decodeSuccess takes a list of exit codes, which are numbers, and of signals, which
// have to be names.
func decodeSuccess(d *decoder, at place, n *node, p *ProcessConfig) {
	const want = "a list of exit codes and signal names such as [0, 143, SIGTERM]"
	if n.kind != kindList {
		d.wrongKind(at, n, want)
		return
	}
	var success SuccessList
	for i, item := range n.items {
		here := at.index(i)
		here.seen(item)
		switch item.kind {
		case kindInt:
			if code := int(item.int); !slices.Contains(success.Codes, code) {
				success.Codes = append(success.Codes, code)
			}
		case kindText:
			signal, ok := parseSignal(item.text)
			if !ok {
				d.report(here, "%s is neither an exit code (0 to 255, without quotes) nor the name of a signal%s", item.quoted(), suggestSignal(item.text))
			} else if !slices.Contains(success.Signals, signal) {
				success.Signals = append(success.Signals, signal)
			}
		default:
			d.wrongKind(here, item, "an exit code from 0 to 255, or the name of a signal such as SIGTERM")
		}
	}
	p.Success = success
}

// signal takes a name or, as kill does, a number.
func (d *decoder) signal(at place, n *node, into *syscall.Signal, example string) {
	switch n.kind {
	case kindInt:
		if signal := syscall.Signal(n.int); int64(signal) != n.int || !isSignal(signal) {
			d.report(at, "%s is not the number of a signal: write a name such as %s", n.text, example)
		} else {
			*into = signal
		}
	case kindText:
		signal, ok := parseSignal(n.text)
		if !ok {
			d.report(at, "%s is not the name of a signal%s", n.quoted(), suggestSignal(n.text))
			return
		}
		*into = signal
	default:
		d.wrongKind(at, n, "the name of a signal such as "+example)
	}
}

// suggestSignal completes an error text about a signal nobody knows.
func suggestSignal(text string) string {
	upper := strings.ToUpper(text)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if near := nearest(upper, signalNames()); near != "" {
		return ": did you mean " + near + "?"
	}
	return ": write one such as SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or SIGRTMIN+3"
}

// decodeEnvironment adds to what the defaults gave.
func decodeEnvironment(d *decoder, at place, n *node, p *ProcessConfig) {
	d.opaqueTexts(at, n, &p.Environment, "{PORT: 8080, MODE: production}")
}

// opaqueTexts is decodeTexts for values that are never shown.
func (d *decoder) opaqueTexts(at place, n *node, into *map[string]configopaque.String, shape string) {
	decodeTexts(d, at, n, into, true, shape)
}

// decodeTexts adds the entries of a map to into. opaque values are not shown in findings.
func decodeTexts[T ~string](d *decoder, at place, n *node, into *map[string]T, opaque bool, shape string) {
	if n.kind != kindMap {
		d.report(at, "%s is not allowed here: write a map such as %s", n.kind, shape)
		return
	}
	if *into == nil && len(n.entries) > 0 {
		*into = make(map[string]T, len(n.entries))
	}
	d.entries(at, n)
	for _, e := range n.entries {
		if text, ok := d.literal(at.key(e.key), e.value, opaque); ok {
			(*into)[e.key] = T(text)
		}
	}
}

func decodeInheritEnvironment(d *decoder, at place, n *node, p *ProcessConfig) {
	const want = "true, false, or a list of variables such as [PATH, HOME]"
	switch n.kind {
	case kindBool:
		p.InheritEnvironment = InheritEnvironment{All: n.bool}
	case kindList:
		var names []string
		d.textList(at, n, &names, want)
		p.InheritEnvironment = InheritEnvironment{Names: names}
	default:
		d.wrongKind(at, n, want)
	}
}
