// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package initprocess is `warden init`: a small process, PID 1 of a container or
// not, that runs a collector as its child and starts it again when it crashes. The
// supervised processes are children of keepers, which survive the collector; init
// adopts those keepers, and reaps whatever else loses its parent.
//
// course decides, init carries out: one loop that polls for signals, for what the
// collector announces (package announce), for its end, and for that of its keepers.
// Nothing else in this process starts or waits for children, and nothing in the loop
// blocks but the poll.
package initprocess
