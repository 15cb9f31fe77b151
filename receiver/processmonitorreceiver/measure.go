// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/procfs"
)

// history is what has to be remembered of a child from one scrape to the next.
type history struct {
	// user and system are the CPU times last given. Between the moment a process is
	// reaped and the moment its times are in Totals neither source has them, and a
	// counter must not fall meanwhile.
	user, system time.Duration
	// whole: these were once those of all of its processes.
	whole bool
	// missing are the runs whose processes the last scrape did not find.
	missing []uint64
	scrape  uint64 // the last scrape that saw the child
	// present: at the last scrape there was a living process.
	present bool
}

func (c *collector) history(info *supervisorextension.Info) *history {
	h, ok := c.histories[info]
	if !ok {
		h = &history{}
		c.histories[info] = h
	}
	h.scrape = c.scrapes
	c.reported++
	return h
}

// forget drops the histories of children that are no longer there.
func (c *collector) forget() {
	if len(c.histories) == c.reported {
		return
	}
	for info, h := range c.histories {
		if h.scrape != c.scrapes {
			delete(c.histories, info)
		}
	}
}

// finding is what a look at a process has shown.
type finding uint8

const (
	// foundNone: it is just being reaped.
	foundNone finding = iota
	foundStat
	// foundUnreadable: there is one, but what it uses cannot be told.
	foundUnreadable
)

// usage is what the living processes of a child use together.
type usage struct {
	user, system time.Duration
	// present of them hold memory and threads: those that are no zombies.
	present                         int
	rssPages, virtualBytes, threads int64
}

func (u *usage) add(st *procfs.Stat) {
	u.user += st.User
	u.system += st.System
	if st.Zombie() {
		return
	}
	u.present++
	u.rssPages += st.RSSPages
	u.virtualBytes += int64(st.VirtualBytes)
	u.threads += st.Threads
}

// emitMeasured appends what the kernel knows of a process, or of all instances of a
// template together: a resource has one point of each, whoever it is of.
func (c *collector) emitMeasured(e *emitter, p *supervisorextension.Process, runs []supervisorextension.Process, now time.Time) {
	on := &c.cfg.Metrics
	h := c.history(p.Info)
	var used usage
	living, found, readable := 0, 0, true
	var oldest time.Time
	c.missing = c.missing[:0]
	for i := range runs {
		run := &runs[i]
		if run.PID == 0 {
			continue
		}
		if living++; living == 1 || run.Started.Before(oldest) {
			oldest = run.Started
		}
		var st procfs.Stat
		switch c.look(run, h, &st) {
		case foundStat:
			found++
			used.add(&st)
		case foundUnreadable:
			readable = false
		case foundNone:
		}
	}
	h.missing = append(h.missing[:0], c.missing...)

	if readable {
		h.user = max(h.user, p.Totals.CPUUser+used.user)
		h.system = max(h.system, p.Totals.CPUSystem+used.system)
		// What a process that is just being reaped has used is known from an earlier scrape or
		// not at all: an earlier collector may have given more.
		h.whole = h.whole || found == living
		if h.whole && on.ProcessCPUTime.Enabled {
			points := e.numbers(&defCPUTime)
			points.double(h.user.Seconds()).PutStr("cpu.mode", "user")
			points.double(h.system.Seconds()).PutStr("cpu.mode", "system")
		}
	}
	if readable && used.present > 0 {
		c.emitPresence(e, &used)
	}
	if living > 0 && on.ProcessUptime.Enabled {
		points := e.numbers(&defUptime)
		points.double(max(0, now.Sub(oldest).Seconds()))
	}
	if living == 0 && h.present {
		c.emitAbsence(e)
	}
	h.present = living > 0
}

// emitPresence appends what only a living process has.
func (c *collector) emitPresence(e *emitter, used *usage) {
	on := &c.cfg.Metrics
	if on.ProcessMemoryUsage.Enabled {
		points := e.numbers(&defMemoryUsage)
		points.int(used.rssPages * c.pageSize)
	}
	if on.ProcessMemoryVirtual.Enabled {
		points := e.numbers(&defMemoryVirtual)
		points.int(used.virtualBytes)
	}
	if on.ProcessThreadCount.Enabled {
		points := e.numbers(&defThreads)
		points.int(used.threads)
	}
}

// emitAbsence ends, once, the series of what only a living process has: without it
// the Prometheus exporter would show the last values for minutes.
func (c *collector) emitAbsence(e *emitter) {
	on := &c.cfg.Metrics
	for _, m := range []struct {
		enabled bool
		def     *definition
	}{
		{on.ProcessMemoryUsage.Enabled, &defMemoryUsage},
		{on.ProcessMemoryVirtual.Enabled, &defMemoryVirtual},
		{on.ProcessThreadCount.Enabled, &defThreads},
		{on.ProcessUptime.Enabled, &defUptime},
	} {
		if m.enabled {
			points := e.numbers(m.def)
			points.noValue()
		}
	}
}

// look reads the living process of p into st.
func (c *collector) look(p *supervisorextension.Process, h *history, st *procfs.Stat) finding {
	err := c.proc.Stat(p.PID, p.StartTicks, st)
	switch {
	case err == nil:
		c.letters[p.PID] = st.State
		return foundStat
	case errors.Is(err, procfs.ErrGone):
		c.missing = append(c.missing, p.Run)
		if !slices.Contains(h.missing, p.Run) {
			return foundNone
		}
		// Reaping takes no whole interval: /proc hides the process, or is not that
		// of the supervisor's pid namespace.
		err = errors.New("the supervisor runs it, but there is no such process in /proc; is /proc mounted with hidepid?")
	}
	c.tellOnce("process/"+p.Info.ID, "a process cannot be measured", err,
		zap.String("process", p.Info.ID), zap.Int("pid", p.PID))
	return foundUnreadable
}
