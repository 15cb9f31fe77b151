// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The parts that the test binary plays in processes of their own, as the first
// argument.
const (
	partCollector = "play-collector"
	partKeeper    = "play-keeper"
	partReaper    = "play-reaper"
	partKeyboard  = "play-keyboard"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case partCollector:
			playCollector(os.Args[2], os.Args[3:])
		case partKeeper:
			playKeeper(os.Args[2])
		case partReaper:
			playReaper()
		case partKeyboard:
			playKeyboard()
		}
	}
	// nohup has it ignored, and what is started without init would inherit that.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	// What init leaves behind comes here, and stays to be seen even if it is dead.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.Remove(filepath.Join(os.TempDir(), programName))
		os.Exit(status)
	}))
}
