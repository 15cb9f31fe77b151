// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import "strings"

// known are findings about defaults, by their path below "defaults" and their text:
// what the defaults do wrong is said once, not at every child.
type known map[string]bool

// supervisor checks a supervisor and all below it. inherited is known of the defaults
// of the supervisors above.
func (r *rules) supervisor(at place, s *SupervisorConfig, inherited known) {
	oneOf(r, at.key("strategy"), s.Strategy, strategies)
	oneOf(r, at.key("auto_shutdown"), s.AutoShutdown, autoShutdowns)
	oneOf(r, at.key("first_start"), s.FirstStart, firstStarts)
	if s.Parallel && s.Strategy != StrategyOneForOne {
		r.report(at.key("parallel"), "the order of the children matters to %s, so they cannot start together: remove parallel, or write strategy: one_for_one", s.Strategy)
	}
	if n := s.Intensity.MaxRestarts; n < 0 {
		r.report(at.key("intensity").key("max_restarts"), "%d is negative: write 0 to give up at the first failure, or more", n)
	}
	r.positive(at.key("intensity").key("period"), s.Intensity.Period, "5m")
	if s.base != nil {
		inherited = r.defaults(at.key(defaultsPath), s.base, inherited)
	}
	first := make(map[string]place, len(s.Children))
	for i := range s.Children {
		child, here := &s.Children[i], s.childAt(at, i)
		r.name(here.key("name"), child.Name)
		if earlier, taken := first[child.Name]; !taken {
			first[child.Name] = here
		} else if child.Name != "" {
			r.sameName(here.key("name"), child, earlier)
		}
		if child.Process != nil && child.Process.instance > 0 {
			continue // it differs from the one before in its name only
		}
		r.child(here, child, s, inherited)
	}
}

// defaults checks what is given for all processes below, and returns what is known of it.
func (r *rules) defaults(at place, base *ChildConfig, inherited known) known {
	own := &rules{}
	own.options(at, base)
	all := known{}
	for _, f := range own.findings {
		all[strings.TrimPrefix(f.at.path, at.path)+f.text] = true
	}
	r.appendUnknown(at, own.findings, inherited)
	return all
}

// appendUnknown appends the findings in at but for those that are known.
func (r *rules) appendUnknown(at place, all findings, inherited known) {
	for _, f := range all {
		if !inherited[strings.TrimPrefix(f.at.path, at.path)+f.text] {
			r.findings = append(r.findings, f)
		}
	}
}

func (r *rules) sameName(at place, child *ChildConfig, earlier place) {
	which := earlier.String()
	if !strings.HasSuffix(earlier.path, "("+child.Name+")") {
		which = "an instance of " + which
	}
	r.report(at, "%s is the name of %s already: siblings need different names", quoted(child.Name), which)
}

func (r *rules) child(at place, child *ChildConfig, parent *SupervisorConfig, inherited known) {
	if child.Significant {
		switch {
		case child.isTemplate():
			r.report(at.key("significant"), "a template does not end when its instances have, so there is nothing to take part with: remove significant")
		case parent.AutoShutdown == AutoShutdownNever:
			r.report(at.key("significant"), "it means nothing while auto_shutdown of its supervisor is never: set that to any_significant or all_significant, or remove significant")
		case child.Restart == RestartPermanent:
			r.report(at.key("significant"), "a permanent child never ends for good: write restart: transient or temporary, or remove significant")
		}
	}
	switch {
	case (child.Process == nil) == (child.Supervisor == nil):
		r.report(at, "it has to be either a process or a supervisor")
	case child.Supervisor != nil:
		oneOf(r, at.key("restart"), child.Restart, restartPolicies)
		r.backoff(at.key("backoff"), child.Backoff)
		r.supervisor(at, child.Supervisor, inherited)
	default:
		r.command(at.key("command"), child.Process.Command)
		own := &rules{}
		own.options(at, child)
		r.appendUnknown(at, own.findings, inherited)
		r.combinations(at, child)
	}
}

// combinations checks the keys of a process against each other. Defaults are free of
// it: their other half may stand in each child.
func (r *rules) combinations(at place, child *ChildConfig) {
	p := child.Process
	if p.Readiness == nil {
		return
	}
	readiness := at.key("readiness")
	if p.Readiness.Exit != nil && child.Restart == RestartPermanent {
		r.report(readiness.key("exit"), "a permanent process is started again when it has ended, so it is never done: write restart: transient or temporary, or choose another way")
	}
	if p.Readiness.Exit != nil && p.Liveness != nil {
		r.report(at.key("liveness"), "it begins when the process is ready, which by readiness::exit it is when it has ended: remove liveness, or choose another readiness")
	}
	if p.Readiness.Log != nil && p.Output.Stdout != OutputCapture && p.Output.Stderr != OutputCapture {
		r.report(readiness.key("log"), "no line is seen, since neither stream is captured: set output::stdout or output::stderr to capture, or choose another way")
	}
}
