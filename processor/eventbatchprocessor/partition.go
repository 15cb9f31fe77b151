// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
)

var errTooManyMetadata = consumererror.NewPermanent(errors.New(
	"event_batch: more combinations of client metadata than 'metadata_cardinality_limit' allows; raise it or list fewer 'metadata_keys'"))

// partition keeps apart what came with different values of metadata_keys.
type partition[T any] struct {
	// ctx is for the next consumer and carries the metadata.
	ctx context.Context
	// all is the only group without grouping.
	all *group[T]

	window *window[T] // nil without aggregation

	groups   map[string]*group[T] // guarded by engine.mu
	overflow *group[T]            // guarded by engine.mu; nil until it is needed
}

// partitions is guarded by engine.mu, but for single, which never changes.
type partitions[T any] struct {
	single *partition[T] // without metadata_keys
	byKey  map[string]*partition[T]
	list   []*partition[T] // in the order they came
}

func (ps *partitions[T]) all() []*partition[T] {
	if ps.single != nil {
		return []*partition[T]{ps.single}
	}
	return slices.Clone(ps.list)
}

func (e *engine[T]) newPartition(metadata map[string][]string) *partition[T] {
	p := &partition[T]{ctx: exportContext(e.sendCtx, metadata), groups: map[string]*group[T]{}}
	p.all = &group[T]{part: p, label: labelAll, pinned: true}
	if e.newAbsorber != nil {
		p.window = &window[T]{store: e.newAbsorber()}
	}
	return p
}

// allGroups is in no order that means anything.
func (p *partition[T]) allGroups() []*group[T] {
	groups := []*group[T]{p.all}
	if p.overflow != nil {
		groups = append(groups, p.overflow)
	}
	for _, g := range p.groups {
		groups = append(groups, g)
	}
	return groups
}

// partition finds the partition of a request, and makes one for metadata seen for the first time.
func (e *engine[T]) partition(ctx context.Context) (*partition[T], error) {
	if e.partitions.single != nil {
		return e.partitions.single, nil
	}
	info := client.FromContext(ctx)
	values := make([][]string, len(e.metadataKeys))
	var key []byte
	for i, k := range e.metadataKeys {
		values[i] = info.Metadata.Get(k)
		key = binary.AppendUvarint(key, uint64(len(values[i])))
		for _, v := range values[i] {
			key = binary.AppendUvarint(key, uint64(len(v)))
			key = append(key, v...)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.partitions.byKey[string(key)]; ok {
		return p, nil
	}
	if e.metadataLimit > 0 && len(e.partitions.list) >= e.metadataLimit {
		return nil, errTooManyMetadata
	}
	metadata := make(map[string][]string, len(values))
	for i, k := range e.metadataKeys {
		// A key that was not sent stays unset; one sent without a value cannot be told from it.
		if values[i] != nil {
			metadata[k] = values[i]
		}
	}
	p := e.newPartition(metadata)
	if e.partitions.byKey == nil {
		e.partitions.byKey = map[string]*partition[T]{}
	}
	e.partitions.byKey[string(key)] = p
	e.partitions.list = append(e.partitions.list, p)
	return p, nil
}

func withMetadata(ctx context.Context, metadata map[string][]string) context.Context {
	return client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(metadata)})
}

func sortedLower(keys []string) []string {
	lower := make([]string, len(keys))
	for i, k := range keys {
		lower[i] = strings.ToLower(k)
	}
	slices.Sort(lower)
	return lower
}
