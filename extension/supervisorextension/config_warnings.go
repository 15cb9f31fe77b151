// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Warnings returns what does not forbid a start and is perhaps not what was meant.
// The extension logs them when it starts.
func (c *Config) Warnings() []string {
	w := &warner{warnings: slices.Clone(c.warnings), shutdownTimeout: c.ShutdownTimeout, machine: c.machine, said: map[string]bool{}}
	if w.machine == nil {
		w.machine = newMachine()
	}
	w.supervisor(place{origin: &origin{}}, &c.SupervisorConfig)
	return w.warnings
}

type warner struct {
	warnings        []string
	shutdownTimeout time.Duration
	machine         *machine
	// said are the warnings that once has told, without the child that they are about.
	said map[string]bool
}

func (w *warner) add(at place, format string, args ...any) {
	w.warnings = append(w.warnings, at.String()+": "+fmt.Sprintf(format, args...))
}

// once is add for what many children may share, from defaults: it is told of the first.
func (w *warner) once(at place, format string, args ...any) {
	text := strings.TrimPrefix(at.path, at.origin.path) + ": " + fmt.Sprintf(format, args...)
	if !w.said[text] {
		w.said[text] = true
		w.add(at, format, args...)
	}
}

// supervisor warns of a supervisor and of all below it.
func (w *warner) supervisor(at place, s *SupervisorConfig) {
	if len(s.Children) == 0 {
		w.add(at.key("children"), "there is no process to supervise")
	}
	significant := func(c ChildConfig) bool { return c.Significant }
	if s.AutoShutdown != AutoShutdownNever && len(s.Children) > 0 && !slices.ContainsFunc(s.Children, significant) {
		w.add(at.key("auto_shutdown"), "no child is significant, so nothing ever causes it: write significant: true for the children that should")
	}
	// Many children share one back-off, from defaults: each is reported once.
	var endless []Backoff
	for i := range s.Children {
		child, here := &s.Children[i], s.childAt(at, i)
		switch {
		case child.Supervisor != nil:
			w.escalation(here, child, s)
			w.supervisor(here, child.Supervisor)
		case child.Process.instance == 0:
			w.process(here, child, s, &endless)
		}
	}
}

func (w *warner) process(at place, c *ChildConfig, parent *SupervisorConfig, endless *[]Backoff) {
	if t := c.Process.Stop.Timeout; t == WaitForever || t >= w.shutdownTimeout {
		w.add(at.key("stop").key("timeout"), "%s is cut short when the collector ends: all have stopped, or are killed, after shutdown_timeout, %s",
			formatDuration(t), formatDuration(w.shutdownTimeout))
	}
	if c.Restart != RestartTemporary && !slices.Contains(*endless, c.Backoff) {
		if most, never := c.Backoff.restartsWithin(parent.Intensity, 0); never {
			*endless = append(*endless, c.Backoff)
			w.add(at.key("backoff"), "a process that always fails at once is restarted at most %d times in %s, so it alone never exceeds intensity::max_restarts, %d, "+
				"and is restarted for ever: lower max_restarts below %d, lower max_interval, or lengthen intensity::period",
				most, formatDuration(parent.Intensity.Period), parent.Intensity.MaxRestarts, most)
		}
	}
	w.rights(at, c.Process)
	w.reportedAs(at, c.Process)
	w.references(at, c.Process)
}

// escalation warns if a supervisor gives up too slowly for its parent to give up over it.
func (w *warner) escalation(at place, c *ChildConfig, parent *SupervisorConfig) {
	own := c.Supervisor.Intensity
	lasts, gives := c.Supervisor.givesUpAfter(own)
	if !gives || c.Restart != RestartPermanent {
		return // what is wrong below it is said there; a transient one that gives up has ended well
	}
	most, never := c.Backoff.restartsWithin(parent.Intensity, lasts)
	if !never {
		return
	}
	wayOut := "lengthen intensity::period above it"
	for fewer := (Intensity{min(own.MaxRestarts-1, 100), own.Period}); fewer.MaxRestarts >= 0; fewer.MaxRestarts-- {
		sooner, _ := c.Supervisor.givesUpAfter(fewer)
		if _, still := c.Backoff.restartsWithin(parent.Intensity, sooner); !still {
			wayOut = fmt.Sprintf("lower max_restarts here to %d, or %s", fewer.MaxRestarts, wayOut)
			break
		}
	}
	w.add(at.key("intensity"), "if a process here always fails at once, this supervisor gives up after %s, and so is restarted at most %d times in %s, "+
		"never more than intensity::max_restarts, %d, of the supervisor above it, and the process for ever: %s",
		formatDuration(lasts.Round(time.Second/10)), most, formatDuration(parent.Intensity.Period), parent.Intensity.MaxRestarts, wayOut)
}

// givesUpAfter returns how long a supervisor with that intensity lasts, at least, when
// the one of its processes that takes longest to exceed it always fails at once; false
// if none ever does.
func (s *SupervisorConfig) givesUpAfter(allowed Intensity) (lasts time.Duration, gives bool) {
	var same Backoff
	for i := range s.Children {
		c := &s.Children[i]
		var each time.Duration // how long every run of c lasts
		switch {
		case c.Process != nil && (c.Restart == RestartTemporary || gives && c.Backoff == same):
			continue
		case c.isTemplate():
			continue // one that is restarted has no instance that could fail again
		case c.Supervisor != nil:
			var fails bool
			if each, fails = c.Supervisor.givesUpAfter(c.Supervisor.Intensity); !fails || c.Restart != RestartPermanent {
				continue
			}
		}
		if _, never := c.Backoff.restartsWithin(allowed, each); !never {
			gives = true
			lasts = max(lasts, c.Backoff.elapsed(allowed.MaxRestarts, each))
			if c.Process != nil {
				same = c.Backoff
			}
		}
	}
	return lasts, gives
}

// countable bounds the limits that are reckoned with: one above is as good as none,
// and meant to be.
const countable = 10_000

// restartsWithin returns how many restarts of a child of which every run lasts for
// lasts can be decided within the period, and whether they never exceed what is
// allowed: a restart counts when the child has failed, and its delay follows. Delays
// only grow, so the densest stretch is the beginning of the row; jitter may shorten all
// of them.
func (b Backoff) restartsWithin(allowed Intensity, lasts time.Duration) (most int, never bool) {
	if allowed.MaxRestarts > countable {
		return 0, false
	}
	var elapsed float64
	for most = 1; most <= allowed.MaxRestarts; most++ {
		elapsed += float64(lasts) + b.shortest(most, lasts)
		if elapsed > float64(allowed.Period) {
			return most, true
		}
	}
	return most, false
}

// elapsed is the time, at least, that a child of which every run lasts for lasts takes
// for so many restarts and the failure after them.
func (b Backoff) elapsed(restarts int, lasts time.Duration) time.Duration {
	elapsed := float64(lasts)
	for n := 1; n <= min(restarts, countable); n++ {
		elapsed += b.shortest(n, lasts) + float64(lasts)
	}
	return time.Duration(min(elapsed, float64(math.MaxInt64/2)))
}

// shortest is the delay, in nanoseconds, of the n-th restart of a row of runs that last
// for lasts, with all that jitter may take off it.
func (b Backoff) shortest(n int, lasts time.Duration) float64 {
	if n <= 1 || b.InitialInterval == 0 || lasts >= b.ResetAfter {
		return 0
	}
	return min(float64(b.InitialInterval)*math.Pow(b.Multiplier, float64(n-2)), float64(b.MaxInterval)) * (1 - b.Jitter)
}

var (
	// reference is what looks like one to a variable, to the Collector or to a shell.
	reference = regexp.MustCompile(`\$\{[^}]*\}`)
	// collectorReference is one that only the Collector understands.
	collectorReference = regexp.MustCompile(`\$\{(env|file|yaml|https?):[^}]*\}`)
	shells             = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}
)

// references looks for references that reach a process unexpanded. In its own
// configuration the Collector has replaced all but those written with $$ and, a trap,
// those that follow one in the same text; in an included file it replaces none. What is
// left, only a shell expands.
func (w *warner) references(at place, p *ProcessConfig) {
	w.commandReferences(at.key("command"), p.Command)
	if p.Readiness != nil && p.Readiness.Exec != nil {
		w.commandReferences(at.key("readiness").key("exec").key("command"), p.Readiness.Exec.Command)
	}
	if p.Liveness != nil && p.Liveness.Exec != nil {
		w.commandReferences(at.key("liveness").key("exec").key("command"), p.Liveness.Exec.Command)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
		if reference.MatchString(string(p.Environment[name])) {
			w.reference(at.key("environment").key(name))
		}
	}
}

func (w *warner) commandReferences(at place, command []string) {
	inCommand := reference
	if len(command) > 0 && slices.Contains(shells, filepath.Base(command[0])) {
		inCommand = collectorReference
	}
	for i, argument := range command {
		if inCommand.MatchString(argument) {
			w.reference(at.index(i))
		}
	}
}

func (w *warner) reference(at place) {
	if at.origin.file != "" {
		w.add(at, "${…} reaches the process as it is: the Collector expands nothing in an included file")
		return
	}
	w.add(at, "${…} reaches the process as it is: for a variable of the collector write ${env:NAME}, with one $ and before any $${ in the same text")
}
