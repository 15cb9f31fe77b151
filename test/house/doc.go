// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package house holds the tests of what no single package can promise: who may
// import whom, one set of versions, licence headers, and configurations in the
// documentation that work.
package house
