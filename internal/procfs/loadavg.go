// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package procfs

import "fmt"

// Loadavg is how many threads ran or waited for a CPU or a disk, averaged over 1,
// 5 and 15 minutes.
type Loadavg struct {
	One, Five, Fifteen float64
}

// Loadavg reads /proc/loadavg.
func (f *FS) Loadavg() (Loadavg, error) {
	data, err := f.read("loadavg")
	if err != nil {
		return Loadavg{}, err
	}
	l, err := parseLoadavg(data)
	if err != nil {
		return Loadavg{}, fmt.Errorf("parse %s: %w", f.path, err)
	}
	return l, nil
}

func parseLoadavg(data []byte) (l Loadavg, err error) {
	rest := data
	for _, value := range []*float64{&l.One, &l.Five, &l.Fifteen} {
		var field []byte
		var ok bool
		field, rest = cutField(rest)
		if *value, ok = parseDecimal(field); !ok {
			return Loadavg{}, fmt.Errorf("%s does not begin with three numbers", quote(data))
		}
	}
	return l, nil
}
