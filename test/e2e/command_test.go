// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// several is a configuration with findings of several kinds, in several children.
const several = `
shutdown_timeout: -5s
children:
  - name: Web
    command: [/bin/sh, -c, "touch DIR/ran"]
  - name: worker
    command: sleep 5
    restart: always
  - name: worker
    command: [sleep, "5"]
    stop: {signal: SIGNOPE}
    readyness: {}
`

// findings are what has to be named, with the keys and values that the user wrote.
var findings = []string{
	"shutdown_timeout", "-5s",
	"children[0]", `"Web"`,
	"children[1](worker)::command", "sleep 5",
	"children[1](worker)::restart", `"always" is not one of permanent, transient, temporary`,
	"children[2]", "SIGNOPE",
	"readyness",
}

func TestValidate_ReportsAllFindingsTogetherAndStartsNothing(t *testing.T) {
	t.Parallel()
	c := prepare(t, several)
	output, err := exec.Command(binary(t), "validate", "--config", c.path("config.yaml")).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", output)
	assert.Positive(t, exit.ExitCode())
	for _, finding := range findings {
		assert.Contains(t, string(output), finding)
	}
	assert.NoFileExists(t, c.path("ran"))
}

func TestValidate_WarnsOfWhatIsPerhapsNotMeant(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
shutdown_timeout: 5s
children:
  - {name: slow, command: [sleep, "5"], stop: {timeout: 10s}}
`)
	output, err := exec.Command(binary(t), "validate", "--config", c.path("config.yaml")).CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Contains(t, string(output), "warning: supervisor: children[0](slow)::stop::timeout: ")
}

func TestStart_OfABadConfigurationReportsAllFindingsAndStartsNothing(t *testing.T) {
	t.Parallel()
	c := prepare(t, several)
	c.start()
	assert.Equal(t, 1, c.wait())
	c.requireNothingLeft()
	for _, finding := range findings {
		assert.Contains(t, c.output(), finding)
	}
	assert.NoFileExists(t, c.path("ran"))
}

func TestValidate_AcceptsAGoodConfigurationSilently(t *testing.T) {
	t.Parallel()
	c := prepare(t, polite)
	output, err := exec.Command(binary(t), "validate", "--config", c.path("config.yaml")).CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Empty(t, string(output))
}

func TestPrintConfig_HidesValuesOfTheEnvironment(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
children:
  - {name: a, command: [sleep, "5"], environment: {PASSWORD: hunter2}}
`)
	output, err := exec.Command(binary(t), "print-config", "--config", c.path("config.yaml")).CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Contains(t, string(output), "PASSWORD")
	assert.NotContains(t, string(output), "hunter2")
}

func TestComponents_ListsWhatTheDistributionPromises(t *testing.T) {
	t.Parallel()
	output, err := exec.Command(binary(t), "components").Output()
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^    - name: (\S+)$`).FindAllStringSubmatch(string(output), -1) {
		listed[match[1]] = true
	}
	for _, name := range []string{
		"supervisor", "process_monitor", "event_batch",
		"otlp", "memory_limiter", "batch", "filter", "transform",
		"debug", "nop", "otlp_grpc", "otlp_http", "prometheus", "prometheus_remote_write", "file",
		"health_check", "zpages", "file_storage", "bearertokenauth", "opamp", "forward", "count",
	} {
		assert.True(t, listed[name], "%s is not in the distribution", name)
	}
	for _, scheme := range []string{"scheme: env", "scheme: file", "scheme: yaml"} {
		assert.Contains(t, string(output), scheme)
	}
	for _, scheme := range []string{"http", "https"} {
		assert.NotContains(t, string(output), "scheme: "+scheme, "a configuration that is fetched can run programs")
	}
}

func TestVersion_NamesTheDistribution(t *testing.T) {
	t.Parallel()
	output, err := exec.Command(binary(t), "--version").Output()
	require.NoError(t, err)
	assert.Regexp(t, `^otelcol-warden version \d+\.\d+\.\d+\n$`, string(output))
}
