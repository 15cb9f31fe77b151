// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// kind is the shape of a metric's points.
type kind uint8

const (
	gauge     kind = iota
	counter        // a monotonic, cumulative sum
	upDown         // a cumulative sum that may fall
	histogram      // cumulative
)

// definition is what a metric is called and means. A test compares all of them
// with what metadata.yaml says.
type definition struct {
	name, description, unit string
	kind                    kind
}

var (
	defEvent         = definition{"event", "Lifecycle events so far. Captured output lines are not counted.", "{event}", counter}
	defProcessCount  = definition{"process.count", "Children of the supervisor by kind and state, the supervisor itself included.", "{process}", upDown}
	defCPUTime       = definition{"process.cpu.time", "CPU time of all runs of the process, the living one included, without its children.", "s", counter}
	defLifetime      = definition{"process.lifetime", "How long the ended runs lasted.", "s", histogram}
	defMemoryUsage   = definition{"process.memory.usage", "Memory in RAM (resident set).", "By", upDown}
	defMemoryVirtual = definition{"process.memory.virtual", "Virtual memory.", "By", upDown}
	defRestarts      = definition{"process.restarts", "Restarts so far, of the reasons seen so far.", "{restart}", counter}
	defThreads       = definition{"process.thread.count", "Threads.", "{thread}", upDown}
	defUptime        = definition{"process.uptime", "How long the living run has lasted, of a template's instances the oldest. Absent when nothing runs.", "s", gauge}
	defExits         = definition{"supervisor.process.exits", "Ends of runs so far, and starts that failed, of the reasons seen so far.", "{exit}", counter}
	defState         = definition{"supervisor.process.state", "1 for the state the process is in, 0 for all others. Of a template, how many instances are in the state.", "{process}", upDown}
	defLoad15m       = definition{"system.cpu.load_average.15m", "Average number of threads running or waiting, over 15 minutes.", "{thread}", gauge}
	defLoad1m        = definition{"system.cpu.load_average.1m", "Average number of threads running or waiting, over 1 minute.", "{thread}", gauge}
	defLoad5m        = definition{"system.cpu.load_average.5m", "Average number of threads running or waiting, over 5 minutes.", "{thread}", gauge}
	defSystemMemory  = definition{"system.memory.usage", "Memory by use. The uses overlap and do not add up to the whole.", "By", upDown}
	defSystemProcess = definition{"system.process.count", "Processes of the host that can be seen, by state.", "{process}", upDown}
	defSystemUptime  = definition{"system.uptime", "Time since the host was started.", "s", gauge}
)

// emitter appends metrics to one resource. Its points get the times now and, if
// they are not of a gauge, start.
type emitter struct {
	metrics    pmetric.MetricSlice
	start, now pcommon.Timestamp
}

// numbers appends a metric and returns its points, which must not stay empty.
func (e *emitter) numbers(d *definition) numbers {
	metric := e.append(d)
	points := numbers{emitter: e}
	switch d.kind {
	case gauge:
		points.slice = metric.SetEmptyGauge().DataPoints()
	default:
		sum := metric.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		sum.SetIsMonotonic(d.kind == counter)
		points.slice = sum.DataPoints()
		points.start = e.start
	}
	return points
}

// histogram appends a metric with one point and returns it.
func (e *emitter) histogram(d *definition) pmetric.HistogramDataPoint {
	h := e.append(d).SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	point := h.DataPoints().AppendEmpty()
	point.SetStartTimestamp(e.start)
	point.SetTimestamp(e.now)
	return point
}

func (e *emitter) append(d *definition) pmetric.Metric {
	metric := e.metrics.AppendEmpty()
	metric.SetName(d.name)
	metric.SetDescription(d.description)
	metric.SetUnit(d.unit)
	return metric
}

// numbers are the points of one metric.
type numbers struct {
	emitter *emitter
	slice   pmetric.NumberDataPointSlice
	start   pcommon.Timestamp // 0 for a gauge
}

func (n *numbers) append() pmetric.NumberDataPoint {
	point := n.slice.AppendEmpty()
	point.SetStartTimestamp(n.start)
	point.SetTimestamp(n.emitter.now)
	return point
}

// noValue appends a point that says that the series has ended.
func (n *numbers) noValue() {
	point := n.append()
	point.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
}

// int appends a point and returns its attributes.
func (n *numbers) int(value int64) pcommon.Map {
	point := n.append()
	point.SetIntValue(value)
	return point.Attributes()
}

// double appends a point and returns its attributes.
func (n *numbers) double(value float64) pcommon.Map {
	point := n.append()
	point.SetDoubleValue(value)
	return point.Attributes()
}
