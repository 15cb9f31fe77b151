// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/otelwarden/warden/extension/supervisorextension"
)

// finalDelivery bounds the last delivery at Shutdown, whose context has no
// deadline when the Collector calls it.
const finalDelivery = 5 * time.Second

// monitors are the monitors that exist, one for each configuration. The Collector
// asks the factory once for each signal and passes the same *Config.
type monitors struct {
	mu       sync.Mutex
	byConfig map[*Config]*monitor // guarded by mu
}

func newMonitors() *monitors { return &monitors{byConfig: map[*Config]*monitor{}} }

func (ms *monitors) get(cfg *Config) *monitor {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m, ok := ms.byConfig[cfg]
	if !ok {
		m = newMonitor(cfg)
		m.forget = func() {
			ms.mu.Lock()
			defer ms.mu.Unlock()
			delete(ms.byConfig, cfg)
		}
		ms.byConfig[cfg] = m
	}
	return m
}

// signal is a pipeline that takes one signal from the monitor.
type signal[C any] struct {
	set  receiver.Settings
	next C
}

// monitor is the one instance behind the receivers of all signals of one
// configuration: the first Start and the first Shutdown count, the others repeat
// their result.
type monitor struct {
	cfg    *Config
	forget func()

	// nil without a pipeline of that signal; set before Start by the factory.
	metrics *signal[consumer.Metrics]
	logs    *signal[consumer.Logs]
	traces  *signal[consumer.Traces]

	// What tests replace.
	procMount string
	now       func() time.Time
	retry     retry

	startOnce, stopOnce sync.Once
	startErr, stopErr   error

	// running are the parts that Start has brought up, to be ended in reverse.
	running []part
}

// part is something that runs between Start and Shutdown.
type part interface {
	// shutdown ends the part and waits for its goroutines. What can still be
	// delivered is delivered until ctx ends.
	shutdown(ctx context.Context) error
}

func newMonitor(cfg *Config) *monitor {
	return &monitor{cfg: cfg, forget: func() {}, procMount: "/proc", now: time.Now, retry: defaultRetry}
}

// Start brings up everything or nothing.
func (m *monitor) Start(ctx context.Context, host component.Host) error {
	m.startOnce.Do(func() {
		if m.startErr = m.start(ctx, host); m.startErr != nil {
			m.startErr = errors.Join(m.startErr, m.stop(ctx))
		}
	})
	return m.startErr
}

func (m *monitor) start(ctx context.Context, host component.Host) error {
	supervisor, err := m.findSupervisor(host)
	if err != nil {
		return err
	}
	var shared *resources
	if supervisor != nil {
		shared = newResources(supervisor, &m.cfg.ResourceAttributes)
	}
	if m.logs != nil {
		if supervisor == nil {
			m.logs.set.Logger.Warn(`no logs come from this receiver: its key "supervisor" is ""`)
		} else if err := m.startLogs(supervisor, shared); err != nil {
			return err
		}
	}
	if m.traces != nil {
		if supervisor == nil {
			m.traces.set.Logger.Warn(`no spans come from this receiver: its key "supervisor" is ""`)
		} else if err := m.startTraces(supervisor, shared); err != nil {
			return err
		}
	}
	if m.metrics != nil {
		return m.startMetrics(ctx, host, supervisor, shared)
	}
	return nil
}

// findSupervisor returns nil if the configuration names none.
func (m *monitor) findSupervisor(host component.Host) (supervisorextension.Supervisor, error) {
	if !m.cfg.Supervisor.isSet() {
		return nil, nil
	}
	id := component.ID(m.cfg.Supervisor)
	ext, ok := host.GetExtensions()[id]
	if !ok {
		return nil, fmt.Errorf(`supervisor: there is no extension %q; add it to service::extensions, or give "" to report on the host only`, id)
	}
	supervisor, ok := ext.(supervisorextension.Supervisor)
	if !ok {
		return nil, fmt.Errorf("supervisor: the extension %q is a %T, not a supervisor; give the id of an extension of type supervisor", id, ext)
	}
	return supervisor, nil
}

func (m *monitor) startLogs(supervisor supervisorextension.Supervisor, shared *resources) error {
	report, err := newReport(m.logs.set)
	if err != nil {
		return err
	}
	if m.cfg.Topics.Output.Log {
		out, err := startOutput(supervisor, shared, report, m.logs.next)
		if err != nil {
			return fmt.Errorf("supervisor: %w; or give topics::output::log: false here", err)
		}
		m.running = append(m.running, out)
	}
	events := newEventLogs(m.cfg, shared, report, m.logs.next, m.now)
	feed, err := startFeed(supervisor.Journal(), "logs", report, m.retry, events.deliver, nil)
	if err != nil {
		return err
	}
	m.running = append(m.running, feed)
	return nil
}

func (m *monitor) startTraces(supervisor supervisorextension.Supervisor, shared *resources) error {
	report, err := newReport(m.traces.set)
	if err != nil {
		return err
	}
	spans := newSpans(m.cfg, shared, report, m.traces.next)
	feed, err := startFeed(supervisor.Journal(), "traces", report, m.retry, spans.deliver, spans.recall)
	if err != nil {
		return err
	}
	m.running = append(m.running, feed)
	return nil
}

func (m *monitor) startMetrics(ctx context.Context, host component.Host, supervisor supervisorextension.Supervisor, shared *resources) error {
	s := newCollector(m.cfg, supervisor, shared, m.metrics.set, m.procMount, m.now)
	controller, err := startController(ctx, host, m.cfg, m.metrics, s.scrape)
	if err != nil {
		return err
	}
	m.running = append(m.running, controller)
	return nil
}

// Shutdown may be called without Start, and more than once.
func (m *monitor) Shutdown(ctx context.Context) error {
	m.stopOnce.Do(func() {
		m.forget()
		m.stopErr = m.stop(ctx)
	})
	return m.stopErr
}

// stop ends all parts at once, so that one that waits for its consumer takes no
// time from the others.
func (m *monitor) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finalDelivery)
	defer cancel()
	errs := make([]error, len(m.running))
	var wg sync.WaitGroup
	for i, p := range m.running {
		wg.Go(func() { errs[i] = p.shutdown(ctx) })
	}
	wg.Wait()
	m.running = nil
	return errors.Join(errs...)
}
