// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"math"
	"slices"
	"syscall"

	"github.com/otelwarden/warden/internal/keeper"
)

// Umask is from 0 to 0o777.
type Umask int

// Limits are resource limits by their name, one of limitResources.
type Limits map[string]Limit

// Limit is a resource limit: a number, keeper.Unlimited or keeper.LimitUnchanged.
// At least one of the two is given.
type Limit struct {
	Soft uint64 `mapstructure:"soft"`
	Hard uint64 `mapstructure:"hard"`
}

// largestLimit is what a number may be at most: more is no limit to any kernel, and
// no number to YAML.
const largestLimit = math.MaxInt64 - 1

// limitResource is a resource that Limits may name.
type limitResource struct {
	name     string
	resource keeper.Resource
	// bytes: it is a size, and written with a unit too.
	bytes bool
	// least is the smallest number with which a program can be started, and why says so.
	least uint64
	why   string
}

// limitResources are in the order of the keeper's constants.
var limitResources = []limitResource{
	{"open_files", keeper.OpenFiles, false, 16, "three are the standard streams and a program needs some to be loaded"},
	{"processes", keeper.Processes, false, 1, "the process itself counts too"},
	{"core_size", keeper.CoreSize, true, 0, ""},
	{"file_size", keeper.FileSize, true, 0, ""},
	{"address_space", keeper.AddressSpace, true, 64 << 10, "no program can be executed in less"},
	{"stack", keeper.Stack, true, 64 << 10, "no program can be executed with less"},
	{"locked_memory", keeper.LockedMemory, true, 0, ""},
}

// CgroupConfig are settings of the cgroup of a process. Each is "" if it is not given,
// otherwise the exact text for the kernel's file.
type CgroupConfig struct {
	// MemoryMax and MemoryHigh are bytes or "max".
	MemoryMax  string `mapstructure:"memory_max"`
	MemoryHigh string `mapstructure:"memory_high"`
	// CPUMax is "QUOTA PERIOD" in microseconds, "max PERIOD" or "max".
	CPUMax string `mapstructure:"cpu_max"`
	// PIDsMax is a number or "max".
	PIDsMax string `mapstructure:"pids_max"`
	// IOWeight is from 1 to 10000.
	IOWeight string `mapstructure:"io_weight"`
	// Optional: a process is started without them where they are not available.
	Optional bool `mapstructure:"optional"`
}

// cgroupFile is one setting of a CgroupConfig and the kernel's file for it.
type cgroupFile struct {
	file  string
	value func(*CgroupConfig) *string
}

// cgroupFiles are in the order in which they are written: the limit that slows down
// before the one that kills.
var cgroupFiles = []cgroupFile{
	{"memory.high", func(c *CgroupConfig) *string { return &c.MemoryHigh }},
	{"memory.max", func(c *CgroupConfig) *string { return &c.MemoryMax }},
	{"cpu.max", func(c *CgroupConfig) *string { return &c.CPUMax }},
	{"pids.max", func(c *CgroupConfig) *string { return &c.PIDsMax }},
	{"io.weight", func(c *CgroupConfig) *string { return &c.IOWeight }},
}

// settings are those that are given.
func (c CgroupConfig) settings() []keeper.CgroupSetting {
	var settings []keeper.CgroupSetting
	for _, f := range cgroupFiles {
		if value := *f.value(&c); value != "" {
			settings = append(settings, keeper.CgroupSetting{File: f.file, Value: value})
		}
	}
	return settings
}

// ReloadConfig is how a process is asked to read its configuration again: one of the
// two, or none.
type ReloadConfig struct {
	// Signal 0: none.
	Signal syscall.Signal `mapstructure:"signal"`
	// Command nil: none.
	Command []string `mapstructure:"command"`
}

func (r ReloadConfig) given() bool { return r.Signal != 0 || r.Command != nil }

// StopScope is what is stopped with a process, and ended after it.
type StopScope string

const (
	// StopScopeTree is everything that descends from the process.
	StopScopeTree StopScope = "tree"
	// StopScopeGroup is its process group.
	StopScopeGroup StopScope = "group"
	// StopScopeProcess is the process alone.
	StopScopeProcess StopScope = "process"
)

func (s StopScope) keeper() keeper.Scope {
	switch s {
	case StopScopeGroup:
		return keeper.ScopeGroup
	case StopScopeProcess:
		return keeper.ScopeProcess
	}
	return keeper.ScopeTree
}

// kills is true if a process is killed without being asked, so that nothing is waited for.
func (s StopConfig) kills() bool { return s.Timeout == 0 || s.Signal == syscall.SIGKILL }

// rights are those of a process but for whom it runs as: names are looked up at its
// start.
func (p *ProcessConfig) rights() keeper.Rights {
	r := keeper.Rights{
		Umask: cloneOf((*int)(p.Umask)),
		Nice:  cloneOf(p.Nice), OOMScoreAdj: cloneOf(p.OOMScoreAdj),
		NoNewPrivileges: p.NoNewPrivileges,
	}
	for _, l := range limitResources {
		if limit, ok := p.Limits[l.name]; ok {
			r.Limits = append(r.Limits, keeper.Limit{Resource: l.resource, Soft: limit.Soft, Hard: limit.Hard})
		}
	}
	return r
}

// unshareRights replaces what p shares with the process that it is a copy of.
func (p *ProcessConfig) unshareRights() {
	p.SupplementaryGroups = slices.Clone(p.SupplementaryGroups)
	p.Umask, p.Nice, p.OOMScoreAdj = cloneOf(p.Umask), cloneOf(p.Nice), cloneOf(p.OOMScoreAdj)
	p.Limits = maps.Clone(p.Limits)
	p.Reload.Command = slices.Clone(p.Reload.Command)
	p.Stop.Command = slices.Clone(p.Stop.Command)
}
