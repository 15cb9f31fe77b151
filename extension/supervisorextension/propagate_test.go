// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"
	"pgregory.net/rapid"
)

// propagated returns the variables of OpenTelemetry that a process of cfg gets.
func propagated(t *testing.T, cfg *ProcessConfig, own []string, endpoints ...otlpEndpoint) string {
	t.Helper()
	cfg.Command = []string{"./shop"}
	info := newInfo("web", TypeService, cfg, "/run/warden/a", time.Now())
	env, err := environment(cfg, newInheritable(own), propagation{info.Resource, endpoints})
	require.NoError(t, err)
	assert.True(t, slices.IsSorted(env), env)
	env = slices.DeleteFunc(env, func(entry string) bool { return !strings.HasPrefix(entry, "OTEL_") })
	return strings.ReplaceAll(strings.Join(env, "\n"), InstanceID(HostIdentity(), "/run/warden/a", "web"), "UUID")
}

func TestEnvironment_AProcessIsToldWhatItIsReportedAs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(file, []byte("OTEL_SERVICE_NAME=file\n"), 0o600))
	inherit := InheritEnvironment{All: true}
	for _, tt := range []struct {
		name string
		give ProcessConfig
		own  []string
		want string
	}{
		{
			"by its id",
			ProcessConfig{PropagateTelemetry: true, InheritEnvironment: inherit},
			[]string{"A=1", "PATH=/bin"},
			"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=UUID,supervisor.process.id=web\nOTEL_SERVICE_NAME=web",
		},
		{
			"by its name and attributes",
			ProcessConfig{PropagateTelemetry: true, ServiceName: "shop, a=b", ResourceAttributes: map[string]string{
				"service.namespace": "shop", "deployment.environment.name": "a, b=c;100%+ü", "empty": "",
			}},
			nil,
			"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=UUID,supervisor.process.id=web," +
				"deployment.environment.name=a%2C%20b%3Dc%3B100%25%2B%C3%BC,empty=,service.namespace=shop\nOTEL_SERVICE_NAME=shop, a=b",
		},
		{"not if it is not to be", ProcessConfig{ServiceName: "shop"}, nil, ""},
		{
			"but for what its environment says",
			ProcessConfig{PropagateTelemetry: true, Environment: map[string]configopaque.String{"OTEL_RESOURCE_ATTRIBUTES": "a=b"}},
			nil,
			"OTEL_RESOURCE_ATTRIBUTES=a=b\nOTEL_SERVICE_NAME=web",
		},
		{
			"but for what its environment sets to nothing",
			ProcessConfig{PropagateTelemetry: true, Environment: map[string]configopaque.String{"OTEL_RESOURCE_ATTRIBUTES": "", "OTEL_SERVICE_NAME": ""}},
			nil,
			"OTEL_RESOURCE_ATTRIBUTES=\nOTEL_SERVICE_NAME=",
		},
		{
			"but for what a file says",
			ProcessConfig{PropagateTelemetry: true, EnvironmentFiles: []string{file}},
			nil,
			"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=UUID,supervisor.process.id=web\nOTEL_SERVICE_NAME=file",
		},
		{
			"but for what it inherits",
			ProcessConfig{PropagateTelemetry: true, InheritEnvironment: inherit},
			[]string{"OTEL_SERVICE_NAME=pod"},
			"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=UUID,supervisor.process.id=web\nOTEL_SERVICE_NAME=pod",
		},
		{
			"not but for what it does not inherit",
			ProcessConfig{PropagateTelemetry: true},
			[]string{"OTEL_SERVICE_NAME=pod"},
			"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=UUID,supervisor.process.id=web\nOTEL_SERVICE_NAME=web",
		},
		{
			"but for a name among attributes, over which the variable for it would win",
			ProcessConfig{PropagateTelemetry: true, InheritEnvironment: inherit},
			[]string{"OTEL_RESOURCE_ATTRIBUTES=a=b, service.name=pod"},
			"OTEL_RESOURCE_ATTRIBUTES=a=b, service.name=pod",
		},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, propagated(t, &tt.give, tt.own)) })
	}
}

func TestEnvironment_AProcessIsToldOfAnEndpointThatSuitsIt(t *testing.T) {
	http, grpc := otlpEndpoint{"http://localhost:4318", protocolHTTP}, otlpEndpoint{"http://localhost:4317", protocolGRPC}
	const (
		overHTTP = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318\nOTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
		overGRPC = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317\nOTEL_EXPORTER_OTLP_PROTOCOL=grpc"
	)
	for _, tt := range []struct {
		name      string
		set       []string
		endpoints []otlpEndpoint
		want      string
	}{
		{"none", nil, nil, ""},
		{"the first", nil, []otlpEndpoint{http, grpc}, overHTTP},
		{"the only one", nil, []otlpEndpoint{grpc}, overGRPC},
		{"the one of the protocol that is set", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, []otlpEndpoint{http, grpc}, overGRPC},
		{"protobuf and JSON are one", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, []otlpEndpoint{grpc, http}, strings.ReplaceAll(overHTTP, "protobuf", "json")},
		{"none of another protocol", []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, []otlpEndpoint{http}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		{
			"the one of the protocol that is set for a signal",
			[]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc"},
			[]otlpEndpoint{http, grpc},
			overGRPC + "\nOTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
		},
		{
			"none if the signals want different ones",
			[]string{"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc"},
			[]otlpEndpoint{http, grpc},
			"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf\nOTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
		},
		{"what is set, and no protocol with it", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://far:4318"}, []otlpEndpoint{grpc}, "OTEL_EXPORTER_OTLP_ENDPOINT=http://far:4318"},
		{
			"what is set for one signal, whose protocol would be another",
			[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://far:4317"},
			[]otlpEndpoint{http},
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://far:4317",
		},
		{"what is set to nothing", []string{"OTEL_EXPORTER_OTLP_ENDPOINT="}, []otlpEndpoint{grpc}, "OTEL_EXPORTER_OTLP_ENDPOINT="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := append([]string{"OTEL_RESOURCE_ATTRIBUTES=", "OTEL_SERVICE_NAME="}, tt.set...)
			got := propagated(t, &ProcessConfig{PropagateTelemetry: true, InheritEnvironment: InheritEnvironment{All: true}}, set, tt.endpoints...)
			got = strings.TrimSpace(strings.Replace(got, "OTEL_RESOURCE_ATTRIBUTES=\nOTEL_SERVICE_NAME=", "", 1))
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestEnvironment_WhatIsInheritedStaysAsItIs(t *testing.T) {
	own := newInheritable([]string{"A=1", "OTEL=x", "OTEL_SERVICE_NAMES=x", "Z=1"})
	before := slices.Clone(own.usual)
	info := newInfo("web", TypeService, &ProcessConfig{Command: []string{"./web"}}, "/run", time.Now())
	for range 2 {
		env, err := environment(&ProcessConfig{InheritEnvironment: InheritEnvironment{All: true}, PropagateTelemetry: true}, own, propagation{resource: info.Resource})
		require.NoError(t, err)
		assert.Len(t, env, 6)
		assert.Equal(t, before, own.usual)
	}
}

// An SDK splits at commas, then at the first "=", and decodes the values.
func TestEncodeAttributes_AnSDKReadsWhatIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.StringMatching(`app\.[!-~]{0,6}`), rapid.String(), 0, 4).Draw(t, "attributes")
		r := &rules{}
		r.reportedAs(place{origin: &origin{}}, &ProcessConfig{ResourceAttributes: want})
		if len(r.findings) > 0 {
			t.Skip("refused")
		}
		info := newInfo("web", TypeService, &ProcessConfig{Command: []string{"./web"}, ResourceAttributes: want}, "/run", time.Now())
		encoded := encodeAttributes(info.Resource)
		assert.NotContains(t, encoded, "\x00")
		got := map[string]string{}
		for pair := range strings.SplitSeq(encoded, ",") {
			key, value, ok := strings.Cut(pair, "=")
			require.True(t, ok, encoded)
			decoded, err := url.PathUnescape(value)
			require.NoError(t, err)
			got[key] = decoded
		}
		delete(got, "service.instance.id")
		delete(got, "supervisor.process.id")
		assert.Equal(t, want, got)
	})
}
