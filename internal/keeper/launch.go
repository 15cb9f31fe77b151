// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// keeperEnvironment is what Go's runtime in the keeper has to know. Two threads at
// most run Go code, since one that executes a program is blocked until that has come
// to something; garbage is collected early, since there is little of it.
var keeperEnvironment = []string{"GOMAXPROCS=2", "GOGC=20"}

// launch starts a keeper and returns its PID once it is ready. errOccupied: another
// has the directory.
func launch(ctx context.Context, path string) (pid int, err error) {
	defer func() {
		if err != nil && !errors.Is(err, errOccupied) {
			err = errorf("start a keeper for %q: %w", path, err)
		}
	}()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	report, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	defer write.Close()
	pid, err = forkKeeper(path, null, write)
	if err != nil {
		return 0, err
	}
	_ = write.Close()
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Now()) })
	defer stop()
	if err := awaitReport(report); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = retry(func() error { _, e := syscall.Wait4(pid, nil, 0, nil); return e })
		return 0, err
	}
	return pid, nil
}

func forkKeeper(path string, null, report *os.File) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unblockSignals()
	return syscall.ForkExec("/proc/self/exe", []string{processName, path}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   keeperEnvironment,
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(fileFD(report))},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

func awaitReport(report *os.File) error {
	_ = report.SetReadDeadline(time.Now().Add(startPatience))
	text := make([]byte, 4096)
	n, err := report.Read(text)
	switch {
	case n == 0:
		return errorf("it ended, or hung, before it was ready: %w", err)
	case text[0] == reportOccupied:
		return errOccupied
	case text[0] == reportReady:
		return nil
	}
	return errors.New(string(text[1:n]))
}

// findKeeper returns the PID of a living keeper of a directory, of this user; 0 if
// there is none. It is found by its arguments, whatever has become of its files.
func findKeeper(path string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	want := processName + "\x00" + path + "\x00"
	buf := make([]byte, len(want)+1)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		text, err := readProc(pid, "cmdline", buf)
		if err != nil || string(text) != want || !ownProcess(pid) {
			continue
		}
		if stat, err := readStat(pid); err == nil && stat.living() {
			return pid, nil
		}
	}
	return 0, nil
}

// ownProcess reports whether a process is of this user.
func ownProcess(pid int) bool {
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}
