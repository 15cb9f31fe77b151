// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (c *collector) spansNamed(name string) (found []span) {
	c.t.Helper()
	for _, s := range c.spans() {
		if s.name == name {
			found = append(found, s)
		}
	}
	return found
}

func (s span) context() string { return fmt.Sprint(s.TraceID(), s.SpanID()) }

func TestSpans_ARecoveryIsOneTraceWhicheverCollectorSeesItsEnd(t *testing.T) {
	for _, way := range takeovers {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := prepareDirect(t, `
strategy: rest_for_one
children:
  - {name: api, command: [sleep, "1000"]}
  - {name: db, command: [DIR/db], readiness: {notify_fd: 3}, start_timeout: 0s}
  - {name: web, command: [sleep, "1000"]}
`)
			c.script("db", upon("ready")+"\necho >&3; exec 3>&-\nexec sleep 1000\n")
			c.give("ready")
			c.start()
			c.started("web", 1)
			first := c.started("db", 1)
			c.until("the starts to be traced", func() bool { return len(c.spansNamed("process.start")) == 3 })
			assert.Empty(t, c.spansNamed("process.run"), "they go on")

			require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
			c.started("db", 2)
			c = way.next(c)
			assert.Empty(t, c.spansNamed("supervisor.recover"))
			c.give("ready")
			c.until("the recovery", func() bool { return len(c.spansNamed("supervisor.recover")) == 1 })
			c.stop()

			runs := map[string][]string{}
			for _, s := range c.spansNamed("process.run") {
				assert.Equal(t, s.process == "db" && len(runs["db"]) == 0, s.failed, "only the crash is an error")
				runs[s.process] = append(runs[s.process], s.context())
			}
			for _, s := range c.spansNamed("process.start") {
				assert.Contains(t, runs[s.process], fmt.Sprint(s.TraceID(), s.ParentSpanID()))
			}
			linked := func(s span) (to []string) {
				for _, l := range s.Links().All() {
					to = append(to, fmt.Sprint(l.TraceID(), l.SpanID()))
				}
				return to
			}
			recovery := c.spansNamed("supervisor.recover")[0]
			assert.Equal(t, runs["db"], linked(recovery))
			parts := c.spansNamed("process.recover")
			require.Len(t, parts, 2, "of db and of web")
			for _, part := range parts {
				assert.Equal(t, recovery.TraceID(), part.TraceID())
				assert.Equal(t, recovery.SpanID(), part.ParentSpanID())
				assert.Equal(t, runs[part.process], linked(part))
				require.Len(t, runs[part.process], 2)
			}
		})
	}
}
