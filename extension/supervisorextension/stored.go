// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"encoding/json"

	"go.opentelemetry.io/collector/config/configopaque"
)

// storedChild is the form in which the configuration of a child is kept outside of
// the collector: by the keeper, which has the environment of its processes anyway.
// What is opaque in every dump has to be readable here, or nothing could be started
// from it, so it stands beside the configuration, which would not tell it.
type storedChild struct {
	Child ChildConfig

	Environment      map[string]string `json:",omitempty"`
	ReadinessHeaders map[string]string `json:",omitempty"`
	LivenessHeaders  map[string]string `json:",omitempty"`
	Instances        int               `json:",omitempty"`
	Instance         int               `json:",omitempty"`
}

// encodeChild writes the configuration of a child, without the children of a supervisor.
func encodeChild(c *ChildConfig) []byte {
	s := storedChild{Child: *c}
	if c.Supervisor != nil {
		below := *c.Supervisor
		below.Children, below.Defaults = nil, nil
		s.Child.Supervisor = &below
		return encode(s)
	}
	s.Environment = plain(c.Process.Environment)
	s.Instances, s.Instance = c.Process.instances, c.Process.instance
	if r := c.Process.Readiness; r != nil && r.HTTP != nil {
		s.ReadinessHeaders = plain(r.HTTP.Headers)
	}
	if l := c.Process.Liveness; l != nil && l.HTTP != nil {
		s.LivenessHeaders = plain(l.HTTP.Headers)
	}
	return encode(s)
}

// decodeChild reads what encodeChild wrote.
func decodeChild(data []byte) (*ChildConfig, error) {
	var s storedChild
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	p := s.Child.Process
	if p == nil {
		return &s.Child, nil
	}
	p.Environment = opaque(s.Environment)
	p.instances, p.instance = s.Instances, s.Instance
	if r := p.Readiness; r != nil && r.HTTP != nil {
		r.HTTP.Headers = opaque(s.ReadinessHeaders)
	}
	if l := p.Liveness; l != nil && l.HTTP != nil {
		l.HTTP.Headers = opaque(s.LivenessHeaders)
	}
	return &s.Child, nil
}

func plain(values map[string]configopaque.String) map[string]string {
	return converted[string](values)
}

func opaque(values map[string]string) map[string]configopaque.String {
	return converted[configopaque.String](values)
}

func converted[To, From ~string](from map[string]From) map[string]To {
	if from == nil {
		return nil
	}
	to := make(map[string]To, len(from))
	for key, value := range from {
		to[key] = To(value)
	}
	return to
}
