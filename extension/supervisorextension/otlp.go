// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// The values of OTEL_EXPORTER_OTLP_PROTOCOL.
const (
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// otlpEndpoint is where the collector takes OTLP from anybody who can reach it.
type otlpEndpoint struct{ url, protocol string }

// pipelineConfig is what is asked of a pipeline.
type pipelineConfig struct {
	Receivers []string `mapstructure:"receivers"`
}

// otlpReceiverConfig is what is asked of an OTLP receiver.
type otlpReceiverConfig struct {
	Protocols struct {
		GRPC *otlpServerConfig `mapstructure:"grpc"`
		HTTP *otlpServerConfig `mapstructure:"http"`
	} `mapstructure:"protocols"`
}

// otlpServerConfig is one protocol of it; nil: it does not speak that.
type otlpServerConfig struct {
	Endpoint  string `mapstructure:"endpoint"`
	Transport string `mapstructure:"transport"`
	TLS       any    `mapstructure:"tls"`
	Auth      any    `mapstructure:"auth"`
	// The paths of HTTP.
	Traces  string `mapstructure:"traces_url_path"`
	Metrics string `mapstructure:"metrics_url_path"`
	Logs    string `mapstructure:"logs_url_path"`
}

// openOTLPEndpoints returns the endpoints of the OTLP receivers that are used in
// pipelines and ask for neither TLS nor credentials. First are those that take most
// signals; of these HTTP is first, which is the protocol of an SDK that is told none.
// What cannot be read, a receiver of another make perhaps, is none.
func openOTLPEndpoints(effective *confmap.Conf) []otlpEndpoint {
	var pipelines map[string]pipelineConfig
	if err := unmarshalSection(effective, "service::pipelines", &pipelines); err != nil {
		return nil
	}
	signals := map[string]map[string]bool{} // of the receivers in pipelines
	for pipeline, uses := range pipelines {
		signal, _, _ := strings.Cut(pipeline, "/")
		for _, id := range uses.Receivers {
			if kind, _, _ := strings.Cut(id, "/"); kind != "otlp" {
				continue
			}
			if signals[id] == nil {
				signals[id] = map[string]bool{}
			}
			signals[id][signal] = true
		}
	}
	var http, grpc []otlpEndpoint
	taken := map[otlpEndpoint]int{} // how many signals
	for _, id := range slices.Sorted(maps.Keys(signals)) {
		var receiver otlpReceiverConfig
		if err := unmarshalSection(effective, "receivers::"+id, &receiver); err != nil {
			continue
		}
		if target := receiver.Protocols.HTTP.target(); target != "" {
			http = append(http, otlpEndpoint{target, protocolHTTP})
			taken[http[len(http)-1]] = len(signals[id])
		}
		if target := receiver.Protocols.GRPC.target(); target != "" {
			grpc = append(grpc, otlpEndpoint{target, protocolGRPC})
			taken[grpc[len(grpc)-1]] = len(signals[id])
		}
	}
	return slices.SortedStableFunc(slices.Values(append(http, grpc...)), func(a, b otlpEndpoint) int {
		return cmp.Compare(taken[b], taken[a])
	})
}

// unmarshalSection reads one section, so that the others, with thousands of processes
// perhaps, are not copied for it.
func unmarshalSection(conf *confmap.Conf, section string, into any) error {
	part, err := conf.Sub(section)
	if err != nil {
		return err
	}
	return part.Unmarshal(into, confmap.WithIgnoreUnused())
}

// target is the URL to dial, "" if nobody can without knowing more.
func (s *otlpServerConfig) target() string {
	if s == nil || s.TLS != nil || s.Auth != nil || s.Transport != "" && !strings.HasPrefix(s.Transport, "tcp") {
		return ""
	}
	if s.Traces != "" && s.Traces != "/v1/traces" || s.Metrics != "" && s.Metrics != "/v1/metrics" || s.Logs != "" && s.Logs != "/v1/logs" {
		return "" // an SDK that is told an endpoint for all signals knows the usual paths
	}
	host, port, err := net.SplitHostPort(s.Endpoint)
	if number, notNumber := strconv.ParseUint(port, 10, 16); err != nil || notNumber != nil || number == 0 {
		return "" // a port that is chosen when it listens is not known
	}
	switch address, _ := netip.ParseAddr(host); {
	case host == "":
		host = "localhost"
	case address == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case address == netip.IPv6Unspecified():
		host = "::1"
	}
	target := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	return target.String()
}
