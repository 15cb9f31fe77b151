// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/extensioncapabilities"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelwarden/warden/internal/journal"
)

// telling is a process that prints what it was told of itself.
func telling(name string, change func(*ProcessConfig)) ChildConfig {
	script := `echo "$OTEL_SERVICE_NAME|$OTEL_RESOURCE_ATTRIBUTES|$OTEL_EXPORTER_OTLP_ENDPOINT|$OTEL_EXPORTER_OTLP_PROTOCOL";` + forever
	return sh(name, script, func(c *ChildConfig) {
		c.Process.InheritEnvironment = InheritEnvironment{Names: []string{"PATH"}}
		change(c.Process)
	})
}

func configSnapshot(t *testing.T, content string) extensioncapabilities.ConfigSnapshot {
	return extensioncapabilities.NewConfigSnapshot(resolve(t, content), nil)
}

const openReceiver = `
receivers: {otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}}}}
service: {pipelines: {traces: {receivers: [otlp]}}}`

func TestSupervisor_ItsFirstProcessesKnowTheReceiverThatTheCollectorTellsOfAfterTheStart(t *testing.T) {
	named := func(p *ProcessConfig) { p.ServiceName = "shop" }
	st := newStage(t, nil,
		telling("one-0", named), telling("one-1", named),
		telling("quiet", func(p *ProcessConfig) { p.PropagateTelemetry = false }),
		telling("many", func(p *ProcessConfig) {
			p.Template, p.ResourceAttributes = true, map[string]string{"service.namespace": "shop"}
		}),
	)
	require.NoError(t, st.NotifyConfigSnapshot(t.Context(), configSnapshot(t, openReceiver)))
	require.NoError(t, st.Ready())
	st.addInstances("many", "x")
	instanceOf := func(id string) string {
		value, ok := st.process(id).Info.Resource.Attributes().Get("service.instance.id")
		require.True(t, ok)
		return value.Str()
	}
	assert.NotEqual(t, instanceOf("one-0"), instanceOf("one-1"), "the page of Prometheus tells them apart by it")
	const endpoint = "|http://127.0.0.1:4317|grpc"
	want := []string{
		"one-0 stdout shop|service.instance.id=" + instanceOf("one-0") + ",supervisor.process.id=one-0" + endpoint,
		"one-1 stdout shop|service.instance.id=" + instanceOf("one-1") + ",supervisor.process.id=one-1" + endpoint,
		"quiet stdout |||",
		"many stdout many|service.instance.id=" + instanceOf("many") + ",supervisor.process.id=many,service.namespace=shop" + endpoint,
	}
	require.Eventually(t, func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.lines) >= len(want)
	}, 20*time.Second, time.Millisecond)
	st.mu.Lock()
	defer st.mu.Unlock()
	assert.ElementsMatch(t, want, st.lines)
}

func TestSupervisor_IsToldOfAConfigurationAlsoWhereItHasNoUseForIt(t *testing.T) {
	st := newStage(t, nil)
	require.NoError(t, st.NotifyConfigSnapshot(t.Context(), extensioncapabilities.NewConfigSnapshot(nil, nil)))
	require.NoError(t, st.NotifyConfigSnapshot(t.Context(), configSnapshot(t, `{}`)))
	require.NoError(t, st.Ready())
	_, err := st.end()
	require.NoError(t, err)
	assert.NoError(t, st.NotifyConfigSnapshot(t.Context(), configSnapshot(t, openReceiver)))
}

func attributesOf(r pcommon.Resource) map[string]any { return r.Attributes().AsRaw() }

func TestNewInfo_AProcessHasANameAndAttributesOfItsOwn(t *testing.T) {
	p := &ProcessConfig{Command: []string{"./web"}, ServiceName: "shop", ResourceAttributes: map[string]string{"service.namespace": "n", "a": "1"}}
	got := attributesOf(newInfo("pair.web", TypeService, p, "/run", time.Now()).Resource)
	plain := attributesOf(newInfo("pair.web", TypeService, &ProcessConfig{Command: []string{"./web"}}, "/run", time.Now()).Resource)
	assert.Equal(t, "pair.web", plain["service.name"])
	plain["service.name"], plain["service.namespace"], plain["a"] = "shop", "n", "1"
	assert.Equal(t, plain, got, "its instance id does not follow from its name")
}

func TestReconfigure_AnotherNameIsGivenToTheLivingUnlessTheyWereToldTheOldOne(t *testing.T) {
	k := newModelKeeper(t)
	named := func(id, name string, told bool) ChildConfig {
		return sh(id, "", func(c *ChildConfig) {
			c.Process.ServiceName, c.Process.PropagateTelemetry = name, told
			c.Process.ResourceAttributes = map[string]string{"team": name}
		})
	}
	e, _ := k.engine(configured(nil, named("told", "old", true), named("untold", "old", false)), -1)
	k.until("told1 untold1")
	k.await("", journal.SupervisorStarted, 1)
	k.leave(e)

	e, _ = k.engine(configured(nil, named("told", "new", true), named("untold", "new", false)), -1)
	k.until("told2 untold1")
	applied := k.await("", journal.ConfigApplied, 1)
	assert.Equal(t, `the supervisor has its configuration applied; kept: untold (resource_attributes, service_name); restarted: told (resource_attributes, service_name)`, applied.Body)
	for _, p := range e.roster.snapshot(nil)[1:] {
		attributes := attributesOf(p.Info.Resource)
		assert.Equal(t, "new", attributes["service.name"], p.Info.ID)
		assert.Equal(t, "new", attributes["team"], p.Info.ID)
	}
	k.leave(e)

	// Another receiver is for the next run.
	e, _ = k.engine(configured(nil, named("told", "new", true), named("untold", "new", false)), -1)
	e.otlp.Store(&[]otlpEndpoint{{"http://localhost:1", protocolGRPC}})
	assert.Equal(t, `the supervisor has its configuration applied; kept: told, untold`, k.await("", journal.ConfigApplied, 2).Body)
	k.until("told2 untold1")
	k.end(e)
}

func TestRoster_TheOutputOfALivingRunIsReportedAsItsProcessIsDescribedNow(t *testing.T) {
	named := func(name string) *ChildConfig {
		c := sh("web", "", func(c *ChildConfig) { c.Process.ServiceName = name })
		return &c
	}
	r := newRoster(configured(nil, *named("old")), "/run", time.Now())
	c := r.byID["web"]
	s := &stream{of: Output{Stream: "stdout"}}
	s.process.Store(c.info)
	c.streams = []*stream{s}
	assert.Equal(t, "old", attributesOf(s.reported().Process.Resource)["service.name"])
	r.configure(c, named("new"))
	assert.Equal(t, "new", attributesOf(s.reported().Process.Resource)["service.name"])
	assert.Same(t, c.info, s.reported().Process)
}
