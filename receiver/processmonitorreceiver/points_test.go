// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

var definitions = []*definition{
	&defEvent, &defProcessCount, &defCPUTime, &defMemoryUsage, &defMemoryVirtual, &defRestarts, &defThreads, &defUptime,
	&defExits, &defState, &defLoad15m, &defLoad1m, &defLoad5m, &defSystemMemory, &defSystemProcess, &defSystemUptime,
}

// The points are written by hand and the documentation is generated; both must
// speak of the same metrics.
func TestDefinitions_AreThoseOfTheMetadata(t *testing.T) {
	conf, err := confmaptest.LoadConf("metadata.yaml")
	require.NoError(t, err)
	metrics, err := conf.Sub("metrics")
	require.NoError(t, err)
	documented := metrics.ToStringMap()
	assert.Len(t, documented, len(definitions))
	assert.Equal(t, len(definitions), reflect.TypeFor[metadata.MetricsConfig]().NumField(), "generated code is up to date")
	for _, d := range definitions {
		m, ok := documented[d.name].(map[string]any)
		if !assert.True(t, ok, d.name) {
			continue
		}
		assert.Equal(t, m["description"], d.description, d.name)
		assert.Equal(t, m["unit"], d.unit, d.name)
		var want kind
		if sum, ok := m["sum"].(map[string]any); !ok {
			want = gauge
		} else if assert.Equal(t, "cumulative", sum["aggregation_temporality"]); sum["monotonic"] == true {
			want = counter
		} else {
			want = upDown
		}
		assert.Equal(t, want, d.kind, d.name)
	}
}

// prometheusName is how the Prometheus exporter names a metric: dots become
// underscores; seconds and bytes are appended unless the name has them; counters
// end in _total, and gauges of unit "1" in _ratio.
func prometheusName(d *definition) string {
	tokens := strings.FieldsFunc(d.name, func(r rune) bool { return r == '.' || r == '_' })
	if unit := map[string]string{"s": "seconds", "By": "bytes"}[d.unit]; unit != "" {
		tokens = append(tokens, unit)
	}
	if d.kind == counter {
		tokens = append(tokens, "total")
	}
	if d.kind == gauge && d.unit == "1" {
		tokens = append(tokens, "ratio")
	}
	return strings.Join(tokens, "_")
}

func TestDefinitions_HaveTheirPrometheusNames(t *testing.T) {
	want := map[*definition]string{
		&defEvent:         "event_total",
		&defProcessCount:  "process_count",
		&defCPUTime:       "process_cpu_time_seconds_total",
		&defLifetime:      "process_lifetime_seconds",
		&defMemoryUsage:   "process_memory_usage_bytes",
		&defMemoryVirtual: "process_memory_virtual_bytes",
		&defRestarts:      "process_restarts_total",
		&defThreads:       "process_thread_count",
		&defUptime:        "process_uptime_seconds",
		&defExits:         "supervisor_process_exits_total",
		&defState:         "supervisor_process_state",
		&defLoad1m:        "system_cpu_load_average_1m",
		&defLoad5m:        "system_cpu_load_average_5m",
		&defLoad15m:       "system_cpu_load_average_15m",
		&defSystemMemory:  "system_memory_usage_bytes",
		&defSystemProcess: "system_process_count",
		&defSystemUptime:  "system_uptime_seconds",
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, d := range append(definitions, &defLifetime) {
		assert.Equal(t, want[d], prometheusName(d))
		assert.Contains(t, string(readme), "`"+want[d]+"`", "README.md tells the name")
	}
}

func TestEmitter_HistogramIsCumulative(t *testing.T) {
	e := &emitter{metrics: pmetric.NewMetricSlice(), start: 1, now: 2}
	point := e.histogram(&defLifetime)
	assert.Equal(t, pmetric.AggregationTemporalityCumulative, e.metrics.At(0).Histogram().AggregationTemporality())
	assert.EqualValues(t, 1, point.StartTimestamp())
	assert.EqualValues(t, 2, point.Timestamp())
}
