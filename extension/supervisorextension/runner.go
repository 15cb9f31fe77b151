// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/otelwarden/warden/internal/keeper"
)

// runner runs commands that are not children of the tree, such as probes, and
// waits for them. They are children of what the processes are children of: should the
// collector be killed, the next one finds them among the runs and ends them.
type runner struct {
	spawner keeper.Spawner

	mu      sync.Mutex
	closed  bool                         // guarded by mu
	last    uint64                       // guarded by mu; numbers the commands
	waiting map[uint64]chan keeper.Event // guarded by mu
	running sync.WaitGroup
}

// commandID is the id that all commands run under. It is no child's.
const commandID = "(command)"

func newRunner() *runner {
	// Numbers of an earlier collector's commands are not used again.
	return &runner{last: uint64(time.Now().UnixNano()), waiting: map[uint64]chan keeper.Event{}}
}

// deliver takes what happens to a command.
func (r *runner) deliver(event keeper.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if events := r.waiting[event.Run]; events != nil {
		events <- event // has room for all that a run can tell
	}
}

// begin numbers a command; ok is false once the runner is closed.
func (r *runner) begin() (number uint64, events <-chan keeper.Event, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, nil, false
	}
	r.running.Add(1)
	r.last++
	room := make(chan keeper.Event, 4)
	r.waiting[r.last] = room
	return r.last, room, true
}

func (r *runner) end(number uint64) {
	r.mu.Lock()
	delete(r.waiting, number)
	r.mu.Unlock()
	r.running.Done()
}

// job is a command that is run beside a process, with the rights of that.
type job struct {
	argv, env []string
	dir       string
	rights    keeper.Rights
}

// jobOf is a command beside the process of a configuration. Who the process runs as is
// looked up now.
func jobOf(cfg *ProcessConfig, argv, env []string) (job, error) {
	j := job{argv: argv, env: env, dir: cfg.WorkingDirectory, rights: cfg.rights()}
	var err error
	j.rights.Credential, err = cfg.credential()
	return j, err
}

// run runs a command and returns how it ended once nothing of it is left. When ctx
// ends the command is killed, and ctx's error returned.
func (r *runner) run(ctx context.Context, j job) (keeper.Exit, error) {
	number, events, ok := r.begin()
	if !ok {
		return keeper.Exit{}, keeper.ErrClosed
	}
	defer r.end(number)
	spec := keeper.Spec{ID: commandID, Run: number, Argv: j.argv, Env: j.env, Dir: j.dir, Rights: j.rights, Stop: keeper.Stop{Signal: syscall.SIGKILL}}
	if _, err := r.spawner.Spawn(spec); err != nil {
		return keeper.Exit{}, err
	}
	var exit keeper.Exit
	for done := ctx.Done(); ; {
		select {
		case event := <-events:
			switch event.Kind {
			case keeper.Died:
				exit = event.Exit
			case keeper.Gone:
				return exit, ctx.Err()
			case keeper.Unkillable:
				return exit, context.Cause(ctx)
			case keeper.Killed:
			}
		case <-done:
			done = nil
			r.spawner.Kill(spec.ID, number)
		}
	}
}

// close waits for the commands that are running, whose contexts have to be over. It
// does not wait for a spawn that hangs.
func (r *runner) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.running.Wait()
	}()
	patience := time.NewTimer(keeper.UnkillableAfter)
	defer patience.Stop()
	select {
	case <-over:
	case <-patience.C:
	}
}
