// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// The identity of a set of attributes is its encoding: equal bytes are equal sets, so that a map from it needs no further
// comparison. Attributes of one source nearly always come in one order. So the encoding is first looked up as they come,
// and only what is not found is encoded in the order of the keys, under which the set is kept in any case.

// encoder is appendAttributes or appendSorted.
type encoder func([]byte, pcommon.Map) []byte

func appendAttributes(buf []byte, m pcommon.Map) []byte {
	for k, v := range m.All() {
		buf = appendString(buf, k)
		buf = appendValue(buf, v, false)
	}
	return buf
}

// appendSorted is appendAttributes in the order of the keys, in nested maps too.
func appendSorted(buf []byte, m pcommon.Map) []byte {
	parts := make([][]byte, 0, m.Len())
	for k, v := range m.All() {
		parts = append(parts, appendValue(appendString(nil, k), v, true))
	}
	slices.SortFunc(parts, bytes.Compare)
	for _, p := range parts {
		buf = append(buf, p...)
	}
	return buf
}

func appendString(buf []byte, s string) []byte {
	if len(s) < 0x80 { // what AppendUvarint would do, inlined
		buf = append(buf, byte(len(s)))
	} else {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
	}
	return append(buf, s...)
}

// appendValue writes the type before the value, and the length before what has one.
func appendValue(buf []byte, v pcommon.Value, sorted bool) []byte {
	t := v.Type()
	buf = append(buf, byte(t))
	switch t {
	case pcommon.ValueTypeStr:
		return appendString(buf, v.Str())
	case pcommon.ValueTypeInt:
		return binary.LittleEndian.AppendUint64(buf, uint64(v.Int()))
	case pcommon.ValueTypeDouble:
		return binary.LittleEndian.AppendUint64(buf, math.Float64bits(v.Double()))
	case pcommon.ValueTypeBool:
		if v.Bool() {
			return append(buf, 1)
		}
		return append(buf, 0)
	case pcommon.ValueTypeBytes:
		return appendString(buf, string(v.Bytes().AsRaw()))
	case pcommon.ValueTypeSlice:
		buf = binary.AppendUvarint(buf, uint64(v.Slice().Len()))
		for _, e := range v.Slice().All() {
			buf = appendValue(buf, e, sorted)
		}
		return buf
	case pcommon.ValueTypeMap:
		buf = binary.AppendUvarint(buf, uint64(v.Map().Len()))
		if sorted {
			return appendSorted(buf, v.Map())
		}
		return appendAttributes(buf, v.Map())
	default:
		return buf
	}
}

// keys are those of a map under which one value is kept: its sorted identity and the orders it has come in.
type keys []string

// maxOrders bounds the orders that are remembered of one set.
const maxOrders = 8

// intern finds the value of a set of attributes. raw is its encoding as it came and sorted encodes it in order.
func intern[V any](m map[string]V, raw []byte, sorted func() []byte, keysOf func(V) *keys, create func() V) (v V, created bool) {
	if v, ok := m[string(raw)]; ok {
		return v, false
	}
	canonical := sorted()
	v, ok := m[string(canonical)]
	if !ok {
		v = create()
		k := string(canonical)
		m[k] = v
		*keysOf(v) = append(*keysOf(v), k)
	}
	if k := keysOf(v); !bytes.Equal(raw, canonical) && len(*k) < maxOrders {
		m[string(raw)] = v
		*k = append(*k, string(raw))
	}
	return v, !ok
}
