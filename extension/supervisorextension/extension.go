// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensioncapabilities"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/announce"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// journalCapacity is how many events a reader may fall behind before it misses some.
const journalCapacity = 10_000

// supervisor is the extension. The processes start in Ready, when the pipelines
// take data, and stop in NotReady, while they still do.
type supervisor struct {
	cfg     *Config
	logger  *zap.Logger
	roster  *roster
	journal *journal.Journal
	capture *capture
	notify  *notifyDirectory
	ending  *ending

	init initProcess

	newParent newParent

	mu     sync.Mutex
	host   component.Host // guarded by mu; nil unless started
	engine *engine        // guarded by mu; nil unless started
	// commanded is engine, for Command, which must not wait for a Ready under way.
	commanded atomic.Pointer[engine]
	ready     bool // guarded by mu; the tree has been told to start
	frozen    bool // guarded by mu; the processes are left as they are
	closed    bool // guarded by mu
	watch     sync.WaitGroup

	stopOnce sync.Once
	deadline time.Time   // set by stopOnce
	killer   *time.Timer // set by stopOnce
}

var (
	_ extension.Extension                         = (*supervisor)(nil)
	_ extensioncapabilities.PipelineWatcher       = (*supervisor)(nil)
	_ extensioncapabilities.ConfigSnapshotWatcher = (*supervisor)(nil)
	_ componentstatus.Watcher                     = (*supervisor)(nil)
	_ Supervisor                                  = (*supervisor)(nil)
	_ Informant                                   = (*supervisor)(nil)
	_ Operator                                    = (*supervisor)(nil)
)

func newSupervisor(set extension.Settings, cfg *Config) *supervisor {
	runtimeDirectory := filepath.Clean(cmp.Or(cfg.RuntimeDirectory, defaultRuntimeDirectory(set.ID)))
	s := &supervisor{
		cfg:       cfg,
		logger:    set.Logger,
		roster:    newRoster(cfg, runtimeDirectory, time.Now()),
		notify:    &notifyDirectory{runtimeDirectory: runtimeDirectory},
		journal:   journal.New(journalCapacity),
		capture:   newCapture(set.Logger),
		newParent: attach(runtimeDirectory, cfg),
		ending:    newEnding(func() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }),
		init:      newInitProcess(set.Logger),
	}
	s.ending.of = runtimeDirectory
	s.ending.announce = func(status int) { s.init.tell(s.init.announcer.Ending(status)) }
	return s
}

// Start implements component.Component. No process is started yet: the pipelines
// do not take data.
func (s *supervisor) Start(ctx context.Context, host component.Host) error {
	for _, warning := range s.cfg.Warnings() {
		s.logger.Warn(warning)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	processes, held := s.cfg.descriptors()
	if err := keeper.Budget(processes, held, 0); err != nil {
		return err
	}
	// Before there is a keeper: SIGTERM would end this process at once and leave that.
	s.ending.listen(func(signal os.Signal) {
		s.logger.Info("stopping the processes", zap.Stringer("signal", signal))
		if s.commanded.Load() != nil { // otherwise it is for Ready
			s.stop()
		}
	})
	engine, err := newEngine(ctx, s.logger, treeSpec(&s.cfg.SupervisorConfig), s.roster, s.journal, s.capture, s.notify, os.Environ(), s.newParent)
	if err != nil {
		s.ending.close()
		return err
	}
	if engine.memory != nil {
		s.init.tell(s.init.announcer.Attached(engine.keeperPID))
	}
	s.host, s.engine = host, engine
	s.commanded.Store(engine)
	return nil
}

// NotifyConfigSnapshot implements extensioncapabilities.ConfigSnapshotWatcher. The
// Collector calls it between Start and Ready, so before the first process is started.
func (s *supervisor) NotifyConfigSnapshot(_ context.Context, snapshot extensioncapabilities.ConfigSnapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	effective := snapshot.Effective()
	if s.engine == nil || effective == nil {
		return nil
	}
	endpoints := openOTLPEndpoints(effective)
	s.engine.otlp.Store(&endpoints)
	if len(endpoints) > 0 {
		s.logger.Info("the processes are told of the collector's OTLP receiver, where propagate_telemetry is on and nothing else is set",
			zap.String("endpoint", endpoints[0].url), zap.String("protocol", endpoints[0].protocol))
	}
	return nil
}

// Ready implements extensioncapabilities.PipelineWatcher. With first_start strict it
// returns once all children are up; a failure ends the collector with a status that
// is not 0.
func (s *supervisor) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.capture.begin() && s.roster.captures() {
		s.logger.Info("no process_monitor in a logs pipeline takes the captured output: it goes to the collector's own streams")
	}
	if s.ending.begun() && !s.engine.inherits() {
		s.ending.insist(announce.OwnStatus)
		return nil
	}
	s.ready = true
	s.engine.begin()
	if s.ending.begun() {
		// The signal came in between, and its stop before this start.
		s.engine.stop()
	}
	// Holding the lock is no harm: until this returns nobody else is called but for
	// Processes and the like, which do not need it.
	if s.cfg.FirstStart == FirstStartStrict {
		select {
		case <-s.engine.started:
		case <-s.engine.ended:
			if s.engine.end.Outcome == tree.OutcomeStartFailed {
				return fmt.Errorf("the first start failed, what was up has been stopped: %s", s.engine.endReason)
			}
		}
	}
	s.watch.Go(s.awaitEnd)
	// To read the configuration took far more memory than to keep it, and the runtime
	// gives that back only slowly.
	s.watch.Go(debug.FreeOSMemory)
	return nil
}

// awaitEnd acts on the tree's end.
func (s *supervisor) awaitEnd() {
	select {
	case <-s.engine.ended:
	case <-s.engine.done:
		return
	}
	outcome, own := s.engine.end.Outcome, announce.OwnStatus
	switch {
	case s.engine.lostErr != nil:
		s.logger.Error("ending the collector", zap.Error(s.endError()))
		// That is not announced: an init process has reason to start it again.
		s.ending.raiseUntilAccepted()
	case outcome == tree.OutcomeStopped:
		if s.ending.begun() {
			// A signal that came during the start was not seen by the collector.
			s.ending.insist(own)
		}
	case outcome == tree.OutcomeAutoShutdown && s.endError() == nil:
		s.logger.Info("ending the collector, as auto_shutdown says", zap.String("cause", s.engine.endReason))
		s.ending.insist(own)
	case outcome == tree.OutcomeAutoShutdown:
		s.logger.Error("ending the collector", zap.Error(s.endError()))
		s.ending.insist(s.engine.endStatus)
	case s.cfg.OnGiveUp == GiveUpStay:
		err := s.endError()
		s.logger.Error("the processes are down and stay down (on_give_up is \"stay\")", zap.Error(err))
		componentstatus.ReportStatus(s.host, componentstatus.NewRecoverableErrorEvent(err))
	default:
		s.logger.Error("ending the collector", zap.Error(s.endError()))
		s.ending.insist(s.engine.endStatus)
	}
}

// NotReady implements extensioncapabilities.PipelineWatcher. For a reload it lets go
// of the processes, which go on. For an end it stops the tree and returns when
// everything that the processes said last has been taken, or when shutdown_timeout is
// over.
func (s *supervisor) NotReady() error {
	s.ending.accepted()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready || s.closed {
		return nil
	}
	s.ready = false
	if s.reloading() {
		s.engine.freeze()
		s.capture.detach()
		s.engine.tellUntold()
		s.frozen = true
		return nil
	}
	deadline := s.stop()
	select {
	case <-s.engine.ended:
	case <-time.After(time.Until(deadline) - s.drainTime()/2):
		s.logger.Error("some processes could not be ended", zap.Strings("processes", s.alive()))
	}
	s.capture.drain(deadline)
	s.engine.catchUp()
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := s.journal.Drained(ctx); err != nil {
		s.logger.Error("lifecycle events were not delivered before the end", zap.Error(err))
	}
	return nil
}

// ComponentStatusChanged implements componentstatus.Watcher: the fatal status of any
// component ends the Collector.
func (s *supervisor) ComponentStatusChanged(_ *componentstatus.InstanceID, event *componentstatus.Event) {
	if event.Status() == componentstatus.StatusFatalError {
		s.ending.expect()
	}
}

// reloading: nothing calls for an end of the processes, so what the Collector does is
// to read its configuration again, or to fail at it.
func (s *supervisor) reloading() bool {
	if s.engine.memory == nil || s.ending.signalled() {
		return false
	}
	select {
	case <-s.engine.ended:
		// With on_give_up stay there is nothing to end, and a new start to be made.
		return s.engine.end.Outcome == tree.OutcomeGaveUp && s.cfg.OnGiveUp == GiveUpStay
	default:
		return true
	}
}

// stop begins to stop the tree, the first time that it is called, and returns by
// when everything has to be over.
func (s *supervisor) stop() (deadline time.Time) {
	s.stopOnce.Do(func() {
		s.deadline = time.Now().Add(s.cfg.ShutdownTimeout)
		s.engine.stop()
		s.killer = time.AfterFunc(s.cfg.ShutdownTimeout-s.drainTime(), func() {
			select {
			case <-s.engine.ended:
			default:
				s.logger.Warn("shutdown_timeout is nearly over, what is left is killed",
					zap.Duration("shutdown_timeout", s.cfg.ShutdownTimeout), zap.Strings("processes", s.alive()))
				s.engine.killAll()
			}
		})
	})
	return s.deadline
}

// drainTime is the end of shutdown_timeout that is kept for delivering the last
// words of what had to be killed.
func (s *supervisor) drainTime() time.Duration { return min(2*time.Second, s.cfg.ShutdownTimeout/4) }

// Shutdown implements component.Component. The error, if the tree gave up, makes
// the collector's exit status 1; no other means does that without a hang.
func (s *supervisor) Shutdown(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.engine == nil {
		s.closed = true
		s.ending.close()
		s.capture.cancel()
		return nil
	}
	s.closed = true
	leaving := s.frozen || s.engine.inherits()
	if leaving {
		s.ending.leave()
	} else {
		s.ending.close()
	}
	if s.killer != nil {
		s.killer.Stop()
	}
	if leaving {
		// What was delivered until now is known to the next collector.
		if err := s.engine.detach(); err != nil {
			s.logger.Error("the processes could not be left to the next collector", zap.Error(err))
		}
	} else {
		// While nobody else can have the directory.
		if s.engine.memory != nil {
			s.notify.closeAll()
		}
		s.engine.close()
		s.notify.close()
	}
	s.capture.cancel()
	s.capture.readers.Wait()
	s.watch.Wait()
	if s.cfg.OnGiveUp == GiveUpStay && s.engine.end.Outcome == tree.OutcomeGaveUp {
		return nil
	}
	return s.endError()
}

// endError says what went wrong that the tree ended by itself, nil if nothing did or
// it has not ended.
func (s *supervisor) endError() error {
	select {
	case <-s.engine.ended:
	default:
		return nil
	}
	switch end := s.engine.end; {
	case s.engine.lostErr != nil:
		return fmt.Errorf("the processes had to be stopped: %w", s.engine.lostErr)
	case end.Outcome == tree.OutcomeGaveUp:
		return fmt.Errorf("gave up, more than %d restarts within %v (intensity): %s",
			s.cfg.Intensity.MaxRestarts, s.cfg.Intensity.Period, s.engine.endReason)
	case end.Outcome == tree.OutcomeAutoShutdown && end.Reason != tree.ExitSuccess:
		return fmt.Errorf("auto_shutdown is %q, and a significant child did not end well: %s", s.cfg.AutoShutdown, s.engine.endReason)
	}
	return nil // asked for, told by Ready, or the end of work well done
}

// alive names the processes that have not ended.
func (s *supervisor) alive() []string {
	var names []string
	for _, p := range s.roster.snapshot(nil) {
		if p.PID != 0 {
			names = append(names, fmt.Sprintf("%s (pid %d)", p.Info.ID, p.PID))
		}
	}
	return names
}

// Resource implements Supervisor.
func (s *supervisor) Resource() pcommon.Resource { return s.roster.root.info.Resource }

// Journal implements Supervisor.
func (s *supervisor) Journal() *journal.Journal { return s.journal }

// Processes implements Supervisor.
func (s *supervisor) Processes(dst []Process) []Process { return s.roster.snapshot(dst) }

// Info implements Informant.
func (s *supervisor) Info(id string) *Info { return s.roster.describe(id) }

// ClaimOutput implements Supervisor.
func (s *supervisor) ClaimOutput(owner component.ID, handler OutputHandler) (func(), error) {
	return s.capture.claimOutput(owner, handler)
}
