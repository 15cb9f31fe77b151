// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func TestConfig_WithoutASectionHasTheDefaults(t *testing.T) {
	cfg := newDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(nil).Unmarshal(cfg))
	require.NoError(t, cfg.Validate())
	assert.Equal(t, newDefaultConfig(), cfg)
}

func TestConfig_EveryFindingStandsOnALineOfItsOwn(t *testing.T) {
	cfg := load(t, "shutdown_timeout: 5\nfirst_start: no\nchildren: [{name: a}]")
	err := cfg.Validate()
	var one finding
	require.ErrorAs(t, err, &one)
	assert.Equal(t, "shutdown_timeout: 5 has no unit: write 5s", one.Error())
	assert.Len(t, err.(findings).Unwrap(), 3)
	assert.Len(t, strings.Split(asShown(cfg), "\n"), 3)
}

// Each of two supervisors is shown with its own id.
func TestConfig_FindingsOfTwoSupervisorsDoNotMix(t *testing.T) {
	err := confmap.Validate(&collectorConfig{map[component.ID]component.Config{
		component.MustNewIDWithName("supervisor", "x"): load(t, "first_start: x"),
		component.MustNewIDWithName("supervisor", "y"): load(t, "first_start: y"),
	}})
	assert.ErrorContains(t, err, `extensions::supervisor/x: first_start: "x" is not one of strict, retry`)
	assert.ErrorContains(t, err, `extensions::supervisor/y: first_start: "y" is not one of strict, retry`)
}

func TestConfig_ChildrenDoNotShareTheirDefaults(t *testing.T) {
	cfg := loadGood(t, `
defaults: {environment: {A: a}, success: [1], environment_files: [x], inherit_environment: [PATH]}
children: [{name: a, command: [./a]}, {name: b, command: [./b]}]
`)
	a, b := &cfg.Children[0], &cfg.Children[1]
	a.Process.Environment["A"] = "changed"
	a.Process.Success.Codes[0], a.Process.EnvironmentFiles[0], a.Process.InheritEnvironment.Names[0] = 2, "y", "HOME"
	assert.Equal(t, "a", string(b.Process.Environment["A"]))
	assert.Equal(t, []int{1}, b.Process.Success.Codes)
	assert.Equal(t, []string{"x"}, b.Process.EnvironmentFiles)
	assert.Equal(t, []string{"PATH"}, b.Process.InheritEnvironment.Names)
}

// Instances and the children of one default are as good as written out.
func TestConfig_InstancesShareNothing(t *testing.T) {
	cfg := loadGood(t, `
defaults:
  environment: {A: a}
  readiness: {http: {endpoint: "http://localhost", headers: {A: a}}}
  liveness: {exec: {command: [./check]}}
children: [{name: a, command: [./a], instances: 2}, {name: b, command: [./b]}]
`)
	require.Len(t, cfg.Children, 3)
	first := cfg.Children[0].Process
	first.Command[0], first.Environment["A"] = "changed", "changed"
	first.Readiness.HTTP.Headers["A"], first.Readiness.HTTP.Endpoint = "changed", "changed"
	first.Liveness.Exec.Command[0], first.Liveness.Interval = "changed", 1
	for _, other := range cfg.Children[1:] {
		assert.Equal(t, "./"+other.Name[:1], other.Process.Command[0])
		assert.Equal(t, "a", string(other.Process.Environment["A"]))
		assert.Equal(t, &HTTPCheck{Endpoint: "http://localhost", Headers: map[string]configopaque.String{"A": "a"}}, other.Process.Readiness.HTTP)
		assert.Equal(t, []string{"./check"}, other.Process.Liveness.Exec.Command)
		assert.Equal(t, newDefaultLiveness().Interval, other.Process.Liveness.Interval)
	}
}

func TestConfig_InstancesAreOrdinarySiblingsAsManyAsAllowed(t *testing.T) {
	name := strings.Repeat("n", maxNameLength-len("-9999"))
	cfg := loadGood(t, fmt.Sprintf("children: [{name: %s, command: [./n], instances: 10000, restart: transient}]", name))
	require.Len(t, cfg.Children, maxInstances)
	for _, number := range []int{0, 1, 9999} {
		child := cfg.Children[number]
		assert.Equal(t, fmt.Sprintf("%s-%d", name, number), child.Name)
		assert.Equal(t, RestartTransient, child.Restart)
		assert.Equal(t, fmt.Sprint(number), string(child.Process.Environment[instanceVariable]))
	}
}

// The value by default, written out, changes nothing.
func TestConfig_OneInstanceKeepsItsName(t *testing.T) {
	cfg := loadGood(t, "children: [{name: a, command: [./a], instances: 1}]")
	assert.Equal(t, "a", cfg.Children[0].Name)
	assert.Empty(t, cfg.Children[0].Process.Environment)
}

func TestConfig_UnmarshalledTwiceHoldsTheSecondOnly(t *testing.T) {
	cfg := load(t, "first_start: x\ninclude: [testdata/config/include/good/*]\nchildren: [{name: a, command: [./a]}]")
	require.Error(t, cfg.Validate())
	require.NoError(t, resolve(t, "first_start: retry\nchildren: [{name: b, command: [./b]}]").Unmarshal(cfg))
	require.NoError(t, cfg.Validate())
	require.Len(t, cfg.Children, 1)
	assert.Equal(t, "b", cfg.Children[0].Name)
	require.NoError(t, resolve(t, "children: [{name: b, command: []}]").Unmarshal(cfg))
	assert.ErrorContains(t, cfg.Validate(), "children[0](b)::command: missing")
}

// The rules hold for a Config built in Go, where nothing was decoded.
func TestConfig_BuiltInGoIsValidatedToo(t *testing.T) {
	web := newDefaultProcess()
	web.Name, web.Process.Command = "web", []string{"./web"}
	cfg := newDefaultConfig()
	cfg.Children = []ChildConfig{web, web.clone()}
	cfg.Children[1].Process.Stop.Signal = 0
	cfg.Children[1].Process.InheritEnvironment.Names = []string{"PATH"}
	assert.EqualError(t, cfg.Validate(), `children[1](web)::name: "web" is the name of children[0](web) already: siblings need different names
  children[1](web)::inherit_environment: all variables and a list of them exclude each other: choose one
  children[1](web)::stop::signal: 0 is not the number of a signal: write a name such as SIGTERM`)

	assert.ErrorContains(t, (&Config{}).Validate(), "shutdown_timeout")

	inner, both := newDefaultSupervisor(), newDefaultProcess()
	inner.Strategy = "all"
	inner.Children = []ChildConfig{{Name: "none", Restart: RestartPermanent}, both}
	inner.Children[1].Supervisor = &inner
	cfg.Children = []ChildConfig{newDefaultChild(), web.clone()}
	cfg.Children[0].Name, cfg.Children[0].Supervisor = "inner", &inner
	cfg.Children[1].Process.Liveness = &Liveness{Notify: &NotifyCheck{}}
	assert.EqualError(t, cfg.Validate(), `children[0](inner)::strategy: "all" is not one of one_for_one, one_for_all, rest_for_one
  children[0](inner)::children[0](none): it has to be either a process or a supervisor
  children[0](inner)::children[1]::name: missing: every child needs a name, such as web
  children[0](inner)::children[1]: it has to be either a process or a supervisor
  children[1](web)::liveness::interval: 0s is too short: write more than 0s, such as 10s
  children[1](web)::liveness::failure_threshold: 0 is less than 1: write 1 to end the process at the first failure, or more`)
}

func TestConfig_ValidateChangesNothing(t *testing.T) {
	cfg := load(t, "first_start: x\nchildren: [{name: a}, {name: a, command: [./a]}]")
	first, second := cfg.Validate(), cfg.Validate()
	assert.Equal(t, first, second)
	assert.Equal(t, cfg.Warnings(), cfg.Warnings())
}

// Go code may build a confmap of other types than YAML makes.
func TestConfig_TakesGoValues(t *testing.T) {
	cfg := newDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"shutdown_timeout": 90 * time.Second,
		"on_give_up":       GiveUpStay,
		"intensity":        map[string]any{"max_restarts": uint8(3)},
		"defaults":         map[string]any{"backoff": map[string]any{"multiplier": float32(1.5)}},
		"children": []map[string]any{{
			"name": "a", "command": []string{"./a", "-v"}, "success": []int32{0, 3},
			"environment": map[string]configopaque.String{"A": "secret"},
			"autostart":   any(false),
		}},
	}).Unmarshal(cfg))
	require.NoError(t, cfg.Validate())
	assert.Equal(t, 90*time.Second, cfg.ShutdownTimeout)
	assert.Equal(t, GiveUpStay, cfg.OnGiveUp)
	assert.Equal(t, 3, cfg.Intensity.MaxRestarts)
	child := cfg.Children[0]
	assert.Equal(t, []string{"./a", "-v"}, child.Process.Command)
	assert.Equal(t, []int{0, 3}, child.Process.Success.Codes)
	assert.Equal(t, "secret", string(child.Process.Environment["A"]))
	assert.InDelta(t, 1.5, child.Backoff.Multiplier, 0)
	assert.False(t, child.Process.Autostart)
}

func TestInclude_FilesAreReadInTheOrderOfTheGlobsAndNames(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub-1"), 0o700))
	for _, name := range []string{"b", "a", "c", "sub/x", "sub-1/y"} {
		content := fmt.Sprintf("- {name: %s, command: [./x]}\n", filepath.Base(name))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(content), 0o600))
	}
	cfg := loadGood(t, fmt.Sprintf("include: [%[1]s/c*.yaml, %[1]s/*.yaml, %[1]s/sub*/*.yaml]\nchildren: [{name: first, command: [./x]}]", dir))
	var names []string
	for _, child := range cfg.Children {
		names = append(names, child.Name)
	}
	assert.Equal(t, []string{"first", "c", "a", "b", "y", "x"}, names)
}

func TestInclude_UnreadableFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), link))
	cfg := load(t, fmt.Sprintf("include: [%s/*.yaml]", dir))
	assert.ErrorContains(t, cfg.Validate(), link)
}

func TestSignal_NamesAreReadBack(t *testing.T) {
	for signal := syscall.Signal(0); signal <= 70; signal++ {
		parsed, ok := parseSignal(signalName(signal))
		assert.Equal(t, isSignal(signal), ok, "%d", signal)
		if ok {
			assert.Equal(t, signal, parsed)
		}
	}
}

func TestSignal_WhatEndsAProcess(t *testing.T) {
	var suspending, harmless []string
	for _, name := range signalNames() {
		signal, ok := parseSignal(name)
		require.True(t, ok)
		switch {
		case suspendsOrResumes(signal):
			suspending = append(suspending, name)
			assert.True(t, neverEnds(signal))
		case neverEnds(signal):
			harmless = append(harmless, name)
		}
	}
	assert.Equal(t, []string{"SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}, suspending)
	assert.Equal(t, []string{"SIGURG", "SIGWINCH"}, harmless)
}

func TestSignal_FormsOfAName(t *testing.T) {
	for give, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "TERM": syscall.SIGTERM, "term": syscall.SIGTERM, "SigHup": syscall.SIGHUP,
		"RTMIN": 34, "SIGRTMIN+0": 34, "rtmin+3": 37, "SIGRTMIN+30": 64, "RTMAX": 64, "SIGRTMAX-30": 34,
	} {
		signal, ok := parseSignal(give)
		assert.True(t, ok, give)
		assert.Equal(t, want, signal, give)
	}
	for _, give := range []string{"", "SIG", "15", "TERMINATE", "RTMIN-1", "RTMIN+", "RTMIN+31", "RTMIN++1", "RTMAX+1", "RTMAX-31", "RTMIN+99999999999999999999"} {
		_, ok := parseSignal(give)
		assert.False(t, ok, give)
	}
}

// The count agrees with a row that is played through, restart by restart.
func TestBackoff_RestartsWithinAPeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{
			InitialInterval: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "initial")),
			Multiplier:      rapid.Float64Range(1, 4).Draw(t, "multiplier"),
			Jitter:          rapid.Float64Range(0, 0.9).Draw(t, "jitter"),
			ResetAfter:      time.Minute,
		}
		b.MaxInterval = b.InitialInterval + time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "more"))
		period := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "period"))
		maxRestarts := rapid.IntRange(0, 50).Draw(t, "max_restarts")

		restarts, at := 0, 0.0
		for n := 1; n <= maxRestarts+1; n++ {
			if n > 2 { // the restart before this one waited
				at += math.Min(float64(b.InitialInterval)*math.Pow(b.Multiplier, float64(n-3)), float64(b.MaxInterval)) * (1 - b.Jitter)
			}
			if math.Abs(at-float64(period)) < 1000 {
				t.Skip("too near to the boundary for floating point")
			}
			if at <= float64(period) {
				restarts++
			}
		}
		most, never := b.restartsWithin(Intensity{maxRestarts, period}, 0)
		assert.Equal(t, restarts <= maxRestarts, never)
		if never {
			assert.Equal(t, restarts, most)
		}
	})
}

func TestBackoff_DefaultsReachTheIntensity(t *testing.T) {
	cfg := newDefaultConfig()
	_, never := newDefaultProcess().Backoff.restartsWithin(cfg.Intensity, 0)
	assert.False(t, never)
	// Even if jitter makes every delay as long as it can.
	longest := newDefaultProcess().Backoff
	longest.InitialInterval, longest.MaxInterval = longest.InitialInterval*12/10, longest.MaxInterval*12/10
	longest.Jitter = 0
	_, never = longest.restartsWithin(cfg.Intensity, 0)
	assert.False(t, never)
}

func TestNearest_FindsSlipsOnly(t *testing.T) {
	keys := processKeys.names()
	for give, want := range map[string]string{
		"comand": "command", "Command": "command", "comamnd": "command", "enviroment": "environment",
		"environment_file": "environment_files", "back_off": "backoff", "cgruop": "cgroup", "usage": "", "logfile": "", "x": "",
		strings.Repeat("command", 100): "",
	} {
		assert.Equal(t, want, nearest(give, keys), give)
	}
}

func TestDuration_IsShownShort(t *testing.T) {
	for give, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", time.Hour: "1h", time.Hour + time.Second: "1h0m1s", 90 * time.Second: "1m30s",
		10 * time.Minute: "10m", 100 * time.Hour: "100h", -time.Second: "-1s", 500 * time.Millisecond: "500ms",
	} {
		assert.Equal(t, want, formatDuration(give))
		back, err := time.ParseDuration(formatDuration(give))
		require.NoError(t, err)
		assert.Equal(t, give, back)
	}
}

// Whatever YAML says, the answer is findings, or a configuration that can be written
// and read again.
func FuzzConfig(f *testing.F) {
	for _, file := range testFiles(f, "testdata/config/*/*.yaml") {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var raw map[string]any
		if yaml.Unmarshal(content, &raw) != nil {
			return
		}
		delete(raw, "include") // it would read files at random
		cfg := newDefaultConfig()
		require.NoError(t, confmap.NewFromStringMap(raw).Unmarshal(cfg))
		again(t, cfg)
	})
}

func FuzzInclude(f *testing.F) {
	for _, file := range slices.Concat(testFiles(f, "testdata/config/include/*.yaml"), testFiles(f, "testdata/config/include/*/*.yaml")) {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		cfg := newDefaultConfig()
		d := newDecoder()
		d.includeContent("file.yaml", content, &cfg.Children)
		cfg.findings, cfg.warnings = d.findings, d.warnings
		again(t, cfg)
	})
}

func testFiles(f *testing.F, pattern string) [][]byte {
	names, err := filepath.Glob(pattern)
	require.NoError(f, err)
	require.NotEmpty(f, names)
	var contents [][]byte
	for _, name := range names {
		if filepath.Base(name) == "bomb.yaml" {
			continue // slow by design
		}
		content, err := os.ReadFile(name)
		require.NoError(f, err)
		contents = append(contents, content)
	}
	return contents
}

// again writes a valid cfg and reads it again.
func again(t *testing.T, cfg *Config) {
	cfg.Warnings()
	if err := cfg.Validate(); err != nil {
		require.NotEmpty(t, err.Error())
		return
	}
	second := newDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(revealed(t, cfg)).Unmarshal(second))
	require.NoError(t, second.Validate())
	require.Equal(t, revealed(t, cfg)["children"], revealed(t, second)["children"])
}
