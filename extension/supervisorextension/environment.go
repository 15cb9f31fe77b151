// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// notInherited are variables by which a service manager speaks to the collector
// itself. A process that got them would answer in the collector's name.
var notInherited = []string{
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
}

// inheritable is the collector's own environment, sorted, as KEY=value, each key once.
// It is made once: a run that adds nothing starts with it as it is.
type inheritable struct {
	all   []string // with what is not inherited unless it is named
	usual []string // without
}

func newInheritable(own []string) (i inheritable) {
	last := map[string]string{}
	for _, entry := range own {
		if key, _, ok := strings.Cut(entry, "="); ok && key != "" { // execve(2) takes anything
			last[key] = entry
		}
	}
	i.all = slices.Sorted(maps.Values(last))
	for _, entry := range i.all {
		if key, _, _ := strings.Cut(entry, "="); !slices.Contains(notInherited, key) {
			i.usual = append(i.usual, entry)
		}
	}
	return i
}

// of returns what a process inherits. It must not be changed.
func (i inheritable) of(inherit InheritEnvironment) []string {
	if len(inherit.Names) == 0 {
		if inherit.All {
			return slices.Clip(i.usual)
		}
		return nil
	}
	var named []string
	for _, entry := range i.all {
		key, _, _ := strings.Cut(entry, "=")
		if slices.Contains(inherit.Names, key) || inherit.All && !slices.Contains(notInherited, key) {
			named = append(named, entry)
		}
	}
	return named
}

// environment builds the variables of one run, sorted, as KEY=value: what is
// inherited from own, then those of its user, then the files, then the process's own;
// the later wins. What follows from its resource is added where none of them says
// otherwise.
func environment(cfg *ProcessConfig, own inheritable, p propagation) ([]string, error) {
	env, err := explicitEnvironment(cfg, own)
	if err != nil || !cfg.PropagateTelemetry {
		return env, err
	}
	return p.addTo(env), nil
}

// explicitEnvironment is what somebody has written. It must not be changed.
func explicitEnvironment(cfg *ProcessConfig, own inheritable) ([]string, error) {
	inherited := own.of(cfg.InheritEnvironment)
	if len(cfg.EnvironmentFiles)+len(cfg.Environment) == 0 && cfg.User == "" {
		return inherited, nil
	}
	added := make(map[string]string, len(cfg.Environment))
	login, err := cfg.loginVariables()
	if err != nil {
		return nil, err
	}
	maps.Copy(added, login)
	for _, path := range cfg.EnvironmentFiles {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("environment file: %w", err)
		}
		variables, err := parseEnvironmentFile(content)
		if err != nil {
			return nil, fmt.Errorf("environment file %s: %w", path, err)
		}
		maps.Copy(added, variables)
	}
	for key, value := range cfg.Environment {
		added[key] = string(value)
	}
	env := make([]string, 0, len(inherited)+len(added))
	for _, entry := range inherited {
		key, _, _ := strings.Cut(entry, "=")
		if _, replaced := added[key]; !replaced {
			env = append(env, entry)
		}
	}
	for key, value := range added {
		env = append(env, key+"="+value)
	}
	slices.Sort(env)
	return env, nil
}

// parseEnvironmentFile reads KEY=value lines. Empty lines and lines that begin
// with # are skipped; one pair of quotes around a whole value is removed; nothing
// is expanded.
func parseEnvironmentFile(content []byte) (map[string]string, error) {
	variables := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, len(content)+1)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		// The line itself is not shown: it may hold a secret.
		case !found:
			return nil, fmt.Errorf("line %d has no \"=\": write KEY=value", number)
		case key == "" || strings.ContainsAny(key, " \t\x00"):
			return nil, fmt.Errorf("line %d: %q is no name of a variable: write KEY=value", number, key)
		case strings.ContainsRune(value, 0):
			return nil, fmt.Errorf("line %d: the value of %s holds a NUL byte, which no variable can", number, key)
		}
		variables[key] = unquote(strings.TrimSpace(value))
	}
	return variables, lines.Err()
}

func unquote(value string) string {
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		return value[1 : n-1]
	}
	return value
}
