// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOpenOTLPEndpoints(t *testing.T) {
	grpc := func(url string) otlpEndpoint { return otlpEndpoint{url, protocolGRPC} }
	http := func(url string) otlpEndpoint { return otlpEndpoint{url, protocolHTTP} }
	for _, tt := range []struct {
		name, give string
		want       []otlpEndpoint
	}{
		{"no receivers", `service: {pipelines: {}}`, nil},
		{"nothing at all", `{}`, nil},
		{"both protocols, HTTP first", `
receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:4317", transport: tcp, tls: null}, http: {endpoint: "localhost:4318", traces_url_path: /v1/traces}}}}
service: {pipelines: {traces: {receivers: [otlp]}}}`, []otlpEndpoint{http("http://localhost:4318"), grpc("http://localhost:4317")}},
		{"one that is in no pipeline", `
receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:4317"}}}, nop: {}}
service: {pipelines: {traces: {receivers: [nop]}}}`, nil},
		{"others are of no use", `
receivers: {nop: null, zipkin: {protocols: {grpc: {endpoint: "localhost:1"}}}, otlpjsonfile: {protocols: {grpc: {endpoint: "localhost:1"}}}}
service: {pipelines: {traces: {receivers: [nop, zipkin, otlpjsonfile]}}}`, nil},
		{"TLS and authentication", `
receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:4317", tls: {cert_file: a}}, http: {endpoint: "localhost:4318", auth: {authenticator: bearertokenauth}}}}}
service: {pipelines: {traces: {receivers: [otlp]}}}`, nil},
		{
			"who listens everywhere is dialled here", `
receivers:
  otlp/1: {protocols: {grpc: {endpoint: "0.0.0.0:1"}}}
  otlp/2: {protocols: {grpc: {endpoint: "[::]:2"}}}
  otlp/3: {protocols: {grpc: {endpoint: ":3"}}}
  otlp/4: {protocols: {grpc: {endpoint: "10.0.0.1:4"}}}
service: {pipelines: {traces: {receivers: [otlp/1, otlp/2, otlp/3, otlp/4]}}}`,
			[]otlpEndpoint{grpc("http://127.0.0.1:1"), grpc("http://[::1]:2"), grpc("http://localhost:3"), grpc("http://10.0.0.1:4")},
		},
		{"what cannot be dialled", `
receivers:
  otlp/port: {protocols: {grpc: {endpoint: "localhost:0"}}}
  otlp/none: {protocols: {grpc: {endpoint: "localhost"}}}
  otlp/socket: {protocols: {grpc: {endpoint: "/run/otlp.sock", transport: unix}}}
  otlp/path: {protocols: {http: {endpoint: "localhost:4318", traces_url_path: /v1/metrics}}}
  otlp/strange: {protocols: [grpc]}
service: {pipelines: {traces: {receivers: [otlp/port, otlp/none, otlp/socket, otlp/path, otlp/strange, otlp/missing]}}}`, nil},
		{
			"those that take most signals are first", `
receivers:
  otlp/a: {protocols: {grpc: {endpoint: "localhost:1"}}}
  otlp/b: {protocols: {grpc: {endpoint: "localhost:2"}}}
  otlp/c: {protocols: {http: {endpoint: "localhost:3"}}}
service: {pipelines: {traces: {receivers: [otlp/a, otlp/b, otlp/c]}, traces/2: {receivers: [otlp/a]}, logs: {receivers: [otlp/b]}, metrics: {receivers: [otlp/c]}}}`,
			[]otlpEndpoint{http("http://localhost:3"), grpc("http://localhost:2"), grpc("http://localhost:1")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, openOTLPEndpoints(resolve(t, tt.give))) })
	}
}
