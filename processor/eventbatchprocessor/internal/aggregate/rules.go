// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import "strings"

// Aggregation is what is done with the points of a stream within a window.
type Aggregation uint8

// The aggregations. Which kinds of metric know which is said at Rules.
const (
	None    Aggregation = iota // points go on as they are
	Sum                        // delta points are added, of cumulative ones the newest is kept
	Average                    // the arithmetic mean, as a double
	Last                       // the newest point
	Min                        // the smallest value
	Max                        // the largest value
	Merge                      // delta histograms are merged, of cumulative ones the newest is kept
)

// Rules choose the aggregation of a metric: the first override that matches its name and is known to its kind, else the
// first such built-in one, else the kind's own.
//
// Sums know Sum and None, gauges Average, Last, Min, Max and None, histograms of both kinds Merge and None. Summaries are
// always Last: quantiles cannot be merged.
type Rules struct {
	Sum       Aggregation
	Gauge     Aggregation
	Histogram Aggregation
	Overrides []Override
}

// Override sets the aggregation of metrics by name.
type Override struct {
	Metric      string // * stands for any characters, ? for one
	Aggregation Aggregation
}

// builtin keeps the last of gauges whose mean has no meaning.
var builtin = []Override{
	{"*.uptime", Last},
	{"*.limit", Last},
	{"*.remaining", Last},
	{"*.delay", Last},
	{"*.state", Last},
	{"*.status", Last},
}

type kind uint8

const (
	kindSum kind = iota
	kindGauge
	kindHistogram
	kindSummary
)

func (k kind) knows(a Aggregation) bool {
	switch k {
	case kindSum:
		return a == Sum || a == None
	case kindGauge:
		return a == Average || a == Last || a == Min || a == Max || a == None
	case kindHistogram:
		return a == Merge || a == None
	default:
		return false
	}
}

func (r *Rules) choose(name string, k kind) Aggregation {
	for _, overrides := range [][]Override{r.Overrides, builtin} {
		for _, o := range overrides {
			if k.knows(o.Aggregation) && matches(o.Metric, name) {
				return o.Aggregation
			}
		}
	}
	switch k {
	case kindSum:
		return r.Sum
	case kindGauge:
		return r.Gauge
	case kindHistogram:
		return r.Histogram
	default:
		return Last
	}
}

// matches compares name with a pattern in which * stands for any characters and ? for one byte. It takes at most
// len(pattern) × len(name) steps.
func matches(pattern, name string) bool {
	star, restart := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, restart = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			// Let the last star stand for one character more.
			restart++
			p, n = star+1, restart
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
