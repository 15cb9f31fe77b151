// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package processmonitorreceiver turns what happens to supervised processes into
// metrics, logs and spans, and adds metrics of the host.
//
// One monitor serves all signals of one configuration (monitor.go). It has three
// sources: the state of the processes at a scrape (metrics.go, system.go), the
// journal of the supervisor extension (feed.go, which logs.go and spans.go use,
// each with a cursor of its own), and the captured output (output.go), which the
// extension hands over line by line.
//
// metadata.yaml is the source of the switches under `metrics` and
// `resource_attributes` and of documentation.md. The points themselves are
// appended by hand (points.go): the generated recorder walks over all points of a
// metric for each one it adds, and knows no histograms.
package processmonitorreceiver
