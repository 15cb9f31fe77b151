// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// helperVariable makes this test binary one of the helpers instead.
const helperVariable = "WARDEN_OUTPUT_TEST_HELPER"

var helpers = map[string]func(args []string) error{
	"write-lines":    writeLines,
	"write-numbered": writeNumbered,
	"append":         appendLines,
	"small-pipes":    smallPipes,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(helperVariable); name != "" {
		// Should a test hang and be ended as a whole, nobody ends its helpers.
		time.AfterFunc(5*time.Minute, func() { os.Exit(2) })
		if err := helpers[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// helperProcess is a process that runs a helper; it has not been started yet. It
// does not outlive the test.
func helperProcess(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	require.Contains(t, helpers, name)
	executable, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(executable, args...)
	command.Env = append(os.Environ(), helperVariable+"="+name)
	command.Stderr = os.Stderr
	t.Cleanup(func() {
		if command.Process != nil {
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	})
	return command
}

func pipe(t testing.TB) (read, write *os.File) {
	t.Helper()
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	require.NoError(t, unix.SetNonblock(ends[0], true))
	write = os.NewFile(uintptr(ends[1]), "write")
	t.Cleanup(func() { _ = write.Close() })
	return os.NewFile(uintptr(ends[0]), "read"), write
}
