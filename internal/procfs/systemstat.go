// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
)

// SystemStat is what /proc/stat tells of the system as a whole.
type SystemStat struct {
	// BootTime is in seconds since 1970. It moves when the clock is set.
	BootTime uint64
	// Processes is how many processes and threads were created since boot.
	Processes uint64
}

// SystemStat reads /proc/stat.
func (f *FS) SystemStat() (SystemStat, error) {
	data, err := f.read("stat")
	if err != nil {
		return SystemStat{}, err
	}
	var s SystemStat
	if err := s.parse(data); err != nil {
		return SystemStat{}, fmt.Errorf("parse %s: %w", f.path, err)
	}
	return s, nil
}

// parse looks for the two lines, which follow those of the CPUs and interrupts.
func (s *SystemStat) parse(data []byte) error {
	*s = SystemStat{BootTime: missing, Processes: missing}
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		key, rest := cutField(line)
		var value *uint64
		switch string(key) {
		case "btime":
			value = &s.BootTime
		case "processes":
			value = &s.Processes
		default:
			continue
		}
		field, _ := cutField(rest)
		n, ok := parseUint(field)
		if !ok {
			return fmt.Errorf("%s is not a count", quote(line))
		}
		*value = n
	}
	switch {
	case s.BootTime == missing:
		return errors.New(`there is no line "btime"`)
	case s.Processes == missing:
		return errors.New(`there is no line "processes"`)
	}
	return nil
}
