// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// helper forks in the place of a keeper that has many descriptors open: the kernel
// copies all of them at a fork and closes them at the exec, which comes to more than
// all the rest. The helper is a process with few of them, and its children are the
// keeper's own (CLONE_PARENT). An exec that hangs, on a dead file system, say, hangs
// there too and not in the keeper.
//
// Its calls must not overlap.
type helper struct {
	system system
	// started is told the PID of the helper, ended that it is reaped; lost, before ended,
	// the environment of a child that may have been forked without its PID being known.
	started, ended func(pid int)
	lost           func(environment []string)
	// home is the cgroup that the helper belongs in, "" where there are none.
	home func() string

	pid    int // 0: there is none
	socket *wire.Socket
	// threshold is from how many descriptors on it is used.
	threshold int
	// highest is the greatest number of a descriptor that was seen: nearly as many are open.
	highest int
}

// helperThreshold is the number of descriptors from which on a fork by the helper,
// with the way to it and back, takes less time than one without.
const helperThreshold = 300

// cgroupDetour is how much later it pays off to have the helper fork into a cgroup,
// which it has to go to and come back from.
const cgroupDetour = 6

const (
	helperName = "warden-keeper-helper"
	// helperFD is where the helper has its socket.
	helperFD = 3
)

// forkExec is syscall.ForkExec.
func (h *helper) forkExec(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	for _, fd := range attr.Files {
		if fd != closedFD {
			h.highest = max(h.highest, int(fd))
		}
	}
	threshold := h.threshold
	if attr.Sys.UseCgroupFD {
		threshold *= cgroupDetour
	}
	if h.highest >= threshold {
		if pid, err, ok := h.ask(path, argv, attr); ok {
			return pid, err
		}
	}
	pid, err = h.system.forkExec(path, argv, attr)
	if attr.Sys.PidFD != nil {
		h.highest = max(h.highest, *attr.Sys.PidFD)
	}
	return pid, err
}

// ask lets the helper fork; ok is false if there is none.
func (h *helper) ask(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error, ok bool) {
	if h.socket == nil && h.start() != nil {
		return 0, nil, false
	}
	var e wire.Encoder
	e.String(path)
	e.Strings(argv)
	e.String(attr.Dir)
	e.Strings(attr.Env)
	appendCredential(&e, attr.Sys.Credential)
	e.String(h.home())
	files := append(attr.Files[:len(attr.Files):len(attr.Files)], closedFD)
	if attr.Sys.UseCgroupFD {
		files[len(attr.Files)] = uintptr(attr.Sys.CgroupFD)
	}
	fds := appendFiles(&e, files)
	frame := wire.Frame{Payload: e.Buf, FDs: fds}
	if err := h.socket.Send(frame, 0); err != nil {
		if !errors.Is(err, wire.ErrTooLong) {
			h.end(attr.Env)
		}
		return 0, nil, false
	}
	frame, err = h.socket.Receive()
	d := wire.NewDecoder(frame.Payload)
	pid, errno := int(d.Uint()), syscall.Errno(d.Uint())
	if err != nil || d.Err() != nil {
		h.end(attr.Env)
		return 0, nil, false
	}
	if errno != 0 {
		return 0, errno, true
	}
	if attr.Sys.PidFD != nil {
		// The PID is the child's until it is reaped, which is for us to do.
		*attr.Sys.PidFD, _ = pidfdOpen(pid)
		h.highest = max(h.highest, *attr.Sys.PidFD)
	}
	return pid, nil, true
}

// appendFiles appends which numbers the descriptors of a process have. It returns each
// descriptor once, in the order of the indices that stand for them.
func appendFiles(e *wire.Encoder, files []uintptr) (fds []int) {
	e.Uint(uint64(len(files)))
	for _, file := range files {
		if file == closedFD {
			e.Uint(0)
			continue
		}
		i := slices.Index(fds, int(file))
		if i < 0 {
			i = len(fds)
			fds = append(fds, int(file))
		}
		e.Uint(uint64(i + 1))
	}
	return fds
}

func takeFiles(d *wire.Decoder, fds []int) (files []uintptr, ok bool) {
	for range d.Count() {
		switch i := d.Uint(); {
		case i == 0:
			files = append(files, closedFD)
		case i <= uint64(len(fds)):
			files = append(files, uintptr(fds[i-1]))
		default:
			return nil, false
		}
	}
	return files, d.Err() == nil
}

func (h *helper) start() error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(pair[1])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		_ = syscall.Close(pair[0])
		return err
	}
	defer null.Close()
	n := uintptr(fileFD(null))
	pid, err := h.system.forkExec("/proc/self/exe", []string{helperName}, &syscall.ProcAttr{
		Dir: "/", Env: keeperEnvironment, Files: []uintptr{n, n, n, uintptr(pair[1])}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = syscall.Close(pair[0])
		return err
	}
	h.pid = pid
	h.started(pid)
	h.socket, err = wire.NewSocket(pair[0], wire.Kernel())
	if err != nil {
		h.end(nil)
	}
	return err
}

// end ends a helper that does not do what it should.
func (h *helper) end(environment []string) {
	if h.socket != nil {
		_ = h.socket.Close()
	}
	_ = syscall.Kill(h.pid, syscall.SIGKILL)
	_ = retry(func() error { _, err := syscall.Wait4(h.pid, nil, 0, nil); return err })
	if environment != nil {
		h.lost(environment)
	}
	h.ended(h.pid)
	h.pid, h.socket = 0, nil
}

// close ends the helper, if there is one.
func (h *helper) close() {
	if h.socket != nil {
		h.end(nil)
	}
}

// execTime is what a child is given to execute its program: only then it carries its
// environment.
const execTime = 50 * time.Millisecond

// killMarked kills what carries the mark of an environment.
func killMarked(environment []string) {
	time.Sleep(execTime)
	for _, entry := range environment {
		id, ok := cutPrefix(entry, RunIDVariable+"=")
		if !ok {
			continue
		}
		for _, pid := range marked(id) {
			pid.signal(syscall.SIGKILL)
		}
	}
}

// helperMain is the helper process. It ends with the keeper's end of the socket.
func helperMain() int {
	outlive()
	socket, err := wire.NewSocket(helperFD, wire.Kernel())
	if err != nil {
		return 1
	}
	for {
		frame, err := socket.Receive()
		if err != nil {
			return 0
		}
		pid, err := forkForParent(frame)
		closeFDs(frame.FDs)
		var e wire.Encoder
		errno, _ := errors.AsType[syscall.Errno](err)
		if err != nil && errno == 0 {
			errno = syscall.EINVAL
		}
		e.Uint(uint64(pid))
		e.Uint(uint64(errno))
		if socket.Send(wire.Frame{Payload: e.Buf}, 0) != nil {
			return 1
		}
	}
}

func forkForParent(frame wire.Frame) (pid int, err error) {
	if frame.Truncated {
		return 0, syscall.EMFILE
	}
	d := wire.NewDecoder(frame.Payload)
	path, argv, dir, env := d.String(), d.Strings(), d.String(), d.Strings()
	credential, home := takeCredential(d), d.String()
	files, ok := takeFiles(d, frame.FDs)
	if !ok || len(files) == 0 {
		return 0, syscall.EBADMSG
	}
	files, cgroup := files[:len(files)-1], files[len(files)-1]
	if cgroup != closedFD {
		// A clone can not be into a cgroup and for the parent; what is forked from there is.
		if err := joinCgroup("/proc/self/fd/" + strconv.Itoa(int(cgroup))); err != nil {
			return 0, err
		}
		defer joinCgroup(home)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unblockSignals()
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: dir, Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: credential, Cloneflags: syscall.CLONE_PARENT},
	})
}

// joinCgroup moves this process.
func joinCgroup(dir string) error { return causeOf(writeFile(dir+"/cgroup.procs", "0")) }

func appendCredential(e *wire.Encoder, c *syscall.Credential) {
	e.Bool(c != nil)
	if c == nil {
		return
	}
	e.Uint(uint64(c.Uid))
	e.Uint(uint64(c.Gid))
	e.Uint(uint64(len(c.Groups)))
	for _, g := range c.Groups {
		e.Uint(uint64(g))
	}
}

func takeCredential(d *wire.Decoder) *syscall.Credential {
	if !d.Bool() {
		return nil
	}
	c := &syscall.Credential{Uid: uint32(d.Uint()), Gid: uint32(d.Uint())}
	for range d.Count() {
		c.Groups = append(c.Groups, uint32(d.Uint()))
	}
	return c
}
