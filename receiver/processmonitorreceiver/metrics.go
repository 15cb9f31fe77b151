// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package processmonitorreceiver

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"
	conventions "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/extension/supervisorextension"
	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/procfs"
	"github.com/otelwarden/warden/receiver/processmonitorreceiver/internal/metadata"
)

// collector makes the metrics of one scrape after the other. It is for one
// goroutine, the scraper controller's.
type collector struct {
	cfg        *Config
	supervisor supervisorextension.Supervisor // nil: the host only
	resources  *resources                     // nil without supervisor
	rules      *resourceRules
	proc       *procfs.FS
	logger     *zap.Logger
	version    string
	now        func() time.Time
	pageSize   int64 // bytes

	processes []supervisorextension.Process // reused by every scrape
	histories map[*supervisorextension.Info]*history
	reported  int      // how many of them this scrape has used
	missing   []uint64 // runs of one child whose process this scrape does not find
	counts    []stateCount
	scrapes   uint64
	// letters are the kernel's states of the processes read in this scrape, by pid.
	letters  map[int]byte
	told     map[string]struct{}
	hostRes  pcommon.Resource
	bootTime pcommon.Timestamp // 0 until known
}

func newCollector(cfg *Config, supervisor supervisorextension.Supervisor, shared *resources, set receiver.Settings,
	procMount string, now func() time.Time,
) *collector {
	return &collector{
		cfg:        cfg,
		supervisor: supervisor,
		resources:  shared,
		rules:      newResourceRules(&cfg.ResourceAttributes),
		proc:       procfs.New(procMount),
		logger:     set.Logger,
		version:    set.BuildInfo.Version,
		now:        now,
		pageSize:   int64(os.Getpagesize()),
		histories:  map[*supervisorextension.Info]*history{},
		letters:    map[int]byte{},
		told:       map[string]struct{}{},
		hostRes:    hostResource(&cfg.ResourceAttributes),
	}
}

// scrape is a scraper.ScrapeMetricsFunc. It never fails: what cannot be read is
// absent, and the log has said so once.
func (c *collector) scrape(context.Context) (pmetric.Metrics, error) {
	metrics := pmetric.NewMetrics()
	now := c.now()
	c.scrapes++
	clear(c.letters)
	if c.supervisor != nil {
		c.scrapeSupervisor(metrics, now)
	}
	if c.cfg.System.Enabled {
		c.scrapeSystem(metrics, now)
	}
	metrics.ResourceMetrics().RemoveIf(func(rm pmetric.ResourceMetrics) bool {
		return rm.ScopeMetrics().At(0).Metrics().Len() == 0
	})
	return metrics, nil
}

func (c *collector) scrapeSupervisor(metrics pmetric.Metrics, now time.Time) {
	c.processes = c.supervisor.Processes(c.processes[:0])
	c.reported = 0
	for i := range c.counts {
		c.counts[i].n = 0
	}
	metrics.ResourceMetrics().EnsureCapacity(len(c.processes) + 1)
	for rest := c.processes; len(rest) > 0; {
		p := &rest[0]
		c.count(p.Info.Type, p.State.String())
		runs := rest[:1] // what may have a living process and reports as p
		rest = rest[1:]
		if p.Info.Template {
			n := 0
			for n < len(rest) && rest[n].Info == p.Info {
				c.count(supervisorextension.TypeService, rest[n].State.String())
				n++
			}
			runs, rest = rest[:n], rest[n:]
		} else if p.Info.Type == supervisorextension.TypeSupervisor {
			continue // it has no process, and its own events and counts are below
		}
		resource := c.resources.of(p.Info)
		if !c.rules.admitsMetrics(resource) {
			continue
		}
		e := c.emitter(metrics, resource, p.Info.Created, now)
		c.emitMeasured(e, p, runs, now)
		c.emitSupervised(e, p, runs)
	}
	c.forget()
	c.emitOwn(metrics, now)
	clear(c.processes)
}

// emitter begins a resource.
func (c *collector) emitter(metrics pmetric.Metrics, resource pcommon.Resource, start, now time.Time) *emitter {
	rm := metrics.ResourceMetrics().AppendEmpty()
	rm.SetSchemaUrl(conventions.SchemaURL)
	resource.CopyTo(rm.Resource())
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(metadata.ScopeName)
	sm.Scope().SetVersion(c.version)
	return &emitter{
		metrics: sm.Metrics(),
		start:   pcommon.NewTimestampFromTime(start),
		now:     pcommon.NewTimestampFromTime(now),
	}
}

// emitSupervised appends what the supervisor knows of a process, or of a template and
// its instances.
func (c *collector) emitSupervised(e *emitter, p *supervisorextension.Process, runs []supervisorextension.Process) {
	on := &c.cfg.Metrics
	if on.ProcessRestarts.Enabled {
		var points numbers
		for reason, n := range p.Totals.Restarts {
			if n == 0 {
				continue
			}
			if points.emitter == nil {
				points = e.numbers(&defRestarts)
			}
			point := points.append()
			point.SetIntValue(int64(n))
			point.Attributes().PutStr("reason", supervisorextension.RestartReason(reason).String())
			point.Attributes().PutStr("module", p.Info.ID)
			if supervisorextension.RestartReason(reason) == supervisorextension.RestartStrategy {
				emitCause(point, &p.Totals.LastStrategy)
			}
		}
	}
	if on.ProcessLifetime.Enabled {
		emitLifetime(e, &p.Totals.Lifetime, p.Info.ID)
	}
	if on.SupervisorProcessExits.Enabled {
		var points numbers
		for reason, n := range p.Totals.Exits {
			if n == 0 {
				continue
			}
			if points.emitter == nil {
				points = e.numbers(&defExits)
			}
			points.int(int64(n)).PutStr("reason", supervisorextension.ExitReason(reason).String())
		}
	}
	if on.SupervisorProcessState.Enabled {
		points := e.numbers(&defState)
		points.slice.EnsureCapacity(len(supervisorextension.ProcessStates))
		for _, state := range supervisorextension.ProcessStates {
			var value int64
			for i := range runs {
				if state == runs[i].State {
					value++
				}
			}
			points.int(value).PutStr("state", state.String())
		}
	}
}

// emitCause says whose failure the latest restart by strategy was. As an attribute of
// the point it would make a series of each cause.
func emitCause(point pmetric.NumberDataPoint, last *supervisorextension.StrategyRestart) {
	exemplar := point.Exemplars().AppendEmpty()
	exemplar.SetIntValue(1)
	exemplar.SetTimestamp(pcommon.NewTimestampFromTime(last.Time))
	exemplar.FilteredAttributes().PutStr(journal.KeyRestartCause, last.Cause)
}

func emitLifetime(e *emitter, l *supervisorextension.Lifetime, module string) {
	point := e.histogram(&defLifetime)
	point.SetCount(l.Count)
	point.SetSum(l.Sum.Seconds())
	point.ExplicitBounds().FromRaw(supervisorextension.LifetimeBounds[:])
	point.BucketCounts().FromRaw(l.Buckets[:])
	point.Attributes().PutStr("module", module)
}

// emitOwn appends what the supervisor as a whole has to tell.
func (c *collector) emitOwn(metrics pmetric.Metrics, now time.Time) {
	resource := c.resources.ofID("")
	if len(c.processes) == 0 || !c.rules.admitsMetrics(resource) {
		return
	}
	// The root comes first, and all counters began with it.
	e := c.emitter(metrics, resource, c.processes[0].Info.Created, now)
	if c.cfg.Metrics.Event.Enabled {
		var points numbers
		c.supervisor.Journal().Counts(func(topic, name string, n uint64) bool {
			if !c.cfg.Topics.of(topic).Count {
				return true
			}
			if points.emitter == nil {
				points = e.numbers(&defEvent)
			}
			attrs := points.int(int64(n))
			attrs.PutStr("topic", topic)
			attrs.PutStr("event", name)
			return true
		})
	}
	if c.cfg.Metrics.ProcessCount.Enabled && len(c.counts) > 0 {
		points := e.numbers(&defProcessCount)
		for _, count := range c.counts {
			attrs := points.int(count.n)
			attrs.PutStr("type", string(count.kind))
			attrs.PutStr("state", count.state)
		}
	}
}

// stateCount is how many children of a kind are in a state. Once in use it stays
// and counts 0, so that its series ends at 0 rather than at its last value.
type stateCount struct {
	kind  supervisorextension.ProcessType
	state string
	n     int64
}

func (c *collector) count(kind supervisorextension.ProcessType, state string) {
	i, found := slices.BinarySearchFunc(c.counts, stateCount{kind: kind, state: state}, func(a, b stateCount) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.state, b.state))
	})
	if !found {
		c.counts = slices.Insert(c.counts, i, stateCount{kind: kind, state: state})
	}
	c.counts[i].n++
}

// tellOnce logs the first error of each subject.
func (c *collector) tellOnce(subject, message string, err error, fields ...zap.Field) {
	if _, told := c.told[subject]; told {
		return
	}
	c.told[subject] = struct{}{}
	c.logger.Warn(message+"; this is said once", append(fields, zap.Error(err))...)
}
