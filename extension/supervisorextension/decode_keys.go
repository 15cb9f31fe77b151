// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import "slices"

// rootKeys are decoded in this order: the defaults before the children that they
// apply to, and the included children after the others.
var rootKeys = slices.Concat(
	table[Config]{
		{"runtime_directory", func(d *decoder, at place, n *node, c *Config) {
			d.text(at, n, &c.RuntimeDirectory, "an absolute path such as /run/warden/supervisor")
		}},
		{"orphan_grace", func(d *decoder, at place, n *node, c *Config) { d.duration(at, n, &c.OrphanGrace, "30s") }},
		{"shutdown_timeout", func(d *decoder, at place, n *node, c *Config) { d.duration(at, n, &c.ShutdownTimeout, "25s") }},
		{"on_give_up", func(d *decoder, at place, n *node, c *Config) { decodeName(d, at, n, &c.OnGiveUp, onGiveUps) }},
	},
	within(supervisorKeys, func(c *Config) *SupervisorConfig { return &c.SupervisorConfig }),
	table[Config]{
		{"include", decodeInclude},
	},
	later[Config]("control"),
)

// supervisorKeys are those of every supervisor.
var supervisorKeys = table[SupervisorConfig]{
	{"strategy", func(d *decoder, at place, n *node, s *SupervisorConfig) {
		decodeName(d, at, n, &s.Strategy, strategies)
	}},
	{"intensity", decodeMap(intensityKeys, func(s *SupervisorConfig) *Intensity { return &s.Intensity }, "{max_restarts: 10, period: 5m}")},
	{"auto_shutdown", func(d *decoder, at place, n *node, s *SupervisorConfig) {
		decodeName(d, at, n, &s.AutoShutdown, autoShutdowns)
	}},
	{"first_start", func(d *decoder, at place, n *node, s *SupervisorConfig) {
		decodeName(d, at, n, &s.FirstStart, firstStarts)
	}},
	{"parallel", func(d *decoder, at place, n *node, s *SupervisorConfig) { d.boolean(at, n, &s.Parallel) }},
	{"defaults", decodeDefaults},
	{"children", decodeChildren},
}

var intensityKeys = table[Intensity]{
	{"max_restarts", func(d *decoder, at place, n *node, i *Intensity) { d.integer(at, n, &i.MaxRestarts, "10") }},
	{"period", func(d *decoder, at place, n *node, i *Intensity) { d.duration(at, n, &i.Period, "5m") }},
}

// nestedKeys are those of a supervisor below the root.
var nestedKeys, processKeys table[ChildConfig]

// The decoders of a supervisor's children lead back to these two tables, which a
// variable's initial value must not.
func init() {
	nestedKeys = slices.Concat(childKeys, within(supervisorKeys, func(c *ChildConfig) *SupervisorConfig { return c.Supervisor }))
	processKeys = slices.Concat(childKeys, within(ownProcessKeys, func(c *ChildConfig) *ProcessConfig { return c.Process }))
}

var nameKey = key[ChildConfig]{"name", func(d *decoder, at place, n *node, c *ChildConfig) {
	d.text(at, n, &c.Name, "a name such as web")
}}

// instanceKeys are those of an instance that is added to a template, of which it has the rest.
var instanceKeys = table[ChildConfig]{nameKey}

// childKeys are those of processes and supervisors alike.
var childKeys = table[ChildConfig]{
	nameKey,
	{"restart", func(d *decoder, at place, n *node, c *ChildConfig) {
		decodeName(d, at, n, &c.Restart, restartPolicies)
	}},
	{"significant", func(d *decoder, at place, n *node, c *ChildConfig) { d.boolean(at, n, &c.Significant) }},
	{"backoff", decodeMap(backoffKeys, func(c *ChildConfig) *Backoff { return &c.Backoff }, "{initial_interval: 500ms, max_interval: 60s}")},
}

// ownProcessKeys are those that only a process has.
var ownProcessKeys = slices.Concat(
	table[ProcessConfig]{
		{"command", func(d *decoder, at place, n *node, p *ProcessConfig) { d.command(at, n, &p.Command) }},
		{"instances", decodeInstances},
		{"success", decodeSuccess},
		{"autostart", func(d *decoder, at place, n *node, p *ProcessConfig) { d.boolean(at, n, &p.Autostart) }},
		{"template", func(d *decoder, at place, n *node, p *ProcessConfig) { d.boolean(at, n, &p.Template) }},
		{"environment", decodeEnvironment},
		{"environment_files", func(d *decoder, at place, n *node, p *ProcessConfig) {
			d.textList(at, n, &p.EnvironmentFiles, "a list of files such as [/etc/default/web]")
		}},
		{"inherit_environment", decodeInheritEnvironment},
		{"working_directory", func(d *decoder, at place, n *node, p *ProcessConfig) {
			d.text(at, n, &p.WorkingDirectory, "a directory such as /srv/web")
		}},
		{"start_timeout", func(d *decoder, at place, n *node, p *ProcessConfig) { d.duration(at, n, &p.StartTimeout, "60s") }},
		{"readiness", decodeReadiness},
		{"liveness", decodeLiveness},
		{"stop", decodeMap(stopKeys, func(p *ProcessConfig) *StopConfig { return &p.Stop }, "{signal: SIGTERM, timeout: 10s}")},
		{"reload", orNull(func(p *ProcessConfig) *ReloadConfig { return &p.Reload }, decodeReload)},
		{"output", decodeMap(outputKeys, func(p *ProcessConfig) *OutputConfig { return &p.Output }, "{stdout: capture, stderr: capture}")},
	},
	identityKeys,
	rightsKeys,
	later[ProcessConfig]("schedule"),
)

var stopKeys = table[StopConfig]{
	{"signal", func(d *decoder, at place, n *node, s *StopConfig) { d.signal(at, n, &s.Signal, "SIGTERM") }},
	{"timeout", func(d *decoder, at place, n *node, s *StopConfig) { d.duration(at, n, &s.Timeout, "10s") }},
	{"scope", func(d *decoder, at place, n *node, s *StopConfig) { decodeName(d, at, n, &s.Scope, stopScopes) }},
	{"command", orNull(func(s *StopConfig) *[]string { return &s.Command }, (*decoder).command)},
}

var backoffKeys = table[Backoff]{
	{"initial_interval", func(d *decoder, at place, n *node, b *Backoff) { d.duration(at, n, &b.InitialInterval, "500ms") }},
	{"multiplier", func(d *decoder, at place, n *node, b *Backoff) { d.number(at, n, &b.Multiplier, "2") }},
	{"max_interval", func(d *decoder, at place, n *node, b *Backoff) { d.duration(at, n, &b.MaxInterval, "60s") }},
	{"jitter", func(d *decoder, at place, n *node, b *Backoff) { d.number(at, n, &b.Jitter, "0.2") }},
	{"reset_after", func(d *decoder, at place, n *node, b *Backoff) { d.duration(at, n, &b.ResetAfter, "60s") }},
}
