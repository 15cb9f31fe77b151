// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/aggregate"
	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metadata"
)

// trigger is what made a batch leave.
type trigger string

const (
	triggerSize      trigger = "size"
	triggerTimeout   trigger = "timeout"
	triggerImmediate trigger = "immediate"
	triggerQueueFull trigger = "queue_full"
	triggerInterval  trigger = "interval"
	triggerShutdown  trigger = "shutdown"
)

// reason is why items did not go on.
type reason string

const (
	reasonQueueFull  reason = "queue_full"
	reasonCanceled   reason = "canceled"
	reasonShutdown   reason = "shutdown"
	reasonTooLarge   reason = "too_large"
	reasonMetadata   reason = "metadata_cardinality"
	reasonSendFailed reason = "send_failed"
	reasonIncomplete reason = "incomplete" // an earlier part of the same request was refused
)

// loss is a number of items of one group.
type loss struct {
	label string
	items int
}

// warnEvery is how often at most a warning of one kind is logged.
const warnEvery = 10 * time.Second

// telemetry is what the processor tells about itself.
type telemetry struct {
	log     *zap.Logger
	builder *metadata.TelemetryBuilder
	base    attribute.Set
	option  metric.MeasurementOption // base

	triggers map[trigger]metric.MeasurementOption

	labels    sync.Map // of group names that have appeared in metrics
	labelsMax int64
	labelsLen atomic.Int64

	full, high, overflow, failed, unmerged limiter
}

// observed are the values that callbacks read.
type observed struct {
	size, capacity, groups, combinations int
	totals
	points aggregate.Stats
}

func newTelemetry(set processor.Settings, kind string, maxLabels int, observe func() observed) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	t := &telemetry{log: set.Logger, builder: builder, labelsMax: int64(maxLabels), triggers: map[trigger]metric.MeasurementOption{}}
	t.base = attribute.NewSet(attribute.String("processor", set.ID.String()), attribute.String("signal", kind))
	t.option = metric.WithAttributeSet(t.base)
	for _, tr := range []trigger{triggerSize, triggerTimeout, triggerImmediate, triggerQueueFull, triggerInterval, triggerShutdown} {
		t.triggers[tr] = t.with(attribute.String("trigger", string(tr)))
	}
	if err := t.register(observe); err != nil {
		builder.Shutdown()
		return nil, err
	}
	return t, nil
}

// register connects the observable instruments. Unmerged points are the only ones with a further attribute.
func (t *telemetry) register(observe func() observed) error {
	one := func(value func(observed) int64) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(value(observe()), t.option)
			return nil
		}
	}
	for _, r := range []struct {
		register func(metric.Int64Callback) error
		value    func(observed) int64
	}{
		{t.builder.RegisterProcessorEventBatchQueueSizeCallback, func(o observed) int64 { return int64(o.size) }},
		{t.builder.RegisterProcessorEventBatchQueueCapacityCallback, func(o observed) int64 { return int64(o.capacity) }},
		{t.builder.RegisterProcessorEventBatchGroupsCallback, func(o observed) int64 { return int64(o.groups) }},
		{t.builder.RegisterProcessorEventBatchMetadataCardinalityCallback, func(o observed) int64 { return int64(o.combinations) }},
		{t.builder.RegisterProcessorEventBatchAcceptedItemsCallback, func(o observed) int64 { return o.accepted }},
		{t.builder.RegisterProcessorEventBatchSentItemsCallback, func(o observed) int64 { return o.sent }},
		{t.builder.RegisterProcessorEventBatchOverflowItemsCallback, func(o observed) int64 { return o.overflow }},
		{t.builder.RegisterProcessorEventBatchMergedPointsCallback, func(o observed) int64 { return o.points.Merged }},
		{t.builder.RegisterProcessorEventBatchResetsCallback, func(o observed) int64 { return o.points.Resets }},
	} {
		if err := r.register(one(r.value)); err != nil {
			return err
		}
	}
	causes := make([]metric.MeasurementOption, len(aggregate.Causes))
	for i, c := range aggregate.Causes {
		causes[i] = t.with(attribute.String("cause", c))
	}
	return t.builder.RegisterProcessorEventBatchUnmergedPointsCallback(func(_ context.Context, o metric.Int64Observer) error {
		for i, n := range observe().points.Unmerged {
			if n > 0 {
				o.Observe(n, causes[i])
			}
		}
		return nil
	})
}

func (t *telemetry) shutdown() { t.builder.Shutdown() }

func (t *telemetry) with(kvs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(t.base.ToSlice(), kvs...)...))
}

// name bounds the number of groups that metrics tell apart: groups come and go, series stay.
func (t *telemetry) name(label string) attribute.KeyValue {
	if _, known := t.labels.Load(label); !known {
		if t.labelsLen.Load() >= t.labelsMax+2 { // (all) and (overflow) come on top
			label = labelOther
		} else if _, loaded := t.labels.LoadOrStore(label, struct{}{}); !loaded {
			t.labelsLen.Add(1)
		}
	}
	return attribute.String("group", label)
}

func (t *telemetry) refused(label string, why reason, n int) {
	t.builder.ProcessorEventBatchRefusedItems.Add(context.Background(), int64(n), t.with(t.name(label), attribute.String("reason", string(why))))
}

func (t *telemetry) dropped(label string, why reason, n int) {
	t.builder.ProcessorEventBatchDroppedItems.Add(context.Background(), int64(n), t.with(t.name(label), attribute.String("reason", string(why))))
}

func (t *telemetry) batchSent(n int, tr trigger, queued, sending time.Duration) {
	ctx := context.Background()
	t.builder.ProcessorEventBatchBatchSendSize.Record(ctx, int64(n), t.triggers[tr])
	t.builder.ProcessorEventBatchQueueDuration.Record(ctx, queued.Seconds(), t.option)
	t.builder.ProcessorEventBatchSendDuration.Record(ctx, sending.Seconds(), t.option)
}

// sendFailed counts a batch that the next consumer refused. Its items are lost unless their callers wait for the outcome.
func (t *telemetry) sendFailed(label string, n int, err error, callersKnow bool) {
	permanent := consumererror.IsPermanent(err)
	t.builder.ProcessorEventBatchSendFailures.Add(context.Background(), 1, t.with(t.name(label), attribute.Bool("permanent", permanent)))
	what := "The next consumer refused a batch; its items are lost, for retries are the exporter's"
	if callersKnow {
		what = "The next consumer refused a batch; its callers get the error"
	} else {
		t.dropped(label, reasonSendFailed, n)
	}
	if suppressed, ok := t.failed.allow(time.Now()); ok {
		t.log.Warn(what, zap.String("group", label), zap.Int("items", n), zap.Bool("permanent", permanent), zap.Error(err),
			zap.Int64("suppressed", suppressed))
	}
}

func (t *telemetry) logLost(what string, l loss) {
	t.log.Warn(what, zap.String("group", l.label), zap.Int("items", l.items))
}

// warnHighWater and warnFull are called for every request while they are true: the limiter is asked first.

func (t *telemetry) warnHighWater(held, capacity int, onFull string) {
	if suppressed, ok := t.high.allow(time.Now()); ok {
		t.log.Warn("The queue is 80 % full; when it is full 'on_full' applies",
			zap.Int("held", held), zap.Int("queue_size", capacity), zap.String("on_full", onFull), zap.Int64("suppressed", suppressed))
	}
}

func (t *telemetry) warnFull(held, capacity int, onFull string) {
	if suppressed, ok := t.full.allow(time.Now()); ok {
		t.log.Warn("The queue is full; 'on_full' applies until the next consumer has taken batches",
			zap.Int("held", held), zap.Int("queue_size", capacity), zap.String("on_full", onFull), zap.Int64("suppressed", suppressed))
	}
}

func (t *telemetry) warnOverflow(maxGroups int) {
	if suppressed, ok := t.overflow.allow(time.Now()); ok {
		t.log.Warn("There are as many groups with items as 'max_groups' allows; items of further ones share the overflow group",
			zap.Int("max_groups", maxGroups), zap.Int64("suppressed", suppressed))
	}
}

func (t *telemetry) warnUnmerged(overlapping, malformed int64) {
	if suppressed, ok := t.unmerged.allow(time.Now()); ok {
		t.log.Warn("Data points could not be merged and go on as they came; overlapping ones point to two sources of one stream",
			zap.Int64("overlapping", overlapping), zap.Int64("malformed", malformed), zap.Int64("suppressed", suppressed))
	}
}

// limiter lets one event pass every warnEvery and counts the others.
type limiter struct {
	next       atomic.Int64 // Unix nanoseconds
	suppressed atomic.Int64
}

func (l *limiter) allow(now time.Time) (suppressed int64, ok bool) {
	next := l.next.Load()
	if now.UnixNano() < next || !l.next.CompareAndSwap(next, now.Add(warnEvery).UnixNano()) {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}
