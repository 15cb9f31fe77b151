// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package restart measures how soon a process that was killed runs again, against a C
// program that does nothing but wait and spawn.
package restart
