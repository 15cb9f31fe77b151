// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
)

const usage = "usage: warden init -- COMMAND [ARGUMENT …], for instance: warden init -- otelcol-warden --config config.yaml"

// Run carries out `warden init` with the arguments after "init", and returns the
// exit status: 2 for a command line that cannot be understood, 127 and 126 for a
// command that is not there or cannot be executed, 1 if the kernel lacks or refuses
// what init needs, and otherwise that of the collector, or what its extension
// announced. It takes all signals of the process over and does not give them back.
func Run(args []string, stderr io.Writer) int {
	command, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "warden: init: %s\n", err)
		return exitUsage
	}
	path, err := lookUp(command[0])
	if err != nil {
		fmt.Fprintf(stderr, "warden: init: %s\n", err)
		return startFailure(err)
	}
	i, err := newInit(path, command)
	if err != nil {
		fmt.Fprintf(stderr, "warden: init: %s\n", err)
		return exitFailure
	}
	return i.run()
}

func parse(args []string) (command []string, err error) {
	at := slices.Index(args, "--")
	switch {
	case at < 0 && len(args) == 0:
		return nil, fmt.Errorf("the command to run is missing; %s", usage)
	case at < 0:
		return nil, fmt.Errorf("no \"--\" before the command in %q; %s", args, usage)
	case at > 0:
		return nil, fmt.Errorf("%q stands before \"--\", where init takes no arguments; %s", args[:at], usage)
	case len(args) == 1 || args[1] == "":
		return nil, fmt.Errorf("no command after \"--\"; %s", usage)
	}
	return args[1:], nil
}

// lookUp finds the command in PATH now, so that a mistake is told before anything
// starts, and so that each restart runs the same file.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	if wrapped := (*exec.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	switch {
	case errors.Is(err, exec.ErrDot):
		return "", fmt.Errorf("command %q: %w; write %q", name, err, "./"+name)
	case err != nil:
		return "", fmt.Errorf("command %q: %w; name an executable file in PATH, or its path", name, err)
	}
	return path, nil
}
