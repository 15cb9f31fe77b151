// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package journal is the ordered, bounded record of what happened to the
// supervised processes. One writer appends; each reader has a cursor of its own
// and moves it only when what it read has been delivered.
package journal

import "time"

// Topics group events; a receiver switches logging and counting by topic.
const (
	TopicLifecycle  = "lifecycle"
	TopicSupervisor = "supervisor"
	TopicHealth     = "health"
	TopicOutput     = "output"
)

// The names of the events, by topic.
const (
	// Lifecycle: what happens to one process.
	ProcessStarted         = "process.started"
	ProcessReady           = "process.ready"
	ProcessExited          = "process.exited" // ended well, or stopped by itself as temporary
	ProcessCrashed         = "process.crashed"
	ProcessRestarting      = "process.restarting"
	ProcessStartFailed     = "process.start_failed"
	ProcessStopping        = "process.stopping"
	ProcessStopped         = "process.stopped"
	ProcessKilled          = "process.killed"           // its grace was over
	ProcessSurvivorsKilled = "process.survivors_killed" // what was left of its scope after its end
	// ProcessOrphanUnattributed: a process was left behind, by which it can not be told.
	ProcessOrphanUnattributed = "process.orphan_unattributed"
	ProcessUnkillable         = "process.unkillable"
	ProcessAdopted            = "process.adopted" // it outlived a collector, and another one has it now

	// Supervisor: what happens to a supervisor as a whole.
	SupervisorStarted = "supervisor.started"
	SupervisorGaveUp  = "supervisor.gave_up"
	SupervisorStopped = "supervisor.stopped"
	ConfigApplied     = "config.applied" // what a new configuration meant for one process, or for all together

	// Health: whether a process that runs works.
	ProcessUnhealthy      = "process.unhealthy"
	ProcessHealthy        = "process.healthy"
	ProcessWatchdogMissed = "process.watchdog_missed"

	// Output: what could not be told of a process's output. The lines themselves
	// are not events.
	OutputDropped   = "output.dropped"
	OutputTruncated = "output.truncated"
	JournalGap      = "journal.gap" // made by a reader that fell behind, never stored
)

// Severity ranks an event; the values are those of OpenTelemetry's severity
// numbers, so that no table is needed to translate them.
type Severity uint8

const (
	SeverityInfo  Severity = 9
	SeverityWarn  Severity = 13
	SeverityError Severity = 17
)

// Event is one thing that happened. It is immutable once appended: readers share
// its Attrs. The names of the fields in JSON are what another version reads.
type Event struct {
	// Seq numbers the events of a journal from 1, without holes.
	Seq uint64 `json:"seq"`
	// Time is the wall clock at the event, for showing. Differences between
	// events are to be taken from Mono.
	Time time.Time `json:"time"`
	// Mono is the raw CLOCK_MONOTONIC at the event.
	Mono time.Duration `json:"mono"`

	Topic    string   `json:"topic"`
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// Body is one readable sentence.
	Body string `json:"body"`

	// Process is the id of the process the event is about, "" for the root
	// supervisor. Run and PID are 0 where the event is not about one run.
	Process string `json:"process,omitempty"`
	Run     uint64 `json:"run,omitempty"`
	PID     int    `json:"pid,omitempty"`

	Attrs []Attr `json:"attrs,omitempty"`
}

// Kind tells which field of an Attr holds its value.
type Kind uint8

const (
	KindString Kind = iota
	KindInt
	KindFloat
	KindBool
)

// Attr is a typed attribute. Exactly the field that Kind names is meant.
type Attr struct {
	Key   string  `json:"key"`
	Kind  Kind    `json:"kind,omitempty"`
	Str   string  `json:"str,omitempty"`
	Int   int64   `json:"int,omitempty"` // also KindBool: 0 or 1
	Float float64 `json:"float,omitempty"`
}

// String returns a string attribute.
func String(key, value string) Attr { return Attr{Key: key, Kind: KindString, Str: value} }

// Int returns an integer attribute.
func Int(key string, value int64) Attr { return Attr{Key: key, Kind: KindInt, Int: value} }

// Seconds returns a duration as a float attribute in seconds.
func Seconds(key string, d time.Duration) Attr {
	return Attr{Key: key, Kind: KindFloat, Float: d.Seconds()}
}

// Bool returns a boolean attribute.
func Bool(key string, value bool) Attr {
	a := Attr{Key: key, Kind: KindBool}
	if value {
		a.Int = 1
	}
	return a
}

// Attribute keys that more than one side uses.
const (
	KeyProcessID     = "supervisor.process.id"
	KeyInstanceID    = "supervisor.instance.id" // of an instance, whose template is the process
	KeyRun           = "supervisor.run"
	KeyPID           = "process.pid"
	KeyCreationTime  = "process.creation.time" // ISO 8601
	KeyExitCode      = "process.exit.code"
	KeyExitSignal    = "supervisor.exit.signal"
	KeyExitReason    = "supervisor.exit.reason"
	KeyCoreDumped    = "supervisor.exit.core_dumped"
	KeyExitAskedBy   = "supervisor.exit.asked_by"    // stop, kill or keeper: who had asked for the end
	KeyReplayed      = "supervisor.exit.replayed"    // it came while there was no collector, or one before may have told of it
	KeyDiskRead      = "process.disk.io.read"        // bytes from storage
	KeyDiskWrite     = "process.disk.io.write"       // bytes to storage
	KeyMajorFaults   = "process.paging.faults.major" // of the run and the children that it waited for
	KeyMinorFaults   = "process.paging.faults.minor"
	KeySwitchesGiven = "process.context_switches.voluntary"
	KeySwitchesTaken = "process.context_switches.involuntary"
	KeyRunDuration   = "supervisor.run.duration"   // seconds
	KeyStartDuration = "supervisor.start.duration" // seconds from spawn to ready
	KeyCPUUser       = "process.cpu.time.user"     // seconds
	KeyCPUSystem     = "process.cpu.time.system"   // seconds
	KeyReportContext = "supervisor.report.context" // as in OTP's supervisor reports
	KeyRestartDelay  = "supervisor.restart.delay"
	KeyRestartReason = "supervisor.restart.reason"
	KeyRestartCause  = "supervisor.restart.cause" // id of the sibling whose failure it was
	KeyStopReason    = "supervisor.stop.reason"
	KeyErrorMessage  = "error.message"
	KeyStream        = "log.iostream"
	KeyOutputLines   = "supervisor.output.lines"       // how many
	KeyOutputBytes   = "supervisor.output.bytes"       // in them
	KeyOutputReason  = "supervisor.output.drop_reason" // on_full or shutdown
	KeyOutputTail    = "supervisor.output.tail"        // the last lines before the end, with the stream's name behind it
	KeyProcesses     = "supervisor.processes"          // those that were left behind: "nginx (12), sh (13)"
	KeyConfigAction  = "supervisor.config.action"      // kept, restarted, started or stopped
	KeyConfigKeys    = "supervisor.config.keys"        // those that differ, joined by ","
	// How many children a configuration left, replaced, started and stopped.
	KeyConfigKept      = "supervisor.config.kept"
	KeyConfigRestarted = "supervisor.config.restarted"
	KeyConfigStarted   = "supervisor.config.started"
	KeyConfigStopped   = "supervisor.config.stopped"
)
