// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/otelwarden/warden/internal/tree"
)

// savedChild is what the roster knows of a child beyond its state, which the tree has.
type savedChild struct {
	Created time.Time
	Totals  Totals

	// Of the latest run; Alive and the rest as in child.
	Run            uint64
	Alive          bool            `json:",omitempty"`
	PID            int             `json:",omitempty"` // 0 if Alive: something of its group lives
	StartTicks     uint64          `json:",omitempty"`
	Started        time.Time       `json:",omitzero"`
	StartedMono    time.Duration   `json:",omitempty"`
	Stopping       bool            `json:",omitempty"`
	StopWhy        tree.StopReason `json:",omitempty"`
	FailedLiveness bool            `json:",omitempty"`
	Hurried        bool            `json:",omitempty"`
	Exit           tree.ExitReason `json:",omitempty"`
	LastTrouble    string          `json:",omitempty"`
	LastStatus     int             `json:",omitempty"`
}

// save is what is to be kept of c.
func (c *child) save() savedChild {
	return savedChild{
		Created: c.info.Created, Totals: c.totals,
		Run: c.run, Alive: c.alive, PID: c.pid, StartTicks: c.startTicks,
		Started: c.started, StartedMono: c.startedMono,
		Stopping: c.stopping, StopWhy: c.stopWhy, FailedLiveness: c.failedLiveness, Hurried: c.hurried,
		Exit: c.exit, LastTrouble: c.lastTrouble, LastStatus: c.lastStatus,
	}
}

// encode writes it as JSON. As in journal.Encode, a process that has died waits for it.
func (s *savedChild) encode() []byte {
	w := objectWriter{append(make([]byte, 0, 640), '{')}
	w.time("Created", s.Created)
	w.key("Totals")
	w.b = s.Totals.append(w.b)
	w.number("Run", s.Run)
	w.flag("Alive", s.Alive)
	w.unlessZero("PID", int64(s.PID))
	if s.StartTicks != 0 {
		w.number("StartTicks", s.StartTicks)
	}
	if !s.Started.IsZero() {
		w.time("Started", s.Started)
	}
	w.unlessZero("StartedMono", int64(s.StartedMono))
	w.flag("Stopping", s.Stopping)
	w.unlessZero("StopWhy", int64(s.StopWhy))
	w.flag("FailedLiveness", s.FailedLiveness)
	w.flag("Hurried", s.Hurried)
	w.unlessZero("Exit", int64(s.Exit))
	if s.LastTrouble != "" {
		w.key("LastTrouble")
		text, _ := json.Marshal(s.LastTrouble) // a string never fails
		w.b = append(w.b, text...)
	}
	w.unlessZero("LastStatus", int64(s.LastStatus))
	return append(w.b, '}')
}

func (t *Totals) append(b []byte) []byte {
	w := objectWriter{append(b, '{')}
	w.duration("CPUUser", t.CPUUser)
	w.duration("CPUSystem", t.CPUSystem)
	w.numbers("Restarts", t.Restarts[:])
	w.numbers("Exits", t.Exits[:])
	w.key("Lifetime")
	l := objectWriter{append(w.b, '{')}
	l.number("Count", t.Lifetime.Count)
	l.duration("Sum", t.Lifetime.Sum)
	l.numbers("Buckets", t.Lifetime.Buckets[:])
	w.b = append(l.b, '}')
	if last := t.LastStrategy; last != (StrategyRestart{}) {
		w.key("LastStrategy")
		w.b = append(w.b, encode(last)...)
	}
	return append(w.b, '}')
}

// objectWriter appends the members of an object of JSON, of which b has the bracket.
type objectWriter struct{ b []byte }

func (w *objectWriter) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

func (w *objectWriter) number(name string, n uint64) {
	w.key(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *objectWriter) duration(name string, d time.Duration) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, int64(d), 10)
}

func (w *objectWriter) unlessZero(name string, n int64) {
	if n != 0 {
		w.key(name)
		w.b = strconv.AppendInt(w.b, n, 10)
	}
}

func (w *objectWriter) flag(name string, set bool) {
	if set {
		w.key(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *objectWriter) numbers(name string, list []uint64) {
	w.key(name)
	w.b = append(w.b, '[')
	for i, n := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = strconv.AppendUint(w.b, n, 10)
	}
	w.b = append(w.b, ']')
}

func (w *objectWriter) time(name string, t time.Time) {
	w.key(name)
	w.b = append(t.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
}
