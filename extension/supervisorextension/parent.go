// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"

	"github.com/otelwarden/warden/internal/keeper"
)

// parent is what the processes are children of.
type parent struct {
	keeper.Spawner
	// memory outlives the collector; nil if the parent does not.
	memory memory
	// left is what the last collector left, Fresh if there was none.
	left keeper.State
}

// memory is what only a keeper can do.
type memory interface {
	// Commit makes safe what was decided, all or nothing.
	Commit(keeper.Commit) error
	// Detach gives the processes to the next collector.
	Detach() error
	// Sweep ends the processes of a keeper that is no more.
	Sweep() (ended int, err error)
}

// listener is told what happens to the processes and to their parent.
type listener struct {
	event func(keeper.Event)
	warn  func(string)
	lost  func(error)
}

// newParent finds the parent, or makes it.
type newParent func(ctx context.Context, l listener) (parent, error)

// attach makes the keeper of the runtime directory the parent: a process of its own.
func attach(directory string, cfg *Config) newParent {
	return func(ctx context.Context, l listener) (parent, error) {
		client, left, err := keeper.Attach(ctx, keeper.Options{
			Directory:    directory,
			OrphanGrace:  cfg.OrphanGrace,
			JournalLimit: journalCapacity,
			Warn:         l.warn,
			Lost:         l.lost,
		}, l.event)
		if err != nil {
			return parent{}, err
		}
		processes, held := cfg.descriptors()
		if err := keeper.Budget(processes, held, left.OpenFiles); err != nil {
			for _, run := range left.Runs {
				run.Started.Close()
			}
			return parent{}, errors.Join(err, client.Detach())
		}
		return parent{Spawner: client, memory: client, left: left}, nil
	}
}

// descriptors counts the processes and what is held for them: pipes and sockets.
func (s *SupervisorConfig) descriptors() (processes, held int) {
	s.each("", func(_ string, c *ChildConfig) {
		if c.Process == nil {
			return
		}
		processes++
		for _, counts := range []bool{
			c.Process.Output.Stdout == OutputCapture, c.Process.Output.Stderr == OutputCapture,
			c.Process.notifies(), c.Process.Readiness != nil && c.Process.Readiness.NotifyFD != 0,
		} {
			if counts {
				held++
			}
		}
	})
	return processes, held
}
