// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package supervisorextension starts processes and keeps them running by
// Erlang/OTP's rules.
//
// What is decided and what is done are apart. The tree (internal/tree) is a pure
// state machine: it takes an event in and says what to do. The keeper
// (internal/keeper) does it and tells what happens. In between stands the engine,
// one goroutine that
//
//  1. takes a message: a result of a spawn, an event of the keeper, a timer, a command;
//  2. steps the tree with it;
//  3. appends each decision to the journal, then carries it out.
//
// Other components see the journal, the state of the processes and their output
// through the interface Supervisor.
package supervisorextension
