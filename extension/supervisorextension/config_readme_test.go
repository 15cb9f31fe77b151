// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// tags lists the keys of a struct's exported fields, but for those of what is squashed into it.
func tags[T any]() []string {
	var names []string
	for field := range reflect.TypeFor[T]().Fields() {
		if tag := field.Tag.Get("mapstructure"); field.IsExported() && tag != ",squash" {
			names = append(names, tag)
		}
	}
	return names
}

func TestTables_HoldEveryKeyOfTheirStruct(t *testing.T) {
	supervisor := tags[SupervisorConfig]()
	assert.ElementsMatch(t, append(tags[Config](), supervisor...), rootKeys.names())
	assert.ElementsMatch(t, append(tags[ChildConfig](), supervisor...), nestedKeys.names())
	assert.ElementsMatch(t, slices.Concat(tags[ChildConfig](), tags[ProcessConfig](), []string{"instances"}), processKeys.names())
	assert.ElementsMatch(t, tags[Intensity](), intensityKeys.names())
	assert.ElementsMatch(t, tags[StopConfig](), stopKeys.names())
	assert.ElementsMatch(t, tags[Backoff](), backoffKeys.names())
	assert.ElementsMatch(t, tags[OutputConfig](), outputKeys.names())
	assert.ElementsMatch(t, tags[Readiness](), readinessKeys.names())
	assert.ElementsMatch(t, tags[Liveness](), livenessKeys.names())
	assert.ElementsMatch(t, tags[LogCheck](), logKeys.names())
	assert.ElementsMatch(t, tags[HTTPCheck](), httpKeys.names())
	assert.ElementsMatch(t, tags[TCPCheck](), tcpKeys.names())
	assert.ElementsMatch(t, tags[ExecCheck](), execKeys.names())
	assert.ElementsMatch(t, tags[ReloadConfig](), reloadKeys.names())
	assert.ElementsMatch(t, tags[CgroupConfig](), cgroupKeys.names())
	for i, l := range limitResources {
		assert.EqualValues(t, i, l.resource, "the order is the keeper's")
		assert.ElementsMatch(t, tags[Limit](), l.keys().names())
	}
}

func TestTables_HoldEveryKeyOnce(t *testing.T) {
	for _, names := range [][]string{
		append(rootKeys.names(), rootKeys.laterNames()...),
		nestedKeys.names(),
		append(processKeys.names(), processKeys.laterNames()...),
		stopKeys.names(),
		limitsKeys().names(),
		append(outputKeys.names(), outputKeys.laterNames()...),
		readinessKeys.names(),
		livenessKeys.names(),
	} {
		slices.Sort(names)
		assert.Equal(t, slices.Compact(slices.Clone(names)), names)
	}
	for foreign := range foreignKeys {
		assert.NotContains(t, processKeys.names(), foreign, "a key that exists is not foreign")
		assert.Equal(t, strings.ToLower(foreign), foreign)
	}
}

// leaves flattens nested keys to the form in which the README lists them.
func leaves(into map[string]any, prefix string, table map[string]any) map[string]any {
	for key, value := range table {
		nested, isMap := value.(map[string]any)
		if isMap && len(nested) > 0 {
			leaves(into, prefix+key+"::", nested)
			continue
		}
		into[prefix+key] = value
	}
	return into
}

func TestReadme_ListsEveryKeyWithItsDefault(t *testing.T) {
	process := newDefaultProcess()
	want := leaves(map[string]any{}, "", revealed(t, newDefaultConfig()))
	want["defaults"], want["include"] = map[string]any{}, []any{}
	leaves(want, "", process.marshal(nil, nil))
	want["name"], want["command"], want["working_directory"] = nil, nil, nil
	want["user"], want["group"], want["service_name"] = nil, nil, nil
	for _, key := range []string{"stop::command", "reload::signal", "reload::command", "supplementary_groups", "umask", "nice", "oom_score_adj"} {
		want[key] = nil
	}
	delete(want, "limits")
	for _, key := range limitsKeys().names() {
		want["limits::"+key] = nil
	}
	delete(want, "cgroup")
	for _, key := range cgroupKeys.names() {
		want["cgroup::"+key] = nil
	}
	want["cgroup::optional"] = false
	for _, key := range []string{"multiline::start_pattern", "multiline::stack_traces", "severity::pattern"} {
		want["output::"+key] = nil
	}
	want["output::multiline::timeout"] = defaultMultilineTimeout.String()
	for _, key := range []string{"notify", "notify_fd", "log::pattern", "exit", "http::endpoint", "tcp::endpoint", "exec::command"} {
		want["readiness::"+key] = nil
	}
	want["readiness::http::headers"] = map[string]any{}
	want["readiness::interval"] = newDefaultReadiness().Interval.String()
	want["readiness::timeout"] = newDefaultReadiness().Timeout.String()
	for _, key := range []string{"http", "tcp", "exec", "notify"} {
		want["liveness::"+key] = nil
	}
	alive := newDefaultLiveness()
	leaves(want, "liveness::", alive.marshal())

	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	row := regexp.MustCompile("(?m)^\\| `([a-z_:]+)` \\| [^|]+ \\| (?:`([^|]+)`|–) \\| [^|]+ \\|$")
	listed := map[string]bool{}
	for _, match := range row.FindAllStringSubmatch(string(readme), -1) {
		key, text := match[1], match[2]
		require.Contains(t, want, key)
		require.NotContains(t, listed, key)
		listed[key] = true
		var got any
		require.NoError(t, yaml.Unmarshal([]byte(text), &got))
		assert.Equal(t, comparable(want[key]), comparable(got), key)
	}
	assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(listed)))
}

// comparable makes equal what means the same: 60s and 1m, 2 and 2.0.
func comparable(value any) any {
	switch v := value.(type) {
	case string:
		if d, err := time.ParseDuration(v); err == nil {
			return d
		}
	case int:
		return float64(v)
	case uint64:
		return float64(v)
	case map[string]any:
		if len(v) == 0 {
			return map[string]any{}
		}
	}
	return value
}

func TestReadme_ExamplesAreTaken(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 4)
	for _, block := range blocks {
		cfg := newDefaultConfig()
		cfg.machine = rootMachine()
		if strings.HasPrefix(block[1], "- name:") {
			d := newDecoder()
			d.includeContent("README.md", []byte(block[1]), &cfg.Children)
			cfg.findings = d.findings
		} else {
			section, err := resolve(t, block[1]).Sub("extensions::supervisor")
			require.NoError(t, err)
			require.NoError(t, section.Unmarshal(cfg))
		}
		assert.Empty(t, asShown(cfg), block[1])
		assert.True(t, len(cfg.Children) > 0 || len(cfg.Include) > 0, block[1])
		if len(cfg.Children) > 0 {
			assert.Empty(t, cfg.Warnings(), block[1])
		}
	}
}
