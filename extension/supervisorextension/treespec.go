// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import "github.com/otelwarden/warden/internal/tree"

// treeSpec is the configuration in the tree's terms.
func treeSpec(s *SupervisorConfig) tree.Supervisor {
	spec := tree.Supervisor{
		Strategy:     treeStrategy[s.Strategy],
		MaxRestarts:  s.Intensity.MaxRestarts,
		Period:       s.Intensity.Period,
		AutoShutdown: treeAutoShutdown[s.AutoShutdown],
		FirstStart:   treeFirstStart[s.FirstStart],
		Parallel:     s.Parallel,
		Children:     make([]tree.Child, len(s.Children)),
	}
	for i := range s.Children {
		spec.Children[i] = treeChild(&s.Children[i], s)
	}
	return spec
}

func treeChild(c *ChildConfig, parent *SupervisorConfig) tree.Child {
	child := tree.Child{
		Name:        c.Name,
		Restart:     treeRestart[c.Restart],
		Significant: c.Significant,
		Backoff: tree.Backoff{
			Initial:    c.Backoff.InitialInterval,
			Max:        c.Backoff.MaxInterval,
			ResetAfter: c.Backoff.ResetAfter,
			Multiplier: c.Backoff.Multiplier,
			Jitter:     c.Backoff.Jitter,
		},
		Data: c,
	}
	if c.Supervisor != nil {
		below := treeSpec(c.Supervisor)
		child.Supervisor = &below
		return child
	}
	if c.Process.Template {
		return templateOf(child, c.Process, parent)
	}
	child.Worker = treeWorker(c.Process)
	return child
}

// templateOf is the supervisor that starts instances of a process. Its intensity is
// that of the supervisor in whose place it counts their restarts, and it is restarted
// as that one's other children.
func templateOf(instance tree.Child, p *ProcessConfig, parent *SupervisorConfig) tree.Child {
	instance.Worker = treeWorker(p)
	return tree.Child{
		Name: instance.Name, Restart: tree.Permanent, Backoff: instance.Backoff, Data: instance.Data,
		Supervisor: &tree.Supervisor{MaxRestarts: parent.Intensity.MaxRestarts, Period: parent.Intensity.Period, Template: &instance},
	}
}

func treeWorker(p *ProcessConfig) *tree.Worker {
	return &tree.Worker{Manual: !p.Autostart && !p.Template, AwaitReady: p.Readiness != nil, StartTimeout: p.StartTimeout}
}

var (
	treeRestart = map[RestartPolicy]tree.Restart{
		RestartPermanent: tree.Permanent, RestartTransient: tree.Transient, RestartTemporary: tree.Temporary,
	}
	treeStrategy = map[Strategy]tree.Strategy{
		StrategyOneForOne: tree.OneForOne, StrategyOneForAll: tree.OneForAll, StrategyRestForOne: tree.RestForOne,
	}
	treeAutoShutdown = map[AutoShutdown]tree.AutoShutdown{
		AutoShutdownNever: tree.Never, AutoShutdownAnySignificant: tree.AnySignificant, AutoShutdownAllSignificant: tree.AllSignificant,
	}
	treeFirstStart = map[FirstStart]tree.FirstStart{FirstStartStrict: tree.Strict, FirstStartRetry: tree.Retry}
)
