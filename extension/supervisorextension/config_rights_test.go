// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"math"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/keeper"
)

// drawRights draws valid values of the rightsKeys and of the two other keys that came
// with them.
func drawRights(t *rapid.T, p *ProcessConfig) {
	name := rapid.SampledFrom([]string{"", "www-data", "0", "4294967294", "Домен.user$", "1_000"})
	p.User, p.Group = name.Draw(t, "user"), name.Draw(t, "group")
	groups := rapid.SliceOfN(name.Filter(func(s string) bool { return s != "" }), 0, 2)
	p.SupplementaryGroups = rapid.SampledFrom([][]string{nil, {}, groups.Draw(t, "groups")}).Draw(t, "supplementary_groups")
	p.Umask = rapid.Ptr(rapid.Map(rapid.IntRange(0, 0o777), func(n int) Umask { return Umask(n) }), true).Draw(t, "umask")
	p.Nice = rapid.Ptr(rapid.IntRange(-20, 19), true).Draw(t, "nice")
	p.OOMScoreAdj = rapid.Ptr(rapid.IntRange(-1000, 1000), true).Draw(t, "oom_score_adj")
	p.NoNewPrivileges = rapid.Bool().Draw(t, "no_new_privileges")
	for _, l := range limitResources {
		number := rapid.OneOf(rapid.Uint64Range(l.least, largestLimit), rapid.Just(keeper.Unlimited))
		low, high := number.Draw(t, l.name), number.Draw(t, l.name)
		limit := rapid.SampledFrom([]Limit{
			{min(low, high), max(low, high)},
			{low, low},
			{low, keeper.LimitUnchanged},
			{keeper.LimitUnchanged, high},
			{}, // not given
		}).Draw(t, "limit")
		if limit == (Limit{}) && l.least > 0 || rapid.Bool().Draw(t, "leave out") {
			continue
		}
		if p.Limits == nil {
			p.Limits = Limits{}
		}
		p.Limits[l.name] = limit
	}
	bytes := rapid.SampledFrom([]string{"", "max", "4096", "9223372036854775806"})
	p.Cgroup = CgroupConfig{
		MemoryMax: bytes.Draw(t, "memory_max"),
		CPUMax:    rapid.SampledFrom([]string{"", "max", "max 1000", "1000 1000000", "50000 100000"}).Draw(t, "cpu_max"),
		PIDsMax:   rapid.SampledFrom([]string{"", "max", "1", "4096"}).Draw(t, "pids_max"),
		IOWeight:  rapid.SampledFrom([]string{"", "1", "10000"}).Draw(t, "io_weight"),
		Optional:  rapid.Bool().Draw(t, "optional"),
	}
	p.Cgroup.MemoryHigh = rapid.SampledFrom([]string{"", "max", "4096", p.Cgroup.MemoryMax}).Draw(t, "memory_high")
	if rapid.Bool().Draw(t, "no settings") {
		p.Cgroup = CgroupConfig{Optional: p.Cgroup.Optional}
	}
	switch rapid.SampledFrom([]string{"none", "signal", "command"}).Draw(t, "reload") {
	case "signal":
		p.Reload.Signal = rapid.SampledFrom([]syscall.Signal{syscall.SIGHUP, syscall.SIGCONT, signalRTMin + 1}).Draw(t, "signal")
	case "command":
		p.Reload.Command = drawCommand(t)
	}
	if rapid.Bool().Draw(t, "stop command") {
		p.Stop.Command = drawCommand(t)
	}
}

func TestConfig_SizesAreWrittenInManyWays(t *testing.T) {
	for give, want := range map[string]Limit{
		"0":                           {0, 0},
		"4096":                        {4096, 4096},
		"512B":                        {512, 512},
		"512KiB":                      {512 << 10, 512 << 10},
		"64MiB":                       {64 << 20, 64 << 20},
		`"1 GiB"`:                     {1 << 30, 1 << 30},
		"3TiB":                        {3 << 40, 3 << 40},
		"unlimited":                   {keeper.Unlimited, keeper.Unlimited},
		"{soft: 0}":                   {0, keeper.LimitUnchanged},
		"{hard: 1KiB}":                {keeper.LimitUnchanged, 1024},
		"{soft: 1, hard: 1}":          {1, 1},
		"{hard: unlimited}":           {keeper.LimitUnchanged, keeper.Unlimited},
		"9223372036854775806":         {math.MaxInt64 - 1, math.MaxInt64 - 1},
		"{soft: 0, hard: 8388607TiB}": {0, 8388607 << 40},
	} {
		cfg := loadGood(t, fmt.Sprintf("children: [{name: a, command: [./a], limits: {core_size: %s}}]", give))
		assert.Equal(t, Limits{"core_size": want}, cfg.Children[0].Process.Limits, give)
	}
}

func TestConfig_CgroupSettingsAreTheKernelsText(t *testing.T) {
	for give, want := range map[string]keeper.CgroupSetting{
		"memory_max: 512MiB":   {File: "memory.max", Value: "536870912"},
		"memory_high: 4096":    {File: "memory.high", Value: "4096"},
		"memory_high: max":     {File: "memory.high", Value: "max"},
		"cpu_max: 0.5":         {File: "cpu.max", Value: "50000 100000"},
		"cpu_max: 2":           {File: "cpu.max", Value: "200000 100000"},
		"cpu_max: 0.01":        {File: "cpu.max", Value: "1000 100000"},
		"cpu_max: 0.333333":    {File: "cpu.max", Value: "33333 100000"},
		"cpu_max: 20000 10000": {File: "cpu.max", Value: "20000 10000"},
		"cpu_max: max 10000":   {File: "cpu.max", Value: "max 10000"},
		"cpu_max: max":         {File: "cpu.max", Value: "max"},
		"pids_max: 100":        {File: "pids.max", Value: "100"},
		"pids_max: max":        {File: "pids.max", Value: "max"},
		"io_weight: 10000":     {File: "io.weight", Value: "10000"},
		"io_weight: 1, memory_max: \"${env:MEMORY}\"": {File: "memory.max", Value: "1048576"},
	} {
		t.Setenv("MEMORY", "1MiB")
		cfg := loadGood(t, fmt.Sprintf("children: [{name: a, command: [./a], cgroup: {%s}}]", give))
		require.NotEmpty(t, cfg.Children[0].Process.Cgroup.settings(), give)
		assert.Equal(t, want, cfg.Children[0].Process.Cgroup.settings()[0], give)
	}
}

func TestCgroupConfig_SettingsAreThoseGivenInOrder(t *testing.T) {
	assert.Empty(t, CgroupConfig{Optional: true}.settings())
	assert.Equal(t, []keeper.CgroupSetting{
		{File: "memory.high", Value: "1"},
		{File: "memory.max", Value: "2"},
		{File: "cpu.max", Value: "3"},
		{File: "pids.max", Value: "4"},
		{File: "io.weight", Value: "5"},
	}, CgroupConfig{MemoryMax: "2", MemoryHigh: "1", CPUMax: "3", PIDsMax: "4", IOWeight: "5"}.settings())
}

func TestProcessConfig_RightsAreTheKeepers(t *testing.T) {
	p := newDefaultProcess().Process
	assert.Equal(t, keeper.Rights{}, p.rights(), "nothing is changed by default")

	p = full().Process
	p.Limits = Limits{"locked_memory": {1, 2}, "open_files": {64, keeper.Unlimited}, "stack": {keeper.LimitUnchanged, 3}, "core_size": {0, 0}}
	got := p.rights()
	assert.Equal(t, keeper.Rights{
		Umask: new(0o27), Nice: new(-5), OOMScoreAdj: new(-500), NoNewPrivileges: true,
		Limits: []keeper.Limit{
			{Resource: keeper.OpenFiles, Soft: 64, Hard: keeper.Unlimited},
			{Resource: keeper.CoreSize},
			{Resource: keeper.Stack, Soft: keeper.LimitUnchanged, Hard: 3},
			{Resource: keeper.LockedMemory, Soft: 1, Hard: 2},
		},
	}, got)
	*got.Umask, *got.Nice, *got.OOMScoreAdj = 0, 0, 0
	assert.Equal(t, full().Process.Umask, p.Umask, "it is a copy")
	assert.Equal(t, full().Process.Nice, p.Nice)
	assert.Equal(t, full().Process.OOMScoreAdj, p.OOMScoreAdj)
}

func TestStopScope_IsTheKeepers(t *testing.T) {
	assert.Equal(t, keeper.ScopeTree, StopScopeTree.keeper())
	assert.Equal(t, keeper.ScopeGroup, StopScopeGroup.keeper())
	assert.Equal(t, keeper.ScopeProcess, StopScopeProcess.keeper())
}

func TestConfig_RightsOfDefaultsAreNotShared(t *testing.T) {
	cfg := loadGood(t, `
defaults: {supplementary_groups: [a], umask: "022", nice: 1, oom_score_adj: 1, limits: {processes: 9}, reload: {command: [./r]}, stop: {command: [./s]}}
children: [{name: a, command: [./a]}, {name: b, command: [./b]}]
`)
	a, b := cfg.Children[0].Process, cfg.Children[1].Process
	a.SupplementaryGroups[0], *a.Umask, *a.Nice, *a.OOMScoreAdj = "x", 0, 0, 0
	a.Limits["processes"], a.Reload.Command[0], a.Stop.Command[0] = Limit{1, 1}, "x", "x"
	assert.Equal(t, []string{"a"}, b.SupplementaryGroups)
	assert.Equal(t, Umask(0o22), *b.Umask)
	assert.Equal(t, 1, *b.Nice)
	assert.Equal(t, 1, *b.OOMScoreAdj)
	assert.Equal(t, Limits{"processes": {9, 9}}, b.Limits)
	assert.Equal(t, []string{"./r"}, b.Reload.Command)
	assert.Equal(t, []string{"./s"}, b.Stop.Command)
}

// What the decoder cannot make is refused in a Config built in Go too.
func TestConfig_RightsBuiltInGoAreValidatedToo(t *testing.T) {
	web := newDefaultProcess()
	web.Name, web.Process.Command = "web", []string{"./web"}
	p := web.Process
	p.Umask = new(Umask(0o1000))
	p.Limits = Limits{
		"files": {1, 1}, "stack": {keeper.LimitUnchanged, keeper.LimitUnchanged}, "core_size": {math.MaxInt64, keeper.Unlimited},
	}
	p.Cgroup = CgroupConfig{MemoryMax: "1G", MemoryHigh: "-1", CPUMax: "1", PIDsMax: "many", IOWeight: "default"}
	p.Reload.Signal = 99
	cfg := newDefaultConfig()
	cfg.Children = []ChildConfig{web}
	assert.EqualError(t, cfg.Validate(), `children[0](web)::reload::signal: 99 is not the number of a signal: write a name such as SIGHUP
  children[0](web)::umask: 01000 is not from 0 to 0777: write three octal digits, such as 022
  children[0](web)::limits::core_size::soft: 9223372036854775807 is more than any machine has: write less, or unlimited
  children[0](web)::limits::files: there is no such limit: write one of open_files, processes, core_size, file_size, address_space, stack, locked_memory
  children[0](web)::limits::stack: neither soft nor hard is given: write one of them, or both, or remove stack
  children[0](web)::cgroup::memory_max: "1G" is not a number of bytes: write one such as 536870912, or max
  children[0](web)::cgroup::memory_high: "-1" is not a number of bytes: write one such as 536870912, or max
  children[0](web)::cgroup::cpu_max: "1" is not a quota and a period in microseconds: write them such as "50000 100000", or max
  children[0](web)::cgroup::pids_max: "many" is not a number: write one such as 100, or max
  children[0](web)::cgroup::io_weight: default is not from 1 to 10000: write a number between; 100 is what others have`)
}
