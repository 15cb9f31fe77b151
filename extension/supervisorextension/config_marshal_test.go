// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// marshalled is what the Collector makes of cfg for print-config.
func marshalled(t require.TestingT, cfg *Config) map[string]any {
	conf := confmap.New()
	require.NoError(t, conf.Marshal(cfg))
	return conf.ToStringMap()
}

// revealed is what it makes of it unredacted.
func revealed(t require.TestingT, cfg *Config) map[string]any {
	conf := confmap.New()
	require.NoError(t, cfg.Marshal(conf))
	return reveal(conf.ToStringMap()).(map[string]any)
}

func reveal(value any) any {
	switch v := value.(type) {
	case configopaque.String:
		return string(v)
	case []any:
		for i := range v {
			v[i] = reveal(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = reveal(v[key])
		}
	}
	return value
}

func TestConfig_DumpsShowNoValueOfAnEnvironmentOrAHeader(t *testing.T) {
	cfg := loadGood(t, `
defaults: {environment: {A: s3cret, N: 12345}, liveness: {http: {endpoint: "http://localhost", headers: {Authorization: s3cret}}}}
children:
  - {name: web, command: [./web], environment: {B: s3cret}, instances: 2}
  - name: inner
    defaults: {environment: {C: s3cret}}
    children:
      - {name: db, command: [./db], readiness: {http: {endpoint: "http://localhost", headers: {Authorization: s3cret}}}}
`)
	dump, err := yaml.Marshal(marshalled(t, cfg))
	require.NoError(t, err)
	web, db := cfg.Children[0].Process, cfg.Children[2].Supervisor.Children[0].Process
	for _, text := range []string{
		string(dump), fmt.Sprintf("%v", web), fmt.Sprintf("%v", *web.Liveness.HTTP), fmt.Sprintf("%v", *db.Readiness.HTTP),
		fmt.Sprintf("%v", cfg.Defaults), fmt.Sprintf("%v", cfg.Children[2].Supervisor.Defaults),
	} {
		assert.NotContains(t, text, "s3cret")
		assert.NotContains(t, text, "12345")
	}
	// The Collector masks its raw configuration where this one is masked: everything has
	// to stand where it was written, instances as one child among them.
	assert.Contains(t, marshalled(t, cfg)["defaults"].(map[string]any)["environment"], "N")
	children := marshalled(t, cfg)["children"].([]any)
	require.Len(t, children, 2)
	assert.Equal(t, map[string]any{"A": "[REDACTED]", "B": "[REDACTED]", "N": "[REDACTED]"}, children[0].(map[string]any)["environment"])
	assert.Equal(t, "inner", children[1].(map[string]any)["name"])
	assert.Equal(t, "s3cret", string(web.Environment["A"]))
	assert.Equal(t, "s3cret", string(db.Readiness.HTTP.Headers["Authorization"]))
}

func TestConfig_FindingsAndWarningsShowNoValueOfAnEnvironment(t *testing.T) {
	cfg := load(t, `
children:
  - {name: web, command: [./web], environment: {A: "s3cret\0", "=": s3cret, B: [s3cret], C: 777.0, D: 777.5, E: "$${s3cret}"}}
  - {name: api, command: [./api], liveness: {http: {endpoint: "http://me:s3cret@localhost", headers: {A: "s3cret\n", B: [s3cret], C: 777.0}}}}
`)
	assert.Len(t, cfg.Validate(), 8)
	text := asShown(cfg) + strings.Join(cfg.Warnings(), "\n")
	assert.NotContains(t, text, "s3cret")
	assert.NotContains(t, text, "777")
}

func TestConfig_ReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawConfig(t)
		require.NoError(t, want.Validate())
		got := newDefaultConfig()
		require.NoError(t, confmap.NewFromStringMap(revealed(t, want)).Unmarshal(got))
		require.NoError(t, got.Validate())
		assert.Equal(t, revealed(t, want), revealed(t, got))
		comparableChildren(want.Children)
		comparableChildren(got.Children)
		assert.Equal(t, want.SupervisorConfig, got.SupervisorConfig)
	})
}

// comparableChildren removes what is not written: where the children stand, and what a
// temporary child, a killed process or a cgroup of no settings has no use for.
func comparableChildren(children []ChildConfig) {
	for i := range children {
		c := &children[i]
		c.origin = nil
		if c.Restart == RestartTemporary {
			c.Backoff = newDefaultChild().Backoff
		}
		if c.Supervisor != nil {
			comparableChildren(c.Supervisor.Children)
			continue
		}
		p := c.Process
		if p.Stop.kills() {
			p.Stop.Command = nil
		}
		if p.Stop.Signal == syscall.SIGKILL && p.Stop.Timeout != 0 {
			p.Stop.Timeout = newDefaultProcess().Process.Stop.Timeout
		}
		if len(p.Cgroup.settings()) == 0 {
			p.Cgroup.Optional = false
		}
	}
}

// drawConfig draws a valid configuration.
func drawConfig(t *rapid.T) *Config {
	return &Config{
		ShutdownTimeout:  drawDuration(t, "shutdown_timeout"),
		OnGiveUp:         rapid.SampledFrom(onGiveUps).Draw(t, "on_give_up"),
		SupervisorConfig: drawSupervisor(t, 3),
	}
}

func drawDuration(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, label))
}

func drawText(t *rapid.T, label string) string {
	return rapid.StringMatching(`[^\x00]{1,8}`).Draw(t, label)
}

func drawCommand(t *rapid.T) []string {
	return append([]string{drawText(t, "program")}, rapid.SliceOfN(rapid.StringMatching(`[^\x00]{0,8}`), 0, 3).Draw(t, "arguments")...)
}

// drawSupervisor draws one with at most depth levels below it.
func drawSupervisor(t *rapid.T, depth int) SupervisorConfig {
	s := SupervisorConfig{
		Strategy:     rapid.SampledFrom(strategies).Draw(t, "strategy"),
		Intensity:    Intensity{rapid.IntRange(0, math.MaxInt).Draw(t, "max_restarts"), drawDuration(t, "period")},
		AutoShutdown: rapid.SampledFrom(autoShutdowns).Draw(t, "auto_shutdown"),
		FirstStart:   rapid.SampledFrom(firstStarts).Draw(t, "first_start"),
	}
	s.Parallel = s.Strategy == StrategyOneForOne && rapid.Bool().Draw(t, "parallel")
	for i := range rapid.IntRange(0, 3).Draw(t, "children") {
		c := ChildConfig{
			Name:    fmt.Sprintf("c%d", i),
			Restart: rapid.SampledFrom(restartPolicies).Draw(t, "restart"),
			Backoff: Backoff{
				InitialInterval: drawDuration(t, "initial"),
				Multiplier:      rapid.Float64Range(1, 100).Draw(t, "multiplier"),
				Jitter:          rapid.Float64Range(0, 1).Draw(t, "jitter"),
				ResetAfter:      drawDuration(t, "reset"),
			},
		}
		c.Backoff.MaxInterval = c.Backoff.InitialInterval + drawDuration(t, "max")
		c.Significant = s.AutoShutdown != AutoShutdownNever && c.Restart != RestartPermanent && rapid.Bool().Draw(t, "significant")
		if depth > 0 && rapid.Bool().Draw(t, "supervisor") {
			below := drawSupervisor(t, depth-1)
			c.Supervisor = &below
		} else {
			c.Process = drawProcess(t, c.Restart)
			if c.Process.Template {
				c.Significant = false
			}
		}
		s.Children = append(s.Children, c)
	}
	return s
}

func drawProcess(t *rapid.T, restart RestartPolicy) *ProcessConfig {
	text := rapid.StringMatching(`[^\x00]{1,8}`)
	variable := rapid.StringMatching(`[^\x00=:]{1,8}`)
	signal := rapid.SampledFrom([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT, syscall.SIGUSR1, signalRTMin, signalRTMin + 3, signalRTMax})
	some := func(g *rapid.Generator[string]) []string {
		if list := rapid.SliceOfN(g, 0, 3).Draw(t, "list"); len(list) > 0 {
			return list
		}
		return nil // an empty list is what is usual, and not written
	}
	p := &ProcessConfig{
		Command: drawCommand(t),
		Success: SuccessList{
			Codes:   rapid.SliceOfNDistinct(rapid.IntRange(0, 255), 1, 4, rapid.ID).Draw(t, "codes"),
			Signals: rapid.SliceOfNDistinct(signal, 1, 3, rapid.ID).Draw(t, "signals"),
		},
		Autostart:        rapid.Bool().Draw(t, "autostart"),
		EnvironmentFiles: some(text),
		WorkingDirectory: rapid.SampledFrom([]string{"", "/srv", "relative"}).Draw(t, "directory"),
		StartTimeout:     rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "start_timeout"),
		Stop: StopConfig{
			Signal:  signal.Draw(t, "signal"),
			Timeout: rapid.SampledFrom([]time.Duration{0, WaitForever, time.Second}).Draw(t, "timeout"),
			Scope:   rapid.SampledFrom(stopScopes).Draw(t, "scope"),
		},
		Output: drawOutput(t),
	}
	drawRights(t, p)
	p.ServiceName = rapid.StringMatching(`([^\x00-\x20\x7F-\xA0\pZ]{1,8})?`).Draw(t, "service_name")
	p.PropagateTelemetry = rapid.Bool().Draw(t, "propagate_telemetry")
	if n := rapid.IntRange(0, 3).Draw(t, "attributes"); n > 0 {
		p.ResourceAttributes = map[string]string{}
		for range n {
			p.ResourceAttributes[rapid.StringMatching(`app\.[a-z_.-]{1,8}`).Draw(t, "attribute")] = rapid.StringMatching(`.{0,8}`).Draw(t, "value")
		}
	}
	if n := rapid.IntRange(0, 3).Draw(t, "variables"); n > 0 {
		p.Environment = map[string]configopaque.String{}
		for range n {
			p.Environment[variable.Draw(t, "variable")] = configopaque.String(rapid.StringMatching(`[^\x00]{0,8}`).Draw(t, "value"))
		}
	}
	if names := some(variable); len(names) > 0 {
		p.InheritEnvironment = InheritEnvironment{Names: names}
	} else {
		p.InheritEnvironment.All = rapid.Bool().Draw(t, "inherit")
	}
	if p.Template = rapid.Bool().Draw(t, "template"); p.Template {
		p.Autostart = true // it is not written
	}
	p.Readiness = drawReadiness(t, restart)
	if p.Readiness == nil || p.Readiness.Exit == nil {
		p.Liveness = drawLiveness(t)
	}
	if p.Readiness == nil || p.Readiness.Log == nil {
		p.Output.Stdout = rapid.SampledFrom(stdoutModes).Draw(t, "stdout")
	}
	if !p.Output.captures() {
		usual := newDefaultOutput() // how lines are made is not written then
		usual.Stdout, usual.Stderr = p.Output.Stdout, p.Output.Stderr
		p.Output = usual
	}
	return p
}

func drawOutput(t *rapid.T) OutputConfig {
	o := OutputConfig{
		Stdout:  OutputCapture,
		Stderr:  rapid.SampledFrom(stderrModes).Draw(t, "stderr"),
		MaxLine: rapid.Uint64Range(1, maxMaxLine).Draw(t, "max_line"),
		ANSI:    rapid.SampledFrom(ansiModes).Draw(t, "ansi"),
		OnFull:  OnFullConfig{Wait: rapid.SampledFrom([]time.Duration{0, WaitForever, time.Second}).Draw(t, "on_full")},
	}
	switch rapid.SampledFrom([]string{"none", "start_pattern", "stack_traces"}).Draw(t, "multiline") {
	case "start_pattern":
		o.Multiline = &MultilineConfig{StartPattern: `^\S`, Timeout: drawDuration(t, "join")}
	case "stack_traces":
		o.Multiline = &MultilineConfig{StackTraces: traceLanguages()[:rapid.IntRange(1, 3).Draw(t, "languages")], Timeout: drawDuration(t, "join")}
	}
	if rapid.Bool().Draw(t, "severity") {
		o.Severity = &SeverityConfig{Pattern: `level=(\w+)`}
	}
	return o
}

func drawReadiness(t *rapid.T, restart RestartPolicy) *Readiness {
	r := newDefaultReadiness()
	ways := []string{"none", "notify", "notify_fd", "log", "http", "tcp", "exec"}
	if restart != RestartPermanent {
		ways = append(ways, "exit")
	}
	way := rapid.SampledFrom(ways).Draw(t, "readiness")
	switch way {
	case "none":
		return nil
	case "notify":
		r.Notify = &NotifyCheck{}
	case "notify_fd":
		r.NotifyFD = rapid.IntRange(firstNotifyFD, maxNotifyFD).Draw(t, "notify_fd")
	case "log":
		r.Log = &LogCheck{Pattern: rapid.SampledFrom([]string{"listening on \\d+", "^ready$", "8080"}).Draw(t, "pattern")}
	case "exit":
		r.Exit = &ExitCheck{}
	default:
		r.HTTP, r.TCP, r.Exec = drawCheck(t, way)
		r.Interval, r.Timeout = drawDuration(t, "interval"), drawDuration(t, "timeout")
	}
	return r
}

func drawLiveness(t *rapid.T) *Liveness {
	l := newDefaultLiveness()
	way := rapid.SampledFrom([]string{"none", "notify", "http", "tcp", "exec"}).Draw(t, "liveness")
	switch way {
	case "none":
		return nil
	case "notify":
		l.Notify = &NotifyCheck{}
	default:
		l.HTTP, l.TCP, l.Exec = drawCheck(t, way)
		l.Timeout = drawDuration(t, "timeout")
	}
	l.InitialDelay, l.Interval = drawDuration(t, "initial_delay"), drawDuration(t, "interval")
	l.FailureThreshold = rapid.IntRange(1, 10).Draw(t, "failure_threshold")
	return l
}

func drawCheck(t *rapid.T, way string) (*HTTPCheck, *TCPCheck, *ExecCheck) {
	switch way {
	case "http":
		check := &HTTPCheck{Endpoint: rapid.SampledFrom([]string{"http://localhost", "https://[::1]:8080/healthz?all=1"}).Draw(t, "endpoint")}
		if rapid.Bool().Draw(t, "headers") {
			check.Headers = map[string]configopaque.String{"Authorization": configopaque.String(rapid.StringMatching(`[ -~]{0,8}`).Draw(t, "header"))}
		}
		return check, nil, nil
	case "tcp":
		return nil, &TCPCheck{Endpoint: rapid.SampledFrom([]string{"localhost:80", "[::1]:65535"}).Draw(t, "endpoint")}, nil
	}
	return nil, nil, &ExecCheck{Command: drawCommand(t)}
}
