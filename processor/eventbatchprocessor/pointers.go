// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"reflect"
	"unsafe"
)

// pdata can move all elements of a slice to another one by their pointers, but a single one only by its content into a new
// element. To take a request apart by groups, the latter costs an allocation and three quarters of the time. So single
// pointers are moved here, past the API, where hasPointers has found the representation to be the one assumed; where it
// has not, after an upgrade of pdata that changes it, the API is used and only the speed is lost.

// pdataSlice is the representation that pdata's slices of pointers have.
type pdataSlice struct {
	elements *[]unsafe.Pointer
	state    unsafe.Pointer
}

// hasPointers reports whether S is represented like pdataSlice.
func hasPointers[S any]() bool {
	t := reflect.TypeFor[S]()
	if t.Kind() != reflect.Struct || t.NumField() != 2 {
		return false
	}
	elements, state := t.Field(0).Type, t.Field(1).Type
	return elements.Kind() == reflect.Pointer &&
		elements.Elem().Kind() == reflect.Slice &&
		elements.Elem().Elem().Kind() == reflect.Pointer &&
		state.Kind() == reflect.Pointer
}

// pointers gives the pointers of a slice for which hasPointers holds. A pointer must be in one slice only.
func pointers[S any](s S) *[]unsafe.Pointer {
	return (*pdataSlice)(unsafe.Pointer(&s)).elements
}
