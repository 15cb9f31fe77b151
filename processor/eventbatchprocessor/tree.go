// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"hash/maphash"
	"slices"
	"sync"
	"unsafe"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Logs and traces have the same shape, resources that hold scopes that hold items, in types that share no interface.
// tree says the algorithms on that shape once.

type slice[E, Self any] interface {
	Len() int
	At(int) E
	AppendEmpty() E
	EnsureCapacity(int)
	RemoveIf(func(E) bool)
	MoveAndAppendTo(Self)
}

type node[E any] interface {
	MoveTo(E)
	SchemaUrl() string
	SetSchemaUrl(string)
}

type resourceNode[E any] interface {
	node[E]
	Resource() pcommon.Resource
}

type scopeNode[E any] interface {
	node[E]
	Scope() pcommon.InstrumentationScope
}

type movable[E any] interface{ MoveTo(E) }

type tree[D any, RS slice[R, RS], R resourceNode[R], SS slice[S, SS], S scopeNode[S], IS slice[I, IS], I movable[I]] struct {
	create    func() D
	resources func(D) RS
	scopes    func(R) SS
	items     func(S) IS
	byPointer bool      // see pointers.go
	scratch   sync.Pool // of *distribution[R, IS]
}

func (t *tree[D, RS, R, SS, S, IS, I]) countResource(r R) int {
	n := 0
	ss := t.scopes(r)
	for i := range ss.Len() {
		n += t.items(ss.At(i)).Len()
	}
	return n
}

// split takes the first n items out of d.
func (t *tree[D, RS, R, SS, S, IS, I]) split(d D, n int) D {
	out := t.create()
	left := n
	t.resources(d).RemoveIf(func(r R) bool {
		if left == 0 {
			return false
		}
		if c := t.countResource(r); c <= left {
			left -= c
			r.MoveTo(t.resources(out).AppendEmpty())
			return true
		}
		dst := t.copyResource(r, out)
		t.scopes(r).RemoveIf(func(s S) bool {
			if left == 0 {
				return false
			}
			if c := t.items(s).Len(); c <= left {
				left -= c
				s.MoveTo(t.scopes(dst).AppendEmpty())
				return true
			}
			to := t.items(t.copyScope(s, dst))
			to.EnsureCapacity(left)
			t.items(s).RemoveIf(func(item I) bool {
				if left == 0 {
					return false
				}
				left--
				item.MoveTo(to.AppendEmpty())
				return true
			})
			return false
		})
		return false
	})
	return out
}

func (t *tree[D, RS, R, SS, S, IS, I]) copyResource(r R, to D) R {
	dst := t.resources(to).AppendEmpty()
	r.Resource().CopyTo(dst.Resource())
	dst.SetSchemaUrl(r.SchemaUrl())
	return dst
}

func (t *tree[D, RS, R, SS, S, IS, I]) copyScope(s S, to R) S {
	dst := t.scopes(to).AppendEmpty()
	s.Scope().CopyTo(dst.Scope())
	dst.SetSchemaUrl(s.SchemaUrl())
	return dst
}

// distribution is what distribute needs besides the data, kept to be used again.
type distribution[R, IS any] struct {
	counts    []int
	resources []destination[R]
	items     []destination[IS]
	pointers  []*[]unsafe.Pointer
}

// destination is where items of one part go, while they are of resource or scope number of.
type destination[E any] struct {
	to E
	of int // counted from 1
}

func (w *distribution[R, IS]) reset(n int) {
	w.counts = resized(w.counts, n)
	w.resources = resized(w.resources, n)
	w.items = resized(w.items, n)
	w.pointers = resized(w.pointers, n)
}

func resized[E any](s []E, n int) []E {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// distribute moves the items of d into n parts, appended to parts: the i-th item, in the order of the tree, into part
// assigned[i]. Every part has at least one item, and the items of a part keep their order within their scope.
//
// A resource stays with the part that has most of its items, so that only the others' are moved one by one.
func (t *tree[D, RS, R, SS, S, IS, I]) distribute(d D, assigned []int32, n int, parts []D) []D {
	for range n {
		parts = append(parts, t.create())
	}
	if n == 1 {
		t.resources(d).MoveAndAppendTo(t.resources(parts[0]))
		return parts
	}
	w, _ := t.scratch.Get().(*distribution[R, IS])
	if w == nil {
		w = new(distribution[R, IS])
	}
	w.reset(n)
	rs := t.resources(d)
	scopeNumber := 0
	for i := range rs.Len() {
		r := rs.At(i)
		total := t.countResource(r)
		if total == 0 {
			continue
		}
		keeper := mostFrequent(assigned[:total], w.counts)
		if w.counts[keeper] == total {
			assigned = assigned[total:]
		} else {
			t.scopes(r).RemoveIf(func(s S) bool {
				scopeNumber++
				items := t.items(s)
				n := items.Len()
				t.extract(items, assigned[:n], keeper, func(g int32) IS {
					if w.items[g].of != scopeNumber {
						if w.resources[g].of != i+1 {
							w.resources[g] = destination[R]{t.copyResource(r, parts[g]), i + 1}
						}
						w.items[g] = destination[IS]{t.items(t.copyScope(s, w.resources[g].to)), scopeNumber}
						w.items[g].to.EnsureCapacity(min(n, w.counts[g]))
					}
					return w.items[g].to
				}, w.pointers)
				assigned = assigned[n:]
				return items.Len() == 0
			})
		}
		r.MoveTo(t.resources(parts[keeper]).AppendEmpty())
	}
	w.reset(0) // or it would keep the data alive
	t.scratch.Put(w)
	return parts
}

// extract moves the items of other parts than keeper out of items. known is used for the destinations found so far.
func (t *tree[D, RS, R, SS, S, IS, I]) extract(items IS, assigned []int32, keeper int, to func(int32) IS, known []*[]unsafe.Pointer) {
	if !t.byPointer {
		at := 0
		items.RemoveIf(func(item I) bool {
			g := assigned[at]
			at++
			if int(g) == keeper {
				return false
			}
			item.MoveTo(to(g).AppendEmpty())
			return true
		})
		return
	}
	clear(known)
	src := pointers(items)
	kept := (*src)[:0]
	known[keeper] = &kept
	for i, item := range *src {
		g := assigned[i]
		dst := known[g]
		if dst == nil {
			dst = pointers(to(g))
			known[g] = dst
		}
		*dst = append(*dst, item)
	}
	clear((*src)[len(kept):])
	*src = kept
}

// mostFrequent fills counts and returns the number that occurs most often, the lowest of several.
func mostFrequent(assigned []int32, counts []int) int {
	clear(counts)
	best := 0
	for _, g := range assigned {
		counts[g]++
	}
	for g, c := range counts {
		if c > counts[best] {
			best = g
		}
	}
	return best
}

// compact merges equal resources of d, and equal scopes within them. The order of first appearance stays.
func (t *tree[D, RS, R, SS, S, IS, I]) compact(d D) {
	rs := t.resources(d)
	if rs.Len() < 2 {
		return
	}
	// A collision only leaves two resources unmerged.
	kept := make(map[uint64]R)
	rs.RemoveIf(func(r R) bool {
		h := hashResource(r.Resource(), r.SchemaUrl())
		first, ok := kept[h]
		if !ok {
			kept[h] = r
			return false
		}
		if first.SchemaUrl() != r.SchemaUrl() || !equalResource(first.Resource(), r.Resource()) {
			return false
		}
		t.mergeScopes(r, first)
		return true
	})
}

func (t *tree[D, RS, R, SS, S, IS, I]) mergeScopes(from, to R) {
	src, dst := t.scopes(from), t.scopes(to)
	for i := range src.Len() {
		s := src.At(i)
		merged := false
		for j := range dst.Len() {
			d := dst.At(j)
			if d.SchemaUrl() == s.SchemaUrl() && equalScope(d.Scope(), s.Scope()) {
				t.items(s).MoveAndAppendTo(t.items(d))
				merged = true
				break
			}
		}
		if !merged {
			s.MoveTo(dst.AppendEmpty())
		}
	}
}

var hashSeed = maphash.MakeSeed()

// hashResource does not depend on the order of the attributes.
func hashResource(r pcommon.Resource, schemaURL string) uint64 {
	h := maphash.String(hashSeed, schemaURL)
	for k, v := range r.Attributes().All() {
		kh := maphash.String(hashSeed, k)
		switch v.Type() {
		case pcommon.ValueTypeStr:
			kh ^= maphash.String(hashSeed, v.Str()) * 0x9E3779B97F4A7C15
		case pcommon.ValueTypeInt:
			kh ^= uint64(v.Int()) * 0x9E3779B97F4A7C15
		default:
			// Other values are rare in resources: equalResource tells them apart.
		}
		h += kh * 0xBF58476D1CE4E5B9
	}
	return h
}

func equalResource(a, b pcommon.Resource) bool {
	return a.DroppedAttributesCount() == b.DroppedAttributesCount() && a.Attributes().Equal(b.Attributes())
}

func equalScope(a, b pcommon.InstrumentationScope) bool {
	return a.Name() == b.Name() && a.Version() == b.Version() &&
		a.DroppedAttributesCount() == b.DroppedAttributesCount() && a.Attributes().Equal(b.Attributes())
}
