// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/processor"
)

type logsTree = tree[plog.Logs, plog.ResourceLogsSlice, plog.ResourceLogs, plog.ScopeLogsSlice, plog.ScopeLogs, plog.LogRecordSlice, plog.LogRecord]

type logsSignal struct {
	logsTree
	grouping grouping
	next     consumer.Logs
}

type logsProcessor struct{ *engine[plog.Logs] }

func newLogsProcessor(set processor.Settings, cfg *Config, next consumer.Logs) (*logsProcessor, error) {
	grouping, err := newGrouping(cfg.Logs.GroupBy, signalLogs)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(set, cfg, "logs", newLogsSignal(grouping, next), grouping.enabled())
	if err != nil {
		return nil, err
	}
	return &logsProcessor{e}, nil
}

func newLogsSignal(g grouping, next consumer.Logs) *logsSignal {
	return &logsSignal{
		logsTree: logsTree{
			create:    plog.NewLogs,
			resources: plog.Logs.ResourceLogs,
			scopes:    plog.ResourceLogs.ScopeLogs,
			items:     plog.ScopeLogs.LogRecords,
			byPointer: hasPointers[plog.LogRecordSlice](),
		},
		grouping: g,
		next:     next,
	}
}

// ConsumeLogs takes the records over. See Config.Acknowledge for what a nil error means.
func (p *logsProcessor) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	return p.consume(ctx, ld)
}

func (s *logsSignal) create() plog.Logs      { return plog.NewLogs() }
func (s *logsSignal) count(ld plog.Logs) int { return ld.LogRecordCount() }
func (s *logsSignal) moveAll(from, to plog.Logs) {
	from.ResourceLogs().MoveAndAppendTo(to.ResourceLogs())
}

func (s *logsSignal) send(ctx context.Context, ld plog.Logs) error {
	return s.next.ConsumeLogs(ctx, ld)
}

func (s *logsSignal) classify(ld plog.Logs, c *classification) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			c.buf = s.grouping.appendShared(c.buf[:0], rl.Resource(), sl.Scope())
			records := sl.LogRecords()
			if len(s.grouping.item) == 0 {
				c.addRun(records.Len())
				continue
			}
			shared := len(c.buf)
			for i := range records.Len() {
				c.buf = s.grouping.appendLogRecord(c.buf[:shared], records.At(i))
				c.add()
			}
		}
	}
}
