// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"errors"
	"os"
	"path"
	"strconv"
	"syscall"
)

// delegate makes the controllers of settings usable by runs. A cgroup hands a controller
// on only if it holds no process itself, so the keeper and the collector first move from
// where they were started to a leaf beside the runs: once, and only if a run wants it.
func (c *cgroups) delegate(settings []CgroupSetting, manages func() []int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, setting := range settings {
		controller, _, _ := bytes.Cut([]byte(setting.File), []byte("."))
		if c.delegated[string(controller)] {
			continue
		}
		if err := c.delegateLocked(string(controller), manages); err != nil {
			return err
		}
		c.delegated[string(controller)] = true
	}
	return nil
}

func (c *cgroups) delegateLocked(controller string, manages func() []int) error {
	top := path.Dir(c.base)
	available, err := os.ReadFile(path.Join(top, "cgroup.controllers"))
	if err != nil {
		return errorf("the controllers of the cgroup %s: %w", top, causeOf(err))
	}
	if !hasWord(available, controller) {
		return errorf("the cgroup %s has no %s controller, only %q: delegate it to this service (Delegate=yes of a unit, a writable cgroup namespace of a container), or set optional: true", top, controller, bytes.TrimSpace(available))
	}
	for _, handsOn := range []string{top, c.base} {
		if err := c.enable(handsOn, controller, manages); err != nil {
			return errorf("have the cgroup %s hand on its %s controller: %w: delegate a cgroup to this service in which nothing else runs (Delegate=yes of a unit), or set optional: true", handsOn, controller, causeOf(err))
		}
	}
	return nil
}

// home is where the keeper and its helper are.
func (c *cgroups) home() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved {
		return path.Join(c.base, managerCgroup)
	}
	return path.Dir(c.base)
}

// enable has a cgroup hand on a controller.
func (c *cgroups) enable(dir, controller string, manages func() []int) error {
	control := path.Join(dir, "cgroup.subtree_control")
	enabled, err := os.ReadFile(control)
	if err != nil || hasWord(enabled, controller) {
		return err
	}
	err = writeFile(control, "+"+controller)
	if !errors.Is(err, syscall.EBUSY) {
		return err
	}
	if err := c.moveOut(dir, manages()); err != nil {
		return err
	}
	return writeFile(control, "+"+controller)
}

// moveOut moves those of the processes that are in a cgroup itself to the manager's.
func (c *cgroups) moveOut(dir string, manages []int) error {
	manager := path.Join(c.base, managerCgroup)
	if err := os.Mkdir(manager, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	c.moved = true
	inside := map[int]bool{}
	text, err := os.ReadFile(path.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		if pid, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
			inside[pid] = true
		}
	}
	for _, pid := range manages {
		if !inside[pid] {
			continue
		}
		err := writeFile(path.Join(manager, "cgroup.procs"), strconv.Itoa(pid))
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// hasWord reports whether a list of words, divided by spaces, has one.
func hasWord(list []byte, word string) bool {
	for _, w := range bytes.Fields(list) {
		if string(w) == word {
			return true
		}
	}
	return false
}
