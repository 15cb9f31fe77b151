// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package house

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A configuration that is complete can be run as it is. The two kinds of excerpts
// that the documentation uses are completed with these.
const (
	completion = `
receivers: {process_monitor: }
processors: {event_batch: }
exporters: {nop: }
extensions: {supervisor: {children: [{name: any, command: [/bin/true]}]}}
service:
  extensions: [supervisor]
  pipelines:
    metrics: {receivers: [process_monitor], processors: [event_batch], exporters: [nop]}
    logs: {receivers: [process_monitor], processors: [event_batch], exporters: [nop]}
    traces: {receivers: [process_monitor], processors: [event_batch], exporters: [nop]}
`
	childrenHead = "extensions:\n  supervisor:\n    children:\n"
)

var (
	fence    = regexp.MustCompile("(?ms)^([ \t]*)```yaml\n(.*?)^[ \t]*```")
	topLevel = regexp.MustCompile(`^(receivers|processors|exporters|extensions|connectors|service):`)
)

// example is one configuration to try, as the --config arguments that make it whole.
type example struct {
	name  string
	texts []string
}

// excerpts returns the configurations of a Markdown file. It refuses what it
// cannot tell the kind of, so that nothing is shown untried.
func excerpts(t *testing.T, path string) []example {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var found []example
	for _, match := range fence.FindAllStringSubmatchIndex(string(text), -1) {
		indent, body := string(text[match[2]:match[3]]), string(text[match[4]:match[5]])
		body = strings.ReplaceAll("\n"+body, "\n"+indent, "\n")[1:]
		line := strings.Count(string(text[:match[0]]), "\n") + 1
		name := fmt.Sprintf("%s:%d", filepath.Base(path), line)
		switch start := firstLine(body); {
		case topLevel.MatchString(start) && strings.Contains(body, "\nservice:"):
			found = append(found, example{name, []string{body}})
		case topLevel.MatchString(start):
			found = append(found, example{name, []string{completion, body}})
		case strings.HasPrefix(start, "- {name:") || strings.HasPrefix(start, "- name:"):
			found = append(found, example{name, []string{completion, childrenHead + indented(body, "      ")}})
		default:
			assert.Fail(t, "unknown kind of configuration", "%s begins with neither a section nor a child: %s", name, start)
		}
	}
	return found
}

// firstLine returns the first line that is no comment.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			return strings.TrimRight(line, "\n")
		}
	}
	return ""
}

func indented(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+by) + "\n"
}

func TestConfigurations_OfTheDocumentationAndTheRepositoryAreValid(t *testing.T) {
	binary := os.Getenv("WARDEN_BINARY")
	require.NotEmpty(t, binary, "WARDEN_BINARY must name the built otelcol-warden: use make test-integration")

	var examples []example
	for _, pattern := range []string{"README.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join(top, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, paths, pattern)
		for _, path := range paths {
			examples = append(examples, excerpts(t, path)...)
		}
	}
	for _, pattern := range []string{"config.yaml", "config/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(top, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, paths, pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			examples = append(examples, example{filepath.Base(path), []string{string(text)}})
		}
	}

	for _, example := range examples {
		t.Run(example.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"validate"}
			dir := t.TempDir()
			for i, text := range example.texts {
				path := filepath.Join(dir, fmt.Sprintf("%d.yaml", i))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
				args = append(args, "--config", path)
			}
			command := exec.Command(binary, args...)
			command.Dir = dir
			output, err := command.CombinedOutput()
			assert.NoError(t, err, "%s\n%s", output, strings.Join(example.texts, "\n---\n"))
		})
	}
}

// What is wrong is found before anything starts, with the texts that the extension's
// own tests hold.
func TestConfigurations_ThatAreWrongAreRefusedByTheBinary(t *testing.T) {
	binary := os.Getenv("WARDEN_BINARY")
	require.NotEmpty(t, binary, "WARDEN_BINARY must name the built otelcol-warden: use make test-integration")
	home, err := filepath.Abs(filepath.Join(top, "extension", "supervisorextension"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(home, "testdata", "config", "bad", "*.yaml"))
	require.NoError(t, err)
	require.Greater(t, len(files), 25)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			section, err := os.ReadFile(file)
			require.NoError(t, err)
			golden, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".golden")
			require.NoError(t, err)
			dir := t.TempDir()
			rest, bad := filepath.Join(dir, "rest.yaml"), filepath.Join(dir, "bad.yaml")
			require.NoError(t, os.WriteFile(rest, []byte(strings.ReplaceAll(completion, "extensions: {supervisor: {children: [{name: any, command: [/bin/true]}]}}\n", "")), 0o600))
			require.NoError(t, os.WriteFile(bad, []byte("extensions:\n  supervisor:\n"+indented(string(section), "    ")), 0o600))
			command := exec.Command(binary, "validate", "--config", rest, "--config", bad)
			command.Dir = home
			command.Env = append(os.Environ(), "EMPTY=")
			output, err := command.CombinedOutput()
			assert.Error(t, err, "it is taken")
			for line := range strings.Lines(strings.ReplaceAll(string(golden), "$PWD", home)) {
				assert.Contains(t, string(output), strings.TrimSpace(line))
			}
		})
	}
}
