// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

// instrumented is a program with the SDK of OpenTelemetry that is configured by its
// environment alone. It sends a span each time that it has nothing else to do, and
// counts these.
func instrumented() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var exporter *otlptrace.Exporter
	var err error
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		exporter, err = otlptracegrpc.New(ctx)
	case "http/protobuf":
		exporter, err = otlptracehttp.New(ctx)
	default:
		err = fmt.Errorf("no protocol: %q", protocol)
	}
	if err != nil {
		panic(err)
	}
	tracer := trace.NewTracerProvider(trace.WithBatcher(exporter, trace.WithBatchTimeout(look)))
	var options []metric.Option
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf" {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			panic(err)
		}
		options = append(options, metric.WithReader(metric.NewPeriodicReader(exporter, metric.WithInterval(10*look))))
	}
	meter := metric.NewMeterProvider(options...)
	works, err := meter.Meter("e2e").Int64Counter("work")
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		_, span := tracer.Tracer("e2e").Start(ctx, "work")
		works.Add(ctx, 1)
		span.End()
		time.Sleep(10 * look)
	}
	os.Exit(0)
}

// receives adds an OTLP receiver to all pipelines of a collector that is not started.
func (c *collector) receives(protocols string) {
	c.t.Helper()
	text := c.read("config.yaml")
	text = strings.ReplaceAll(text, "receivers: [process_monitor]", "receivers: [process_monitor, otlp]")
	c.write("config.yaml", strings.Replace(text, "\nreceivers:\n", "\nreceivers:\n  otlp: {protocols: {"+protocols+"}}\n", 1))
}

// works returns the resource of the latest span of an instrumented process since some moment.
func (c *collector) works(process string, since time.Time) map[string]any {
	c.t.Helper()
	var resource map[string]any
	c.until("a span of "+process, func() bool {
		for _, s := range c.spans() {
			if s.name == "work" && s.process == process && s.start.After(since) {
				resource = s.resource
			}
		}
		return resource != nil
	})
	return resource
}

// identity is a resource without what an SDK has of its own, and without what Warden
// leaves to that.
func identity(resource map[string]any) map[string]any {
	own := map[string]any{}
	for key, value := range resource {
		if !strings.HasPrefix(key, "process.") && !strings.HasPrefix(key, "telemetry.") {
			own[key] = value
		}
	}
	return own
}

func TestIdentity_WhatAnSDKSendsIsOnTheResourceOfWhatIsReportedOfItsProcess(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	for name, protocols := range map[string]string{
		"over HTTP where both are open": `http: {endpoint: "0.0.0.0:PORT"}, grpc: {endpoint: "localhost:OTHER"}`,
		"over gRPC where only it is":    `grpc: {endpoint: "127.0.0.1:PORT"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := prepare(t, `
defaults: {inherit_environment: [PATH, `+mark+`], resource_attributes: {service.namespace: shop, deployment.environment.name: "a, b=c; 100%+ü"}}
children:
  - {name: web, command: [`+program+`], environment: {`+role+`: instrumented}, instances: 2, service_name: storefront, resource_attributes: {shard: 3}}
  - {name: own, command: [`+program+`], environment: {`+role+`: instrumented, OTEL_SERVICE_NAME: mine}}
  - {name: plain, command: [sleep, "1000"], propagate_telemetry: false}
`)
			port, other := strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
			c.receives(strings.NewReplacer("PORT", port, "OTHER", other).Replace(protocols))
			c.start()

			want := map[string]any{
				"service.name": "storefront", "service.namespace": "shop", "deployment.environment.name": "a, b=c; 100%+ü", "shard": "3",
			}
			instances := map[any]bool{}
			for _, process := range []string{"web-0", "web-1"} {
				sent := identity(c.works(process, time.Time{}))
				c.started(process, 1)
				reported := c.eventsOf(process, "process.started")[0].resource
				assert.Equal(t, identity(reported), sent)
				want["supervisor.process.id"], want["service.instance.id"] = process, reported["service.instance.id"]
				assert.Equal(t, want, sent)
				instances[sent["service.instance.id"]] = true
			}
			assert.Len(t, instances, 2, "instances of one service are told apart")
			assert.Equal(t, "mine", c.works("own", time.Time{})["service.name"], "what is set stays")
			c.until("metrics of one job", func() bool {
				uptimes := c.page().find("process_uptime_seconds", "job", "shop/storefront")
				for _, uptime := range uptimes {
					if strings.Contains(name, "HTTP") && len(c.page().find("work_total", "job", "shop/storefront", "instance", uptime.labels["instance"])) != 1 {
						return false
					}
				}
				return len(uptimes) == 2
			})

			// The names of those that were not told them are changed where they are; another
			// endpoint is for the next run.
			pid, plain := c.started("web-0", 1), c.started("plain", 1)
			c.reload(":"+port+"\"", ":"+strconv.Itoa(freePort(t))+"\"", "propagate_telemetry: false", "propagate_telemetry: false, service_name: renamed")
			applied := c.eventsOf("", "config.applied")[0].body
			assert.Contains(t, applied, "kept: web-0, web-1, own, plain (service_name)")
			assert.True(t, alive(pid) && alive(plain))
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			killed := time.Now()
			c.started("web-0", 2)
			assert.Equal(t, "storefront", c.works("web-0", killed)["service.name"])
			c.stop()

			runs := map[string][]any{}
			for _, s := range c.spans() {
				if s.name == "process.run" {
					runs[s.process] = append(runs[s.process], s.resource["service.name"])
					if strings.HasPrefix(s.process, "web-") {
						assert.True(t, instances[s.resource["service.instance.id"]])
						assert.Equal(t, "3", s.resource["shard"])
					}
				}
			}
			assert.Equal(t, map[string][]any{
				"web-0": {"storefront", "storefront"}, "web-1": {"storefront"}, "own": {"own"}, "plain": {"renamed"},
			}, runs)
			stopped := c.eventsOf("plain", "process.stopped")
			require.Len(t, stopped, 1)
			assert.Equal(t, "renamed", stopped[0].resource["service.name"])
		})
	}
}
