// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxNameLength = 63
	// defaultsPath leads to the keys given for all children.
	defaultsPath = "defaults"
)

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	strategies      = []Strategy{StrategyOneForOne, StrategyOneForAll, StrategyRestForOne}
	autoShutdowns   = []AutoShutdown{AutoShutdownNever, AutoShutdownAnySignificant, AutoShutdownAllSignificant}
	onGiveUps       = []OnGiveUp{GiveUpExit, GiveUpStay}
	firstStarts     = []FirstStart{FirstStartStrict, FirstStartRetry}
	restartPolicies = []RestartPolicy{RestartPermanent, RestartTransient, RestartTemporary}
	stdoutModes     = []OutputMode{OutputCapture, OutputInherit, OutputNull}
	stopScopes      = []StopScope{StopScopeTree, StopScopeGroup, StopScopeProcess}
	ansiModes       = []ANSIMode{ANSIKeep, ANSIStrip}
	stderrModes     = []OutputMode{OutputCapture, OutputInherit, OutputNull, OutputStdout}
)

// WaitForever, as StopConfig.Timeout, never kills.
const WaitForever = -time.Second

// Validate returns all that forbids a start, one finding a line: what Unmarshal
// could not take, and the rules that hold for a Config built in Go too.
func (c *Config) Validate() error {
	all := slices.Clone(c.findings)
	for _, f := range c.check() {
		if !slices.ContainsFunc(c.findings, f.follows) {
			all = append(all, f)
		}
	}
	if len(all) > 0 {
		return all.sorted()
	}
	if c.validating != nil {
		for _, warning := range c.Warnings() {
			_, _ = fmt.Fprintf(c.validating, "warning: supervisor: %s\n", warning)
		}
	}
	return nil
}

// check applies the rules to the values as they take effect.
func (c *Config) check() findings {
	r := &rules{}
	root := place{origin: &origin{}}
	r.runtimeDirectory(root.key("runtime_directory"), c.RuntimeDirectory)
	r.orphanGrace(root.key("orphan_grace"), c.OrphanGrace)
	r.positive(root.key("shutdown_timeout"), c.ShutdownTimeout, "25s")
	oneOf(r, root.key("on_give_up"), c.OnGiveUp, onGiveUps)
	r.supervisor(root, &c.SupervisorConfig, nil)
	return r.findings
}

// childAt returns where the i-th child of a supervisor was written.
func (s *SupervisorConfig) childAt(parent place, i int) place {
	child := &s.Children[i]
	if child.origin != nil {
		return place{child.origin, child.origin.path}
	}
	at := parent.key("children").index(i)
	if child.Name != "" {
		at.path += "(" + child.Name + ")"
	}
	// The children of one level are checked one after the other, what is below each
	// included: all that is found from here to the next is in its place already.
	at.origin = &origin{order: parent.origin.order, path: at.path}
	return at
}

// rules collects what it finds.
type rules struct{ findings findings }

func (r *rules) report(at place, format string, args ...any) {
	r.findings = append(r.findings, finding{at: at, text: fmt.Sprintf(format, args...)})
}

func (r *rules) missing(at place, text string) {
	r.findings = append(r.findings, finding{at: at, text: "missing: " + text, missing: true})
}

func (r *rules) name(at place, name string) {
	switch {
	case name == "":
		r.missing(at, "every child needs a name, such as web")
	case !namePattern.MatchString(name):
		r.report(at, "%s: a name has 1 to %d lower-case letters, digits, - and _, and begins with a letter or digit%s",
			quoted(name), maxNameLength, suggestName(name))
	}
}

// suggestName completes the error text about a name with one that is near and allowed.
func suggestName(name string) string {
	near := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(name))
	near = strings.TrimLeft(near, "-_")
	near = strings.TrimRight(near[:min(len(near), maxNameLength)], "-_")
	if near == "" {
		return ""
	}
	return ", such as " + near
}

func (r *rules) command(at place, command []string) {
	switch {
	case len(command) == 0:
		r.missing(at, `write the program and its arguments as a list, such as [sleep, "5"]`)
	case command[0] == "":
		r.report(at.index(0), "empty: the first element is the program")
	}
	for i, argument := range command {
		if strings.ContainsRune(argument, 0) {
			r.report(at.index(i), "a NUL byte ends an argument, so it cannot hold one: remove it")
		}
	}
}

// options checks the keys of a process that defaults may give too.
func (r *rules) options(at place, c *ChildConfig) {
	p := c.Process
	oneOf(r, at.key("restart"), c.Restart, restartPolicies)
	r.success(at.key("success"), p.Success)
	r.environment(at, p)
	if strings.ContainsRune(p.WorkingDirectory, 0) {
		r.report(at.key("working_directory"), "a path cannot hold a NUL byte: remove it")
	}
	if p.StartTimeout < 0 {
		r.report(at.key("start_timeout"), "%s is negative: write 0s for no limit, or more", formatDuration(p.StartTimeout))
	}
	if p.Readiness != nil {
		r.readiness(at.key("readiness"), p.Readiness)
	}
	if p.Liveness != nil {
		r.liveness(at.key("liveness"), p.Liveness)
	}
	r.stop(at.key("stop"), p.Stop)
	r.reload(at.key("reload"), p.Reload)
	r.rights(at, p)
	r.backoff(at.key("backoff"), c.Backoff)
	r.output(at.key("output"), &p.Output)
	r.reportedAs(at, p)
}

func (r *rules) success(at place, s SuccessList) {
	for _, code := range s.Codes {
		if code < 0 || code > 255 {
			r.report(at, "%d is no exit code: they go from 0 to 255; signals are listed by name, such as SIGTERM", code)
		}
	}
	for _, signal := range s.Signals {
		if !isSignal(signal) || neverEnds(signal) {
			r.report(at, "%s never ends a process, so none can end well with it: remove it", signalName(signal))
		}
	}
}

func (r *rules) environment(at place, p *ProcessConfig) {
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		here := at.key("environment").key(name)
		r.variable(here, name)
		if strings.ContainsRune(string(p.Environment[name]), 0) {
			r.report(here, "a NUL byte ends a value, so it cannot hold one: remove it")
		}
	}
	for i, file := range p.EnvironmentFiles {
		here := at.key("environment_files").index(i)
		switch {
		case file == "":
			r.report(here, "empty: write the path of a file of KEY=value lines")
		case strings.ContainsRune(file, 0):
			r.report(here, "a path cannot hold a NUL byte: remove it")
		}
	}
	inherit := at.key("inherit_environment")
	for i, name := range p.InheritEnvironment.Names {
		r.variable(inherit.index(i), name)
	}
	if p.InheritEnvironment.All && len(p.InheritEnvironment.Names) > 0 {
		r.report(inherit, "all variables and a list of them exclude each other: choose one")
	}
}

func (r *rules) variable(at place, name string) {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		r.report(at, `%s cannot name a variable: a name is not empty and holds neither "=" nor a NUL byte`, quoted(name))
	}
}

func (r *rules) stop(at place, s StopConfig) {
	switch {
	case !isSignal(s.Signal):
		r.report(at.key("signal"), "%d is not the number of a signal: write a name such as SIGTERM", int(s.Signal))
	case suspendsOrResumes(s.Signal):
		r.report(at.key("signal"), "%s does not end a process: write one that does, such as SIGTERM or SIGINT", signalName(s.Signal))
	}
	if s.Timeout < 0 && s.Timeout != WaitForever {
		r.report(at.key("timeout"), "%s is negative: write 0s to kill at once, -1s to wait for ever", formatDuration(s.Timeout))
	}
	oneOf(r, at.key("scope"), s.Scope, stopScopes)
	if s.Command != nil {
		r.command(at.key("command"), s.Command)
	}
}

func (r *rules) backoff(at place, b Backoff) {
	if b.InitialInterval < 0 {
		r.report(at.key("initial_interval"), "%s is negative: write 0s to restart at once every time, or more", formatDuration(b.InitialInterval))
	}
	switch {
	case math.IsNaN(b.Multiplier) || math.IsInf(b.Multiplier, 1):
		r.report(at.key("multiplier"), "%v is no factor: write a number such as 2", b.Multiplier)
	case b.Multiplier < 1:
		r.report(at.key("multiplier"), "%v is less than 1, and delays never shrink: write 1 to keep them equal, or more", b.Multiplier)
	}
	switch {
	case b.MaxInterval <= 0:
		r.positive(at.key("max_interval"), b.MaxInterval, "60s")
	case b.MaxInterval < b.InitialInterval:
		r.report(at.key("max_interval"), "%s is less than initial_interval, %s: raise it, or lower that",
			formatDuration(b.MaxInterval), formatDuration(b.InitialInterval))
	}
	if !(b.Jitter >= 0 && b.Jitter <= 1) {
		r.report(at.key("jitter"), "%v is not from 0 to 1: it is the share of a delay by which it varies, such as 0.2", b.Jitter)
	}
	if b.ResetAfter <= 0 {
		r.report(at.key("reset_after"), "%s is too short: write more than 0s; to restart at once every time, write initial_interval: 0s", formatDuration(b.ResetAfter))
	}
}

func (r *rules) positive(at place, d time.Duration, example string) {
	if d <= 0 {
		r.report(at, "%s is too short: write more than 0s, such as %s", formatDuration(d), example)
	}
}

func oneOf[T ~string](r *rules, at place, value T, allowed []T) {
	if slices.Contains(allowed, value) {
		return
	}
	text := fmt.Sprintf("%s is not one of %s", quoted(string(value)), joined(allowed))
	names := make([]string, len(allowed))
	for i, name := range allowed {
		names[i] = string(name)
	}
	if near := nearest(string(value), names); near != "" {
		text += ": did you mean " + near + "?"
	}
	r.report(at, "%s", text)
}

// formatDuration leaves out the units that are zero: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
