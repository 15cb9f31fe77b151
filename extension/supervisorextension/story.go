// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// What is told in the journal: one function an event, each with a sentence for
// people and attributes for programs.

func (e *engine) tellStarted(c *child) {
	e.tell(c, c.pid, journal.ProcessStarted, journal.SeverityInfo, fmt.Sprintf("was started with pid %d", c.pid), creationTime(c))
}

func (e *engine) tellAdopted(c *child) {
	e.tell(c, c.pid, journal.ProcessAdopted, journal.SeverityInfo, fmt.Sprintf("goes on with pid %d under a new collector", c.pid), creationTime(c))
}

func (e *engine) tellReady(c *child) {
	e.tell(c, c.pid, journal.ProcessReady, journal.SeverityInfo, "is ready",
		creationTime(c), journal.Seconds(journal.KeyStartDuration, monotonic()-c.startedMono))
}

func (e *engine) tellStartFailed(c *child, err error) {
	e.tell(c, 0, journal.ProcessStartFailed, journal.SeverityError, "could not be started: "+err.Error(),
		journal.String(journal.KeyErrorMessage, err.Error()),
		journal.String(journal.KeyExitReason, tree.ExitStartFailed.String()),
		report(startError))
}

// The contexts of OTP's supervisor reports. The offender of a report is the process
// that the event is about, its reason the exit reason.
const (
	startError      = "start_error"
	childTerminated = "child_terminated"
	shutdownError   = "shutdown_error"
	shutdown        = "shutdown"
)

func report(context string) journal.Attr { return journal.String(journal.KeyReportContext, context) }

func (e *engine) tellStopping(c *child, a tree.StopProcess) {
	attrs := []journal.Attr{journal.String(journal.KeyStopReason, a.Why.String())}
	body := fmt.Sprintf("is asked to stop with %s (%s)", signalName(c.cfg.Stop.Signal), a.Why)
	if a.Why == tree.StopStartTimeout {
		body = fmt.Sprintf("was not ready within %v (start_timeout), it is asked to stop with %s", c.cfg.StartTimeout, signalName(c.cfg.Stop.Signal))
	}
	if a.Cause != "" {
		attrs = append(attrs, journal.String(journal.KeyRestartCause, a.Cause))
		body += fmt.Sprintf(" because of %q", a.Cause)
	}
	e.tell(c, c.pid, journal.ProcessStopping, journal.SeverityInfo, body, attrs...)
}

func (e *engine) tellKilled(c *child, survivors []keeper.ProcessName) {
	if c.pid == 0 {
		body := "left processes that did not end, they were killed"
		var attrs []journal.Attr
		if len(survivors) > 0 {
			body = fmt.Sprintf("left processes that did not end, they were killed: %s", nameProcesses(survivors))
			attrs = append(attrs, journal.String(journal.KeyProcesses, nameProcesses(survivors)))
		}
		e.tell(c, 0, journal.ProcessSurvivorsKilled, journal.SeverityWarn, body, attrs...)
		return
	}
	body := fmt.Sprintf("did not end within %v of being asked, it was killed", c.cfg.Stop.Timeout)
	attrs := []journal.Attr{report(shutdownError)}
	switch {
	case c.hurried:
		body = "did not end before shutdown_timeout was nearly over, it was killed"
	case c.cfg.Stop.Timeout == 0:
		body = "was killed, its stop has no grace"
		attrs = nil // it is what was asked for
	}
	e.tell(c, c.pid, journal.ProcessKilled, journal.SeverityWarn, body, attrs...)
}

// nameProcesses lists processes as "nginx (12), sh (13)".
func nameProcesses(processes []keeper.ProcessName) string {
	names := make([]string, len(processes))
	for i, p := range processes {
		names[i] = fmt.Sprintf("%s (%d)", p.Name, p.PID)
	}
	return strings.Join(names, ", ")
}

// tellStranger tells of what some process has left behind.
func (e *engine) tellStranger(processes []keeper.ProcessName) {
	pid := 0
	if len(processes) > 0 {
		pid = processes[0].PID
	}
	e.append(e.roster.root, pid, journal.TopicLifecycle, journal.ProcessOrphanUnattributed, journal.SeverityWarn,
		fmt.Sprintf("has a process that was left behind, by which of its own can not be told: %s; it is left alone", nameProcesses(processes)),
		journal.String(journal.KeyProcesses, nameProcesses(processes)))
}

func (e *engine) tellUnkillable(c *child) {
	e.tell(c, c.pid, journal.ProcessUnkillable, journal.SeverityError,
		fmt.Sprintf("still lives %v after KILL, it is left alone", keeper.UnkillableAfter), report(shutdownError))
}

func (e *engine) tellDied(c *child, exit keeper.Exit, run EndedRun, lastWords []journal.Attr) {
	attrs := []journal.Attr{
		journal.String(journal.KeyExitReason, c.exit.String()),
		creationTime(c),
		journal.Seconds(journal.KeyRunDuration, run.Lasted),
		journal.Seconds(journal.KeyCPUUser, exit.User),
		journal.Seconds(journal.KeyCPUSystem, exit.System),
	}
	if exit.Signal != 0 {
		attrs = append(attrs, journal.String(journal.KeyExitSignal, run.Signal), journal.Bool(journal.KeyCoreDumped, exit.Core))
	} else if !exit.Lost {
		attrs = append(attrs, journal.Int(journal.KeyExitCode, int64(exit.Code)))
	}
	if exit.IO != nil {
		attrs = append(attrs, journal.Int(journal.KeyDiskRead, int64(exit.IO.ReadBytes)), journal.Int(journal.KeyDiskWrite, int64(exit.IO.WriteBytes)))
	}
	if !exit.Lost {
		attrs = append(attrs,
			journal.Int(journal.KeyMajorFaults, int64(exit.Usage.Majflt)), journal.Int(journal.KeyMinorFaults, int64(exit.Usage.Minflt)),
			journal.Int(journal.KeySwitchesGiven, int64(exit.Usage.Nvcsw)), journal.Int(journal.KeySwitchesTaken, int64(exit.Usage.Nivcsw)))
	}
	if by := askedBy[exit.By]; by != "" {
		attrs = append(attrs, journal.String(journal.KeyExitAskedBy, by))
	}
	if run.Late {
		attrs = append(attrs, journal.Bool(journal.KeyReplayed, true))
	}
	name, severity := journal.ProcessCrashed, journal.SeverityError
	switch {
	case c.exit == tree.ExitStopped:
	case c.exit == tree.ExitSuccess && (c.readyByExit() || c.config.Restart != RestartPermanent):
		// It was to end.
	case c.exit == tree.ExitStartTimeout || c.state == tree.StateStarting:
		attrs = append(attrs, report(startError))
	default:
		attrs = append(attrs, report(childTerminated))
	}
	switch {
	case c.exit == tree.ExitStopped:
		name, severity = journal.ProcessStopped, journal.SeverityInfo
	case c.exit == tree.ExitSuccess:
		name, severity = journal.ProcessExited, journal.SeverityInfo
	case c.exit == tree.ExitStartTimeout:
		name = journal.ProcessStartFailed
	case c.config.Restart == RestartTemporary:
		name, severity = journal.ProcessExited, journal.SeverityWarn
	}
	if severity != journal.SeverityInfo {
		attrs = append(attrs, lastWords...)
	}
	body := fmt.Sprintf("%s after %v", describe(exit), run.Lasted.Round(time.Millisecond))
	if exit.By == keeper.StoppedByKeeper {
		body += ", by its keeper, since no collector had come within orphan_grace"
	}
	e.tell(c, run.PID, name, severity, body, attrs...)
}

// askedBy says who had asked for an end when it came; "" if nobody had.
var askedBy = map[keeper.StoppedBy]string{
	keeper.StoppedByStop: "stop", keeper.StoppedByKill: "kill", keeper.StoppedByKeeper: "keeper",
}

func (e *engine) tellRestarting(c *child, a tree.Restarting) {
	attrs := []journal.Attr{
		journal.String(journal.KeyRestartReason, a.Reason.String()),
		journal.Seconds(journal.KeyRestartDelay, a.Delay),
	}
	body := fmt.Sprintf("is restarted (%s)", a.Reason)
	if a.Delay > 0 {
		body = fmt.Sprintf("is restarted in %v (%s)", a.Delay.Round(time.Millisecond), a.Reason)
	}
	if a.Cause != "" {
		attrs = append(attrs, journal.String(journal.KeyRestartCause, a.Cause))
		body += fmt.Sprintf(" because of %q", a.Cause)
	}
	e.tell(c, c.pid, journal.ProcessRestarting, journal.SeverityWarn, body, attrs...)
}

func (e *engine) tellHealthy(c *child, failures int) {
	e.append(c, c.pid, journal.TopicHealth, journal.ProcessHealthy, journal.SeverityInfo,
		fmt.Sprintf("works again after %d failed checks", failures))
}

func (e *engine) tellUnhealthy(c *child, err error, consequence string) {
	name := journal.ProcessUnhealthy
	if errors.Is(err, errNoWatchdog) {
		name = journal.ProcessWatchdogMissed
	}
	e.append(c, c.pid, journal.TopicHealth, name, journal.SeverityWarn,
		fmt.Sprintf("does not answer: %v (%s)", err, consequence), journal.String(journal.KeyErrorMessage, err.Error()))
}

func (e *engine) tellSupervisorStarted(id string) {
	e.append(e.roster.byID[id], 0, journal.TopicSupervisor, journal.SupervisorStarted, journal.SeverityInfo, "has all its children up")
}

func (e *engine) tellSupervisorStartFailed(a tree.SupervisorStartFailed) {
	e.append(e.roster.byID[a.ID], 0, journal.TopicSupervisor, journal.SupervisorStopped, journal.SeverityError,
		fmt.Sprintf("could not be started because of %q, what was up has been stopped", a.Cause),
		journal.String(journal.KeyRestartCause, a.Cause), report(startError))
}

func (e *engine) tellGaveUp(a tree.SupervisorGaveUp) {
	severity, what := journal.SeverityError, "gives up"
	if a.Reason == tree.GiveUpAutoShutdown {
		severity, what = journal.SeverityInfo, "ends by itself" // as it was told to
	}
	e.append(e.roster.byID[a.ID], 0, journal.TopicSupervisor, journal.SupervisorGaveUp, severity,
		fmt.Sprintf("%s because of %q (%s), its children are stopped", what, a.Cause, a.Reason),
		journal.String(journal.KeyRestartCause, a.Cause), journal.String(journal.KeyStopReason, a.Reason.String()),
		report(shutdown))
}

func (e *engine) tellSupervisorStopped(id string) {
	e.append(e.roster.byID[id], 0, journal.TopicSupervisor, journal.SupervisorStopped, journal.SeverityInfo, "has all its children down")
}

func creationTime(c *child) journal.Attr {
	return journal.String(journal.KeyCreationTime, c.started.UTC().Format(time.RFC3339Nano))
}

// tell appends an event of a process's life.
func (e *engine) tell(c *child, pid int, name string, severity journal.Severity, body string, attrs ...journal.Attr) {
	e.append(c, pid, journal.TopicLifecycle, name, severity, body, attrs...)
}

// append completes the sentence, of which body is all but the subject.
func (e *engine) append(c *child, pid int, topic, name string, severity journal.Severity, body string, attrs ...journal.Attr) {
	subject := fmt.Sprintf("process %q", c.id)
	switch {
	case c.id == "":
		subject = "the supervisor"
	case c.cfg == nil:
		subject = fmt.Sprintf("supervisor %q", c.id)
	}
	e.stage(c.instance(), journal.Event{
		Topic: topic, Name: name, Severity: severity,
		Body:    subject + " " + body,
		Process: c.info.ID, Run: c.run, PID: pid, Attrs: attrs,
	})
}

// stage gives the event its time. instance is the id of an instance, "" for all others.
func (e *engine) stage(instance string, event journal.Event) {
	event.Time, event.Mono = time.Now(), monotonic()
	if instance != "" {
		event.Attrs = append(event.Attrs, journal.String(journal.KeyInstanceID, instance))
	}
	e.journal.Stage(event)
}

// tellTrouble tells what became of lines of output.
func (e *engine) tellTrouble(t trouble) {
	attrs := []journal.Attr{journal.String(journal.KeyStream, t.of.Stream), journal.Int(journal.KeyOutputLines, int64(t.lines))}
	if t.bytes > 0 {
		attrs = append(attrs, journal.Int(journal.KeyOutputBytes, int64(t.bytes)))
	}
	lines := fmt.Sprintf("%d lines", t.lines)
	if t.lines == 1 {
		lines = "a line"
	}
	var body string
	switch {
	case t.event == journal.OutputTruncated:
		body = fmt.Sprintf("wrote %s to %s longer than max_line allows, or than its pipe holds: it goes on in the next record", lines, t.of.Stream)
	case t.why == droppedShutdown:
		body = fmt.Sprintf("lost %s of %s, which the pipeline did not take before the end", lines, t.of.Stream)
	default:
		body = fmt.Sprintf("lost %s of %s, which the pipeline did not take in time (on_full)", lines, t.of.Stream)
	}
	if t.why != "" {
		attrs = append(attrs, journal.String(journal.KeyOutputReason, string(t.why)))
	}
	e.stage(t.of.Instance, journal.Event{
		Topic: journal.TopicOutput, Name: t.event, Severity: journal.SeverityWarn,
		Body:    fmt.Sprintf("process %q %s", t.id, body),
		Process: t.of.Process.ID, Run: t.of.Run, PID: t.of.PID, Attrs: attrs,
	})
}
