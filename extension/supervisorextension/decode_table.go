// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"slices"
	"strings"
)

// table lists the keys of a map in the order in which they are decoded, reported
// and documented. A new key is one line.
type table[T any] []key[T]

// key is one key of a map that is decoded into a T.
type key[T any] struct {
	name string
	// decode is nil for a key of a later version.
	decode func(d *decoder, at place, n *node, into *T)
}

// later are keys that are designed and do nothing yet. Taken silently they would
// promise what does not happen.
func later[T any](names ...string) table[T] {
	keys := make(table[T], len(names))
	for i, name := range names {
		keys[i].name = name
	}
	return keys
}

// within is t for what holds a T.
func within[U, T any](t table[T], field func(*U) *T) table[U] {
	keys := make(table[U], len(t))
	for i, k := range t {
		keys[i].name = k.name
		if k.decode != nil {
			keys[i].decode = func(d *decoder, at place, n *node, into *U) { k.decode(d, at, n, field(into)) }
		}
	}
	return keys
}

// names of the keys that this version has.
func (t table[T]) names() []string {
	var names []string
	for _, k := range t {
		if k.decode != nil {
			names = append(names, k.name)
		}
	}
	return names
}

// laterNames of the keys that this version does not have yet.
func (t table[T]) laterNames() []string {
	var names []string
	for _, k := range t {
		if k.decode == nil {
			names = append(names, k.name)
		}
	}
	return names
}

// decode reads n, a map, into into, and reports the keys that it should not have.
func (t table[T]) decode(d *decoder, at place, n *node, into *T) {
	d.entries(at, n)
	for _, k := range t {
		value := n.get(k.name)
		switch {
		case value == nil:
		case k.decode == nil:
			d.report(at.key(k.name), "this version does not have this key yet: remove it")
		default:
			k.decode(d, at.key(k.name), value, into)
		}
	}
	for _, e := range n.entries {
		if !slices.ContainsFunc(t, func(k key[T]) bool { return k.name == e.key }) {
			d.unknownKey(at, e.key, t.names(), t.laterNames())
		}
	}
}

// entries notes where the keys of a map were written, and reports those given twice:
// the first one counts.
func (d *decoder) entries(at place, n *node) {
	first := make(map[string]*node, len(n.entries))
	for _, e := range n.entries {
		at.key(e.key).seen(e.value)
		if earlier, ok := first[e.key]; ok {
			d.report(at.key(e.key), "given twice, here and on line %d: keep one", earlier.line)
			continue
		}
		first[e.key] = e.value
	}
}

// decodeMap is the decoder of a key that holds a map with keys of its own. shape
// is an example of one.
func decodeMap[T, U any](t table[U], field func(*T) *U, shape string) func(*decoder, place, *node, *T) {
	return func(d *decoder, at place, n *node, into *T) {
		switch {
		case n.kind != kindMap && len(t) == 0:
			d.wrongKind(at, n, shape)
		case n.kind != kindMap:
			d.wrongKind(at, n, "a map such as "+shape)
		default:
			t.decode(d, at, n, field(into))
		}
	}
}

// unknownKey reports a key that is in no table, and what may have been meant.
func (d *decoder) unknownKey(parent place, name string, allowed, later []string) {
	isRoot := slices.Contains(allowed, "shutdown_timeout")
	isProcess := slices.Contains(allowed, "command")
	isSupervisor := slices.Contains(allowed, "children")
	inDefaults := isProcess && strings.HasSuffix("::"+parent.path, "::"+defaultsPath)
	if inDefaults {
		allowed = slices.DeleteFunc(allowed, func(key string) bool { return slices.Contains(keysOfEach, key) })
	}
	if len(allowed) == 0 {
		d.report(parent.key(name), "unknown key: there are none here, remove it")
		return
	}
	meant, hint := "", ""
	switch near := nearest(name, slices.Concat(allowed, later)); {
	case isSupervisor && slices.Contains(keysOfEach, name):
		hint = " (it belongs to a process: move it into a child)"
	case isSupervisor && slices.Contains(d.keys.process, name):
		hint = " (it belongs to a process: move it into a child, or into defaults for all)"
	case isProcess && !inDefaults && slices.Contains(d.keys.supervisor, name):
		hint = " (it belongs to a supervisor: move it out of here, or give this child children instead of a command)"
	case (isProcess || isSupervisor) && !isRoot && (slices.Contains(d.keys.root, name) || slices.Contains(d.keys.supervisor, name)):
		hint = " (it belongs to the supervisor: move it out of here)"
	case isProcess && foreignKeys[strings.ToLower(name)] != "":
		meant = foreignKeys[strings.ToLower(name)]
		hint = " (write " + meant + ")"
	case slices.Contains(later, near):
		hint = " (did you mean " + near + "? this version does not have it yet)"
	case near != "":
		meant = near
		hint = " (did you mean " + near + "?)"
	}
	f := finding{at: parent.key(name), text: "unknown key" + hint + "; allowed are " + strings.Join(allowed, ", ")}
	if slices.Contains(allowed, meant) {
		f.meant = parent.key(meant)
	}
	d.findings = append(d.findings, f)
}

// foreignKeys are what users of supervisord, systemd, Compose and runit may write,
// in lower case.
var foreignKeys = map[string]string{
	"args":                  "all arguments into command",
	"autorestart":           "restart: permanent, transient or temporary",
	"cmd":                   "command",
	"cpuquota":              "cgroup: {cpu_max: 0.5}",
	"cpus":                  "cgroup: {cpu_max: 0.5}",
	"cwd":                   "working_directory",
	"depends_on":            "the children in the order of their start",
	"directory":             "working_directory",
	"env":                   "environment",
	"env_file":              "environment_files",
	"environmentfile":       "environment_files",
	"execreload":            "reload: {command: [./reload]}",
	"execstart":             "command",
	"execstop":              "stop: {command: [./stop]}",
	"exitcodes":             "success",
	"gid":                   "group",
	"group_add":             "supplementary_groups",
	"healthcheck":           "liveness",
	"ioweight":              "cgroup: {io_weight: 100}",
	"killasgroup":           "stop: {scope: group}",
	"killmode":              "stop: {scope: tree}",
	"killsignal":            "stop: {signal: SIGTERM}",
	"labels":                "resource_attributes: {team: shop}",
	"limitas":               "limits: {address_space: 1GiB}",
	"limitcore":             "limits: {core_size: unlimited}",
	"limitfsize":            "limits: {file_size: 1GiB}",
	"limitmemlock":          "limits: {locked_memory: unlimited}",
	"limitnofile":           "limits: {open_files: 65536}",
	"limitnproc":            "limits: {processes: 1000}",
	"limitstack":            "limits: {stack: 8MiB}",
	"livenessprobe":         "liveness",
	"logextrafields":        "resource_attributes: {team: shop}",
	"mem_limit":             "cgroup: {memory_max: 512MiB}",
	"memoryhigh":            "cgroup: {memory_high: 512MiB}",
	"memorylimit":           "cgroup: {memory_max: 512MiB}",
	"memorymax":             "cgroup: {memory_max: 512MiB}",
	"nonewprivileges":       "no_new_privileges",
	"numprocs":              "instances",
	"oomscoreadjust":        "oom_score_adj",
	"pids_limit":            "cgroup: {pids_max: 100}",
	"priority":              "the children in the order of their start",
	"readinessprobe":        "readiness",
	"redirect_stderr":       "output: {stderr: stdout}",
	"reloadsignal":          "reload: {signal: SIGHUP}",
	"replicas":              "instances",
	"restartsec":            "backoff: {initial_interval: 1s}",
	"setgid":                "group",
	"setuid":                "user",
	"standarderror":         "output: {stderr: capture}",
	"standardoutput":        "output: {stdout: capture}",
	"startlimitburst":       "intensity: {max_restarts: 10}, a key of the supervisor",
	"startlimitintervalsec": "intensity: {period: 5m}, a key of the supervisor",
	"startsecs":             "backoff: {reset_after: 1s}",
	"stderr_logfile":        "output: {stderr: capture}",
	"stdout_logfile":        "output: {stdout: capture}",
	"stop_grace_period":     "stop: {timeout: 10s}",
	"stop_signal":           "stop: {signal: SIGTERM}",
	"stopasgroup":           "stop: {scope: group}",
	"stopsignal":            "stop: {signal: SIGTERM}",
	"stopwaitsecs":          "stop: {timeout: 10s}",
	"successexitstatus":     "success",
	"supplementarygroups":   "supplementary_groups",
	"syslogidentifier":      "service_name: shop",
	"tasksmax":              "cgroup: {pids_max: 100}",
	"timeoutstartsec":       "start_timeout",
	"timeoutstopsec":        "stop: {timeout: 10s}",
	"uid":                   "user",
	"ulimits":               "limits: {open_files: 65536}",
	"watchdogsec":           "liveness: {notify: {}, interval: 10s}",
	"working_dir":           "working_directory",
	"workingdirectory":      "working_directory",
}

// nearest returns the candidate that a slip of the keyboard may have turned into
// text, "" if none is close.
func nearest(text string, candidates []string) string {
	if len(text) > 64 {
		return "" // no slip
	}
	best, bound := "", max(1, len(text)/4)+1
	for _, candidate := range candidates {
		if distance := editDistance(strings.ToLower(text), strings.ToLower(candidate)); distance < bound {
			best, bound = candidate, distance
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b.
func editDistance(a, b string) int {
	// rows[i][j] is the distance between the first i bytes of a and the first j of b.
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
