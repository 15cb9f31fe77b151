// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package aggregate joins the data points of each stream within a window, by the rules of their kind and temporality. It
// does no I/O, has no goroutine and no clock: times are those of the points.
//
//	held, rest, n := store.Absorb(md) // from any number of goroutines
//	out, points := store.Flush()      // ends the window; never beside Absorb
//
// What counts as one stream: resource, scope, metric with name, unit, type, temporality and monotonicity, attributes of the
// point. Nothing is made up: a delta is counted exactly once, and a cumulative point that goes on is one that came.
package aggregate

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/otelwarden/warden/processor/eventbatchprocessor/internal/metricdata"
)

// Cause is why a point had no part in an aggregate.
type Cause uint8

// The causes. Points of the first two are left out, since newer ones say more; the others go on beside the aggregate.
const (
	OutOfOrder Cause = iota
	DuplicateTimestamp
	Overlap
	Malformed
	NotFinite
	numCauses
)

// Causes lists them with their names in metrics.
var Causes = [...]string{
	OutOfOrder:         "out_of_order",
	DuplicateTimestamp: "duplicate_timestamp",
	Overlap:            "overlap",
	Malformed:          "malformed",
	NotFinite:          "not_finite",
}

// Stats counts points since the store was made.
type Stats struct {
	Merged   int64
	Resets   int64
	Unmerged [numCauses]int64 // by Cause
}

// Add adds the counts of o.
func (st *Stats) Add(o Stats) {
	st.Merged += o.Merged
	st.Resets += o.Resets
	for i, n := range o.Unmerged {
		st.Unmerged[i] += n
	}
}

// Store holds the window of one pipeline.
type Store struct {
	rules Rules

	mu        sync.Mutex
	scopes    map[string]*scope // guarded by mu, by resource and scope
	resources map[string]*resource
	order     []*resource // guarded by mu; in the order they came

	// recent is the scope found last, not one that has been forgotten: most sources have but one.
	recent atomic.Pointer[scope]

	merged, resets atomic.Int64
	unmerged       [numCauses]atomic.Int64

	scratch sync.Pool // of *scratch
}

// scratch is what a request needs while it is absorbed.
type scratch struct {
	buf    []byte
	counts counts
}

type resource struct {
	keys      keys
	resource  pcommon.Resource
	schemaURL string
	scopes    []*scope
}

type scope struct {
	keys      keys
	raw       string // its encoding as it came first
	scope     pcommon.InstrumentationScope
	schemaURL string

	mu       sync.Mutex
	metrics  map[metricKey]*entry // guarded by mu
	families []*entry             // guarded by mu; in the order they came
}

// metricKey is what tells the metrics of a scope apart.
type metricKey struct {
	name, unit  string
	kind        pmetric.MetricType
	temporality pmetric.AggregationTemporality
	monotonic   bool
}

// entry is what became of a metric: a family of streams, or none if its points go on as they are.
type entry struct {
	key    metricKey
	index  int // in families, if it has a family
	family familyOf
}

// familyOf is a family of any kind of point.
type familyOf interface {
	absorb(pmetric.Metric, *counts)
	flush(pmetric.MetricSlice) int
	empty() bool
}

// NewStore makes an empty one.
func NewStore(rules Rules) *Store {
	s := &Store{rules: rules, scopes: map[string]*scope{}, resources: map[string]*resource{}}
	s.scratch.New = func() any { return new(scratch) }
	return s
}

// Absorb takes points out of md. It returns how many points more the store holds, and what is not aggregated, with the
// number of its points. md is of no further use.
func (s *Store) Absorb(md pmetric.Metrics) (held int, rest pmetric.Metrics, restPoints int) {
	var left remainder
	w := s.scratch.Get().(*scratch)
	w.counts = counts{}
	for i := range md.ResourceMetrics().Len() {
		rm := md.ResourceMetrics().At(i)
		w.buf = appendResource(w.buf[:0], rm, appendAttributes)
		prefix := len(w.buf)
		for j := range rm.ScopeMetrics().Len() {
			sm := rm.ScopeMetrics().At(j)
			w.buf = appendScope(w.buf[:prefix], sm, appendAttributes)
			sc := s.scope(w.buf, rm, sm)
			next := 0
			for k := range sm.Metrics().Len() {
				m := sm.Metrics().At(k)
				var e *entry
				if e, next = sc.entry(m, &s.rules, next); e.family != nil {
					e.family.absorb(m, &w.counts)
				} else {
					left.take(rm, sm, m)
				}
			}
			left.scopeDone()
		}
		left.resourceDone()
	}
	held = w.counts.held
	s.count(&w.counts)
	s.scratch.Put(w)
	return held, left.metrics, left.points
}

func (s *Store) count(c *counts) {
	if c.merged > 0 {
		s.merged.Add(c.merged)
	}
	if c.resets > 0 {
		s.resets.Add(c.resets)
	}
	for i, n := range c.unmerged {
		if n > 0 {
			s.unmerged[i].Add(n)
		}
	}
}

// Stats may be called at any time.
func (s *Store) Stats() Stats {
	st := Stats{Merged: s.merged.Load(), Resets: s.resets.Load()}
	for i := range st.Unmerged {
		st.Unmerged[i] = s.unmerged[i].Load()
	}
	return st
}

// Flush ends the window and returns its points and their number, in the order their streams first came.
func (s *Store) Flush() (pmetric.Metrics, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.Store(nil)
	md := pmetric.NewMetrics()
	n := 0
	kept := s.order[:0]
	for _, r := range s.order {
		n += r.flush(md, s.scopes)
		if len(r.scopes) > 0 {
			kept = append(kept, r)
			continue
		}
		for _, k := range r.keys {
			delete(s.resources, k)
		}
	}
	clear(s.order[len(kept):])
	s.order = kept
	return md, n
}

// flush forgets scopes that have become empty.
func (r *resource) flush(md pmetric.Metrics, scopes map[string]*scope) int {
	n := 0
	kept := r.scopes[:0]
	var rm pmetric.ResourceMetrics
	for _, sc := range r.scopes {
		out := pmetric.NewScopeMetrics()
		if c := sc.flush(out.Metrics()); c > 0 {
			if n == 0 {
				rm = md.ResourceMetrics().AppendEmpty()
				r.resource.CopyTo(rm.Resource())
				rm.SetSchemaUrl(r.schemaURL)
			}
			n += c
			sc.scope.CopyTo(out.Scope())
			out.SetSchemaUrl(sc.schemaURL)
			out.MoveTo(rm.ScopeMetrics().AppendEmpty())
		}
		if len(sc.families) > 0 {
			kept = append(kept, sc)
			continue
		}
		for _, k := range sc.keys {
			delete(scopes, k)
		}
	}
	clear(r.scopes[len(kept):])
	r.scopes = kept
	return n
}

// flush forgets families that have become empty.
func (sc *scope) flush(dst pmetric.MetricSlice) int {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	n := 0
	for key, e := range sc.metrics {
		// Entries without family are made anew in every window: nothing says when they are of no more use.
		if e.family == nil {
			delete(sc.metrics, key)
		}
	}
	kept := sc.families[:0]
	for _, e := range sc.families {
		n += e.family.flush(dst)
		if e.family.empty() {
			delete(sc.metrics, e.key)
		} else {
			e.index = len(kept)
			kept = append(kept, e)
		}
	}
	clear(sc.families[len(kept):])
	sc.families = kept
	return n
}

// appendResource and appendScope write the number of attributes before them, so that a resource ends where its scope begins.
func appendResource(buf []byte, rm pmetric.ResourceMetrics, attributes encoder) []byte {
	buf = appendString(buf, rm.SchemaUrl())
	buf = binary.AppendUvarint(buf, uint64(rm.Resource().Attributes().Len()))
	return attributes(buf, rm.Resource().Attributes())
}

func appendScope(buf []byte, sm pmetric.ScopeMetrics, attributes encoder) []byte {
	buf = appendString(buf, sm.SchemaUrl())
	buf = appendString(buf, sm.Scope().Name())
	buf = appendString(buf, sm.Scope().Version())
	return attributes(buf, sm.Scope().Attributes())
}

// scope finds or makes the scope of an encoding.
func (s *Store) scope(raw []byte, rm pmetric.ResourceMetrics, sm pmetric.ScopeMetrics) *scope {
	if sc := s.recent.Load(); sc != nil && sc.raw == string(raw) {
		return sc
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc, ok := s.scopes[string(raw)]; ok {
		s.recent.Store(sc)
		return sc
	}
	res := appendResource(nil, rm, appendSorted)
	sc, created := intern(s.scopes, raw,
		func() []byte { return appendScope(slices.Clone(res), sm, appendSorted) },
		func(sc *scope) *keys { return &sc.keys },
		func() *scope {
			sc := &scope{raw: string(raw), scope: pcommon.NewInstrumentationScope(), schemaURL: sm.SchemaUrl(), metrics: map[metricKey]*entry{}}
			sm.Scope().CopyTo(sc.scope)
			return sc
		})
	if created {
		r := s.resourceLocked(string(res), rm)
		r.scopes = append(r.scopes, sc)
	}
	return sc
}

func (s *Store) resourceLocked(key string, rm pmetric.ResourceMetrics) *resource {
	r, ok := s.resources[key]
	if !ok {
		r = &resource{keys: keys{key}, resource: pcommon.NewResource(), schemaURL: rm.SchemaUrl()}
		rm.Resource().CopyTo(r.resource)
		s.resources[key] = r
		s.order = append(s.order, r)
	}
	return r
}

// remainder collects metrics that are not aggregated, with copies of their resource and scope.
type remainder struct {
	metrics  pmetric.Metrics
	points   int
	resource pmetric.ResourceMetrics
	scope    pmetric.ScopeMetrics

	started, inResource, inScope bool
}

func (r *remainder) take(rm pmetric.ResourceMetrics, sm pmetric.ScopeMetrics, m pmetric.Metric) {
	n := metricdata.Points(m)
	if n == 0 {
		return
	}
	if !r.started {
		r.started = true
		r.metrics = pmetric.NewMetrics()
	}
	if !r.inResource {
		r.inResource = true
		r.resource = r.metrics.ResourceMetrics().AppendEmpty()
		rm.Resource().CopyTo(r.resource.Resource())
		r.resource.SetSchemaUrl(rm.SchemaUrl())
	}
	if !r.inScope {
		r.inScope = true
		r.scope = r.resource.ScopeMetrics().AppendEmpty()
		sm.Scope().CopyTo(r.scope.Scope())
		r.scope.SetSchemaUrl(sm.SchemaUrl())
	}
	r.points += n
	m.MoveTo(r.scope.Metrics().AppendEmpty())
}

func (r *remainder) scopeDone()    { r.inScope = false }
func (r *remainder) resourceDone() { r.inResource, r.inScope = false, false }
