// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// reportedAs checks what a process is reported as.
func (r *rules) reportedAs(at place, p *ProcessConfig) {
	name := at.key("service_name")
	r.reportable(name, p.ServiceName)
	switch {
	case strings.ContainsRune(p.ServiceName, 0):
		r.report(name, "a NUL byte ends a variable, and the name is one of the process's: remove it")
	case strings.TrimSpace(p.ServiceName) != p.ServiceName:
		r.report(name, "%s begins or ends with white space, which OpenTelemetry SDKs remove: remove it", quoted(p.ServiceName))
	}
	for _, key := range slices.Sorted(maps.Keys(p.ResourceAttributes)) {
		value := p.ResourceAttributes[key]
		here := at.key("resource_attributes").key(key)
		r.attributeKey(here, key, value)
		r.reportable(here, value)
	}
}

// attributeKey checks the key of an attribute of a resource. A process is told of them
// in OTEL_RESOURCE_ATTRIBUTES, where SDKs decode values but not all of them keys.
func (r *rules) attributeKey(at place, key, value string) {
	group, rest, _ := strings.Cut(key, ".")
	switch {
	case key == "service.name" && value == "":
		r.report(at, "there is a key of its own for it: write service_name")
	case key == "service.name":
		r.report(at, "there is a key of its own for it: write service_name: %s", value)
	case key == "service.instance.id":
		r.report(at, "every process gets one of its own, which keeps its series apart from those of others and stays the same over restarts: remove it, or choose another key such as app.instance")
	case rest != "" && (group == "process" || group == "supervisor"):
		r.report(at, "what begins with %s. is not configured but found out: remove it, or choose another key such as app.%s", group, rest)
	case key == "":
		r.report(at, "an attribute needs a key: write one such as service.namespace")
	case strings.ContainsFunc(key, func(c rune) bool { return !isPlain(c) }):
		r.report(at, `%s cannot be told to a process as it is: write a key of ASCII letters, digits and signs, without spaces and without any of ",;=%%+\`, quoted(key))
	}
}

// reportable checks a text that goes into telemetry.
func (r *rules) reportable(at place, text string) {
	if !utf8.ValidString(text) {
		r.report(at, "%s is not valid UTF-8, which telemetry has to be: write it otherwise", quoted(text))
	}
}

// reportedAs warns of variables that keep a process from hearing what is configured.
func (w *warner) reportedAs(at place, p *ProcessConfig) {
	if !p.PropagateTelemetry {
		return
	}
	environment := at.key("environment")
	if name, set := p.Environment[serviceNameVariable]; set && p.ServiceName != "" && string(name) != p.ServiceName {
		w.once(environment.key(serviceNameVariable), "the process keeps it, so what it sends itself does not have the service_name: remove one of the two")
	}
	if _, set := p.Environment[resourceAttributesVariable]; set && len(p.ResourceAttributes) > 0 {
		w.once(environment.key(resourceAttributesVariable), "the process keeps it, so what it sends itself has no resource_attributes: move what it holds there")
	}
}
