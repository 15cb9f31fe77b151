// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package capture measures what it costs to take the output of processes, beside the
// programs that do so too.
package capture
