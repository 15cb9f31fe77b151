// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"sync"

	"go.opentelemetry.io/collector/filter"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// resourceSwitch is one of the switches under resource_attributes.
type resourceSwitch struct {
	key    string
	config *metadata.ResourceAttributeConfig
}

func resourceSwitches(c *metadata.ResourceAttributesConfig) []resourceSwitch {
	return []resourceSwitch{
		{"process.command", &c.ProcessCommand},
		{"process.executable.name", &c.ProcessExecutableName},
		{"process.owner", &c.ProcessOwner},
		{"service.instance.id", &c.ServiceInstanceID},
		{"service.name", &c.ServiceName},
		{"service.namespace", &c.ServiceNamespace},
		{"supervisor.process.id", &c.SupervisorProcessID},
	}
}

// resources are the resources that things are reported on, with the attributes
// that the configuration leaves on. They are made once: they never change, and
// must not be changed by those who get them.
type resources struct {
	supervisor supervisorextension.Supervisor
	switches   *resourceRules

	mu       sync.Mutex
	byInfo   map[*supervisorextension.Info]pcommon.Resource // guarded by mu
	byID     map[string]pcommon.Resource                    // guarded by mu
	snapshot []supervisorextension.Process                  // guarded by mu
}

func newResources(supervisor supervisorextension.Supervisor, switches *metadata.ResourceAttributesConfig) *resources {
	return &resources{
		supervisor: supervisor,
		switches:   newResourceRules(switches),
		byInfo:     map[*supervisorextension.Info]pcommon.Resource{},
	}
}

// of returns the resource of a child.
func (r *resources) of(info *supervisorextension.Info) pcommon.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	res, ok := r.byInfo[info]
	if !ok {
		if len(r.byInfo) >= mostKept {
			clear(r.byInfo) // most are of children that are no more
		}
		res = r.switches.apply(info.Resource)
		r.byInfo[info] = res
	}
	return res
}

// mostKept is far more than there are children at a time.
const mostKept = 20_000

// ofID returns the resource of the child with that id. What never was a child is the
// supervisor's own business.
func (r *resources) ofID(id string) pcommon.Resource {
	if informant, ok := r.supervisor.(supervisorextension.Informant); ok {
		if info := informant.Info(id); info != nil {
			return r.of(info)
		}
		id = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res, ok := r.byID[id]
	if !ok {
		r.refreshLocked()
		if res, ok = r.byID[id]; !ok {
			res = r.byID[""]
		}
	}
	return res
}

// refreshLocked learns which children there are, and forgets the others.
func (r *resources) refreshLocked() {
	r.snapshot = r.supervisor.Processes(r.snapshot[:0])
	r.byID = make(map[string]pcommon.Resource, len(r.snapshot)+1)
	byInfo := make(map[*supervisorextension.Info]pcommon.Resource, len(r.snapshot))
	for i := range r.snapshot {
		info := r.snapshot[i].Info
		res, ok := r.byInfo[info]
		if !ok {
			res = r.switches.apply(info.Resource)
		}
		byInfo[info] = res
		r.byID[info.ID] = res
	}
	r.byInfo = byInfo
	r.byID[""] = r.switches.apply(r.supervisor.Resource())
	clear(r.snapshot)
}

// resourceRules are the switches under resource_attributes in the form that is
// quick to apply.
type resourceRules struct {
	off              []string
	include, exclude map[string]filter.Filter
}

func newResourceRules(c *metadata.ResourceAttributesConfig) *resourceRules {
	rules := &resourceRules{include: map[string]filter.Filter{}, exclude: map[string]filter.Filter{}}
	for _, s := range resourceSwitches(c) {
		if !s.config.Enabled {
			rules.off = append(rules.off, s.key)
		}
		if s.config.MetricsInclude != nil {
			rules.include[s.key] = filter.CreateFilter(s.config.MetricsInclude)
		}
		if s.config.MetricsExclude != nil {
			rules.exclude[s.key] = filter.CreateFilter(s.config.MetricsExclude)
		}
	}
	return rules
}

// apply returns res without the attributes that are switched off; res itself if
// there are none.
func (r *resourceRules) apply(res pcommon.Resource) pcommon.Resource {
	if len(r.off) == 0 {
		return res
	}
	kept := pcommon.NewResource()
	res.CopyTo(kept)
	for _, key := range r.off {
		kept.Attributes().Remove(key)
	}
	return kept
}

// admitsMetrics says whether metrics_include and metrics_exclude let the metrics
// of res pass. They look at the attributes that are left on.
func (r *resourceRules) admitsMetrics(res pcommon.Resource) bool {
	for key, included := range r.include {
		if value, ok := res.Attributes().Get(key); ok && !included.Matches(value.AsString()) {
			return false
		}
	}
	for key, excluded := range r.exclude {
		if value, ok := res.Attributes().Get(key); ok && excluded.Matches(value.AsString()) {
			return false
		}
	}
	return true
}
