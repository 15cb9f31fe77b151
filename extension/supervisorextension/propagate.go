// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// The variables by which an OpenTelemetry SDK is told what it speaks for, and to whom.
const (
	serviceNameVariable        = "OTEL_SERVICE_NAME"
	resourceAttributesVariable = "OTEL_RESOURCE_ATTRIBUTES"
	endpointVariable           = "OTEL_EXPORTER_OTLP_ENDPOINT"
	protocolVariable           = "OTEL_EXPORTER_OTLP_PROTOCOL"
)

// protocolVariables are those that an endpoint has to suit: the one for all signals,
// and those that win over it.
var protocolVariables = []string{
	protocolVariable,
	"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
}

// endpointVariables are those of which one that is set says that somebody has thought
// about where to send what: a protocol that is added would be for it too.
var endpointVariables = []string{
	endpointVariable,
	"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
}

// propagation is what a process is told, so that what its SDK reports has the resource
// of what is reported of it.
type propagation struct {
	resource  pcommon.Resource
	endpoints []otlpEndpoint // the best first
}

func (e *engine) propagation(info *Info) propagation {
	p := propagation{resource: info.Resource}
	if endpoints := e.otlp.Load(); endpoints != nil {
		p.endpoints = *endpoints
	}
	return p
}

// addTo returns env, which is sorted and stays as it is, with what is not in it yet.
// Whatever somebody has set, to nothing even, is meant.
func (p propagation) addTo(env []string) []string {
	env = slices.Clip(env)
	add := func(key, value string) {
		if _, at, isSet := lookup(env, key); !isSet {
			env = slices.Insert(env, at, key+"="+value)
		}
	}
	// The first wins over a service.name in the second, which may be the user's.
	if attributes, _, _ := lookup(env, resourceAttributesVariable); !hasAttribute(attributes, "service.name") {
		name, _ := p.resource.Attributes().Get("service.name")
		add(serviceNameVariable, name.Str())
	}
	add(resourceAttributesVariable, encodeAttributes(p.resource))
	for _, key := range endpointVariables {
		if _, _, isSet := lookup(env, key); isSet {
			return env
		}
	}
	i := slices.IndexFunc(p.endpoints, func(e otlpEndpoint) bool { return e.suits(env) })
	if i >= 0 {
		add(endpointVariable, p.endpoints[i].url)
		add(protocolVariable, p.endpoints[i].protocol)
	}
	return env
}

// suits: no variable asks for another protocol. JSON is taken where protobuf is.
func (e otlpEndpoint) suits(env []string) bool {
	for _, key := range protocolVariables {
		asked, _, _ := lookup(env, key)
		if asked != "" && asked != e.protocol && !(asked == "http/json" && e.protocol == protocolHTTP) {
			return false
		}
	}
	return true
}

// lookup finds a variable in env, which is sorted, or where it would be.
func lookup(env []string, key string) (value string, at int, isSet bool) {
	prefix := key + "="
	at, _ = slices.BinarySearch(env, prefix)
	if at < len(env) {
		value, isSet = strings.CutPrefix(env[at], prefix)
	}
	if !isSet {
		return "", at, false
	}
	return value, at, true
}

// hasAttribute looks into the value of OTEL_RESOURCE_ATTRIBUTES.
func hasAttribute(encoded, key string) bool {
	for pair := range strings.SplitSeq(encoded, ",") {
		if name, _, ok := strings.Cut(pair, "="); ok && strings.TrimSpace(name) == key {
			return true
		}
	}
	return false
}

// encodeAttributes is the value of OTEL_RESOURCE_ATTRIBUTES for a resource. It leaves
// out what an SDK finds out of its own process, which may be a descendant of the one
// that the resource describes, and the name, which has a variable of its own.
func encodeAttributes(resource pcommon.Resource) string {
	var encoded strings.Builder
	for key, value := range resource.Attributes().All() {
		if key == "service.name" || strings.HasPrefix(key, "process.") {
			continue
		}
		if encoded.Len() > 0 {
			encoded.WriteByte(',')
		}
		encoded.WriteString(key)
		encoded.WriteByte('=')
		encodeOctets(&encoded, value.Str())
	}
	return encoded.String()
}

// encodeOctets percent-encodes what cannot stand in a value.
func encodeOctets(into *strings.Builder, text string) {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; isPlain(rune(c)) {
			into.WriteByte(c)
		} else {
			into.Write([]byte{'%', digits[c>>4], digits[c&0xF]})
		}
	}
}

// isPlain: the octet stands for itself in OTEL_RESOURCE_ATTRIBUTES. These are those of
// a W3C Baggage without what separates pairs and what begins an encoded octet, and
// without the plus sign, which some decoders take for a space.
func isPlain(c rune) bool { return c > ' ' && c < 0x7F && !strings.ContainsRune(`",;=%+\`, c) }
