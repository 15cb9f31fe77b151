// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// record is one log record as the file exporter wrote it.
type record struct {
	name     string
	body     string
	time     time.Time
	severity plog.SeverityNumber
	attrs    map[string]any
	resource map[string]any
}

func (r record) process() string {
	id, _ := r.resource["supervisor.process.id"].(string)
	return id
}

func (r record) pid() int {
	pid, _ := r.attrs["process.pid"].(int64)
	return int(pid)
}

func (r record) run() int {
	run, _ := r.attrs["supervisor.run"].(int64)
	return int(run)
}

// lines returns what the file exporter has written completely.
func (c *collector) lines(name string) []string {
	text := c.read(name)
	return strings.Split(text, "\n")[:strings.Count(text, "\n")]
}

// records returns all log records so far, in the order of their times.
func (c *collector) records() []record {
	c.t.Helper()
	return parseRecords(c.t, c.lines("logs.json"))
}

// parseRecords reads what the file exporter wrote, in the order of the records' times.
func parseRecords(t failer, lines []string) []record {
	var found []record
	for _, line := range lines {
		logs, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs([]byte(line))
		require.NoError(t, err)
		for _, rl := range logs.ResourceLogs().All() {
			resource := rl.Resource().Attributes().AsRaw()
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					found = append(found, record{
						name: lr.EventName(), body: lr.Body().AsString(), time: lr.Timestamp().AsTime(),
						severity: lr.SeverityNumber(), attrs: lr.Attributes().AsRaw(), resource: resource,
					})
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b record) int { return a.time.Compare(b.time) })
	return found
}

// events returns the lifecycle records with one of the names, all if none is given.
func (c *collector) events(names ...string) []record {
	c.t.Helper()
	return slices.DeleteFunc(c.records(), func(r record) bool {
		return r.name == "" || len(names) > 0 && !slices.Contains(names, r.name)
	})
}

// eventsOf returns the events of one process.
func (c *collector) eventsOf(process string, names ...string) []record {
	c.t.Helper()
	return slices.DeleteFunc(c.events(names...), func(r record) bool { return r.process() != process })
}

// printed returns the captured lines of one process, in order.
func (c *collector) printed(process string) []string {
	c.t.Helper()
	var bodies []string
	for _, r := range c.records() {
		if r.name == "" && r.process() == process {
			bodies = append(bodies, r.body)
		}
	}
	return bodies
}

// untilPrinted waits for a first line of each process, which tells that its script
// has come so far.
func (c *collector) untilPrinted(processes ...string) {
	c.t.Helper()
	for _, process := range processes {
		c.until("a line of "+process, func() bool { return len(c.printed(process)) > 0 })
	}
}

// started waits for a run of a process and returns its pid.
func (c *collector) started(process string, run int) int {
	c.t.Helper()
	pid := 0
	c.until(fmt.Sprintf("run %d of %s", run, process), func() bool {
		for _, r := range c.eventsOf(process, "process.started") {
			if r.run() == run {
				pid = r.pid()
			}
		}
		return pid != 0
	})
	return pid
}

// processes gives the ids of events, in the order of the events.
func processes(events []record) []string {
	ids := []string{}
	for _, r := range events {
		ids = append(ids, r.process())
	}
	return ids
}

// span is one span as the file exporter wrote it.
type span struct {
	name       string
	start, end time.Time
	failed     bool
	process    string
	ptrace.Span
	resource map[string]any
}

// spans are the spans of all collectors, each once, in the order of their starts.
func (c *collector) spans() []span {
	c.t.Helper()
	var found []span
	names, err := filepath.Glob(c.path("traces.json*"))
	require.NoError(c.t, err)
	var lines []string
	for _, name := range names {
		lines = append(lines, c.lines(filepath.Base(name))...)
	}
	seen := map[string]bool{}
	for _, line := range lines {
		traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(line))
		require.NoError(c.t, err)
		for _, rs := range traces.ResourceSpans().All() {
			resource := rs.Resource().Attributes().AsRaw()
			process, _ := resource["supervisor.process.id"].(string)
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					id := s.TraceID().String() + s.SpanID().String()
					if seen[id] {
						continue
					}
					seen[id] = true
					found = append(found, span{
						name: s.Name(), start: s.StartTimestamp().AsTime(), end: s.EndTimestamp().AsTime(),
						failed: s.Status().Code() == ptrace.StatusCodeError, process: process, resource: resource, Span: s,
					})
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b span) int { return a.start.Compare(b.start) })
	return found
}

// sample is one line of the metrics page.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// series names the sample's series.
func (s sample) series() string {
	parts := []string{}
	for _, key := range slices.Sorted(maps.Keys(s.labels)) {
		parts = append(parts, key+"="+strconv.Quote(s.labels[key]))
	}
	return s.name + "{" + strings.Join(parts, ",") + "}"
}

// has tells whether the labels contain all of the pairs (name, value, name, …).
func (s sample) has(pairs ...string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if s.labels[pairs[i]] != pairs[i+1] {
			return false
		}
	}
	return true
}

// page is the metrics page at one moment.
type page struct {
	text    string
	samples []sample
	// types holds the TYPE of each metric.
	types map[string]string
}

// page fetches the metrics page; it is empty until the exporter listens.
func (c *collector) page() page {
	c.t.Helper()
	client := http.Client{Timeout: patience}
	response, err := client.Get(fmt.Sprintf("http://localhost:%d/metrics", c.port))
	if err != nil {
		return page{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, response.StatusCode, "%s", text)
	return parsePage(c.t, string(text))
}

type failer interface {
	Errorf(format string, args ...any)
	FailNow()
}

// parsePage reads Prometheus' text format as far as the exporter writes it.
func parsePage(t failer, text string) page {
	p := page{text: text, types: map[string]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			p.types[name] = kind
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s := sample{labels: map[string]string{}}
		end := strings.IndexAny(line, "{ ")
		require.Positive(t, end, line)
		s.name, line = line[:end], line[end:]
		if rest, ok := strings.CutPrefix(line, "{"); ok {
			for !strings.HasPrefix(rest, "}") {
				key, quoted, ok := strings.Cut(strings.TrimPrefix(rest, ","), "=")
				require.True(t, ok, line)
				value, err := strconv.QuotedPrefix(quoted)
				require.NoError(t, err, line)
				rest = quoted[len(value):]
				s.labels[key], err = strconv.Unquote(value)
				require.NoError(t, err, line)
			}
			line = rest[1:]
		}
		number, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		s.value, err = strconv.ParseFloat(number, 64)
		require.NoError(t, err, line)
		p.samples = append(p.samples, s)
	}
	return p
}

// find returns the samples of one name whose labels contain the pairs.
func (p page) find(name string, pairs ...string) []sample {
	var found []sample
	for _, s := range p.samples {
		if s.name == name && s.has(pairs...) {
			found = append(found, s)
		}
	}
	return found
}

// value returns the one sample of that name and labels; ok is false without one.
func (p page) value(name string, pairs ...string) (value float64, ok bool) {
	found := p.find(name, pairs...)
	if len(found) != 1 {
		return 0, false
	}
	return found[0].value, true
}
