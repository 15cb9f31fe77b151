// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

// role is the variable that makes this program one of the supervised processes.
const role = "WARDEN_E2E_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "notifier":
		notify()
	case "preforker":
		preforker()
	case "writer":
		writer()
	case "instrumented":
		instrumented()
	}
	os.Exit(m.Run())
}

// notify speaks to its service manager, as far as there are files in the working
// directory: "ready" once, and beats until "silent". It counts these in "beats".
func notify() {
	address := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	conn, err := net.DialUnix("unixgram", nil, address)
	if err != nil {
		panic(err)
	}
	ready, beats := false, 0
	for ; ; time.Sleep(100 * time.Millisecond) {
		said := ""
		switch _, err := os.Stat("ready"); {
		case err != nil:
			continue
		case !ready:
			ready, said = true, "READY=1"
		default:
			if _, err := os.Stat("silent"); err == nil {
				continue
			}
			said = "WATCHDOG=1"
		}
		if _, err := conn.Write([]byte(said)); err != nil {
			panic(err)
		}
		beats++
		if err := os.WriteFile("beats", []byte(strconv.Itoa(beats)), 0o600); err != nil {
			panic(err)
		}
	}
}
