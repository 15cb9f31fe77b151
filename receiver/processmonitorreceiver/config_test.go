// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.yaml.in/yaml/v3"

	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// load decodes and validates a receiver's configuration, as the Collector does.
func load(text string) (*Config, error) {
	var raw map[string]any
	if err := yaml.Unmarshal([]byte(text), &raw); err != nil {
		return nil, err
	}
	cfg := createDefaultConfig().(*Config)
	if err := confmap.NewFromStringMap(raw).Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

func TestConfig_DefaultsAreValid(t *testing.T) {
	cfg, err := load("{}")
	require.NoError(t, err)
	assert.Equal(t, 10*time.Second, cfg.CollectionInterval)
	assert.Equal(t, "supervisor", cfg.Supervisor.String())
	assert.True(t, cfg.System.Enabled)
	for _, topic := range cfg.Topics.all() {
		trace := topic.name == "lifecycle" || topic.name == "supervisor" || topic.name == "job"
		assert.Equal(t, TopicConfig{Log: true, Count: true, Trace: trace, Severity: "info"}, topic.config, topic.name)
	}
	assert.True(t, cfg.Metrics.ProcessLifetime.Enabled)
	for i, metrics := 0, reflect.ValueOf(cfg.Metrics.MetricsConfig); i < metrics.NumField(); i++ {
		assert.True(t, metrics.Field(i).FieldByName("Enabled").Bool(), metrics.Type().Field(i).Name)
	}
}

func TestConfig_EveryKeyIsRead(t *testing.T) {
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub("process_monitor/all")
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	require.NoError(t, confmap.Validate(cfg))

	want := createDefaultConfig().(*Config)
	want.CollectionInterval = 30 * time.Second
	want.InitialDelay = 2 * time.Second
	want.Timeout = 5 * time.Second
	want.Supervisor = SupervisorID(componentID("supervisor/jobs"))
	want.System.Enabled = false
	want.Topics.Lifecycle = TopicConfig{Log: false, Count: true, Trace: false, Severity: "info"}
	want.Topics.Supervisor.Severity = "warn"
	want.Topics.Health.Count = false
	want.Topics.Job.Trace = false
	want.Topics.Control.Log = false
	want.Topics.Output.Severity = "error"
	want.Metrics.ProcessLifetime.Enabled = false
	want.Metrics.ProcessMemoryVirtual.Enabled = false
	want.ResourceAttributes.ProcessCommand.Enabled = false

	assert.Equal(t, want.ControllerConfig, cfg.ControllerConfig)
	assert.Equal(t, want.Supervisor, cfg.Supervisor)
	assert.Equal(t, want.System, cfg.System)
	assert.Equal(t, want.Topics, cfg.Topics)
	assert.Equal(t, want.Metrics.ProcessLifetime, cfg.Metrics.ProcessLifetime)
	assert.False(t, cfg.Metrics.ProcessMemoryVirtual.Enabled)
	assert.True(t, cfg.Metrics.ProcessMemoryUsage.Enabled)
	assert.False(t, cfg.ResourceAttributes.ProcessCommand.Enabled)
	assert.Len(t, cfg.ResourceAttributes.SupervisorProcessID.MetricsExclude, 1)
}

func TestConfig_SupervisorMayBeNone(t *testing.T) {
	cfg, err := load(`supervisor: ""`)
	require.NoError(t, err)
	assert.False(t, cfg.Supervisor.isSet())
	text, err := cfg.Supervisor.MarshalText()
	require.NoError(t, err)
	assert.Empty(t, text)
}

func TestConfig_SupervisorSurvivesMarshalling(t *testing.T) {
	want := SupervisorID(componentID("supervisor/jobs"))
	text, err := want.MarshalText()
	require.NoError(t, err)
	var got SupervisorID
	require.NoError(t, got.UnmarshalText(text))
	assert.Equal(t, want, got)
}

func TestConfig_FindingsAreReportedTogether(t *testing.T) {
	_, err := load(`
collection_interval: 0s
initial_delay: -1s
timeout: -5s
supervisor: ""
system: {enabled: false}
topics:
  lifecycle: {severity: loud}
  health: {trace: true}
  output: {severity: "", trace: true}
`)
	require.EqualError(t, err, strings.Join([]string{
		`collection_interval: "0s" is not more than 0; give a duration such as 10s`,
		`initial_delay: "-1s" is negative; give 0s for a first scrape at once`,
		`timeout: "-5s" is negative; give 0s for no limit`,
		`supervisor: "" together with system::enabled: false leaves nothing to report; name a supervisor extension or enable system`,
		`topics::lifecycle::severity: "loud" is not one of trace, debug, info, warn, error, fatal`,
		`topics::health::trace: true has no effect, no span is made from this topic; remove the key or give false`,
		`topics::output::severity: "" is not one of trace, debug, info, warn, error, fatal`,
		`topics::output::trace: true has no effect, no span is made from this topic; remove the key or give false`,
	}, "\n"))
}

func TestConfig_RejectsWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct{ name, give, want string }{
		{"key", "scope: tree", "scope"},
		{"key", "host: []", "host"},
		{"key", "top: {n: 20}", "top"},
		{"topic", "topics: {lifecicle: {log: false}}", "lifecicle"},
		{"topic key", "topics: {lifecycle: {logs: false}}", "logs"},
		{"metric", "metrics: {process.lifetimes: {enabled: false}}", "process.lifetimes"},
		{"metric key", "metrics: {process.lifetime: {on: false}}", "on"},
		{"resource attribute", "resource_attributes: {process.pid: {enabled: true}}", "process.pid"},
		{"system key", "system: {disabled: true}", "disabled"},
		{"id", "supervisor: supervisor/", `"supervisor/" is not the id of an extension`},
		{"id", "supervisor: Super Visor", `"Super Visor" is not the id of an extension`},
		{"duration", "collection_interval: soon", "collection_interval"},
		{"bool", "system: {enabled: perhaps}", "system.enabled"},
		{"filter", "resource_attributes: {service.name: {metrics_include: [{regexp: '('}]}}", "missing closing )"},
	} {
		t.Run(tt.name+" "+tt.give, func(t *testing.T) {
			_, err := load(tt.give)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestResourceSwitches_AreComplete(t *testing.T) {
	cfg := metadata.DefaultResourceAttributesConfig()
	switches := resourceSwitches(&cfg)
	fields := reflect.TypeFor[metadata.ResourceAttributesConfig]()
	require.Len(t, switches, fields.NumField())
	for i, s := range switches {
		assert.Equal(t, fields.Field(i).Tag.Get("mapstructure"), s.key)
		assert.Same(t, reflect.ValueOf(&cfg).Elem().Field(i).Addr().Interface(), any(s.config))
	}
}

// Every configuration that the README shows is one that works.
func TestReadme_ConfigurationsAreValid(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	fences := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	require.NotEmpty(t, fences)
	for _, fence := range fences {
		var shown struct {
			Receivers map[string]yaml.Node `yaml:"receivers"`
		}
		require.NoError(t, yaml.Unmarshal(fence[1], &shown))
		require.NotEmpty(t, shown.Receivers, "%s", fence[1])
		for id, node := range shown.Receivers {
			if !strings.HasPrefix(id, "process_monitor") {
				continue
			}
			text, err := yaml.Marshal(&node)
			require.NoError(t, err)
			_, err = load(string(text))
			assert.NoError(t, err, "%s:\n%s", id, text)
		}
	}
}

func TestReadme_NamesEveryKey(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var keys []string
	var collect func(reflect.Type)
	collect = func(typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			tag := field.Tag.Get("mapstructure")
			if tag == ",squash" {
				collect(field.Type)
			} else if tag != "" {
				keys = append(keys, tag)
			}
		}
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[Config](), reflect.TypeFor[TopicsConfig](), reflect.TypeFor[TopicConfig](), reflect.TypeFor[MetricsConfig](),
		reflect.TypeFor[metadata.ResourceAttributesConfig](),
	} {
		collect(typ)
	}
	for _, key := range keys {
		assert.Contains(t, string(readme), "`"+key+"`")
	}
}
