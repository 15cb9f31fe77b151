// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

func componentID(text string) component.ID {
	var id component.ID
	if err := id.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return id
}

func TestFactory_OneMonitorServesAllSignals(t *testing.T) {
	f := NewFactory()
	ctx, set := context.Background(), receivertest.NewNopSettings(metadata.Type)
	cfg := f.CreateDefaultConfig()
	m, err := f.CreateMetrics(ctx, set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	l, err := f.CreateLogs(ctx, set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	tr, err := f.CreateTraces(ctx, set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.Same(t, m, l)
	assert.Same(t, m, tr)

	other, err := f.CreateMetrics(ctx, set, f.CreateDefaultConfig(), consumertest.NewNop())
	require.NoError(t, err)
	assert.NotSame(t, m, other, "another configuration, another monitor")

	require.NoError(t, m.Shutdown(ctx))
	again, err := f.CreateMetrics(ctx, set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.NotSame(t, m, again, "a monitor that was shut down is not used again")
}

func TestMonitor_AllSignalsFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeSupervisor(runningProcess("web", 1, 12))
		r := newRun(fake, nil)
		require.NoError(t, r.Start(context.Background(), host{supervisorID: fake}))
		require.NoError(t, r.Start(context.Background(), nil), "the start for the second signal does nothing")
		fake.journal.Append(journal.Event{
			Time: now, Topic: journal.TopicLifecycle, Name: journal.ProcessCrashed, Severity: journal.SeverityError, Process: "web",
			Attrs: []journal.Attr{journal.Seconds(journal.KeyRunDuration, time.Second)},
		})
		time.Sleep(25 * time.Second)
		synctest.Wait()
		assert.Len(t, r.metrics.AllMetrics(), 3, "at once and every 10 s")
		assert.Equal(t, 1, r.logs.LogRecordCount())
		assert.Equal(t, 1, r.traces.SpanCount())
		assert.True(t, fake.claimed())

		require.NoError(t, r.Shutdown(context.Background()))
		require.NoError(t, r.Shutdown(context.Background()))
		assert.False(t, fake.claimed())
		fake.append("web", 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Len(t, r.metrics.AllMetrics(), 3, "nothing comes after Shutdown")
		assert.Equal(t, 1, r.logs.LogRecordCount())
	})
}

func TestMonitor_ShutdownWithoutStart(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	require.NoError(t, r.Shutdown(context.Background()))
	require.NoError(t, r.Shutdown(context.Background()))
}

func TestMonitor_StartNamesTheMissingSupervisor(t *testing.T) {
	r := newRun(newFakeSupervisor(), nil)
	const want = `supervisor: there is no extension "supervisor"; add it to service::extensions, or give "" to report on the host only`
	require.EqualError(t, r.Start(context.Background(), host{}), want)
	require.EqualError(t, r.Start(context.Background(), host{}), want, "the other signals get the same answer")
	require.NoError(t, r.Shutdown(context.Background()))
}

type notASupervisor struct {
	component.StartFunc
	component.ShutdownFunc
}

func TestMonitor_StartNamesTheWrongExtension(t *testing.T) {
	r := newRun(newFakeSupervisor(), func(cfg *Config) { cfg.Supervisor = SupervisorID(componentID("zpages/x")) })
	err := r.Start(context.Background(), host{componentID("zpages/x"): notASupervisor{}})
	require.EqualError(t, err, `supervisor: the extension "zpages/x" is a processmonitorreceiver.notASupervisor, not a supervisor; give the id of an extension of type supervisor`)
	require.NoError(t, r.Shutdown(context.Background()))
}

func TestMonitor_SecondTakerOfTheOutputFailsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeSupervisor()
		first := newRun(fake, nil)
		first.start(t)

		second := newRun(fake, nil)
		second.set.ID = componentID("process_monitor/second")
		second.monitor.logs.set.ID = second.set.ID
		second.monitor.traces.set.ID = second.set.ID
		err := second.Start(context.Background(), host{supervisorID: fake})
		require.EqualError(t, err, `supervisor: "`+first.set.ID.String()+`" has it; or give topics::output::log: false here`)
		require.NoError(t, second.Shutdown(context.Background()))
		assert.True(t, fake.claimed(), "the first keeps it")

		third := newRun(fake, func(cfg *Config) { cfg.Topics.Output.Log = false })
		third.set.ID = componentID("process_monitor/third")
		third.monitor.logs.set.ID = third.set.ID
		third.monitor.traces.set.ID = third.set.ID
		third.start(t)
	})
}

// The journal's reader of the traces is taken by somebody else: what was started
// before has to be ended again.
func TestMonitor_StartIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeSupervisor()
		r := newRun(fake, nil)
		blocker, err := fake.journal.Open(r.set.ID.String() + "/traces")
		require.NoError(t, err)
		require.ErrorContains(t, r.Start(context.Background(), host{supervisorID: fake}), "/traces")
		assert.False(t, fake.claimed())
		_, err = fake.journal.Open(r.set.ID.String() + "/logs")
		require.NoError(t, err, "the reader of the logs was closed")
		blocker.Close()
		require.NoError(t, r.Shutdown(context.Background()))
	})
}

func TestMonitor_WithoutSupervisorReportsTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		r := newRun(nil, func(cfg *Config) { cfg.Supervisor = SupervisorID{} })
		r.monitor.logs.set.Logger = zap.New(core)
		r.monitor.traces.set.Logger = zap.New(core)
		require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
		synctest.Wait()
		require.NoError(t, r.Shutdown(context.Background()))
		require.Len(t, r.metrics.AllMetrics(), 1)
		assert.Equal(t, 1, r.metrics.AllMetrics()[0].ResourceMetrics().Len())
		assert.Equal(t, 2, logs.Len(), "logs and spans were asked for and do not come")
	})
}

// hanging is a consumer of everything that ends with its context only.
type hanging struct{ consumertest.Consumer }

func (hanging) ConsumeLogs(ctx context.Context, _ plog.Logs) error {
	<-ctx.Done()
	return ctx.Err()
}

func (hanging) ConsumeMetrics(ctx context.Context, _ pmetric.Metrics) error {
	<-ctx.Done()
	return ctx.Err()
}

// The Collector gives Shutdown a context without deadline.
func TestMonitor_ShutdownIsBoundedThoughConsumersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeSupervisor()
		r := newRun(fake, nil)
		r.monitor.logs = &signal[consumer.Logs]{r.set, hanging{consumertest.NewNop()}}
		r.monitor.metrics = &signal[consumer.Metrics]{r.set, hanging{consumertest.NewNop()}}
		require.NoError(t, r.Start(context.Background(), host{supervisorID: fake}))
		fake.append("web", 1)
		said := make(chan error)
		go func() { said <- fake.say(context.Background(), lines("web", "a")) }()
		synctest.Wait()
		begun := time.Now()
		go func() { assert.ErrorIs(t, <-said, context.Canceled) }()
		require.NoError(t, r.Shutdown(context.Background()))
		assert.LessOrEqual(t, time.Since(begun), finalDelivery)
	})
}
