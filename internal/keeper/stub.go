// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// The exec stub is this program once more, between the clone of a process and its own
// program: it sets what a clone can not set, and executes the program in its place. Its
// order comes through a pipe, its answer goes through another that the exec closes: one
// byte when everything is set, and after it, or in its place, why it failed.

// stubName is argv[0] of a stub, argv[1] the number of its order's descriptor; the one
// after that is the answer's.
const stubName = "warden-exec-stub"

const (
	stubSet    = 'x'
	stubFailed = 'f'
)

// order is what a stub is to do.
type order struct {
	rights Rights
	dir    string
	argv   []string
	env    []string
}

func (o order) encode() []byte {
	var e wire.Encoder
	o.rights.append(&e)
	e.String(o.dir)
	e.Strings(o.argv)
	e.Strings(o.env)
	return e.Buf
}

func decodeOrder(payload []byte) (order, error) {
	d := wire.NewDecoder(payload)
	o := order{rights: takeRights(d), dir: d.String(), argv: d.Strings(), env: d.Strings()}
	if err := d.Err(); err != nil {
		return o, err
	}
	return o, o.rights.check()
}

// stubMain is the stub. It returns only if it fails.
func stubMain(number string) int {
	runtime.LockOSThread()
	unblockSignals()
	// Go has raised the soft limit of open files for itself, and knows what it was. Before it
	// executes a program it puts that back, also before one that is not there.
	_ = syscall.Exec("", []string{""}, nil)
	n, err := strconv.Atoi(number)
	if err != nil {
		return 1
	}
	syscall.CloseOnExec(n)
	syscall.CloseOnExec(n + 1)
	answer := func(kind byte, text string) { _, _ = syscall.Write(n+1, append([]byte{kind}, text...)) }
	payload, err := readWhole(n)
	var o order
	if err == nil {
		o, err = decodeOrder(payload)
	}
	if err == nil {
		err = o.carryOut(kernelStub(), func() { answer(stubSet, "") })
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	answer(stubFailed, strconv.Itoa(int(errno))+" "+err.Error())
	return 1
}

// readWhole reads a pipe to its end.
func readWhole(fd int) (content []byte, err error) {
	buf := make([]byte, 16<<10)
	for {
		var n int
		err := retry(func() (e error) { n, e = syscall.Read(fd, buf); return e })
		if err != nil || n == 0 {
			return content, err
		}
		content = append(content, buf[:n]...)
	}
}

// stubSystem are the calls of a stub, so that a test can let them fail.
type stubSystem struct {
	setrlimit    func(resource int, limit *syscall.Rlimit) error
	getrlimit    func(resource int, limit *syscall.Rlimit) error
	setpriority  func(nice int) error
	setOOMScore  func(text string) error
	clearAmbient func() error
	setgroups    func([]int) error
	setgid       func(int) error
	setuid       func(int) error
	umask        func(int)
	chdir        func(string) error
	noNewPrivs   func() error
	// exec calls set before it executes the program, under the late limits.
	exec func(path string, argv, env []string, late []lateLimit, set func()) error
}

// lateLimit is a limit that Go's runtime could not work under.
type lateLimit struct {
	resource int
	limit    syscall.Rlimit
}

func kernelStub() stubSystem {
	return stubSystem{
		setrlimit:    syscall.Setrlimit,
		getrlimit:    syscall.Getrlimit,
		setpriority:  func(nice int) error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice) },
		setOOMScore:  func(text string) error { return writeFile("/proc/self/oom_score_adj", text) },
		clearAmbient: func() error { return prctl(prCapAmbient, prCapAmbientClearAll) },
		setgroups:    syscall.Setgroups,
		setgid:       func(gid int) error { return syscall.Setresgid(gid, gid, gid) },
		setuid:       func(uid int) error { return syscall.Setresuid(uid, uid, uid) },
		umask:        func(mask int) { syscall.Umask(mask) },
		chdir:        syscall.Chdir,
		noNewPrivs:   func() error { return prctl(prSetNoNewPrivs, 1) },
		exec: func(path string, argv, env []string, late []lateLimit, set func()) error {
			if len(late) > 0 {
				return executeLimited(path, argv, env, late, set)
			}
			set()
			return syscall.Exec(path, argv, env)
		},
	}
}

// carryOut sets everything, calls set, and executes the program; after a failure
// nothing more is done. What takes the rights of the spawner comes before they are
// given up, and what needs memory before that is limited.
func (o order) carryOut(k stubSystem, set func()) error {
	r := o.rights
	late, err := k.limitAll(r.Limits)
	if err != nil {
		return err
	}
	if r.Nice != nil {
		if err := k.setpriority(*r.Nice); err != nil {
			return errorf("set the niceness to %d: setpriority: %w", *r.Nice, err)
		}
	}
	if r.OOMScoreAdj != nil {
		if err := k.setOOMScore(strconv.Itoa(*r.OOMScoreAdj)); err != nil {
			return errorf("set the OOM score's adjustment to %d: oom_score_adj: %w", *r.OOMScoreAdj, causeOf(err))
		}
	}
	if err := k.become(r.Credential); err != nil {
		return err
	}
	if r.Umask != nil {
		k.umask(*r.Umask)
	}
	if o.dir != "" {
		if err := k.chdir(o.dir); err != nil {
			return errorf("working directory %q: chdir: %w", o.dir, err)
		}
	}
	if r.NoNewPrivileges {
		if err := k.noNewPrivs(); err != nil {
			return errorf("set no_new_privs: prctl: %w", err)
		}
	}
	path, err := lookUp(o.argv[0], o.env, "")
	if err != nil {
		return err
	}
	if err := k.exec(path, o.argv, o.env, late, set); err != nil {
		return spawnError(path, "", err)
	}
	return nil
}

// limitAll sets the limits, but for those that Go's runtime, which needs memory and
// threads, could not work under: they are returned.
func (k stubSystem) limitAll(limits []Limit) (late []lateLimit, err error) {
	for _, limit := range limits {
		now, next, err := k.nextLimit(limit)
		if err == nil && (limit.Resource == AddressSpace || limit.Resource == Processes) {
			late = append(late, lateLimit{resources[limit.Resource].number, next})
			if next.Max <= now.Max {
				continue
			}
			next.Cur = now.Cur // to raise the greatest takes rights that are given up later
		}
		if err == nil {
			err = os.NewSyscallError("setrlimit", k.setrlimit(resources[limit.Resource].number, &next))
		}
		if err != nil {
			return nil, errorf("limit %s: %w", resources[limit.Resource].name, err)
		}
	}
	return late, nil
}

// nextLimit is what a limit is now and is to be.
func (k stubSystem) nextLimit(limit Limit) (now, next syscall.Rlimit, err error) {
	if err := k.getrlimit(resources[limit.Resource].number, &now); err != nil {
		return now, now, os.NewSyscallError("getrlimit", err)
	}
	next = now
	if limit.Hard != LimitUnchanged {
		next.Max = limit.Hard
		next.Cur = min(next.Cur, next.Max)
	}
	if limit.Soft != LimitUnchanged {
		next.Cur = limit.Soft
	}
	return now, next, nil
}

// become changes the user for good: the capabilities that a spawner other than root
// may have had do not outlast it.
func (k stubSystem) become(c *Credential) error {
	if c == nil {
		return nil
	}
	groups := make([]int, len(c.Groups))
	for i, g := range c.Groups {
		groups[i] = int(g)
	}
	if err := k.setgroups(groups); err != nil {
		return errorf("change the supplementary groups: setgroups: %w", err)
	}
	if err := k.setgid(int(c.GID)); err != nil {
		return errorf("change to group %d: setgid: %w", c.GID, err)
	}
	// A kernel before 4.3 has no such capabilities.
	if err := k.clearAmbient(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return errorf("drop the ambient capabilities: prctl: %w", err)
	}
	if err := k.setuid(int(c.UID)); err != nil {
		return errorf("change to user %d: setuid: %w", c.UID, err)
	}
	return nil
}

// executeLimited sets the late limits and executes the program, with nothing in between
// that may need memory or a thread.
func executeLimited(path string, argv, env []string, late []lateLimit, set func()) error {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	arguments, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	variables, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	set()
	for i := range late {
		if errno := late[i].exchange(); errno != 0 {
			for j := range i {
				_ = late[j].exchange()
			}
			return os.NewSyscallError("setrlimit", errno)
		}
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&arguments[0])), uintptr(unsafe.Pointer(&variables[0])))
	// To say so takes memory again; where the hard limit was lowered it has to do without.
	for i := range late {
		_ = late[i].exchange()
	}
	return errno
}

// exchange sets the limit, and has in its place what it was.
func (l *lateLimit) exchange() syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, uintptr(l.resource), uintptr(unsafe.Pointer(&l.limit)), uintptr(unsafe.Pointer(&l.limit)), 0, 0)
	return errno
}

// resources are what the kernel calls them.
var resources = [numResources]struct {
	number int
	name   string
}{
	OpenFiles:    {syscall.RLIMIT_NOFILE, "open files"},
	Processes:    {rlimitNproc, "processes"},
	CoreSize:     {syscall.RLIMIT_CORE, "the size of a core dump"},
	FileSize:     {syscall.RLIMIT_FSIZE, "the size of a file"},
	AddressSpace: {syscall.RLIMIT_AS, "the address space"},
	Stack:        {syscall.RLIMIT_STACK, "the stack"},
	LockedMemory: {rlimitMemlock, "locked memory"},
}
