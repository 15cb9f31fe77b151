// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
)

// named gives a process a name and attributes, as its configuration would.
func named(p supervisorextension.Process, service string) supervisorextension.Process {
	p.Info.Resource.Attributes().PutStr("service.name", service)
	p.Info.Resource.Attributes().PutStr("service.namespace", "shop")
	p.Info.Resource.Attributes().PutStr("deployment.environment.name", "test")
	return p
}

func TestResources_TheNameAndTheAttributesOfAProcessAreOnAllItsSignals(t *testing.T) {
	for name, off := range map[string][]string{"all": nil, "without the namespace": {"service.namespace"}} {
		t.Run(name, func(t *testing.T) {
			a, b := named(runningProcess("a", 1, 12), "storefront"), named(runningProcess("b", 42, 98765), "storefront")
			want := map[string]map[string]any{}
			for _, p := range []supervisorextension.Process{a, b} {
				want[p.Info.ID] = p.Info.Resource.Attributes().AsRaw()
				for _, key := range off {
					delete(want[p.Info.ID], key)
				}
			}
			fake := newFakeSupervisor(a, b)
			c := newTestCollector(fake, func(cfg *Config) { cfg.ResourceAttributes.ServiceNamespace.Enabled = len(off) == 0 })
			rep, err := newReport(newRun(fake, nil).set)
			require.NoError(t, err)
			seen := map[string]int{}
			check := func(res pcommon.Resource) {
				got := res.Attributes().AsRaw()
				if id, ok := got["supervisor.process.id"].(string); ok {
					seen[id]++
					assert.Equal(t, want[id], got)
				}
			}
			for _, rm := range scrape(t, c).ResourceMetrics().All() {
				check(rm.Resource())
			}
			for _, p := range []supervisorextension.Process{a, b} {
				events := []journal.Event{{
					Time: now, Topic: journal.TopicLifecycle, Name: journal.ProcessExited, Severity: journal.SeverityInfo,
					Process: p.Info.ID, Run: 2, Attrs: []journal.Attr{
						journal.Seconds(journal.KeyRunDuration, time.Second), journal.String(journal.KeyCreationTime, now.Format(time.RFC3339Nano)),
					},
				}}
				check(newEventLogs(c.cfg, c.resources, rep, nil, time.Now).build(events, 0).ResourceLogs().At(0).Resource())
				s := newSpans(c.cfg, c.resources, rep, nil)
				s.tell(events)
				check(s.build(s.tracer.made).ResourceSpans().At(0).Resource())
				output := &supervisorextension.Output{Process: p.Info, Lines: lines(p.Info.ID, "hello").Lines}
				check((&outputLogs{report: rep, resources: c.resources}).build(output).ResourceLogs().At(0).Resource())
			}
			assert.Equal(t, map[string]int{"a": 4, "b": 4}, seen, "of one name, and a resource each")
		})
	}
}
