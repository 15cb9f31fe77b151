// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/output"
)

// A keeper forgets a run, and closes its pipes, when its end is acknowledged. So that is
// acknowledged when what the run has written was taken, however long that takes: until
// then the next collector finds it there.

// unread is a run whose output has not been read to its end.
type unread struct {
	streams []*stream
	open    int
	bounded bool   // what it has written may be given up when the process has ended often since
	gone    uint64 // the event that is acknowledged then; 0: nothing has been told of the end
}

// outputRead is the message that a stream of a run has been read to its end.
type outputRead struct{ of runKey }

// maxUnread is how many ended runs of a process may wait for their output to be taken,
// unless lines are never to be dropped: their descriptors are.
const maxUnread = 8

// followOutput has the output of a run read.
func (e *engine) followOutput(c *child, m spawned, cfg *OutputConfig, watch func([]output.Line) bool) []*stream {
	streams := e.capture.follow(c, m, cfg, watch)
	if len(streams) > 0 {
		// What a run leaves alive does not wait for the pipeline, it may write for ever.
		bounded := cfg.OnFull.Wait >= 0 && c.cfg.Stop.Scope == StopScopeTree
		e.unread[runKey{c.id, m.run}] = &unread{streams: streams, open: len(streams), bounded: bounded}
	}
	return streams
}

// isUnread is told of the Gone of a run, and reports whether its output is still being
// read. Of too many such runs of a process the oldest is given up.
func (e *engine) isUnread(event keeper.Event) bool {
	u := e.unread[runKey{event.ID, event.Run}]
	if u == nil {
		return false
	}
	u.gone = event.Seq
	if u.bounded {
		waiting := append(e.waiting[event.ID], event.Run)
		e.waiting[event.ID] = waiting
		if len(waiting) > maxUnread {
			for _, s := range e.unread[runKey{event.ID, waiting[0]}].streams {
				s.giveUp()
			}
		}
	}
	return true
}

func (e *engine) onRead(of runKey) {
	u := e.unread[of]
	if u == nil {
		return
	}
	if u.open--; u.open > 0 {
		return
	}
	delete(e.unread, of)
	if waiting := slices.DeleteFunc(e.waiting[of.id], func(run uint64) bool { return run == of.run }); len(waiting) > 0 {
		e.waiting[of.id] = waiting
	} else {
		delete(e.waiting, of.id)
	}
	if u.gone != 0 {
		e.acknowledge = append(e.acknowledge, u.gone)
	}
}

// readLeft reads what a run has left whose end the last collector dealt with.
func (e *engine) readLeft(run keeper.Run, wanted map[string]*ChildConfig) {
	c := e.roster.byID[run.ID]
	if c == nil { // an instance that ended for good
		if template := e.roster.byID[run.ID[:max(0, strings.LastIndexByte(run.ID, '.'))]]; template != nil && template.info.Template {
			c = newInstanceOf(template, run.ID)
		}
	}
	if c == nil || c.cfg == nil {
		e.logger.Error("what a process wrote last is lost: it is not known any more", zap.String("process", run.ID), zap.Uint64("run", run.Run))
		run.Started.Close()
		return
	}
	m := spawned{id: run.ID, run: run.Run, started: run.Started, at: run.Started.At, mono: run.Started.Mono}
	streams := e.followOutput(c, m, c.readAs(wanted), nil)
	for _, s := range streams {
		s.over.Store(true)
		s.reader.Exited()
	}
	if c.cfg.Stop.Scope == StopScopeTree {
		finish(streams)
	}
}
