// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrClosed is returned by what is asked of a Spawner after Close, and of a Client after
// Detach.
var ErrClosed = errors.New("the spawner is closed")

// parent is the parent of the processes: what InProcess and the keeper process have
// in common.
type parent struct {
	// notify is told what happens, for one run one call after the other.
	notify func(...Event)
	system system
	// mark is what RunIDVariable begins with in the environment of every process; ""
	// leaves it alone.
	mark   string
	null   int // /dev/null, read and write
	deaths *deaths
	// cgroups is where runs have cgroups of their own; nil: nowhere, because of noCgroups.
	cgroups   *cgroups
	noCgroups error
	// manages are the processes, beside this one, that make way for the runs in cgroups.
	manages func() []int
	// adopts: this process becomes the parent of what survives a process.
	adopts bool
	looks  looks

	strangersMu sync.Mutex
	strangers   map[identity]struct{} // guarded by strangersMu; told of and alive

	mu     sync.Mutex
	closed bool            // guarded by mu
	runs   map[runKey]*run // guarded by mu; from registration to Gone
	live   sync.WaitGroup  // one for each of runs that is not unkillable

	// forking is held from before a clone until its PID is in known: so who holds it
	// can tell a child that is waited for from an orphan that was adopted.
	forking sync.Mutex
	known   sync.Map // PID -> *run, until it is reaped
	// passed: adopted orphans may be waiting behind the zombie of a known child.
	passed atomic.Bool
	// closeHelper ends the helper; nil if none is used.
	closeHelper func()
	// onPassed is called when such a child has been reaped; nil if nobody reaps orphans.
	onPassed func()
}

type runKey struct {
	id  string
	run uint64
}

// process is a process that has executed its program.
type process struct {
	pid        int
	startTicks uint64
	at         time.Time
	mono       time.Duration
	// read are the read ends of its pipes, non-blocking, noFD where there is none:
	// stdout, stderr, notify.
	read [3]int
}

// newParent returns a parent that tells notify what happens. It must be closed.
func newParent(system system, notify func(...Event)) (*parent, error) {
	// Whoever started this process may have left descriptors open that no supervised
	// process should get. Descriptors that Go opens are close-on-exec already.
	if err := markCloseOnExec(3); err != nil {
		return nil, errorf("mark inherited descriptors close-on-exec: %w", err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, errorf("open /dev/null: %w", err)
	}
	deaths, err := newDeaths()
	if err != nil {
		_ = syscall.Close(null)
		return nil, errorf("wait for processes: %w", err)
	}
	return &parent{
		notify: notify, system: system, null: null, deaths: deaths, runs: map[runKey]*run{},
		noCgroups: errors.New("only a keeper has cgroups for its runs"), manages: func() []int { return nil },
	}, nil
}

// register makes a run known by its name before anything is opened for it, so that
// close either waits for it or forbids it, and a stop finds it. Its start must follow.
func (p *parent) register(spec Spec) (*run, error) {
	if err := spec.checkTexts(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	key := runKey{spec.ID, spec.Run}
	if p.runs[key] != nil {
		return nil, errorf("run %d of %q exists already", key.run, key.id)
	}
	r := newRun(p, spec)
	p.runs[key] = r
	p.live.Add(1)
	return r, nil
}

// start executes the program of a registered run. inherited are what the
// process's stdout and stderr are with StreamInherit. On an error the run is no more.
func (p *parent) start(r *run, inherited [2]int) (process, error) {
	streams, err := p.openStreams(r.spec, inherited)
	if err != nil {
		r.abandon()
		return process{}, err
	}
	defer streams.closeChildEnds()
	started, err := p.startIn(r, streams)
	if err != nil {
		r.abandon()
		streams.closeReadEnds()
		return process{}, err
	}
	r.spec.Argv, r.spec.Env = nil, nil // a run may last long, and they may be long too
	return started, nil
}

// startIn starts a run in a cgroup of its own, if there is to be one.
func (p *parent) startIn(r *run, streams *streams) (process, error) {
	wanted := len(r.spec.Cgroup) > 0
	if !wanted && r.spec.Stop.Scope != ScopeTree || p.cgroups == nil && (!wanted || r.spec.CgroupOptional) {
		return p.execute(r, streams, noFD)
	}
	if p.cgroups == nil {
		return process{}, errorf("cgroup: %w", p.noCgroups)
	}
	g, fd, err := p.cgroups.make(r.key(), r.spec.Cgroup, p.managed)
	if err != nil {
		if wanted && !r.spec.CgroupOptional {
			return process{}, errorf("cgroup: %w", err)
		}
		return p.execute(r, streams, noFD)
	}
	defer syscall.Close(fd)
	r.cgroup = g
	started, err := p.execute(r, streams, fd)
	if err != nil && refusesCgroup(err) && (!wanted || r.spec.CgroupOptional) {
		r.discardCgroup()
		r.cgroup = nil
		return p.execute(r, streams, noFD)
	}
	return started, err
}

// managed are the processes that are no run's: this one, its helper, and who uses it.
func (p *parent) managed() []int {
	pids := append(p.manages(), os.Getpid())
	p.known.Range(func(pid, r any) bool {
		if r == (*run)(nil) {
			pids = append(pids, pid.(int))
		}
		return true
	})
	return pids
}

// refusesCgroup reports whether a start may have failed because of the cgroup that the
// process was to be born into, and is worth another try without.
func refusesCgroup(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOSYS, syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EBUSY, syscall.EPERM, syscall.EACCES, syscall.ENODEV,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// execute makes the process and has it execute its program, by itself or, where
// something is to be set that takes more than a clone, by the exec stub.
func (p *parent) execute(r *run, streams *streams, cgroup int) (process, error) {
	if r.spec.Rights.needStub() {
		return p.forkStub(r, streams, cgroup)
	}
	path, err := lookUp(r.spec.Argv[0], r.spec.Env, r.spec.Dir)
	if err != nil {
		return process{}, err
	}
	credential := r.spec.Rights.Credential.change()
	started, err := p.fork(r, path, streams, credential, cgroup)
	if err != nil && credential != nil {
		// The user may find another program in PATH, and what failed there is known there:
		// the stub says it exactly.
		return p.forkStub(r, streams, cgroup)
	}
	return started, err
}

func (p *parent) fork(r *run, path string, streams *streams, credential *syscall.Credential, cgroup int) (process, error) {
	p.forking.Lock()
	defer p.forking.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unblockSignals()
	pidfd := -1
	pid, err := p.system.forkExec(path, r.spec.Argv, &syscall.ProcAttr{
		Dir:   r.spec.Dir,
		Env:   p.environment(r.spec),
		Files: streams.files,
		Sys: &syscall.SysProcAttr{
			Setsid: true, PidFD: &pidfd, Credential: credential,
			UseCgroupFD: cgroup != noFD, CgroupFD: max(cgroup, 0),
		},
	})
	if err != nil {
		return process{}, spawnError(path, r.spec.Dir, err)
	}
	started := process{pid: pid, at: time.Now(), mono: monotonic(), read: streams.read}
	if started.startTicks, err = r.begin(pid, pidfd); err != nil {
		return process{}, errorf("watch process %d: %w", pid, err)
	}
	return started, nil
}

// useHelper lets a helper fork when as many descriptors are open.
func (p *parent) useHelper(threshold int) *helper {
	h := &helper{
		system: p.system, threshold: threshold,
		started: func(pid int) { p.known.Store(pid, (*run)(nil)) },
		ended:   func(pid int) { p.known.Delete(pid) },
		lost:    killMarked,
		home: func() string {
			if p.cgroups == nil {
				return ""
			}
			return p.cgroups.home()
		},
	}
	p.system.forkExec = h.forkExec
	p.closeHelper = h.close
	return h
}

// environment is the environment of a run, with its mark.
func (p *parent) environment(spec Spec) []string {
	if p.mark == "" {
		return spec.Env
	}
	const prefix = RunIDVariable + "="
	env := make([]string, 0, len(spec.Env)+1)
	for _, entry := range spec.Env {
		if len(entry) < len(prefix) || entry[:len(prefix)] != prefix {
			env = append(env, entry)
		}
	}
	return append(env, p.markVariable(spec))
}

// markVariable is RunIDVariable with its value.
func (p *parent) markVariable(spec Spec) string {
	return RunIDVariable + "=" + p.mark + spec.ID + ":" + strconv.FormatUint(spec.Run, 10)
}

func (p *parent) stop(id string, number uint64, by StoppedBy) {
	if r := p.lookup(id, number); r != nil {
		r.stop(by)
	}
}

func (p *parent) setStop(id string, number uint64, how Stop) {
	if r := p.lookup(id, number); r != nil {
		r.setStop(how)
	}
}

func (p *parent) signal(id string, number uint64, signal syscall.Signal) {
	if r := p.lookup(id, number); r != nil {
		r.signalProcess(signal)
	}
}

func (p *parent) kill(id string, number uint64) {
	if r := p.lookup(id, number); r != nil {
		r.kill()
	}
}

// close implements Spawner.Close.
func (p *parent) close() {
	p.mu.Lock()
	wasClosed := p.closed
	p.closed = true
	runs := make([]*run, 0, len(p.runs))
	for _, r := range p.runs {
		runs = append(runs, r)
	}
	p.mu.Unlock()
	for _, r := range runs {
		r.kill()
	}
	p.live.Wait()
	if wasClosed {
		return
	}
	p.deaths.close()
	_ = syscall.Close(p.null)
	if p.closeHelper != nil {
		p.forking.Lock()
		defer p.forking.Unlock()
		p.closeHelper()
	}
}

func (p *parent) lookup(id string, number uint64) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[runKey{id, number}]
}

// unregister forgets a run of which nothing lives.
func (p *parent) unregister(r *run) {
	p.mu.Lock()
	delete(p.runs, runKey{r.spec.ID, r.spec.Run})
	p.mu.Unlock()
}

// forget is told that a known child is reaped.
func (p *parent) forget(r *run) {
	// Its PID may be another child's by now.
	p.known.CompareAndDelete(r.pid, r)
	if p.passed.Swap(false) && p.onPassed != nil {
		p.onPassed()
	}
}

// reapOrphans reaps the zombies that this process has adopted. Known children are
// left to who waits for them; should orphans be waiting behind one, onPassed is
// called once it is reaped.
func (p *parent) reapOrphans() {
	p.forking.Lock()
	defer p.forking.Unlock()
	for {
		// Set first: the zombie that is found may be reaped by its owner at once.
		p.passed.Store(true)
		pid, err := waitID(pAll, 0, wExited|wNoHang|wNoWait)
		if err != nil || pid == 0 {
			p.passed.Store(false)
			return
		}
		if _, known := p.known.Load(pid); known {
			return
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}
