// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// instanceNamespace is the UUID namespace of all service.instance.id values made here.
var instanceNamespace = uuid.MustParse("4ae58ac0-7b4f-5a0f-9f5e-4d9c3c3b8a52")

// InstanceID returns the UUIDv5 of the parts: the same parts always give the same
// id, on every start, so that a restart begins no new series.
func InstanceID(parts ...string) string {
	return uuid.NewSHA1(instanceNamespace, []byte(strings.Join(parts, "\x00"))).String()
}

// HostIdentity names this host, or this pod: its machine id and its host name,
// which is the pod's name in Kubernetes. Clones of one image share the first,
// containers of one host may share the second.
var HostIdentity = sync.OnceValue(func() string {
	machineID, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		machineID = nil
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = ""
	}
	return strings.TrimSpace(string(machineID)) + "/" + hostname
})

// newInfo describes a child, or the root if there is no process. Ids that share a
// host are told apart by the runtime directory of their supervisor.
func newInfo(id string, typ ProcessType, process *ProcessConfig, runtimeDirectory string, now time.Time) *Info {
	resource := pcommon.NewResource()
	attrs := resource.Attributes()
	name := id
	switch {
	case id == "":
		name = "warden.supervisor"
	case process != nil && process.ServiceName != "":
		name = process.ServiceName
	}
	attrs.PutStr("service.name", name)
	attrs.PutStr("service.instance.id", InstanceID(HostIdentity(), runtimeDirectory, id))
	if process != nil {
		command := process.Command
		attrs.PutStr("supervisor.process.id", id)
		attrs.PutStr("process.executable.name", filepath.Base(command[0]))
		attrs.PutStr("process.command", command[0])
		attrs.PutStr("process.owner", process.owner())
		for _, key := range slices.Sorted(maps.Keys(process.ResourceAttributes)) {
			attrs.PutStr(key, process.ResourceAttributes[key])
		}
	}
	return &Info{ID: id, Type: typ, Resource: resource, Created: now}
}

// defaultRuntimeDirectory is where a supervisor of that id keeps what must be found
// again; two supervisors never share one.
func defaultRuntimeDirectory(id component.ID) string {
	base := "/run"
	if uid := os.Geteuid(); uid != 0 {
		if base = os.Getenv("XDG_RUNTIME_DIR"); base == "" {
			base = filepath.Join(os.TempDir(), "warden-"+strconv.Itoa(uid))
		}
	}
	return filepath.Join(base, "warden", strings.ReplaceAll(id.String(), "/", "_"))
}

// owner names whom the process runs as, by the number if that has no name.
func (p *ProcessConfig) owner() string {
	if p.User == "" {
		return ownUserName()
	}
	if account, err := p.account(); err == nil && account != nil {
		return account.Username
	}
	return p.User
}

var ownUserName = sync.OnceValue(func() string {
	uid := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
})
