// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"reflect"
	"strings"

	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
)

var _ confmap.Marshaler = Config{}

// Marshal writes c in the form in which it is read, as it takes effect: all children,
// included ones among them, so include itself is left out, each with the keys that
// say something else than the defaults. The Collector copies what is written here
// half a dozen times before it starts; with all keys of a thousand processes that
// took it a second. It redacts its effective configuration, which it offers to
// extensions, by comparing it with this: what is opaque here has to stand where it
// was written, so no environment, readiness or liveness is left out.
func (c Config) Marshal(conf *confmap.Conf) error {
	out := c.SupervisorConfig.marshal(nil)
	out["runtime_directory"] = c.RuntimeDirectory
	out["orphan_grace"] = formatDuration(c.OrphanGrace)
	out["shutdown_timeout"] = formatDuration(c.ShutdownTimeout)
	out["on_give_up"] = string(c.OnGiveUp)
	return conf.Merge(confmap.NewFromStringMap(out))
}

// marshal writes the keys of a supervisor. base has the defaults of those above, nil
// if there are none.
func (s *SupervisorConfig) marshal(base *ChildConfig) map[string]any {
	if s.base != nil {
		base = s.base
	}
	plain := newDefaultProcess()
	usual := plain.marshal(nil, nil)
	if base != nil {
		// What defaults say otherwise is written for every child.
		given := base.marshal(nil, nil)
		maps.DeleteFunc(usual, func(key string, value any) bool { return !reflect.DeepEqual(value, given[key]) })
	}
	children := make([]any, 0, len(s.Children))
	for i := range s.Children {
		// Instances are written as they were read, as one: see Marshal on places.
		if child := &s.Children[i]; child.Process == nil || child.Process.instance == 0 {
			children = append(children, child.marshal(base, usual))
		}
	}
	out := map[string]any{
		"strategy": string(s.Strategy),
		"intensity": map[string]any{
			"max_restarts": s.Intensity.MaxRestarts,
			"period":       formatDuration(s.Intensity.Period),
		},
		"auto_shutdown": string(s.AutoShutdown),
		"first_start":   string(s.FirstStart),
		"parallel":      s.Parallel,
		"children":      children,
	}
	if len(s.Defaults) > 0 {
		out["defaults"] = s.Defaults
	}
	return out
}

// marshal leaves out what is as in usual.
func (c *ChildConfig) marshal(base *ChildConfig, usual map[string]any) map[string]any {
	var out map[string]any
	if c.Supervisor != nil {
		out = c.Supervisor.marshal(base)
	} else {
		out = c.Process.marshal(base)
	}
	out["name"] = c.Name
	if c.Process != nil && c.Process.instances > 1 {
		out["name"] = strings.TrimSuffix(c.Name, "-0")
	}
	out["restart"] = string(c.Restart)
	out["significant"] = c.Significant
	// Where a key would do nothing it is not accepted, so it is not written either.
	if c.Restart != RestartTemporary {
		out["backoff"] = map[string]any{
			"initial_interval": formatDuration(c.Backoff.InitialInterval),
			"multiplier":       c.Backoff.Multiplier,
			"max_interval":     formatDuration(c.Backoff.MaxInterval),
			"jitter":           c.Backoff.Jitter,
			"reset_after":      formatDuration(c.Backoff.ResetAfter),
		}
	}
	if c.Process != nil {
		maps.DeleteFunc(out, func(key string, value any) bool {
			plain, known := usual[key]
			written := !known || key == "name" || key == "command" || key == "readiness" || key == "liveness" ||
				key == "environment" && len(value.(map[string]any)) > 0
			return !written && reflect.DeepEqual(value, plain)
		})
	}
	return out
}

func (p *ProcessConfig) marshal(base *ChildConfig) map[string]any {
	success := make([]any, 0, len(p.Success.Codes)+len(p.Success.Signals))
	for _, code := range p.Success.Codes {
		success = append(success, code)
	}
	for _, signal := range p.Success.Signals {
		success = append(success, signalName(signal))
	}
	environment := marshalOpaque(p.Environment)
	if p.instances > 1 {
		delete(environment, instanceVariable)
	}
	out := map[string]any{
		"command":             anyOf(p.Command),
		"instances":           max(1, p.instances),
		"success":             success,
		"autostart":           p.Autostart,
		"template":            p.Template,
		"environment":         environment,
		"environment_files":   anyOf(p.EnvironmentFiles),
		"inherit_environment": p.InheritEnvironment.All,
		"working_directory":   p.WorkingDirectory,
		"start_timeout":       formatDuration(p.StartTimeout),
		"stop":                p.Stop.marshal(base),
		"output":              p.Output.marshal(base),
		"service_name":        p.ServiceName,
		"resource_attributes": marshalTexts(p.ResourceAttributes),
		"propagate_telemetry": p.PropagateTelemetry,
	}
	if p.Template {
		delete(out, "instances")
		delete(out, "autostart")
	}
	if !p.InheritEnvironment.All && len(p.InheritEnvironment.Names) > 0 {
		out["inherit_environment"] = anyOf(p.InheritEnvironment.Names)
	}
	// Without a value of its own a process would get that of the defaults.
	switch {
	case p.Readiness != nil:
		out["readiness"] = p.Readiness.marshal()
	case base != nil && base.Process.Readiness != nil:
		out["readiness"] = nil
	}
	switch {
	case p.Liveness != nil:
		out["liveness"] = p.Liveness.marshal()
	case base != nil && base.Process.Liveness != nil:
		out["liveness"] = nil
	}
	p.marshalRights(out, base)
	return out
}

func (r *Readiness) marshal() map[string]any {
	out := map[string]any{}
	if r.Notify != nil {
		out["notify"] = map[string]any{}
	}
	if r.NotifyFD != 0 {
		out["notify_fd"] = r.NotifyFD
	}
	if r.Log != nil {
		out["log"] = map[string]any{"pattern": r.Log.Pattern}
	}
	if r.Exit != nil {
		out["exit"] = map[string]any{}
	}
	marshalChecks(out, r.HTTP, r.TCP, r.Exec)
	if r.asks() {
		out["interval"], out["timeout"] = formatDuration(r.Interval), formatDuration(r.Timeout)
	}
	return out
}

func (l *Liveness) marshal() map[string]any {
	out := map[string]any{
		"initial_delay":     formatDuration(l.InitialDelay),
		"interval":          formatDuration(l.Interval),
		"failure_threshold": l.FailureThreshold,
	}
	if l.Notify != nil {
		out["notify"] = map[string]any{}
	} else {
		out["timeout"] = formatDuration(l.Timeout)
	}
	marshalChecks(out, l.HTTP, l.TCP, l.Exec)
	return out
}

// marshalChecks writes those that are given.
func marshalChecks(out map[string]any, http *HTTPCheck, tcp *TCPCheck, exec *ExecCheck) {
	if http != nil {
		out["http"] = map[string]any{"endpoint": http.Endpoint, "headers": marshalOpaque(http.Headers)}
	}
	if tcp != nil {
		out["tcp"] = map[string]any{"endpoint": tcp.Endpoint}
	}
	if exec != nil {
		out["exec"] = map[string]any{"command": anyOf(exec.Command)}
	}
}

// marshalOpaque keeps the type of the values: it is the Collector that redacts them, or not.
func marshalOpaque(values map[string]configopaque.String) map[string]any { return marshalTexts(values) }

func marshalTexts[T ~string](values map[string]T) map[string]any {
	out := make(map[string]any, len(values))
	for name, value := range values {
		out[name] = value
	}
	return out
}

func anyOf(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}
