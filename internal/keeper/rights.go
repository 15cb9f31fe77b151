// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import "math"

// Rights are what a process may do and use. They are set between its clone and the
// first instruction of its program, and if one can not be set there is no process: it
// never runs with more rights than asked for. The zero value changes nothing.
type Rights struct {
	// Credential is whom the process runs as; nil: as its spawner.
	Credential *Credential
	// Umask is from 0 to 0o777; nil: the spawner's.
	Umask  *int
	Limits []Limit
	// Nice is from -20 to 19, OOMScoreAdj from -1000 to 1000; nil: the spawner's.
	Nice, OOMScoreAdj *int
	// NoNewPrivileges: neither the program nor what it starts gains rights by executing a file.
	NoNewPrivileges bool
}

// Credential is a user, a group, and exactly these supplementary groups.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Limit is a resource limit, as setrlimit(2) takes it.
type Limit struct {
	Resource   Resource
	Soft, Hard uint64
}

// What a Limit may be beside a number.
const (
	Unlimited uint64 = math.MaxUint64
	// LimitUnchanged is the spawner's own.
	LimitUnchanged uint64 = math.MaxUint64 - 1
)

// Resource is what a Limit limits.
type Resource uint8

const (
	OpenFiles    Resource = iota // descriptors, one more than the greatest
	Processes                    // of the user
	CoreSize                     // bytes
	FileSize                     // bytes
	AddressSpace                 // bytes
	Stack                        // bytes
	LockedMemory                 // bytes
	numResources
)

// CgroupSetting is a file of a cgroup and what is written to it.
type CgroupSetting struct{ File, Value string }
