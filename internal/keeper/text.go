// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io/fs"
	"strconv"
	"syscall"
)

// Texts without package fmt. Go initialises packages in the order of their paths
// among those whose imports are initialised, and a package that imports fmt, strings or
// path/filepath waits for reflect, after which it is the turn of a hundred packages of a
// collector, with their memory. What may be imported a test says.

// errorf makes an error as fmt.Errorf does, of %d, %q, %s, %v and %w.
func errorf(format string, args ...any) error {
	e := &textError{text: sprintf(format, args...)}
	for i := 0; i+1 < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		i++
		if cause, ok := args[0].(error); ok && format[i] == 'w' {
			e.causes = append(e.causes, cause)
		}
		args = args[1:]
	}
	return e
}

type textError struct {
	text   string
	causes []error
}

func (e *textError) Error() string   { return e.text }
func (e *textError) Unwrap() []error { return e.causes }

// sprintf formats as fmt.Sprintf does, %d, %q, %s, %v and %w.
func sprintf(format string, args ...any) string {
	var b []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b = append(b, format[i])
			continue
		}
		i++
		b = appendText(b, format[i], args[0])
		args = args[1:]
	}
	return string(b)
}

func appendText(b []byte, verb byte, arg any) []byte {
	switch a := arg.(type) {
	case int:
		return strconv.AppendInt(b, int64(a), 10)
	case int32:
		return strconv.AppendInt(b, int64(a), 10)
	case uint8:
		return strconv.AppendUint(b, uint64(a), 10)
	case uint32:
		return strconv.AppendUint(b, uint64(a), 10)
	case uint64:
		return strconv.AppendUint(b, a, 10)
	case Stream:
		return strconv.AppendUint(b, uint64(a), 10)
	case syscall.Signal:
		return strconv.AppendInt(b, int64(a), 10)
	}
	text := "?"
	switch a := arg.(type) {
	case string:
		text = a
	case []byte:
		text = string(a)
	case error:
		text = a.Error()
	case interface{ String() string }:
		text = a.String()
	}
	if verb == 'q' {
		return strconv.AppendQuote(b, text)
	}
	return append(b, text...)
}

// octal is a file's mode as chmod(1) takes it.
func octal(mode fs.FileMode) string {
	text := strconv.FormatUint(uint64(mode.Perm()), 8)
	for len(text) < 4 {
		text = "0" + text
	}
	return text
}

func cutPrefix(text, prefix string) (rest string, ok bool) {
	if len(text) < len(prefix) || text[:len(prefix)] != prefix {
		return "", false
	}
	return text[len(prefix):], true
}

func hasSlash(text string) bool {
	for i := range len(text) {
		if text[i] == '/' {
			return true
		}
	}
	return false
}

func hasNUL(text string) bool {
	for i := range len(text) {
		if text[i] == 0 {
			return true
		}
	}
	return false
}

// variableName is the name in an entry of an environment, NAME=value.
func variableName(entry string) (name string, ok bool) {
	for i := range len(entry) {
		if entry[i] == '=' {
			return entry[:i], true
		}
	}
	return "", false
}

// splitList splits a PATH; an empty one has no elements.
func splitList(list string) (elements []string) {
	if list == "" {
		return nil
	}
	start := 0
	for i := range len(list) {
		if list[i] == ':' {
			elements = append(elements, list[start:i])
			start = i + 1
		}
	}
	return append(elements, list[start:])
}

// causeOf is the error of a system call without the words around it.
func causeOf(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}
