// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

// list is a doubly linked list through fields of its elements: a group changes lists at every batch, without allocating.
type list[E any] struct {
	links      func(*E) *links[E]
	head, tail *E
}

type links[E any] struct{ prev, next *E }

func (l *list[E]) pushBack(e *E) { l.insertAfter(l.tail, e) }

// insertAfter inserts e behind at, or at the head if at is nil.
func (l *list[E]) insertAfter(at, e *E) {
	k := l.links(e)
	k.prev = at
	if at == nil {
		k.next, l.head = l.head, e
	} else {
		a := l.links(at)
		k.next, a.next = a.next, e
	}
	if k.next == nil {
		l.tail = e
	} else {
		l.links(k.next).prev = e
	}
}

func (l *list[E]) remove(e *E) {
	k := l.links(e)
	if k.prev == nil {
		l.head = k.next
	} else {
		l.links(k.prev).next = k.next
	}
	if k.next == nil {
		l.tail = k.prev
	} else {
		l.links(k.next).prev = k.prev
	}
	*k = links[E]{}
}
