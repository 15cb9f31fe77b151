// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/scraper/scraperhelper"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// Config is the receiver's configuration.
type Config struct {
	ControllerConfig `mapstructure:",squash"`
	// Supervisor is the id of the supervisor extension to watch; none if zero.
	Supervisor SupervisorID `mapstructure:"supervisor"`
	System     SystemConfig `mapstructure:"system"`
	Topics     TopicsConfig `mapstructure:"topics"`
	// Metrics switches metrics on and off, by name.
	Metrics MetricsConfig `mapstructure:"metrics"`
	// ResourceAttributes switches resource attributes on and off, for all signals.
	ResourceAttributes metadata.ResourceAttributesConfig `mapstructure:"resource_attributes"`
}

var _ component.Config = (*Config)(nil)

// ControllerConfig has the keys of scraperhelper's, but not its Validate, whose
// errors name neither the value nor what is allowed.
type ControllerConfig scraperhelper.ControllerConfig

// SupervisorID is a component id, or, unlike component.ID, nothing, written "".
type SupervisorID component.ID

// UnmarshalText accepts "" and what component.ID accepts.
func (s *SupervisorID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = SupervisorID{}
		return nil
	}
	var id component.ID
	if err := id.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is not the id of an extension such as supervisor or supervisor/jobs: %w", text, err)
	}
	*s = SupervisorID(id)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (s SupervisorID) MarshalText() ([]byte, error) {
	if !s.isSet() {
		return nil, nil
	}
	return component.ID(s).MarshalText()
}

func (s SupervisorID) String() string { return component.ID(s).String() }

func (s SupervisorID) isSet() bool { return s != SupervisorID{} }

// SystemConfig is about the metrics of the host.
type SystemConfig struct {
	Enabled bool `mapstructure:"enabled"`
}

// MetricsConfig adds to the generated switches that of the histogram, which the
// generator cannot make.
type MetricsConfig struct {
	metadata.MetricsConfig `mapstructure:",squash"`
	ProcessLifetime        HistogramConfig `mapstructure:"process.lifetime"`
}

// HistogramConfig is the switch of a histogram.
type HistogramConfig struct {
	Enabled bool `mapstructure:"enabled"`
}

// TopicsConfig says what becomes of the events of each topic.
type TopicsConfig struct {
	Lifecycle  TopicConfig `mapstructure:"lifecycle"`
	Supervisor TopicConfig `mapstructure:"supervisor"`
	Health     TopicConfig `mapstructure:"health"`
	Job        TopicConfig `mapstructure:"job"`
	Control    TopicConfig `mapstructure:"control"`
	// Output also covers the captured lines.
	Output TopicConfig `mapstructure:"output"`
}

// TopicConfig says what becomes of the events of one topic.
type TopicConfig struct {
	// Log makes a log record of each event.
	Log bool `mapstructure:"log"`
	// Count counts the events in the metric event.
	Count bool `mapstructure:"count"`
	// Trace makes spans of the events that end something.
	Trace bool `mapstructure:"trace"`
	// Severity is the least that is logged. Captured lines, which have none, always are.
	Severity Severity `mapstructure:"severity"`
}

// Severity is the name of an OpenTelemetry severity range.
type Severity string

var severities = []struct {
	name   Severity
	number plog.SeverityNumber
}{
	{"trace", plog.SeverityNumberTrace},
	{"debug", plog.SeverityNumberDebug},
	{"info", plog.SeverityNumberInfo},
	{"warn", plog.SeverityNumberWarn},
	{"error", plog.SeverityNumberError},
	{"fatal", plog.SeverityNumberFatal},
}

// number returns the least severity number of the range; false if there is no such range.
func (s Severity) number() (plog.SeverityNumber, bool) {
	for _, known := range severities {
		if s == known.name {
			return known.number, true
		}
	}
	return plog.SeverityNumberUnspecified, false
}

// namedTopic is a topic with what the journal and the configuration call it.
type namedTopic struct {
	name   string
	config TopicConfig
	// spans says whether any span is made from this topic's events.
	spans bool
}

// all lists the topics in the order of the documentation.
func (t *TopicsConfig) all() []namedTopic {
	return []namedTopic{
		{journal.TopicLifecycle, t.Lifecycle, true},
		{journal.TopicSupervisor, t.Supervisor, true},
		{"health", t.Health, false},
		{"job", t.Job, true},
		{"control", t.Control, false},
		{journal.TopicOutput, t.Output, false},
	}
}

// of returns the configuration of the topic called name. A topic that the
// configuration does not know is logged and counted.
func (t *TopicsConfig) of(name string) TopicConfig {
	for _, topic := range t.all() {
		if topic.name == name {
			return topic.config
		}
	}
	return defaultTopic(false)
}

// Validate reports everything that is wrong, not the first thing only.
func (c *Config) Validate() error {
	var errs []error
	if c.CollectionInterval <= 0 {
		errs = append(errs, fmt.Errorf("collection_interval: %q is not more than 0; give a duration such as 10s", c.CollectionInterval))
	}
	if c.InitialDelay < 0 {
		errs = append(errs, fmt.Errorf("initial_delay: %q is negative; give 0s for a first scrape at once", c.InitialDelay))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %q is negative; give 0s for no limit", c.Timeout))
	}
	if !c.Supervisor.isSet() && !c.System.Enabled {
		errs = append(errs, errors.New(`supervisor: "" together with system::enabled: false leaves nothing to report; name a supervisor extension or enable system`))
	}
	for _, topic := range c.Topics.all() {
		if _, ok := topic.config.Severity.number(); !ok {
			errs = append(errs, fmt.Errorf("topics::%s::severity: %q is not one of %s", topic.name, topic.config.Severity, severityNames()))
		}
		if topic.config.Trace && !topic.spans {
			errs = append(errs, fmt.Errorf("topics::%s::trace: true has no effect, no span is made from this topic; remove the key or give false", topic.name))
		}
	}
	return errors.Join(errs...)
}

func severityNames() string {
	names := make([]string, len(severities))
	for i, s := range severities {
		names[i] = string(s.name)
	}
	return strings.Join(names, ", ")
}
