// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package startstop measures how long the real binary takes to start and to stop
// many processes that do nothing, in strict order and in parallel, and what it
// weighs meanwhile.
package startstop
