// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Command warden is the command line of a Warden collector. In this version it runs
// one under a small init process and tells its version: the collector,
// otelcol-warden, does not yet answer questions from outside.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/otelwarden/warden/cmd/warden/internal/initprocess"
)

// version is set by the linker; see released for builds without it.
var version string

const usage = `warden is the command line of a Warden collector.

Usage:
  warden init -- COMMAND [ARGUMENT …]
                   run a collector, as PID 1 of a container or anywhere, reap
                   orphans, and start it again when it crashes: warden init --
                   otelcol-warden --config config.yaml
  warden version   print the version
  warden help      print this

This version has no commands for a running collector. The collector is a program
of its own:
  otelcol-warden --config config.yaml            run the processes of config.yaml
  otelcol-warden validate --config config.yaml   say what is wrong with it, start nothing
SIGTERM ends it and its processes in reverse start order; SIGHUP reads the
configuration again and touches only what changed.
`

// Exit statuses.
const (
	exitOK = 0
	// exitUsage is for a command line that cannot be understood.
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "init":
		return initprocess.Run(args[1:], stderr)
	case "version", "--version", "-v":
		if len(args) > 1 {
			return refuse(stderr, fmt.Sprintf("%q takes no arguments, got %q", args[0], args[1:]))
		}
		fmt.Fprintln(stdout, "warden version", released())
		return exitOK
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return exitOK
	default:
		return refuse(stderr, fmt.Sprintf("%q is not a command; this version has init, version and help", args[0]))
	}
}

func refuse(stderr io.Writer, why string) int {
	fmt.Fprintf(stderr, "warden: %s\n", why)
	return exitUsage
}

// released is the version this binary was built as. `go install` sets no linker
// flags but records the module's version.
func released() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
