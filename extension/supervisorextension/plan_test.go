// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelwarden/warden/internal/keeper"
)

// full has a value of its own in every field.
func full() ChildConfig {
	c := newDefaultProcess()
	c.Name, c.Restart, c.Significant = "web-1", RestartTransient, true
	c.Backoff = Backoff{time.Second, 3, time.Hour, 0.5, time.Minute}
	*c.Process = ProcessConfig{
		Command:            []string{"web", "--listen"},
		Success:            SuccessList{Codes: []int{0, 3}, Signals: []syscall.Signal{syscall.SIGINT}},
		Autostart:          true,
		Environment:        map[string]configopaque.String{"TOKEN": "secret"},
		EnvironmentFiles:   []string{"a.env"},
		InheritEnvironment: InheritEnvironment{Names: []string{"HOME"}},
		WorkingDirectory:   "/srv",
		StartTimeout:       time.Second,
		Readiness: &Readiness{
			HTTP:     &HTTPCheck{Endpoint: "http://localhost:1/ready", Headers: map[string]configopaque.String{"Authorization": "Bearer r"}},
			Interval: time.Second, Timeout: time.Second,
		},
		Liveness: &Liveness{
			HTTP:     &HTTPCheck{Endpoint: "http://localhost:1/alive", Headers: map[string]configopaque.String{"Authorization": "Bearer l"}},
			Interval: time.Second, Timeout: time.Second, FailureThreshold: 2, InitialDelay: time.Second,
		},
		Stop:        StopConfig{Signal: syscall.SIGQUIT, Timeout: -time.Second, Scope: StopScopeGroup, Command: []string{"./stop"}},
		Reload:      ReloadConfig{Signal: syscall.SIGHUP},
		Output:      OutputConfig{Stdout: OutputCapture, Stderr: OutputStdout},
		ServiceName: "shop-web", ResourceAttributes: map[string]string{"service.namespace": "shop"}, PropagateTelemetry: true,
		User: "www-data", Group: "33", SupplementaryGroups: []string{},
		Umask: new(Umask(0o27)), Nice: new(-5), OOMScoreAdj: new(-500), NoNewPrivileges: true,
		Limits:    Limits{"open_files": {keeper.LimitUnchanged, keeper.Unlimited}},
		Cgroup:    CgroupConfig{MemoryMax: "1024", MemoryHigh: "512", CPUMax: "max 1000", PIDsMax: "max", IOWeight: "1", Optional: true},
		instances: 3, instance: 2,
	}
	return c
}

func TestStored_AChildIsReadAsItWasWritten(t *testing.T) {
	c := full()
	for _, field := range reflect.VisibleFields(reflect.TypeFor[ProcessConfig]()) {
		if field.IsExported() && field.Name != "Template" { // a template is another kind of child
			assert.False(t, reflect.ValueOf(*c.Process).FieldByIndex(field.Index).IsZero(), "the test leaves %s empty", field.Name)
		}
	}
	got, err := decodeChild(encodeChild(&c))
	require.NoError(t, err)
	assert.Equal(t, &c, got)

	below := newDefaultSupervisor()
	below.Children = []ChildConfig{c}
	s := newDefaultChild()
	s.Name, s.Supervisor = "below", &below
	got, err = decodeChild(encodeChild(&s))
	require.NoError(t, err)
	s.Supervisor.Children = nil // they are stored each for itself
	assert.Equal(t, &s, got)

	_, err = decodeChild([]byte("{"))
	assert.Error(t, err)
}

func TestChangedKeys_SayWhatDiffersAndWhetherTheProcessHasToBeReplaced(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*ChildConfig)
		keys    []string
		replace bool
	}{
		{"nothing", func(*ChildConfig) {}, nil, false},
		{"command", func(c *ChildConfig) { c.Process.Command = []string{"other"} }, []string{"command"}, true},
		{"environment", func(c *ChildConfig) { c.Process.Environment = map[string]configopaque.String{"TOKEN": "new"} }, []string{"environment"}, true},
		{"environment files", func(c *ChildConfig) { c.Process.EnvironmentFiles = nil }, []string{"environment_files"}, true},
		{"inherited environment", func(c *ChildConfig) { c.Process.InheritEnvironment = InheritEnvironment{All: true} }, []string{"inherit_environment"}, true},
		{"directory", func(c *ChildConfig) { c.Process.WorkingDirectory = "/" }, []string{"working_directory"}, true},
		{"output", func(c *ChildConfig) { c.Process.Output.Stderr = OutputNull }, []string{"output"}, true},
		{"stop", func(c *ChildConfig) { c.Process.Stop.Signal = syscall.SIGINT }, []string{"stop"}, false},
		{"scope of the stop", func(c *ChildConfig) { c.Process.Stop.Scope = StopScopeTree }, []string{"stop"}, false},
		{"command of the stop", func(c *ChildConfig) { c.Process.Stop.Command = nil }, []string{"stop"}, false},
		{"reload", func(c *ChildConfig) { c.Process.Reload = ReloadConfig{} }, []string{"reload"}, false},
		{"user", func(c *ChildConfig) { c.Process.User = "" }, []string{"user"}, true},
		{"group", func(c *ChildConfig) { c.Process.Group = "34" }, []string{"group"}, true},
		{"supplementary groups", func(c *ChildConfig) { c.Process.SupplementaryGroups = nil }, []string{"supplementary_groups"}, true},
		{"umask", func(c *ChildConfig) { c.Process.Umask = nil }, []string{"umask"}, true},
		{"limits", func(c *ChildConfig) { c.Process.Limits = nil }, []string{"limits"}, true},
		{"nice", func(c *ChildConfig) { c.Process.Nice = nil }, []string{"nice"}, true},
		{"oom score", func(c *ChildConfig) { *c.Process.OOMScoreAdj = 0 }, []string{"oom_score_adj"}, true},
		{"privileges", func(c *ChildConfig) { c.Process.NoNewPrivileges = false }, []string{"no_new_privileges"}, true},
		{"cgroup", func(c *ChildConfig) { c.Process.Cgroup.Optional = false }, []string{"cgroup"}, true},
		{"service name", func(c *ChildConfig) { c.Process.ServiceName = "" }, []string{"service_name"}, true},
		{"attributes of the resource", func(c *ChildConfig) { c.Process.ResourceAttributes = nil }, []string{"resource_attributes"}, true},
		{"what it is told of them", func(c *ChildConfig) { c.Process.PropagateTelemetry = false }, []string{"propagate_telemetry"}, true},
		{"restart", func(c *ChildConfig) { c.Restart = RestartPermanent }, []string{"restart"}, false},
		{"back-off", func(c *ChildConfig) { c.Backoff.Jitter = 0 }, []string{"backoff"}, false},
		{"significant", func(c *ChildConfig) { c.Significant = false }, []string{"significant"}, false},
		{"success", func(c *ChildConfig) { c.Process.Success.Codes = nil }, []string{"success"}, false},
		{"start timeout", func(c *ChildConfig) { c.Process.StartTimeout = 0 }, []string{"start_timeout"}, false},
		{"how it is asked", func(c *ChildConfig) { c.Process.Readiness.HTTP.Endpoint = "http://localhost:2" }, []string{"readiness"}, false},
		{"no more readiness", func(c *ChildConfig) { c.Process.Readiness = nil }, []string{"readiness"}, false},
		{"a descriptor to report on", func(c *ChildConfig) { c.Process.Readiness = &Readiness{NotifyFD: 3} }, []string{"readiness"}, true},
		{"a socket to report on", func(c *ChildConfig) { c.Process.Liveness = &Liveness{Notify: &NotifyCheck{}} }, []string{"liveness"}, true},
		{"instances", func(c *ChildConfig) { c.Process.instances = 4 }, []string{"instances"}, false},
		{"two", func(c *ChildConfig) { c.Process.Command, c.Process.Stop.Timeout = []string{"x"}, 0 }, []string{"command", "stop"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := full(), full()
			tt.change(&to)
			keys, replace := changedKeys(&from, &to)
			assert.Equal(t, tt.keys, keys)
			assert.Equal(t, tt.replace, replace)
			back, replaceBack := changedKeys(&to, &from)
			assert.Equal(t, keys, back)
			assert.Equal(t, replace, replaceBack)
		})
	}
}

func TestChangedKeys_AProcessThatIsToldNothingOfItsResourceIsNotReplacedForIt(t *testing.T) {
	from, to := full(), full()
	from.Process.PropagateTelemetry, to.Process.PropagateTelemetry = false, false
	to.Process.ServiceName, to.Process.ResourceAttributes = "other", map[string]string{"service.namespace": "other"}
	keys, replace := changedKeys(&from, &to)
	assert.Equal(t, []string{"resource_attributes", "service_name"}, keys)
	assert.False(t, replace)
	to.Process.NoNewPrivileges = false
	_, replace = changedKeys(&from, &to)
	assert.True(t, replace, "for another key it is")
}

func TestChangedKeys_OfASupervisorAreItsOwn(t *testing.T) {
	supervisor := func(change func(*SupervisorConfig)) *ChildConfig {
		c := newDefaultChild()
		s := newDefaultSupervisor()
		s.Children = []ChildConfig{full()}
		change(&s)
		c.Name, c.Supervisor = "s", &s
		return &c
	}
	same := supervisor(func(*SupervisorConfig) {})
	keys, _ := changedKeys(same, supervisor(func(s *SupervisorConfig) { s.Children = nil }))
	assert.Empty(t, keys)
	keys, _ = changedKeys(same, supervisor(func(s *SupervisorConfig) {
		s.Strategy, s.Intensity.MaxRestarts = StrategyOneForAll, 1
	}))
	assert.Equal(t, []string{"intensity", "strategy"}, keys)
}
