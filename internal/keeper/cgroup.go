// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"errors"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// cgroups is the place in the unified hierarchy where the runs of a keeper have a cgroup
// each:
//
//	<where the keeper was started>/warden-<directory>/    base
//	    <id>.<run>/                                       one run, with all that descends from it
//	    manager/                                          the keeper itself; only if delegated
//
// A run's cgroup is made for it and removed after it: the kernel kills at once what is
// started into one that was ever killed as a whole.
type cgroups struct {
	base string
	// mkdir is os.Mkdir, unless a test lets it fail.
	mkdir func(name string, mode os.FileMode) error

	mu sync.Mutex
	// delegated are the controllers that runs may use; guarded by mu.
	delegated map[string]bool
	// moved: this process is in the manager's; guarded by mu.
	moved bool
	// stale are cgroups to be removed; guarded by mu.
	stale []string
	// sweeping: they are about to be; guarded by mu.
	sweeping bool
}

const (
	cgroupPrefix  = "warden-"
	managerCgroup = "manager"
)

// openCgroups makes base. An error means that there can be no cgroups here: no unified
// hierarchy, or none that may be written.
func openCgroups(directory string) (*cgroups, error) {
	base, err := cgroupBase(directory)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	c := &cgroups{base: base, mkdir: os.Mkdir, delegated: map[string]bool{}}
	// That base was there, or could be made, does not say that it can be written.
	probe := path.Join(base, "probe-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(probe, 0o755); err != nil {
		return nil, err
	}
	return c, os.Remove(probe)
}

// cgroupBase is where the cgroups of a runtime directory are.
func cgroupBase(directory string) (string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	place, err := cgroupPlace(own, mounts)
	if err != nil {
		return "", err
	}
	return path.Join(place, cgroupPrefix+shortHash(directory)), nil
}

// cgroupPlace finds the directory of the cgroup that a process is in, by its
// /proc/PID/cgroup and mountinfo; of one that a keeper has moved, where that was before.
func cgroupPlace(own, mounts []byte) (string, error) {
	var where string
	found := false
	for line := range bytes.Lines(own) {
		if rest, ok := bytes.CutPrefix(bytes.TrimRight(line, "\n"), []byte("0::")); ok {
			where, found = string(rest), true
		}
	}
	if !found {
		return "", errorf("this process is in no cgroup of the unified hierarchy (v2)")
	}
	if _, outside := cutPrefix(where, "/.."); outside {
		return "", errorf("this process is in the cgroup %s, which can not be seen from its cgroup namespace", where)
	}
	for path.Base(where) == managerCgroup {
		if _, ok := cutPrefix(path.Base(path.Dir(where)), cgroupPrefix); !ok {
			break
		}
		where = path.Dir(path.Dir(where))
	}
	for line := range bytes.Lines(mounts) {
		// ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS
		before, after, _ := bytes.Cut(line, []byte(" - "))
		fields, kind := bytes.Fields(before), bytes.Fields(after)
		if len(fields) < 5 || len(kind) < 1 || string(kind[0]) != "cgroup2" {
			continue
		}
		root, point := unescapeMount(fields[3]), unescapeMount(fields[4])
		if root == "/" {
			return path.Join(point, where), nil
		}
		if rest, ok := cutPrefix(where, root); ok && (rest == "" || rest[0] == '/') {
			return path.Join(point, rest), nil
		}
	}
	return "", errorf("the unified hierarchy of cgroups (v2) is not mounted here")
}

// unescapeMount undoes what the kernel does to spaces and the like in mountinfo: \040.
func unescapeMount(field []byte) string {
	var b []byte
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if n, err := strconv.ParseUint(string(field[i+1:i+4]), 8, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		b = append(b, field[i])
	}
	return string(b)
}

// shortHash makes a name of a text, FNV-1a in hexadecimal.
func shortHash(text string) string {
	hash := uint32(2166136261)
	for i := range len(text) {
		hash = (hash ^ uint32(text[i])) * 16777619
	}
	return strconv.FormatUint(uint64(hash), 16)
}

// cgroup is that of one run.
type cgroup struct{ path string }

// name of a run's cgroup. A directory's name has at most 255 bytes.
func (key runKey) cgroupName() string {
	id := key.id
	if len(id) > 200 {
		id = id[:180] + "-" + shortHash(id)
	}
	return id + "." + strconv.FormatUint(key.run, 10)
}

// parseCgroupName is the reverse, for ids that are not too long; ok is false for what is
// no run's.
func parseCgroupName(name string) (key runKey, ok bool) {
	for i := len(name) - 1; i > 0; i-- {
		if name[i] == '.' {
			run, err := strconv.ParseUint(name[i+1:], 10, 64)
			return runKey{name[:i], run}, err == nil
		}
	}
	return runKey{}, false
}

// make makes the cgroup of a run, and returns it with a descriptor of it, which is the
// caller's to close. manages are the processes that may have to be moved out of the way.
func (c *cgroups) make(key runKey, settings []CgroupSetting, manages func() []int) (g *cgroup, fd int, err error) {
	if err := c.delegate(settings, manages); err != nil {
		return nil, noFD, err
	}
	g = &cgroup{path.Join(c.base, key.cgroupName())}
	err = c.mkdir(g.path, 0o755)
	if errors.Is(err, os.ErrExist) && g.remove() == nil { // of a keeper before this one
		err = c.mkdir(g.path, 0o755)
	}
	if err != nil {
		return nil, noFD, errorf("make the cgroup %s: %w", g.path, causeOf(err))
	}
	for _, setting := range settings {
		if err := writeFile(path.Join(g.path, setting.File), setting.Value); err != nil {
			_ = g.remove()
			return nil, noFD, errorf("write %q to %s of the cgroup %s: %w", setting.Value, setting.File, g.path, causeOf(err))
		}
	}
	fd, err = syscall.Open(g.path, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		_ = g.remove()
		return nil, noFD, errorf("open the cgroup %s: %w", g.path, err)
	}
	return g, fd, nil
}

// writeFile writes to a file that is there, with one call.
func writeFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// populated reports whether a process lives in the cgroup or below it.
func (g *cgroup) populated() bool {
	var buf [256]byte
	fd, err := syscall.Open(g.path+"/cgroup.events", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false // it is gone
	}
	defer syscall.Close(fd)
	n, err := syscall.Read(fd, buf[:])
	return err == nil && bytes.Contains(buf[:n], []byte("populated 1"))
}

// ranOutOfMemory reports whether the kernel killed a process of the cgroup for want of
// memory. It counts that where the cgroup has the memory controller.
func (g *cgroup) ranOutOfMemory() bool {
	text, err := os.ReadFile(g.path + "/memory.events")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if count, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			return string(bytes.TrimSpace(count)) != "0"
		}
	}
	return false
}

// pids returns the processes that are in the cgroup, itself and below.
func (g *cgroup) pids() (pids []int) {
	text, err := os.ReadFile(g.path + "/cgroup.procs")
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(text) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	g.eachBelow(func(below *cgroup) { pids = append(pids, below.pids()...) })
	return pids
}

// kill kills everything in the cgroup and below at once, what is being forked too.
func (g *cgroup) kill() {
	if writeFile(g.path+"/cgroup.kill", "1") == nil {
		return
	}
	// Before Linux 5.14: who calls it does so until nothing lives.
	for _, pid := range g.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// remove removes the cgroup with what its processes have made below it. It fails as
// long as one of them lives.
func (g *cgroup) remove() error {
	err := syscall.Rmdir(g.path)
	if !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	g.eachBelow(func(below *cgroup) { _ = below.remove() })
	return syscall.Rmdir(g.path)
}

func (g *cgroup) eachBelow(visit func(*cgroup)) {
	entries, err := os.ReadDir(g.path)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			visit(&cgroup{path.Join(g.path, entry.Name())})
		}
	}
}

// sweepPause is how long a cgroup that is done with stays: the kernel makes the next one
// wait for the removal.
const sweepPause = 50 * time.Millisecond

// discard has the cgroup of a run that is over removed, soon. What a run without
// ScopeTree leaves alive keeps its cgroup until it ends.
func (c *cgroups) discard(g *cgroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = append(c.stale, g.path)
	if !c.sweeping {
		c.sweeping = true
		time.AfterFunc(sweepPause, c.removeStale)
	}
}

// removeStale removes what can be removed. What is still in use is for the next time.
func (c *cgroups) removeStale() {
	c.mu.Lock()
	stale := c.stale
	c.stale, c.sweeping = nil, false
	c.mu.Unlock()
	var kept []string
	for _, path := range stale {
		if err := (&cgroup{path}).remove(); err != nil && !errors.Is(err, syscall.ENOENT) {
			kept = append(kept, path)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = append(c.stale, kept...)
}

// close removes base, unless something of it is still in use.
func (c *cgroups) close() {
	c.removeStale()
	_ = syscall.Rmdir(c.base)
}
