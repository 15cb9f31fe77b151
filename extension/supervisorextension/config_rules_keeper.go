// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"path/filepath"
	"strings"
	"time"
)

// runtimeDirectory has to be absolute: the next collector may be started elsewhere.
func (r *rules) runtimeDirectory(at place, path string) {
	switch {
	case path == "":
	case strings.ContainsRune(path, 0):
		r.report(at, "a path cannot hold a NUL byte: remove it")
	case !filepath.IsAbs(path):
		r.report(at, "%s is not an absolute path: write one such as /run/warden/supervisor", quoted(path))
	}
}

func (r *rules) orphanGrace(at place, grace time.Duration) {
	if grace < 0 && grace != WaitForever {
		r.report(at, "%s is negative: write 0s to end the processes with the collector, -1s to let them live for ever", formatDuration(grace))
	}
}
