// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata/transcripts with what the tree does now")

// A transcript is a story: prose, commands ("> …") and after each what the tree
// did. The commands:
//
//	tree KEY…            a new tree; its children follow, one a line, indented by two
//	                     spaces a level: NAME KEY…; a child with a strategy is a supervisor
//	reconfigure KEY…     likewise, the new specification of the tree; restart=ID,ID names
//	                     the processes to be replaced. What is planned comes first
//	start, stop          of the tree
//	spawned ID, ready ID, start_failed ID, unkillable ID, exited ID REASON
//	                     said of the current run; "ID#2" of that run
//	settle               everything that is asked for is done, well and at once, until nothing is
//	pass DURATION        time goes by
//	unattended DURATION  likewise, and nobody hears what processes say
//	operator OP ID       a command; add PARENT NAME KEY…
//	status               of everything
func TestTree_Transcripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got := playTranscript(t, string(want))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(want), got)
		})
	}
}

// player plays one transcript.
type player struct {
	t      *testing.T
	tree   *Tree
	root   Supervisor
	now    time.Duration
	owed   []Event // the answers of a perfect world to what was asked for
	tokens uint64
	out    strings.Builder
}

func playTranscript(t *testing.T, text string) string {
	p := &player{t: t}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "> tree"), strings.HasPrefix(line, "> reconfigure"):
			spec := []string{line[2:]}
			for ; i+1 < len(lines) && strings.HasPrefix(lines[i+1], ">  "); i++ {
				spec = append(spec, lines[i+1][2:])
			}
			p.out.WriteString("> " + strings.Join(spec, "\n> ") + "\n")
			if words := strings.Fields(spec[0]); words[0] == "tree" {
				p.plant(spec)
			} else {
				p.reconfigure(spec)
			}
		case strings.HasPrefix(line, "> "):
			p.out.WriteString(line + "\n")
			p.do(strings.Fields(line[2:]))
		case strings.HasPrefix(line, "    "): // what the tree did before
		default:
			p.out.WriteString(line + "\n")
		}
	}
	return p.out.String()
}

func (p *player) printf(format string, args ...any) { fmt.Fprintf(&p.out, "    "+format+"\n", args...) }

func (p *player) plant(spec []string) {
	p.root = p.supervisor(spec)
	tree, err := New(p.root, 1)
	p.tree, p.now, p.owed = tree, 0, nil
	if err != nil {
		p.printf("%s", indented(err))
	}
}

func indented(err error) string { return strings.ReplaceAll(err.Error(), "\n", "\n    ") }

func (p *player) reconfigure(spec []string) {
	var restart []string
	words := slices.DeleteFunc(strings.Fields(spec[0]), func(word string) bool {
		ids, ok := strings.CutPrefix(word, "restart=")
		if ok {
			restart = strings.Split(ids, ",")
		}
		return ok
	})
	spec[0] = strings.Join(words, " ")
	next := p.supervisor(spec)
	if p.tree.CheckReconfigure(next) == nil {
		for _, c := range Plan(p.root, next, restart) {
			if c.Kind != ChangeKept {
				p.printf("(plan: %s %v)", orRoot(c.ID), c.Kind)
			}
		}
		p.root = next
	}
	p.step(Reconfigure{Root: next, Restart: restart})
}

// supervisor reads a specification: KEY… of the root, then its children.
func (p *player) supervisor(spec []string) Supervisor {
	root := p.child(strings.Fields(spec[0]))
	if root.Supervisor == nil {
		root.Supervisor = &Supervisor{MaxRestarts: 1, Period: 5 * time.Second}
	}
	above := []*Child{&root}
	for _, line := range spec[1:] {
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		parent := above[depth-1]
		parent.Supervisor.Children = append(parent.Supervisor.Children, p.child(strings.Fields(line)))
		above = append(above[:depth], &parent.Supervisor.Children[len(parent.Supervisor.Children)-1])
	}
	return *root.Supervisor
}

// child reads NAME KEY…, where a key is a word or key=value.
func (p *player) child(words []string) Child {
	c := Child{Name: words[0]}
	w, s := &Worker{}, &Supervisor{MaxRestarts: 1, Period: 5 * time.Second}
	isSupervisor := false
	duration := func(v string) time.Duration {
		d, err := time.ParseDuration(v)
		require.NoError(p.t, err)
		return d
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "permanent":
		case "transient":
			c.Restart = Transient
		case "temporary":
			c.Restart = Temporary
		case "significant":
			c.Significant = true
		case "backoff":
			c.Backoff = Backoff{Initial: duration(value), Max: 8 * duration(value), Multiplier: 2, ResetAfter: time.Minute}
		case "manual":
			w.Manual = true
		case "await_ready":
			w.AwaitReady = true
		case "start_timeout":
			w.StartTimeout = duration(value)
		case "one_for_one", "one_for_all", "rest_for_one":
			isSupervisor = true
			s.Strategy = map[string]Strategy{"one_for_all": OneForAll, "rest_for_one": RestForOne}[key]
		case "max_restarts":
			n, err := strconv.Atoi(value)
			require.NoError(p.t, err)
			s.MaxRestarts = n
		case "period":
			s.Period = duration(value)
		case "any_significant":
			s.AutoShutdown = AnySignificant
		case "all_significant":
			s.AutoShutdown = AllSignificant
		case "retry":
			s.FirstStart = Retry
		case "parallel":
			s.Parallel = true
		case "template":
			isSupervisor = true
			instance := p.child(append([]string{"*"}, strings.Split(value, ",")...))
			s.Template = &instance
		default:
			require.Fail(p.t, "unknown key", word)
		}
	}
	if isSupervisor {
		c.Supervisor = s
	} else {
		c.Worker = w
	}
	return c
}

func (p *player) do(words []string) {
	id, run := "", uint64(0)
	if len(words) > 1 {
		var number string
		var given bool
		if id, number, given = strings.Cut(words[1], "#"); given {
			n, err := strconv.ParseUint(number, 10, 64)
			require.NoError(p.t, err)
			run = n
		} else if s, ok := p.tree.Status(id); ok {
			run = s.Run
		}
	}
	switch words[0] {
	case "start":
		p.step(Start{})
	case "stop":
		p.step(Stop{})
	case "spawned":
		p.step(Spawned{id, run})
	case "ready":
		p.step(Ready{id, run})
	case "start_failed":
		p.step(StartFailed{id, run})
	case "unkillable":
		p.step(Unkillable{id, run})
	case "exited":
		p.step(Exited{id, run, p.reason(words[2])})
	case "settle":
		for len(p.owed) > 0 {
			ev := p.owed[0]
			p.printf("%s", strings.TrimPrefix(fmt.Sprintf("· %T", ev), "tree.")+" "+eventID(ev))
			p.step(ev)
		}
	case "pass":
		d, err := time.ParseDuration(words[1])
		require.NoError(p.t, err)
		p.now += d
		p.step(Tick{})
	case "unattended":
		d, err := time.ParseDuration(words[1])
		require.NoError(p.t, err)
		p.now += d
		p.step(Unattended{d})
	case "operator":
		p.operate(words[1:])
	case "status":
		p.tree.Walk(func(id string, s Status) bool {
			p.status(id, s)
			return true
		})
	default:
		require.Fail(p.t, "unknown command", words[0])
	}
}

func (p *player) operate(words []string) {
	ops := map[string]Op{"start": OpStart, "stop": OpStop, "restart": OpRestart, "delete": OpDelete, "add": OpAdd}
	p.tokens++
	cmd := Command{Token: p.tokens, Op: ops[words[0]], ID: strings.TrimSuffix(words[1], "root")}
	if cmd.Op == OpAdd {
		child := p.child(words[2:])
		cmd.Child = &child
	}
	p.step(cmd)
}

func (p *player) reason(name string) ExitReason {
	for r := range NumExitReasons {
		if r.String() == name {
			return r
		}
	}
	require.Fail(p.t, "unknown exit reason", name)
	return 0
}

// step feeds the tree one event, which may be one of those that are owed, and tells what it did.
func (p *player) step(ev Event) {
	id := eventID(ev)
	owed := p.owed[:0:0]
	for _, e := range p.owed {
		switch ev.(type) {
		case Exited, StartFailed, Unkillable: // nothing more will come of this run
			if eventID(e) == id {
				continue
			}
		}
		if e != ev {
			owed = append(owed, e)
		}
	}
	p.owed = owed
	for _, a := range p.tree.Step(p.now, ev) {
		p.printf("%s", p.tell(a))
	}
	p.tree.timers.requireInOrder(p.t)
	if at, ok := p.tree.NextDeadline(); ok {
		p.printf("(something is due in %v)", at-p.now)
	}
}

func eventID(ev Event) string {
	id := func(id string, run uint64) string { return fmt.Sprintf("%s#%d", id, run) }
	switch ev := ev.(type) {
	case Spawned:
		return id(ev.ID, ev.Run)
	case Ready:
		return id(ev.ID, ev.Run)
	case StartFailed:
		return id(ev.ID, ev.Run)
	case Exited:
		return id(ev.ID, ev.Run)
	case Unkillable:
		return id(ev.ID, ev.Run)
	}
	return ""
}

func orRoot(id string) string {
	if id == "" {
		return "root"
	}
	return id
}

func (p *player) tell(a Action) string {
	switch a := a.(type) {
	case Spawn:
		p.owed = append(p.owed, Spawned(a))
		if p.tree.nodes[a.ID].awaitsReady {
			p.owed = append(p.owed, Ready(a))
		}
		return fmt.Sprintf("SPAWN %s#%d", a.ID, a.Run)
	case StopProcess:
		for i := len(p.owed) - 1; i >= 0; i-- {
			if eventID(p.owed[i]) == fmt.Sprintf("%s#%d", a.ID, a.Run) {
				p.owed = append(p.owed[:i], p.owed[i+1:]...)
			}
		}
		p.owed = append(p.owed, Exited{a.ID, a.Run, ExitStopped})
		return fmt.Sprintf("STOP %s#%d: %v%s", a.ID, a.Run, a.Why, because(a.Cause))
	case Changed:
		return fmt.Sprintf("%s is %v", orRoot(a.ID), a.State)
	case Restarting:
		return fmt.Sprintf("will restart %s after run %d: %v%s, back-off %v", a.ID, a.Run, a.Reason, because(a.Cause), a.Delay)
	case SupervisorStarting:
		return fmt.Sprintf("supervisor %s starts", orRoot(a.ID))
	case SupervisorStarted:
		return fmt.Sprintf("supervisor %s has started", orRoot(a.ID))
	case SupervisorStartFailed:
		return fmt.Sprintf("supervisor %s could not start%s", orRoot(a.ID), because(a.Cause))
	case SupervisorStopping:
		return fmt.Sprintf("supervisor %s stops", orRoot(a.ID))
	case SupervisorStopped:
		return fmt.Sprintf("supervisor %s has stopped", orRoot(a.ID))
	case SupervisorGaveUp:
		return fmt.Sprintf("supervisor %s gives up: %v%s", orRoot(a.ID), a.Reason, because(a.Cause))
	case Answer:
		return fmt.Sprintf("answer %d: %v", a.Token, orOK(a.Err))
	case Reconfigured:
		if a.Err != nil {
			return "RECONFIGURED not: " + indented(a.Err)
		}
		return "RECONFIGURED"
	case Ended:
		return fmt.Sprintf("ENDED: %v%s (%v)", a.Outcome, because(a.Cause), a.Reason)
	}
	return fmt.Sprintf("%#v", a)
}

func because(cause string) string {
	if cause == "" {
		return ""
	}
	return ", because of " + cause
}

func orOK(err error) error {
	if err == nil {
		return errors.New("ok")
	}
	return err
}

func (p *player) status(id string, s Status) {
	line := fmt.Sprintf("%-10s %v, run %d", orRoot(id), s.State, s.Run)
	if s.Gone {
		line += ", specification gone"
	}
	if s.Waiting {
		line += ", will be started"
		if s.RestartAt > 0 {
			line += fmt.Sprintf(" in %v", s.RestartAt-p.now)
		}
	}
	if s.Ended {
		line += fmt.Sprintf(", last exit %v", s.Exit)
	}
	if s.Row > 0 {
		line += fmt.Sprintf(", failures in a row %d", s.Row)
	}
	p.printf("%s", line)
}
