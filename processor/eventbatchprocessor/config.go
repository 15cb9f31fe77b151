// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
)

// Values of Config.OnFull.
const (
	OnFullBlock      = "block"
	OnFullReject     = "reject"
	OnFullDropNewest = "drop_newest"
	OnFullDropOldest = "drop_oldest"
)

// Values of Config.Acknowledge.
const (
	AcknowledgeAccepted  = "accepted"
	AcknowledgeDelivered = "delivered"
)

// Values of the aggregations in MetricsConfig and Override.
const (
	AggregateSum     = "sum"
	AggregateAverage = "average"
	AggregateLast    = "last"
	AggregateMin     = "min"
	AggregateMax     = "max"
	AggregateMerge   = "merge"
	AggregateNone    = "none"
)

// Config is the configuration of the processor. Every pipeline has an instance of its own, so the limits are per pipeline.
type Config struct {
	// QueueSize is how many items (log records, data points, spans) are held at most over all groups, those being sent
	// included. With aggregation a stream holds one item, however many points were merged into it.
	QueueSize int `mapstructure:"queue_size"`
	// OnFull is what happens to a request for which there is no room: block until there is room or the caller's context
	// ends, reject it with a retryable error, drop_newest or drop_oldest.
	OnFull string `mapstructure:"on_full"`
	// Timeout is how long an item waits for its batch to fill; 0 sends at once.
	Timeout time.Duration `mapstructure:"timeout"`
	// SendBatchSize is the number of items at which a group's batch leaves; 0 sends at once.
	SendBatchSize int `mapstructure:"send_batch_size"`
	// SendBatchMaxSize is the largest batch that is sent; 0 is without limit.
	SendBatchMaxSize int `mapstructure:"send_batch_max_size"`
	// MaxGroups is how many groups are kept apart; items of further ones share an overflow group.
	MaxGroups int `mapstructure:"max_groups"`
	// MetadataKeys are client metadata keys whose values keep requests apart and go on with the batch. Case does not matter.
	MetadataKeys []string `mapstructure:"metadata_keys"`
	// MetadataCardinalityLimit is how many combinations of those values are taken; 0 is without limit.
	MetadataCardinalityLimit int `mapstructure:"metadata_cardinality_limit"`
	// Acknowledge is when Consume returns: accepted, when the items are held, or delivered, when the next consumer has them.
	Acknowledge string `mapstructure:"acknowledge"`

	Logs    EventConfig   `mapstructure:"logs"`
	Traces  EventConfig   `mapstructure:"traces"`
	Metrics MetricsConfig `mapstructure:"metrics"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// EventConfig says what makes records or spans one group.
type EventConfig struct {
	// GroupBy are the keys whose values a group has in common; see groupKinds for the words. Empty: one group.
	GroupBy []string `mapstructure:"group_by"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// MetricsConfig says how the data points of one stream become one within an interval.
type MetricsConfig struct {
	// Interval is the length of the window; 0 batches without aggregation.
	Interval time.Duration `mapstructure:"interval"`
	// Sum is sum or none. Delta points are added; of cumulative ones the newest is kept.
	Sum string `mapstructure:"sum"`
	// Gauge is average, last, min, max or none.
	Gauge string `mapstructure:"gauge"`
	// Histogram is merge or none, for histograms of both kinds. Of cumulative ones the newest is kept.
	Histogram string `mapstructure:"histogram"`
	// Overrides are tried in order before the built-in ones and the three above.
	Overrides []Override `mapstructure:"overrides"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// Override sets the aggregation of metrics by name. It has an effect on those kinds only that know the aggregation.
type Override struct {
	// Metric is a name, in which * stands for any characters and ? for one.
	Metric string `mapstructure:"metric"`
	// Aggregate is any of the aggregations.
	Aggregate string `mapstructure:"aggregate"`

	// prevent unkeyed literal initialization
	_ struct{}
}

var _ component.Config = (*Config)(nil)

// Validate reports everything that is wrong, each with key, value and what is allowed.
func (c *Config) Validate() error {
	return errors.Join(
		c.validateSizes(),
		oneOf("on_full", c.OnFull, OnFullBlock, OnFullReject, OnFullDropNewest, OnFullDropOldest),
		oneOf("acknowledge", c.Acknowledge, AcknowledgeAccepted, AcknowledgeDelivered),
		validateMetadataKeys(c.MetadataKeys),
		validateGroupBy("logs::group_by", c.Logs.GroupBy, signalLogs),
		validateGroupBy("traces::group_by", c.Traces.GroupBy, signalTraces),
		c.Metrics.validate(),
	)
}

func (c *Config) validateSizes() error {
	var errs []error
	if c.QueueSize < 1 {
		errs = append(errs, fmt.Errorf("'queue_size' is %d, but must be at least 1; the default is 10000", c.QueueSize))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("'timeout' is %v, but must not be negative; 0s sends every request at once", c.Timeout))
	}
	if c.SendBatchSize < 0 {
		errs = append(errs, fmt.Errorf("'send_batch_size' is %d, but must not be negative; 0 sends every request at once", c.SendBatchSize))
	}
	if c.SendBatchMaxSize < 0 {
		errs = append(errs, fmt.Errorf("'send_batch_max_size' is %d, but must not be negative; 0 is without limit", c.SendBatchMaxSize))
	}
	if c.SendBatchMaxSize > 0 && c.SendBatchMaxSize < c.SendBatchSize {
		errs = append(errs, fmt.Errorf("'send_batch_max_size' is %d, but must be at least 'send_batch_size', which is %d; raise it, lower 'send_batch_size', or set 0 for no limit",
			c.SendBatchMaxSize, c.SendBatchSize))
	}
	if c.MaxGroups < 1 {
		errs = append(errs, fmt.Errorf("'max_groups' is %d, but must be at least 1; to batch without groups set 'group_by' to []", c.MaxGroups))
	}
	if c.MetadataCardinalityLimit < 0 {
		errs = append(errs, fmt.Errorf("'metadata_cardinality_limit' is %d, but must not be negative; 0 is without limit", c.MetadataCardinalityLimit))
	}
	return errors.Join(errs...)
}

func (m *MetricsConfig) validate() error {
	var errs []error
	if m.Interval < 0 {
		errs = append(errs, fmt.Errorf("'metrics::interval' is %v, but must not be negative; 0s batches without aggregation", m.Interval))
	}
	errs = append(errs,
		oneOf("metrics::sum", m.Sum, AggregateSum, AggregateNone),
		oneOf("metrics::gauge", m.Gauge, AggregateAverage, AggregateLast, AggregateMin, AggregateMax, AggregateNone),
		oneOf("metrics::histogram", m.Histogram, AggregateMerge, AggregateNone),
	)
	for i, o := range m.Overrides {
		key := fmt.Sprintf("metrics::overrides::%d", i)
		if o.Metric == "" {
			errs = append(errs, fmt.Errorf("'%s::metric' is empty; give a metric's name, with * for any characters and ? for one", key))
		}
		errs = append(errs, oneOf(key+"::aggregate", o.Aggregate,
			AggregateSum, AggregateAverage, AggregateLast, AggregateMin, AggregateMax, AggregateMerge, AggregateNone))
	}
	return errors.Join(errs...)
}

func validateMetadataKeys(keys []string) error {
	var errs []error
	seen := make(map[string]bool, len(keys))
	for i, k := range keys {
		lower := strings.ToLower(k)
		switch {
		case k == "":
			errs = append(errs, fmt.Errorf("'metadata_keys::%d' is empty; give the name of a client metadata key or remove the entry", i))
		case seen[lower]:
			errs = append(errs, fmt.Errorf("'metadata_keys::%d' is %q, which is listed before it (case does not matter); remove one of them", i, k))
		}
		seen[lower] = true
	}
	return errors.Join(errs...)
}

func oneOf(key, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("'%s' is %q, but must be one of %s", key, value, strings.Join(allowed, ", "))
}
