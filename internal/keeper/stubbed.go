// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// forkStub starts a run by way of the exec stub, and returns once its program is
// executed. On an error nothing is left of it.
func (p *parent) forkStub(r *run, streams *streams, cgroup int) (process, error) {
	rights := r.spec.Rights
	if rights.Credential.change() == nil {
		rights.Credential = nil
	}
	orders, giver, err := p.stubPipe(true)
	if err != nil {
		return process{}, err
	}
	answer, reader, err := p.stubPipe(false)
	if err != nil {
		_ = syscall.Close(orders)
		_ = giver.Close()
		return process{}, err
	}
	defer reader.Close()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   append([]string{p.markVariable(r.spec)}, keeperEnvironment...),
		Files: append(streams.files[:len(streams.files):len(streams.files)], uintptr(orders), uintptr(answer)),
		Sys:   &syscall.SysProcAttr{Setsid: true, UseCgroupFD: cgroup != noFD, CgroupFD: max(cgroup, 0)},
	}
	pid, pidfd, err := p.forkKnown([]string{stubName, strconv.Itoa(len(streams.files))}, attr)
	closeFDs([]int{orders, answer})
	if err != nil {
		_ = giver.Close()
		return process{}, errorf("start the exec stub: %w", err)
	}
	given := order{rights, r.spec.Dir, r.spec.Argv, p.environment(r.spec)}.encode()
	go func() {
		_, _ = giver.Write(given) // a stub that is dead says so by its silence
		_ = giver.Close()
	}()
	if err := r.awaitStub(reader, pidfd); err != nil {
		p.reapKnown(pid, pidfd)
		return process{}, err
	}
	started := process{pid: pid, at: time.Now(), mono: monotonic(), read: streams.read}
	if started.startTicks, err = r.begin(pid, pidfd); err != nil {
		return process{}, errorf("watch process %d: %w", pid, err)
	}
	return started, nil
}

// stubPipe makes a pipe to the stub, or from it: the stub's end, and this process's own.
func (p *parent) stubPipe(to bool) (stubs int, own *os.File, err error) {
	var ends [2]int
	if err := p.system.pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return noFD, nil, errorf("make a pipe: %w", err)
	}
	stubs, ownFD := ends[1], ends[0]
	if to {
		stubs, ownFD = ends[0], ends[1]
	}
	if own, err = pollable(ownFD); err != nil {
		closeFDs(ends[:])
		return noFD, nil, err
	}
	return stubs, own, nil
}

// forkKnown forks this program as a child that is known before it can be taken for an
// orphan.
func (p *parent) forkKnown(argv []string, attr *syscall.ProcAttr) (pid, pidfd int, err error) {
	p.forking.Lock()
	defer p.forking.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unblockSignals()
	attr.Sys.PidFD = &pidfd
	if pid, err = p.system.forkExec("/proc/self/exe", argv, attr); err == nil {
		p.known.Store(pid, (*run)(nil))
	}
	return pid, pidfd, err
}

// reapKnown ends such a child.
func (p *parent) reapKnown(pid, pidfd int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = retry(func() error { _, err := syscall.Wait4(pid, nil, 0, nil); return err })
	p.known.Delete(pid)
	closeFDs([]int{pidfd})
}

// awaitStub returns once the program is executed, or why it was not. A kill does not
// wait for an exec that hangs.
func (r *run) awaitStub(answer *os.File, pidfd int) error {
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-r.hurry:
			_ = pidfdSignal(pidfd, syscall.SIGKILL)
		case <-over:
		}
	}()
	said, err := io.ReadAll(answer)
	switch {
	case err != nil:
		return errorf("hear from the exec stub: %w", err)
	case len(said) == 0:
		return errorf("the exec stub was ended before it could execute %q", r.spec.Argv[0])
	}
	if said[0] == stubSet {
		said = said[1:]
	}
	if len(said) == 0 {
		return nil
	}
	return parseFailure(string(said[1:]))
}

// parseFailure reads what a stub says of its failure.
func parseFailure(text string) error {
	for i := range len(text) {
		if text[i] != ' ' {
			continue
		}
		errno, err := strconv.Atoi(text[:i])
		if err != nil || errno == 0 {
			return errors.New(text[i+1:])
		}
		return stubError{text[i+1:], syscall.Errno(errno)}
	}
	return errors.New(text)
}

// stubError is the failure of a system call, told elsewhere.
type stubError struct {
	text  string
	cause syscall.Errno
}

func (e stubError) Error() string { return e.text }
func (e stubError) Unwrap() error { return e.cause }
