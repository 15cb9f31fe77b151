// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// crewScript is a process that keeps a ledger of its own: it notes when a run starts, and
// just before it ends how, and how many lines it has printed.
const crewScript = `
exec 2>/dev/null
ledger=DIR/ledger/$1 run=${WARDEN_RUN_ID##*:} n=0
trap 'trap "" TERM; echo "end $run $$ $n stop" >> $ledger; exit 0' TERM
echo "start $run $$" >> $ledger
set -- $(od -An -N2 -tu1 /dev/urandom)
lines=$(($1 % 12 + 1)) code=$(($2 % 8))
while [ $n -lt $lines ]; do
	echo "$run $((n=n+1))"
	sleep 0.3
done
trap '' TERM
if [ $code = 7 ]; then
	echo "end $run $$ $n SIGKILL" >> $ledger
	kill -KILL $$
fi
echo "end $run $$ $n $code" >> $ledger
exit $code
`

// direct are replacements in the pipelines with which nothing that was taken is in the
// collector's memory: no processor, and the exporter that rotates files has no buffer.
// What it was writing at the moment of a kill was not taken, and is delivered again.
var direct = strings.NewReplacer(
	"processors: [event_batch], ", "",
	"append: true\n    flush_interval: 20ms", "rotation: {max_megabytes: 10000}",
)

// prepareDirect prepares a collector of such pipelines.
func prepareDirect(t *testing.T, supervisor string) *collector {
	t.Helper()
	c := prepare(t, supervisor)
	c.write("config.yaml", direct.Replace(c.read("config.yaml")))
	return c
}

// prepareCrew prepares a collector with n processes of crewScript, which are restarted
// without end.
func prepareCrew(t *testing.T, n int) *collector {
	t.Helper()
	config := strings.Builder{}
	config.WriteString(`
orphan_grace: 10m
shutdown_timeout: 10m
parallel: true
intensity: {max_restarts: 1000000, period: 1s}
defaults: {backoff: {initial_interval: 0s}, stop: {timeout: 5m}, start_timeout: 0s, output: {on_full: {wait: -1s}}}
children:
`)
	for i := range n {
		fmt.Fprintf(&config, "  - {name: p%02d, command: [DIR/crew, p%02d]}\n", i, i)
	}
	c := prepareDirect(t, config.String())
	c.script("crew", crewScript)
	require.NoError(t, os.Mkdir(c.path("ledger"), 0o700))
	return c
}

// kill ends the collector with SIGKILL and sets aside what it has written: a line that
// it did not finish must not become part of the next collector's.
func (c *collector) kill() {
	c.t.Helper()
	c.signal(syscall.SIGKILL)
	require.Equal(c.t, -1, c.wait())
	for _, name := range []string{"logs.json", "traces.json"} {
		if _, err := os.Stat(c.path(name)); err == nil {
			aside, err := filepath.Glob(c.path(name + ".*"))
			require.NoError(c.t, err)
			require.NoError(c.t, os.Rename(c.path(name), c.path(fmt.Sprintf("%s.%d", name, len(aside)))))
		}
	}
}

// history are the records of all collectors.
func (c *collector) history() []record {
	c.t.Helper()
	names, err := filepath.Glob(c.path("logs.json*"))
	require.NoError(c.t, err)
	var lines []string
	for _, name := range names {
		lines = append(lines, c.lines(filepath.Base(name))...)
	}
	return parseRecords(c.t, lines)
}

// run is a run of a process, as its ledger and as the telemetry name it.
type run struct {
	process string
	run     int
}

// entry is what the ledger says of a run.
type entry struct {
	pid int
	// end is "" if the ledger does not know it, "stop" if it was asked for, or a code or signal.
	end   string
	lines int
}

// ledger reads the ledgers. It requires that no run of a process began before the one
// before had ended.
func (c *collector) ledger() map[run]entry {
	c.t.Helper()
	found := map[run]entry{}
	files, err := os.ReadDir(c.path("ledger"))
	require.NoError(c.t, err)
	for _, file := range files {
		last := run{}
		for _, line := range c.lines("ledger/" + file.Name()) {
			fields := strings.Fields(line)
			key := run{file.Name(), number(c.t, fields[1])}
			pid := number(c.t, fields[2])
			if fields[0] == "start" {
				require.True(c.t, last.run == 0 || found[last].end != "", "%v began while %v ran", key, last)
				require.Greater(c.t, key.run, last.run, file.Name())
				found[key] = entry{pid: pid}
				last = key
				continue
			}
			require.Equal(c.t, last, key, "an end of another run than the last")
			require.Equal(c.t, found[key].pid, pid, "%v has two processes", key)
			require.Empty(c.t, found[key].end, "%v ended twice", key)
			found[key] = entry{pid: pid, end: fields[4], lines: number(c.t, fields[3])}
		}
	}
	return found
}

// untilEnded waits until so many runs have ended by themselves.
func (c *collector) untilEnded(n int) { c.untilEndedWith(c, n) }

// untilEndedWith is untilEnded while another collector is at work.
func (c *collector) untilEndedWith(working *collector, n int) {
	c.t.Helper()
	working.until("the ends of runs", func() bool {
		ended := 0
		for _, noted := range c.ledger() {
			if noted.end != "" {
				ended++
			}
		}
		return ended >= n
	})
}

// requireWholeStory requires that the events of all collectors are numbered without a
// hole, and that what was delivered twice says the same. It returns them, each once, in order.
func requireWholeStory(t *testing.T, history []record) []record {
	t.Helper()
	bySequence := map[int64]record{}
	for _, r := range history {
		if r.name == "" {
			continue
		}
		if before, ok := bySequence[r.sequence()]; ok {
			require.Equal(t, before, r, "two events have one number")
		}
		bySequence[r.sequence()] = r
	}
	story := make([]record, 0, len(bySequence))
	for i, sequence := range slices.Sorted(maps.Keys(bySequence)) {
		require.EqualValues(t, i+1, sequence, "a hole in the story")
		story = append(story, bySequence[sequence])
	}
	return story
}

// requireCrewsStory compares what the processes noted with what was delivered of them.
func (c *collector) requireCrewsStory() {
	c.t.Helper()
	ledger, history := c.ledger(), c.history()
	story := requireWholeStory(c.t, history)

	pids, created := map[run]int{}, map[run]any{}
	starts := map[run]int{}
	ends := map[run][]string{}
	for _, r := range story {
		key := run{r.process(), r.run()}
		if r.run() == 0 || r.pid() == 0 {
			continue
		}
		if before, ok := pids[key]; ok {
			require.Equal(c.t, before, r.pid(), "%v is not the process that it was: %s", key, r.body)
		}
		pids[key] = r.pid()
		if at := r.attrs["process.creation.time"]; at != nil {
			if before, ok := created[key]; ok {
				require.Equal(c.t, before, at, "%v is not the process that it was: %s", key, r.body)
			}
			created[key] = at
		}
		switch r.name {
		case "process.started":
			starts[key]++
		case "process.crashed", "process.exited":
			ends[key] = append(ends[key], end(r))
		case "process.stopped":
			ends[key] = append(ends[key], "stop")
		case "process.killed", "process.orphan_unattributed", "process.survivors_killed":
			require.Fail(c.t, "a process was touched", "%s", r.body)
		}
	}
	for key, count := range starts {
		assert.Equal(c.t, 1, count, "starts of %v", key)
		assert.Len(c.t, ends[key], 1, "ends of %v", key)
	}
	for key, noted := range ledger {
		assert.Equal(c.t, noted.pid, pids[key], "%v", key)
		// Asked to stop, it may have been ending by itself, or not yet have been listening.
		if noted.end == "" || slices.Contains(ends[key], "stop") {
			assert.Equal(c.t, []string{"stop"}, ends[key], "ends of %v", key)
		} else {
			assert.Equal(c.t, []string{noted.end}, ends[key], "ends of %v", key)
		}
	}
	c.requireLines(ledger, history)
}

// end says how a run ended as the ledger does.
func end(r record) string {
	if signal := attribute(r, "supervisor.exit.signal"); signal != "" {
		return signal
	}
	code, _ := r.attrs["process.exit.code"].(int64)
	return strconv.FormatInt(code, 10)
}

// requireLines requires that every line that a process counted was delivered at least
// once, as that run's.
func (c *collector) requireLines(ledger map[run]entry, history []record) {
	c.t.Helper()
	lines := map[run]map[int]int{}
	for _, r := range history {
		if r.name != "" {
			continue
		}
		of, n, ok := strings.Cut(r.body, " ")
		require.True(c.t, ok, "not a line of the crew: %q", r.body)
		key := run{r.process(), number(c.t, of)}
		require.Equal(c.t, r.run(), key.run, "a line of another run")
		if lines[key] == nil {
			lines[key] = map[int]int{}
		}
		lines[key][number(c.t, n)]++
	}
	for key, noted := range ledger {
		for n := range noted.lines {
			assert.Positive(c.t, lines[key][n+1], "line %d of %v is missing", n+1, key)
		}
	}
}

// floor is the highest value that each counter had.
type floor map[string]float64

// hold requires that no counter has fallen.
func (f floor) hold(t *testing.T, p page) {
	t.Helper()
	for _, s := range p.samples {
		// The kernel's own counters of the system promise nothing.
		if !p.counts(s.name) || strings.HasPrefix(s.name, "system_") {
			continue
		}
		assert.GreaterOrEqual(t, s.value, f[s.series()], "%s fell", s.series())
		f[s.series()] = max(f[s.series()], s.value)
	}
}

// counts: the samples of that name never fall.
func (p page) counts(name string) bool {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if family, ok := strings.CutSuffix(name, suffix); ok && p.types[family] == "histogram" {
			return true
		}
	}
	return p.types[name] == "counter"
}
