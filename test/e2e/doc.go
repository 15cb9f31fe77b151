// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests that drive the real collector from outside: its
// command line, its signals, its exit status, its metrics page, and what its file
// exporter wrote. They know nothing of Warden's packages. `make test-integration`
// builds the binary and runs them, under the build tag e2e.
package e2e
