// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import "slices"

var readinessKeys = table[Readiness]{
	{"notify", decodeNew(table[NotifyCheck]{}, func(r *Readiness) **NotifyCheck { return &r.Notify }, "{}")},
	{"notify_fd", decodeNotifyFD},
	{"log", decodeNew(logKeys, func(r *Readiness) **LogCheck { return &r.Log }, "{pattern: listening on}")},
	{"exit", decodeNew(table[ExitCheck]{}, func(r *Readiness) **ExitCheck { return &r.Exit }, "{}")},
	{"http", decodeNew(httpKeys, func(r *Readiness) **HTTPCheck { return &r.HTTP }, httpShape)},
	{"tcp", decodeNew(tcpKeys, func(r *Readiness) **TCPCheck { return &r.TCP }, tcpShape)},
	{"exec", decodeNew(execKeys, func(r *Readiness) **ExecCheck { return &r.Exec }, execShape)},
	{"interval", func(d *decoder, at place, n *node, r *Readiness) { d.duration(at, n, &r.Interval, "1s") }},
	{"timeout", func(d *decoder, at place, n *node, r *Readiness) { d.duration(at, n, &r.Timeout, "1s") }},
}

var livenessKeys = table[Liveness]{
	{"http", decodeNew(httpKeys, func(l *Liveness) **HTTPCheck { return &l.HTTP }, httpShape)},
	{"tcp", decodeNew(tcpKeys, func(l *Liveness) **TCPCheck { return &l.TCP }, tcpShape)},
	{"exec", decodeNew(execKeys, func(l *Liveness) **ExecCheck { return &l.Exec }, execShape)},
	{"notify", decodeNew(table[NotifyCheck]{}, func(l *Liveness) **NotifyCheck { return &l.Notify }, "{}")},
	{"initial_delay", func(d *decoder, at place, n *node, l *Liveness) { d.duration(at, n, &l.InitialDelay, "5s") }},
	{"interval", func(d *decoder, at place, n *node, l *Liveness) { d.duration(at, n, &l.Interval, "10s") }},
	{"timeout", func(d *decoder, at place, n *node, l *Liveness) { d.duration(at, n, &l.Timeout, "1s") }},
	{"failure_threshold", func(d *decoder, at place, n *node, l *Liveness) { d.integer(at, n, &l.FailureThreshold, "3") }},
}

const (
	httpShape = "{endpoint: http://localhost:8080/healthz}"
	tcpShape  = "{endpoint: localhost:8080}"
	execShape = "{command: [./check]}"
)

var logKeys = table[LogCheck]{
	{"pattern", func(d *decoder, at place, n *node, l *LogCheck) {
		d.text(at, n, &l.Pattern, "a regular expression such as listening on")
	}},
}

var httpKeys = table[HTTPCheck]{
	{"endpoint", func(d *decoder, at place, n *node, h *HTTPCheck) {
		d.text(at, n, &h.Endpoint, "a URL such as http://localhost:8080/healthz")
	}},
	{"headers", func(d *decoder, at place, n *node, h *HTTPCheck) {
		d.opaqueTexts(at, n, &h.Headers, "{Authorization: Bearer token}")
	}},
}

var tcpKeys = table[TCPCheck]{
	{"endpoint", func(d *decoder, at place, n *node, c *TCPCheck) {
		d.text(at, n, &c.Endpoint, "an address such as localhost:8080")
	}},
}

var execKeys = table[ExecCheck]{
	{"command", func(d *decoder, at place, n *node, e *ExecCheck) { d.command(at, n, &e.Command) }},
}

// decodeNew is decodeMap for a field that is nil unless the key is given. What is
// there but no map counts as given, so that nothing else is reported as missing.
func decodeNew[T, U any](t table[U], field func(*T) **U, shape string) func(*decoder, place, *node, *T) {
	return func(d *decoder, at place, n *node, into *T) {
		value := new(U)
		*field(into) = value
		decodeMap(t, func(*T) *U { return value }, shape)(d, at, n, into)
	}
}

// firstNotifyFD is the first descriptor that is not a standard stream.
const firstNotifyFD = 3

func decodeNotifyFD(d *decoder, at place, n *node, r *Readiness) {
	if d.integer(at, n, &r.NotifyFD, "3"); n.kind == kindInt && n.int == 0 {
		// 0 in a Readiness says that no descriptor was given.
		d.report(at, notAStream, 0, firstNotifyFD)
	}
}

const notAStream = "%d is not free, the first descriptors are the standard streams: write %d or more"

// decodeReadiness replaces what defaults gave, for of the ways only one can hold.
// null takes it away.
func decodeReadiness(d *decoder, at place, n *node, p *ProcessConfig) {
	if n.isNull() && p.Readiness != nil {
		p.Readiness = nil
		return
	}
	if n.kind != kindMap {
		d.wrongKind(at, n, "a map such as {notify: {}}")
		return
	}
	r := newDefaultReadiness()
	readinessKeys.decode(d, at, n, r)
	p.Readiness = r
	if ways := r.ways(); len(ways) == 1 && !r.asks() {
		d.useless(at, n, ways[0], "interval", "timeout")
	}
}

// decodeLiveness is decodeReadiness for liveness.
func decodeLiveness(d *decoder, at place, n *node, p *ProcessConfig) {
	if n.isNull() && p.Liveness != nil {
		p.Liveness = nil
		return
	}
	if n.kind != kindMap {
		d.wrongKind(at, n, "a map such as {tcp: {endpoint: localhost:8080}}")
		return
	}
	l := newDefaultLiveness()
	livenessKeys.decode(d, at, n, l)
	p.Liveness = l
	if slices.Equal(l.ways(), []string{"notify"}) {
		d.useless(at, n, "notify", "timeout")
	}
}

// useless reports keys that do nothing beside the way that was chosen.
func (d *decoder) useless(at place, n *node, way string, keys ...string) {
	for _, key := range keys {
		if n.get(key) != nil {
			d.report(at.key(key), "%s asks nothing that would have one: remove it, or choose http, tcp or exec", way)
		}
	}
}
