// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package tree is an Erlang/OTP supervisor for processes and nested supervisors,
// as a pure state machine: no I/O, no clock, no goroutine. Events and the time go
// in, actions come out, and equal inputs give equal actions.
//
// # Driving it
//
// The caller owns the world. It tells the tree what happened, carries out the
// actions in their order, and tells what came of them:
//
//	t, err := tree.New(root, seed)
//	…
//	carryOut(t.Step(now(), tree.Start{}))
//	for {
//		var timer <-chan time.Time
//		if at, ok := t.NextDeadline(); ok {
//			timer = time.After(at - now())
//		}
//		select {
//		case ev := <-events: // Spawned, Ready, StartFailed, Exited, Unkillable, Command, Stop
//			carryOut(t.Step(now(), ev))
//		case <-timer:
//			carryOut(t.Step(now(), tree.Tick{}))
//		}
//	}
//
// Of the actions only [Spawn] and [StopProcess] ask for something; the others say
// what is now so, and are what to journal and to count. A Spawn is answered by
// [Spawned] and, if the worker is AwaitReady, [Ready]; or by [StartFailed]. Any
// run may end with [Exited]. A StopProcess is answered by Exited or [Unkillable].
// After [Ended] nothing happens until the next [Start].
//
// The loop may lag: events that are about a run which is over are ignored.
//
// # What it does
//
// It does what OTP's supervisor does, including what surprises: the tests compare
// it with what OTP was observed to do. Beyond OTP it has starts and stops that
// take their time and can be interrupted, start timeouts, back-off, the first
// start that retries, and starting and stopping in parallel. Where time passes
// between a decision and what comes of it, which in OTP it does not, these rules hold:
//
//   - Under one_for_one every child is restarted for itself. Under the other
//     strategies a failure while a group is being stopped or started is handled
//     when that is done; while a group waits for a back-off, a failure of a
//     child before it makes the group larger, at once.
//   - A stop, of the tree or of a child by an operator, takes effect at once,
//     whatever is going on. A group goes on without a child that an operator stops.
//   - A failed start inside a restart is one more failure of that child: it costs
//     one restart, and its back-off decides when it is tried again.
//   - A process that outlives SIGKILL is left behind and never started twice.
//   - A new specification touches only what it changes: see [Reconfigure]. (OTP's
//     code_change neither starts what is new nor stops what is gone.) [Plan] says
//     beforehand what that will be.
//
// # Keeping it
//
// [Tree.Save] and [Tree.SaveChanges] give the state as keyed values, [Load] takes it back.
package tree
