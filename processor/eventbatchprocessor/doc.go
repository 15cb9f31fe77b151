// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package eventbatchprocessor is the Collector processor `event_batch`: it groups events by type into batches that hold
// one group each, aggregates metrics over an interval by the rules of their kind, and bounds what it holds.
//
// How a request travels:
//
//	Consume ─ classify (no lock, nothing is moved yet) ─ admit (queue.go: room, fairness, on_full)
//	        ─ hand over (the items are moved into the pending batch of their group) ─ return, or wait with "delivered"
//	sender  ─ take a batch of a group whose turn it is ─ merge equal resources ─ next consumer ─ settle (room, acknowledgements)
//
// A request that is refused is left as it was. What has been admitted leaves the processor in exactly one of three ways:
// the next consumer took it, it was counted as dropped, or its caller got the error.
package eventbatchprocessor // import "github.com/otelwarden/warden/processor/eventbatchprocessor"
