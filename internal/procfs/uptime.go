// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import "fmt"

// Uptime is the time since boot in seconds, suspension included.
type Uptime float64

// Uptime reads /proc/uptime.
func (f *FS) Uptime() (Uptime, error) {
	data, err := f.read("uptime")
	if err != nil {
		return 0, err
	}
	u, err := parseUptime(data)
	if err != nil {
		return 0, fmt.Errorf("parse %s: %w", f.path, err)
	}
	return u, nil
}

func parseUptime(data []byte) (Uptime, error) {
	field, _ := cutField(data)
	seconds, ok := parseDecimal(field)
	if !ok {
		return 0, fmt.Errorf("%s does not begin with a number of seconds", quote(data))
	}
	return Uptime(seconds), nil
}
