// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

// changed notes that what is kept of c has to be written again. It is for the
// engine's goroutine only.
func (r *roster) changed(c *child) {
	if !c.changed {
		c.changed = true
		r.unsaved = append(r.unsaved, c)
	}
}

// takeChanged returns the children that changed since it was called last.
func (r *roster) takeChanged() []*child {
	unsaved := r.unsaved
	r.unsaved = nil
	for _, c := range unsaved {
		c.changed = false
	}
	return unsaved
}

// inherit makes the roster what the last collector knew. It is called before the
// engine's loop begins, so that no picture shows less than one of before.
func (r *roster) inherit(in *inheritance) {
	r.byID, r.children = map[string]*child{"": r.root}, nil
	for id, saved := range in.children {
		c := &child{id: id, info: r.newInfo(id, in.configs[id], saved.Created)}
		c.restore(saved)
		c.history = sortHistory(in.history[id])
		r.retired[id] = c
	}
	if saved, ok := in.children[""]; ok {
		r.root.info = r.newInfo("", nil, saved.Created)
		delete(r.retired, "")
	}
	r.follow(in.tree)
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.byID {
		c.restore(in.children[id])
		s, _ := in.tree.Status(id)
		c.state = s.State
	}
}

// restore is the reverse of save.
func (c *child) restore(s savedChild) {
	c.totals = s.Totals
	c.run, c.alive, c.pid, c.startTicks = s.Run, s.Alive, s.PID, s.StartTicks
	c.started, c.startedMono = s.Started, s.StartedMono
	c.stopping, c.stopWhy, c.failedLiveness, c.hurried = s.Stopping, s.StopWhy, s.FailedLiveness, s.Hurried
	c.exit, c.lastTrouble, c.lastStatus = s.Exit, s.LastTrouble, s.LastStatus
}
