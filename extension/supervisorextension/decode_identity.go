// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

// identityKeys say what the telemetry of a process is reported as.
var identityKeys = table[ProcessConfig]{
	{"service_name", func(d *decoder, at place, n *node, p *ProcessConfig) {
		d.text(at, n, &p.ServiceName, "a name such as shop-web")
	}},
	// They add to what the defaults gave.
	{"resource_attributes", func(d *decoder, at place, n *node, p *ProcessConfig) {
		decodeTexts(d, at, n, &p.ResourceAttributes, false, "{service.namespace: shop, deployment.environment.name: production}")
	}},
	{"propagate_telemetry", func(d *decoder, at place, n *node, p *ProcessConfig) { d.boolean(at, n, &p.PropagateTelemetry) }},
}
