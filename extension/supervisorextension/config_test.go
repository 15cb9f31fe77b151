// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/config")

// collectorConfig is the part of the Collector's own configuration that decides how
// errors are shown.
type collectorConfig struct {
	Extensions map[component.ID]component.Config `mapstructure:"extensions"`
}

// asShown returns the error of cfg as the Collector shows it.
func asShown(cfg *Config) string {
	err := confmap.Validate(&collectorConfig{map[component.ID]component.Config{
		component.MustNewID("supervisor"): cfg,
	}})
	if err == nil {
		return ""
	}
	return err.Error()
}

// load decodes content, the extension's section, as the Collector does: ${env:NAME}
// is replaced, and then $$ by $.
func load(t testing.TB, content string) *Config {
	t.Helper()
	cfg := newDefaultConfig()
	cfg.machine = rootMachine()
	require.NoError(t, resolve(t, content).Unmarshal(cfg))
	return cfg
}

// loadGood is load for a configuration that has to be taken.
func loadGood(t testing.TB, content string) *Config {
	t.Helper()
	cfg := load(t, content)
	require.Empty(t, asShown(cfg))
	return cfg
}

func resolve(t testing.TB, content string) *confmap.Conf {
	t.Helper()
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs:          []string{"text:" + content},
		DefaultScheme: "env",
		ProviderFactories: []confmap.ProviderFactory{
			provider("text", func(text string) string { return text }),
			provider("env", func(name string) string { name, _, _ = strings.Cut(name, ":-"); return os.Getenv(name) }),
		},
	})
	require.NoError(t, err)
	conf, err := resolver.Resolve(t.Context())
	require.NoError(t, err)
	return conf
}

// provider makes a confmap provider of a function from what follows the scheme to YAML.
func provider(scheme string, retrieve func(string) string) confmap.ProviderFactory {
	return confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider {
		return testProvider{scheme, retrieve}
	})
}

type testProvider struct {
	scheme   string
	retrieve func(string) string
}

func (p testProvider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	return confmap.NewRetrievedFromYAML([]byte(p.retrieve(strings.TrimPrefix(uri, p.scheme+":"))))
}
func (p testProvider) Scheme() string               { return p.scheme }
func (testProvider) Shutdown(context.Context) error { return nil }

// eachFile runs test on every testdata/config/DIR/*.yaml, and compares what it
// returns with the golden file of the same name.
func eachFile(t *testing.T, dir string, atLeast int, test func(t *testing.T, content string) string) {
	files, err := filepath.Glob(filepath.Join("testdata", "config", dir, "*.yaml"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), atLeast)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			got := test(t, string(content)) + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

func TestConfig_BadOnesAreRefusedWithTheWayOut(t *testing.T) {
	t.Setenv("EMPTY", "")
	wd, err := os.Getwd()
	require.NoError(t, err)
	eachFile(t, "bad", 60, func(t *testing.T, content string) string {
		shown := asShown(load(t, content))
		require.NotEmpty(t, shown, "taken, and should not be")
		return strings.ReplaceAll(shown, wd, "$PWD")
	})
}

// The golden files hold what differs from the defaults, and the warnings.
func TestConfig_GoodOnesResolveToWhatTheySay(t *testing.T) {
	t.Setenv("EMPTY", "")
	t.Setenv("VERSION", "1.10")
	t.Setenv("NUMBER", "8080")
	t.Setenv("UMASK", "022")
	eachFile(t, "good", 8, func(t *testing.T, content string) string {
		cfg := loadGood(t, content)
		text, err := yaml.Marshal(withoutDefaults(t, cfg))
		require.NoError(t, err)
		resolved := string(text)
		for _, warning := range cfg.Warnings() {
			resolved += "# " + warning + "\n"
		}
		return strings.TrimSuffix(resolved, "\n")
	})
}

// withoutDefaults is cfg in the form in which it is read, without the keys below its
// root that have their default.
func withoutDefaults(t *testing.T, cfg *Config) map[string]any {
	shown := revealed(t, cfg)
	dropDefaults(shown["children"].([]any))
	return shown
}

func dropDefaults(children []any) {
	process, supervisor := newDefaultProcess(), newDefaultChild()
	root := newDefaultSupervisor()
	supervisor.Supervisor = &root
	for _, child := range children {
		keys, usual := child.(map[string]any), process.marshal(nil, nil)
		if below, ok := keys["children"]; ok {
			dropDefaults(below.([]any))
			usual = supervisor.marshal(nil, nil)
			delete(usual, "children")
		}
		maps.DeleteFunc(keys, func(key string, value any) bool {
			usually, ok := usual[key]
			return ok && reflect.DeepEqual(value, usually)
		})
	}
}
