// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// causes are what the exemplars of a process's restarts say, by the restarts' reason.
func (c *collector) causes(process string) map[string]any {
	c.t.Helper()
	causes := map[string]any{}
	for _, line := range c.lines("metrics.json") {
		metrics, err := (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics([]byte(line))
		require.NoError(c.t, err)
		for _, rm := range metrics.ResourceMetrics().All() {
			if rm.Resource().Attributes().AsRaw()["supervisor.process.id"] != process {
				continue
			}
			for _, sm := range rm.ScopeMetrics().All() {
				for _, metric := range sm.Metrics().All() {
					if metric.Name() != "process.restarts" {
						continue
					}
					for _, point := range metric.Sum().DataPoints().All() {
						reason, _ := point.Attributes().AsRaw()["reason"].(string)
						causes[reason] = nil
						for _, exemplar := range point.Exemplars().All() {
							causes[reason] = exemplar.FilteredAttributes().AsRaw()["supervisor.restart.cause"]
						}
					}
				}
			}
		}
	}
	return causes
}

func TestRestart_AnExemplarSaysWhoseFailureItWasAndHarmsNoPage(t *testing.T) {
	t.Parallel()
	c := prepare(t, `
strategy: one_for_all
children:
  - {name: db, command: [sleep, "1000"]}
  - {name: web, command: [sleep, "1000"]}
`)
	c.write("exporters.yaml", fmt.Sprintf(`
exporters:
  prometheus: {enable_open_metrics: true}
  file/metrics: {path: %s/metrics.json, flush_interval: 20ms}
service:
  pipelines:
    metrics: {exporters: [prometheus, file/metrics]}
`, c.dir))
	c.cmd.Args = append(c.cmd.Args, "--config", c.path("exporters.yaml"))
	c.start()
	c.started("web", 1)
	require.NoError(t, syscall.Kill(c.started("db", 1), syscall.SIGKILL))
	c.until("the cause", func() bool { return len(c.causes("web")) > 0 && len(c.causes("db")) > 0 })
	assert.Equal(t, map[string]any{"strategy": "db"}, c.causes("web"))
	assert.Equal(t, map[string]any{"signal": nil}, c.causes("db"))

	c.until("the restart on the page", func() bool {
		count, _ := c.page().value("process_restarts_total", "module", "web", "reason", "strategy")
		return count == 1
	})
	request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://localhost:%d/metrics", c.port), nil)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, response.StatusCode)
	assert.Contains(t, string(text), `module="web",reason="strategy"} 1.0`)
	assert.True(t, strings.HasSuffix(string(text), "# EOF\n"))
	c.stop()
}
