// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// corpus is what Erlang/OTP's supervisor was observed to do; FORMAT.md beside it tells
// the format.
const corpus = "../../internal/tree/testdata/oracle/public.json"

// played are the scenarios that real processes play here: one for each rule that
// can be shown without an operator.
var played = []int{
	1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 15, 16, 17, 22, 23, 24, 25, 26, 28,
	31, 32, 33, 34, 35, 36, 37, 38, 40, 42, 43, 44, 46, 47, 48, 49, 50, 53, 54, 55,
}

type scenario struct {
	ID         string         `json:"id"`
	Tree       spec           `json:"tree"`
	FailStarts map[string]int `json:"fail_starts"`
	Steps      []struct {
		Op    string `json:"op"`
		Child string `json:"child"`
		How   string `json:"how"`
		MS    int    `json:"ms"`
		Times int    `json:"times"`
	} `json:"steps"`
	Observed struct {
		Start []string   `json:"start"`
		Steps [][]string `json:"steps"`
		Root  string     `json:"root"`
	} `json:"observed"`
}

type spec struct {
	Name         string `json:"name"`
	Type         string `json:"type"`
	Strategy     string `json:"strategy"`
	MaxRestarts  int    `json:"max_restarts"`
	AutoShutdown string `json:"auto_shutdown"`
	Restart      string `json:"restart"`
	Significant  bool   `json:"significant"`
	Children     []spec `json:"children"`
}

// worker is ready at once, fails as many starts as a file says, and ends as told by
// a signal.
const worker = `
n=$(cat DIR/fail.$1 2>/dev/null || echo 0)
if [ "$n" -gt 0 ]; then echo $((n - 1)) >DIR/fail.$1; exit 1; fi
trap 'kill $!; exit 0' USR1
trap 'kill $!; exit 1' USR2
echo >&3
while :; do sleep 1000 3>&- & wait $!; done
`

// period is that of all supervisors: in no scenario that is played here a restart is old
// enough to be forgotten, and on a slow machine it must not become so.
const period = "1h"

// yaml writes the supervisor's section; JSON is YAML.
func (s *spec) yaml(dir string) map[string]any {
	section := map[string]any{}
	if s.Type == "worker" {
		section["command"] = []string{dir + "/worker", s.Name}
		section["readiness"] = map[string]any{"notify_fd": 3}
		section["output"] = map[string]any{"stdout": "null", "stderr": "null"}
		section["backoff"] = map[string]any{"initial_interval": "0s"}
		if s.Restart == "temporary" {
			delete(section, "backoff") // never restarted
		}
	} else {
		section["strategy"] = s.Strategy
		section["intensity"] = map[string]any{"max_restarts": s.MaxRestarts, "period": period}
		section["auto_shutdown"] = s.AutoShutdown
		children := []any{}
		for i := range s.Children {
			child := s.Children[i].yaml(dir)
			child["name"], child["restart"] = s.Children[i].Name, s.Children[i].Restart
			if s.Children[i].Significant {
				child["significant"] = true
			}
			if s.Children[i].Type == "supervisor" && s.Children[i].Restart != "temporary" {
				child["backoff"] = map[string]any{"initial_interval": "0s"}
			}
			children = append(children, child)
		}
		section["children"] = children
	}
	return section
}

// inOrder are all events in the order in which they happened.
func (c *collector) inOrder() []record {
	c.t.Helper()
	records := c.events()
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.sequence(), b.sequence()) })
	return records
}

// told translates the lifecycle records into the events of the corpus. Of supervisors
// it has their giving up; what else they do is told when it is done, not when it
// begins, and is compared by toldOfSupervisors.
func (c *collector) told(root string) (events []string, pids map[string]int) {
	c.t.Helper()
	pids = map[string]int{}
	ready := map[string]bool{}
	for _, r := range c.inOrder() {
		id, _ := r.attrs["supervisor.process.id"].(string)
		name := id[strings.LastIndex(id, ".")+1:]
		run := fmt.Sprint(id, " ", r.run())
		switch r.name {
		case "process.ready":
			ready[run] = true
			pids[name] = r.pid()
			events = append(events, "start "+name)
		case "process.crashed", "process.exited", "process.stopped":
			verb := "exit "
			switch {
			case !ready[run]:
				verb = "start_failed "
			case r.name == "process.stopped":
				verb = "stop "
			}
			events = append(events, verb+name)
		case "supervisor.gave_up":
			events = append(events, "sup_giveup "+cmp.Or(name, root))
		}
	}
	return events, pids
}

// toldOfSupervisors is what became of each supervisor, by name.
func (c *collector) toldOfSupervisors(root string) map[string][]string {
	c.t.Helper()
	all := map[string][]string{}
	for _, r := range c.inOrder() {
		id, _ := r.attrs["supervisor.process.id"].(string)
		name := cmp.Or(id[strings.LastIndex(id, ".")+1:], root)
		switch r.name {
		case "supervisor.started", "supervisor.stopped", "supervisor.gave_up":
			all[name] = append(all[name], strings.TrimPrefix(r.name, "supervisor."))
		}
	}
	return all
}

// ofSupervisors is toldOfSupervisors as it ought to be when the collector has ended.
func (s *scenario) ofSupervisors() map[string][]string {
	all := map[string][]string{}
	for _, events := range append([][]string{s.Observed.Start}, s.Observed.Steps...) {
		for _, event := range events {
			verb, name, _ := strings.Cut(event, " ")
			switch verb {
			case "sup_start":
				all[name] = append(all[name], "started")
			case "sup_start_failed": // so it never was
				all[name] = append(all[name][:len(all[name])-1], "stopped")
			case "sup_stop":
				all[name] = append(all[name], "stopped")
			case "sup_giveup":
				all[name] = append(all[name], "gave_up", "stopped")
			}
		}
	}
	for name, events := range all {
		if events[len(events)-1] == "started" { // the end of the test stops it
			all[name] = append(events, "stopped")
		}
	}
	return all
}

// status is the exit status that the collector ought to have.
func (s *scenario) status() int {
	if s.Observed.Root == "alive" || len(s.Steps) > 0 && s.Steps[len(s.Steps)-1].Op == "stop_tree" {
		return 0
	}
	// An automatic shutdown is as good as the end that it was for: here the last one.
	if s.Tree.AutoShutdown != "never" && s.Steps[len(s.Steps)-1].How == "normal" {
		return 0
	}
	return 1
}

func (r record) sequence() int64 {
	n, _ := r.attrs["supervisor.event.sequence"].(int64)
	return n
}

// shown drops the events that told does not give.
func shown(events []string) []string {
	return slices.DeleteFunc(slices.Clone(events), func(e string) bool {
		return strings.HasPrefix(e, "sup_start") || strings.HasPrefix(e, "sup_stop")
	})
}

func TestOracle_RealProcessesAreTreatedAsByErlang(t *testing.T) {
	text, err := os.ReadFile(corpus)
	require.NoError(t, err)
	var scenarios []scenario
	require.NoError(t, json.Unmarshal(text, &scenarios))
	for _, n := range played {
		s := scenarios[slices.IndexFunc(scenarios, func(s scenario) bool { return s.ID == fmt.Sprintf("otp-%04d", n) })]
		t.Run(s.ID, func(t *testing.T) {
			t.Parallel()
			s.play(t)
		})
	}
}

func (s *scenario) play(t *testing.T) {
	c := prepare(t, "children: []")
	section, err := json.Marshal(s.Tree.yaml(c.dir))
	require.NoError(t, err)
	c.write("config.yaml", fmt.Sprintf("extensions: {supervisor: %s}\n", section)+fmt.Sprintf(pipelines, c.port, c.dir))
	c.script("worker", worker)
	for child, times := range s.FailStarts {
		c.write("fail."+child, fmt.Sprint(times))
	}
	c.start()

	want := shown(s.Observed.Start)
	c.awaitTold(s, want)
	for i, step := range s.Steps {
		switch step.Op {
		case "wait":
			time.Sleep(time.Duration(step.MS) * time.Millisecond) // part of the scenario
		case "fail_starts":
			c.write("fail."+step.Child, fmt.Sprint(step.Times))
		case "stop_tree":
			c.signal(syscall.SIGTERM)
		case "exit":
			_, pids := c.told(s.Tree.Name)
			signal := map[string]syscall.Signal{"normal": syscall.SIGUSR1, "error": syscall.SIGUSR2, "killed": syscall.SIGKILL}[step.How]
			require.NoError(t, syscall.Kill(pids[step.Child], signal))
		}
		want = append(want, shown(s.Observed.Steps[i])...)
		c.awaitTold(s, want)
	}
	if s.Observed.Root == "alive" {
		c.signal(syscall.SIGTERM)
		assert.Equal(t, s.status(), c.wait(), "exit status")
		all, _ := c.told(s.Tree.Name)
		require.GreaterOrEqual(t, len(all), len(want))
		for _, event := range all[len(want):] {
			assert.True(t, strings.HasPrefix(event, "stop "), "more happened than was to happen: %s", event)
		}
		all = all[:len(want)]
		assert.Equal(t, want, all)
	} else {
		assert.Equal(t, s.status(), c.wait(), "exit status")
		all, _ := c.told(s.Tree.Name)
		assert.Equal(t, want, all)
	}
	assert.Equal(t, s.ofSupervisors(), c.toldOfSupervisors(s.Tree.Name), "what became of the supervisors")
	c.requireNothingLeft()
}

// awaitTold waits until as much has happened as is wanted, and compares.
func (c *collector) awaitTold(s *scenario, want []string) {
	c.t.Helper()
	var got []string
	c.until(fmt.Sprintf("%d events of %s", len(want), s.ID), func() bool {
		got, _ = c.told(s.Tree.Name)
		return len(got) >= len(want)
	})
	require.Equal(c.t, want, got)
}
