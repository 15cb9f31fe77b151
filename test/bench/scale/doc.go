// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package scale measures what many processes under one supervisor cost: to start one
// more, and to be taken over by another collector.
package scale
