// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

// maxInterned bounds the keys a classification remembers from earlier requests.
const maxInterned = 4096

// classification is the group of each item of a request. It is reused, so that a key seen before costs no allocation.
type classification struct {
	assigned []int32 // per item, the index of its share
	shares   []classShare
	buf      []byte

	interned map[string]*internedKey
	round    uint64
}

type classShare struct {
	key string
	n   int
}

type internedKey struct {
	key   string
	round uint64 // in which at is valid
	at    int32
}

func (c *classification) reset() {
	c.assigned, c.shares = c.assigned[:0], c.shares[:0]
	c.round++
	if c.interned == nil || len(c.interned) > maxInterned {
		c.interned = map[string]*internedKey{}
	}
}

// add assigns the next item to the group whose key is in buf.
func (c *classification) add() {
	at := c.find()
	c.shares[at].n++
	c.assigned = append(c.assigned, at)
}

// addRun assigns the next n items.
func (c *classification) addRun(n int) {
	if n == 0 {
		return
	}
	at := c.find()
	c.shares[at].n += n
	for range n {
		c.assigned = append(c.assigned, at)
	}
}

func (c *classification) find() int32 {
	// Neighbours are mostly of one type.
	if last := len(c.assigned) - 1; last >= 0 {
		if at := c.assigned[last]; c.shares[at].key == string(c.buf) {
			return at
		}
	}
	k := c.interned[string(c.buf)]
	if k == nil {
		k = &internedKey{key: string(c.buf)}
		c.interned[k.key] = k
	}
	if k.round != c.round {
		k.round, k.at = c.round, int32(len(c.shares))
		c.shares = append(c.shares, classShare{key: k.key})
	}
	return k.at
}
