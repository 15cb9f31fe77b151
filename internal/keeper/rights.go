// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

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

// needStub: something is to be done that a clone can not do.
func (r Rights) needStub() bool {
	// What a spawner other than root may do by its capabilities would outlast the change.
	changesUser := r.Credential.change() != nil && os.Geteuid() != 0
	return changesUser || r.Umask != nil || len(r.Limits) > 0 || r.Nice != nil || r.OOMScoreAdj != nil || r.NoNewPrivileges
}

// change is what a clone has to change for it; nil: nothing. It takes a right to set
// what is set already, so that is left out.
func (c *Credential) change() *syscall.Credential {
	if c == nil || c.isOwn() {
		return nil
	}
	return c.system()
}

func (c *Credential) system() *syscall.Credential {
	if c == nil {
		return nil
	}
	return &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
}

func (c *Credential) isOwn() bool {
	if int(c.UID) != os.Geteuid() || int(c.GID) != os.Getegid() {
		return false
	}
	own, err := os.Getgroups()
	if err != nil {
		return false
	}
	var groups []int
	for _, g := range c.Groups {
		groups = append(groups, int(g))
	}
	slices.Sort(own)
	slices.Sort(groups)
	return slices.Equal(slices.Compact(own), slices.Compact(groups))
}

// check finds what could not be set anywhere.
func (r Rights) check() error {
	switch {
	case r.Umask != nil && (*r.Umask < 0 || *r.Umask > 0o777):
		return errorf("%d is no umask", *r.Umask)
	case r.Nice != nil && (*r.Nice < -20 || *r.Nice > 19):
		return errorf("%d is no niceness: it is from -20 to 19", *r.Nice)
	case r.OOMScoreAdj != nil && (*r.OOMScoreAdj < -1000 || *r.OOMScoreAdj > 1000):
		return errorf("%d is no adjustment of the OOM score: it is from -1000 to 1000", *r.OOMScoreAdj)
	}
	for _, limit := range r.Limits {
		if limit.Resource >= numResources {
			return errorf("%d is no resource with a limit", uint8(limit.Resource))
		}
	}
	return nil
}

func (r Rights) append(e *wire.Encoder) {
	appendCredential(e, r.Credential.system())
	for _, n := range []*int{r.Umask, r.Nice, r.OOMScoreAdj} {
		e.Bool(n != nil)
		if n != nil {
			e.Int(int64(*n))
		}
	}
	e.Uint(uint64(len(r.Limits)))
	for _, limit := range r.Limits {
		e.Uint(uint64(limit.Resource))
		e.Uint(limit.Soft)
		e.Uint(limit.Hard)
	}
	e.Bool(r.NoNewPrivileges)
}

func takeRights(d *wire.Decoder) (r Rights) {
	if c := takeCredential(d); c != nil {
		r.Credential = &Credential{UID: c.Uid, GID: c.Gid, Groups: c.Groups}
	}
	for _, n := range []**int{&r.Umask, &r.Nice, &r.OOMScoreAdj} {
		if d.Bool() {
			value := int(d.Int())
			*n = &value
		}
	}
	for range d.Count() {
		r.Limits = append(r.Limits, Limit{Resource(d.Byte(uint8(numResources))), d.Uint(), d.Uint()})
	}
	r.NoNewPrivileges = d.Bool()
	return r
}
