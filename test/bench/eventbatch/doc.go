// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package eventbatch measures event_batch beside the processors it is compared with. Both sides take turns within one
// benchmark on requests of the same content, because the speed of a shared machine changes between minutes. What counts is
// the CPU time of the process, user and system, until Shutdown has returned; requests are made off the clock, and the first two
// are sent off it.
//
//	go test -run - -bench . -benchtime 15x
//
// Figures are medians over the rounds: cpu-ns/item of each side, and ours over theirs.
package eventbatch
