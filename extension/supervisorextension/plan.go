// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"reflect"
	"slices"
)

// appliedToTheLiving are the process keys that a process which runs need not be
// replaced for: they say what is done with it later. Every other key says how it is
// started.
var appliedToTheLiving = []string{
	"name", "restart", "significant", "backoff", "instances", "success", "autostart", "start_timeout", "stop", "reload", "readiness", "liveness", "output",
}

// keysOfResource are in the environment of a process, unless it is not told of them.
var keysOfResource = []string{"service_name", "resource_attributes"}

// changedKeys names the keys of a child that differ between two configurations of
// it, in order, and says whether a process that runs has to be replaced for them.
func changedKeys(from, to *ChildConfig) (keys []string, replace bool) {
	was, is := ownKeys(from), ownKeys(to)
	for key := range is {
		if !reflect.DeepEqual(was[key], is[key]) {
			keys = append(keys, key)
		}
	}
	for key := range was {
		if _, both := is[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	living := appliedToTheLiving
	if to.Process != nil && !to.Process.PropagateTelemetry {
		living = slices.Concat(living, keysOfResource)
	}
	for _, key := range keys {
		replace = replace || !slices.Contains(living, key)
	}
	if from.Process != nil && to.Process != nil && channels(from.Process) != channels(to.Process) {
		replace = true
	}
	return keys, replace
}

// ownKeys are the keys of a child with their values, without those of its children.
func ownKeys(c *ChildConfig) map[string]any {
	keys := c.marshal(nil, nil)
	maps.DeleteFunc(keys, func(key string, _ any) bool { return key == "children" || key == "defaults" })
	return keys
}

// channel is by which means a process is told, at its start, to report and to speak.
type channel struct {
	stdout, stderr   OutputMode
	socket, watchdog bool
	interval         string
	fd               int
}

func channels(p *ProcessConfig) (c channel) {
	c.stdout, c.stderr = p.Output.Stdout, p.Output.Stderr
	if p.Readiness != nil {
		c.fd = p.Readiness.NotifyFD
	}
	c.socket = p.notifies()
	if p.Liveness != nil && p.Liveness.Notify != nil {
		c.watchdog, c.interval = true, p.Liveness.Interval.String()
	}
	return c
}
