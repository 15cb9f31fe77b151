// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"math"
)

// Meminfo is the host's memory in bytes.
type Meminfo struct {
	Total, Free, Buffers, Cached uint64
	// Available is the kernel's estimate of what new programs could have without
	// swapping; much of Cached is in it.
	Available uint64
}

// Meminfo reads /proc/meminfo.
func (f *FS) Meminfo() (Meminfo, error) {
	data, err := f.read("meminfo")
	if err != nil {
		return Meminfo{}, err
	}
	var m Meminfo
	if err := m.parse(data); err != nil {
		return Meminfo{}, fmt.Errorf("parse %s: %w", f.path, err)
	}
	return m, nil
}

// The lines that are read.
var meminfoKeys = [...]string{"MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:"}

// field returns where the line with that key goes, nil if nowhere.
func (m *Meminfo) field(key string) *uint64 {
	switch key {
	case "MemTotal:":
		return &m.Total
	case "MemFree:":
		return &m.Free
	case "MemAvailable:":
		return &m.Available
	case "Buffers:":
		return &m.Buffers
	case "Cached:":
		return &m.Cached
	}
	return nil
}

// missing marks what has not been read; it is beyond what a file can say.
const missing = math.MaxUint64

// parse reads lines such as "MemFree:  123 kB". A line that is wanted and missing
// is an error: its value must not pass for 0.
func (m *Meminfo) parse(data []byte) error {
	for _, key := range meminfoKeys {
		*m.field(key) = missing
	}
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		key, rest := cutField(line)
		value := m.field(string(key))
		if value == nil {
			continue
		}
		n, ok := parseKilobytes(rest)
		if !ok {
			return fmt.Errorf("%s is not a number of kB", quote(line))
		}
		*value = n
	}
	for _, key := range meminfoKeys {
		if *m.field(key) == missing {
			return fmt.Errorf("there is no line %q", key)
		}
	}
	return nil
}

// parseKilobytes reads what follows the key, and returns bytes.
func parseKilobytes(b []byte) (uint64, bool) {
	field, rest := cutField(b)
	n, ok := parseUint(field)
	if !ok || n > math.MaxInt64/1024 || string(bytes.TrimSpace(rest)) != "kB" {
		return 0, false
	}
	return n * 1024, true
}
