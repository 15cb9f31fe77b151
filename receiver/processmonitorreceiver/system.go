// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// hostServiceName is the service.name of the host's resource.
const hostServiceName = "warden.host"

// hostResource describes the host, the same way on every start.
func hostResource(switches *metadata.ResourceAttributesConfig) pcommon.Resource {
	builder := metadata.NewResourceBuilder(*switches)
	builder.SetServiceName(hostServiceName)
	builder.SetServiceInstanceID(supervisorextension.InstanceID(supervisorextension.HostIdentity(), "host"))
	return builder.Emit()
}

// scrapeSystem appends the metrics of the host.
func (c *collector) scrapeSystem(metrics pmetric.Metrics, now time.Time) {
	if !c.rules.admitsMetrics(c.hostRes) {
		return
	}
	e := c.emitter(metrics, c.hostRes, time.Time{}, now)
	e.start = c.boot()
	c.emitLoad(e)
	c.emitMemory(e)
	c.emitProcessStates(e)
	c.emitUptime(e)
}

// boot is when the host's sums began. It is read once: the kernel computes it from
// the clock, and it moves whenever the clock is set.
func (c *collector) boot() pcommon.Timestamp {
	if c.bootTime == 0 {
		stat, err := c.proc.SystemStat()
		if err != nil {
			c.tellOnce("stat", "the host's sums have no start time", err)
			return 0
		}
		c.bootTime = pcommon.NewTimestampFromTime(time.Unix(int64(stat.BootTime), 0))
	}
	return c.bootTime
}

func (c *collector) emitLoad(e *emitter) {
	on := &c.cfg.Metrics
	if !on.SystemCPULoadAverage1m.Enabled && !on.SystemCPULoadAverage5m.Enabled && !on.SystemCPULoadAverage15m.Enabled {
		return
	}
	load, err := c.proc.Loadavg()
	if err != nil {
		c.tellOnce("loadavg", "the host's load cannot be read", err)
		return
	}
	for _, average := range [...]struct {
		on    bool
		def   *definition
		value float64
	}{
		{on.SystemCPULoadAverage1m.Enabled, &defLoad1m, load.One},
		{on.SystemCPULoadAverage5m.Enabled, &defLoad5m, load.Five},
		{on.SystemCPULoadAverage15m.Enabled, &defLoad15m, load.Fifteen},
	} {
		if average.on {
			points := e.numbers(average.def)
			points.double(average.value)
		}
	}
}

func (c *collector) emitMemory(e *emitter) {
	if !c.cfg.Metrics.SystemMemoryUsage.Enabled {
		return
	}
	memory, err := c.proc.Meminfo()
	if err != nil {
		c.tellOnce("meminfo", "the host's memory cannot be read", err)
		return
	}
	points := e.numbers(&defSystemMemory)
	points.int(int64(memory.Total-min(memory.Total, memory.Available))).PutStr("system.memory.state", "used")
	points.int(int64(memory.Free)).PutStr("system.memory.state", "free")
	points.int(int64(memory.Buffers)).PutStr("system.memory.state", "buffers")
	points.int(int64(memory.Cached)).PutStr("system.memory.state", "cached")
}

func (c *collector) emitProcessStates(e *emitter) {
	if !c.cfg.Metrics.SystemProcessCount.Enabled {
		return
	}
	states, err := c.proc.States(c.letters)
	if err != nil {
		c.tellOnce("states", "the states of the host's processes cannot all be read", err)
	}
	if states.Total() == 0 {
		return
	}
	points := e.numbers(&defSystemProcess)
	points.int(int64(states.Running)).PutStr("process.state", "running")
	points.int(int64(states.Sleeping)).PutStr("process.state", "sleeping")
	points.int(int64(states.Stopped)).PutStr("process.state", "stopped")
	points.int(int64(states.Defunct)).PutStr("process.state", "defunct")
}

func (c *collector) emitUptime(e *emitter) {
	if !c.cfg.Metrics.SystemUptime.Enabled {
		return
	}
	uptime, err := c.proc.Uptime()
	if err != nil {
		c.tellOnce("uptime", "the host's uptime cannot be read", err)
		return
	}
	points := e.numbers(&defSystemUptime)
	points.double(float64(uptime))
}
