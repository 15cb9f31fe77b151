// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

func load(t *testing.T, conf map[string]any) *Config {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(conf).Unmarshal(cfg))
	return cfg
}

// Every configuration that the README shows can be used, and the first one is the default.
func TestConfig_ReadmeExamples(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	require.GreaterOrEqual(t, len(blocks), 5)
	for i, b := range blocks {
		var doc struct {
			Processors map[string]map[string]any `yaml:"processors"`
		}
		require.NoError(t, yaml.Unmarshal(b[1], &doc))
		require.NotEmpty(t, doc.Processors, "example %d", i)
		for name, conf := range doc.Processors {
			var id component.ID
			require.NoError(t, id.UnmarshalText([]byte(name)))
			assert.Equal(t, NewFactory().Type(), id.Type())
			cfg := load(t, conf)
			assert.NoError(t, confmap.Validate(cfg), "example %d", i)
			if i == 0 {
				want := createDefaultConfig().(*Config)
				want.MetadataKeys, want.Metrics.Overrides = []string{}, []Override{}
				assert.Equal(t, want, cfg)
			}
		}
	}
}

func TestConfig_ReadmeNamesEveryKey(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	conf := confmap.New()
	require.NoError(t, conf.Marshal(createDefaultConfig()))
	for _, key := range conf.AllKeys() {
		assert.Contains(t, string(readme), "| `"+key+"` |", "the table of keys")
	}
}

func TestConfig_AnEmptyListMeansNoGroups(t *testing.T) {
	cfg := load(t, map[string]any{"logs": map[string]any{"group_by": []any{}}})
	assert.Empty(t, cfg.Logs.GroupBy)
	assert.Equal(t, []string{"span_name"}, cfg.Traces.GroupBy)
}

func TestConfig_ReportsEverythingThatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"sizes": {
			func(c *Config) {
				c.QueueSize, c.Timeout, c.SendBatchSize, c.SendBatchMaxSize, c.MaxGroups, c.MetadataCardinalityLimit = 0, -time.Second, -1, -2, 0, -3
			},
			[]string{
				"'queue_size' is 0, but must be at least 1; the default is 10000",
				"'timeout' is -1s, but must not be negative; 0s sends every request at once",
				"'send_batch_size' is -1, but must not be negative; 0 sends every request at once",
				"'send_batch_max_size' is -2, but must not be negative; 0 is without limit",
				"'max_groups' is 0, but must be at least 1; to batch without groups set 'group_by' to []",
				"'metadata_cardinality_limit' is -3, but must not be negative; 0 is without limit",
			},
		},
		"a maximum below the size": {
			func(c *Config) { c.SendBatchMaxSize = 100 },
			[]string{"'send_batch_max_size' is 100, but must be at least 'send_batch_size', which is 8192; raise it, lower 'send_batch_size', or set 0 for no limit"},
		},
		"words": {
			func(c *Config) {
				c.OnFull, c.Acknowledge = "panic", ""
				c.Metrics.Sum, c.Metrics.Gauge, c.Metrics.Histogram = "average", "mean", "sum"
				c.Metrics.Interval = -1
				c.Metrics.Overrides = []Override{{Metric: "", Aggregate: "p99"}}
			},
			[]string{
				`'on_full' is "panic", but must be one of block, reject, drop_newest, drop_oldest`,
				`'acknowledge' is "", but must be one of accepted, delivered`,
				`'metrics::interval' is -1ns, but must not be negative; 0s batches without aggregation`,
				`'metrics::sum' is "average", but must be one of sum, none`,
				`'metrics::gauge' is "mean", but must be one of average, last, min, max, none`,
				`'metrics::histogram' is "sum", but must be one of merge, none`,
				`'metrics::overrides::0::metric' is empty; give a metric's name, with * for any characters and ? for one`,
				`'metrics::overrides::0::aggregate' is "p99", but must be one of sum, average, last, min, max, merge, none`,
			},
		},
		"metadata keys": {
			func(c *Config) { c.MetadataKeys = []string{"a", "", "A"} },
			[]string{
				"'metadata_keys::1' is empty; give the name of a client metadata key or remove the entry",
				`'metadata_keys::2' is "A", which is listed before it (case does not matter); remove one of them`,
			},
		},
		"group keys": {
			func(c *Config) {
				c.Logs.GroupBy = []string{"span_name", "event_name", "event_name"}
				c.Traces.GroupBy = []string{"attributes[x]", `attributes["x"`, `attributes[""]`, "service.name"}
			},
			[]string{
				`'logs::group_by::0' is "span_name": allowed are event_name, severity, scope.name, resource.attributes["…"], scope.attributes["…"], attributes["…"]; an attribute is written attributes["key"]`,
				`'logs::group_by::2' is "event_name", which is listed before it; remove one of them`,
				`'traces::group_by::0' is "attributes[x]": after attributes there must be a quoted attribute key, as in attributes["service.name"]`,
				`'traces::group_by::1' is "attributes[\"x\"": after attributes there must be a quoted attribute key, as in attributes["service.name"]`,
				`'traces::group_by::2' is "attributes[\"\"]": after attributes there must be a quoted attribute key, as in attributes["service.name"]`,
				`'traces::group_by::3' is "service.name": allowed are span_name, span_kind, scope.name, resource.attributes["…"], scope.attributes["…"], attributes["…"]; an attribute is written attributes["key"]`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			tt.change(cfg)
			err := cfg.Validate()
			require.Error(t, err)
			assert.Equal(t, tt.want, strings.Split(err.Error(), "\n"))
		})
	}
}
