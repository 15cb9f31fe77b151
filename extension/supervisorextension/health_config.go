// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
)

// Readiness says when a process that runs is ready. Exactly one way is set; the
// next sibling starts once it has come.
type Readiness struct {
	// Notify: READY=1 on the socket named by NOTIFY_SOCKET, as sd_notify(3) sends it.
	Notify *NotifyCheck `mapstructure:"notify"`
	// NotifyFD: a newline on this descriptor, which the process inherits. At least 3; 0: not this way.
	NotifyFD int `mapstructure:"notify_fd"`
	// Log: a line of output that matches.
	Log *LogCheck `mapstructure:"log"`
	// Exit: it ended well.
	Exit *ExitCheck `mapstructure:"exit"`

	// The others are asked again every Interval until one attempt, of at most Timeout, succeeds.
	HTTP     *HTTPCheck    `mapstructure:"http"`
	TCP      *TCPCheck     `mapstructure:"tcp"`
	Exec     *ExecCheck    `mapstructure:"exec"`
	Interval time.Duration `mapstructure:"interval"`
	Timeout  time.Duration `mapstructure:"timeout"`
}

// Liveness says how to see that a ready process has stopped working. Exactly one
// way is set. FailureThreshold failures in a row end the run as a crash.
type Liveness struct {
	// Notify: WATCHDOG=1 at least once every Interval, which WATCHDOG_USEC tells the process.
	Notify *NotifyCheck `mapstructure:"notify"`
	HTTP   *HTTPCheck   `mapstructure:"http"`
	TCP    *TCPCheck    `mapstructure:"tcp"`
	Exec   *ExecCheck   `mapstructure:"exec"`

	// InitialDelay is counted from the moment the process is ready.
	InitialDelay     time.Duration `mapstructure:"initial_delay"`
	Interval         time.Duration `mapstructure:"interval"`
	Timeout          time.Duration `mapstructure:"timeout"`
	FailureThreshold int           `mapstructure:"failure_threshold"`
}

// clone returns a copy that shares nothing with r; nil for nil.
func (r *Readiness) clone() *Readiness {
	if r == nil {
		return nil
	}
	c := *r
	c.Notify, c.Log, c.Exit = cloneOf(r.Notify), cloneOf(r.Log), cloneOf(r.Exit)
	c.HTTP, c.TCP, c.Exec = r.HTTP.clone(), cloneOf(r.TCP), r.Exec.clone()
	return &c
}

// clone returns a copy that shares nothing with l; nil for nil.
func (l *Liveness) clone() *Liveness {
	if l == nil {
		return nil
	}
	c := *l
	c.Notify, c.HTTP, c.TCP, c.Exec = cloneOf(l.Notify), l.HTTP.clone(), cloneOf(l.TCP), l.Exec.clone()
	return &c
}

func (h *HTTPCheck) clone() *HTTPCheck {
	c := cloneOf(h)
	if c != nil {
		c.Headers = maps.Clone(h.Headers)
	}
	return c
}

func (e *ExecCheck) clone() *ExecCheck {
	c := cloneOf(e)
	if c != nil {
		c.Command = slices.Clone(e.Command)
	}
	return c
}

// cloneOf copies what p points to, which must share nothing itself.
func cloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// newDefaultReadiness returns one that lacks the way.
func newDefaultReadiness() *Readiness {
	return &Readiness{Interval: time.Second, Timeout: time.Second}
}

// newDefaultLiveness returns one that lacks the way.
func newDefaultLiveness() *Liveness {
	return &Liveness{Interval: 10 * time.Second, Timeout: time.Second, FailureThreshold: 3}
}

// ways names those of r that are given.
func (r *Readiness) ways() []string {
	return given(
		way{"notify", r.Notify != nil}, way{"notify_fd", r.NotifyFD != 0}, way{"log", r.Log != nil}, way{"exit", r.Exit != nil},
		way{"http", r.HTTP != nil}, way{"tcp", r.TCP != nil}, way{"exec", r.Exec != nil},
	)
}

// ways names those of l that are given.
func (l *Liveness) ways() []string {
	return given(way{"http", l.HTTP != nil}, way{"tcp", l.TCP != nil}, way{"exec", l.Exec != nil}, way{"notify", l.Notify != nil})
}

// asks is true if the process is asked again and again.
func (r *Readiness) asks() bool { return r.HTTP != nil || r.TCP != nil || r.Exec != nil }

type way struct {
	key   string
	given bool
}

func given(ways ...way) (keys []string) {
	for _, w := range ways {
		if w.given {
			keys = append(keys, w.key)
		}
	}
	return keys
}

// NotifyCheck has no keys.
type NotifyCheck struct{}

// ExitCheck has no keys.
type ExitCheck struct{}

// LogCheck is a regular expression (RE2) that is searched in each line.
type LogCheck struct {
	Pattern string `mapstructure:"pattern"`
}

// HTTPCheck is a GET that is answered with a status from 200 to 399.
type HTTPCheck struct {
	// Endpoint is a URL, http or https.
	Endpoint string                         `mapstructure:"endpoint"`
	Headers  map[string]configopaque.String `mapstructure:"headers"`
}

// TCPCheck is a connection that is accepted.
type TCPCheck struct {
	// Endpoint is host:port.
	Endpoint string `mapstructure:"endpoint"`
}

// ExecCheck is a command, run with the environment and in the working directory of
// the process, that exits with 0.
type ExecCheck struct {
	Command []string `mapstructure:"command"`
}
