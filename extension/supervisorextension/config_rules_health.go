// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/config/configopaque"
)

// maxNotifyFD is the last descriptor that the usual limit of 1,024 allows.
const maxNotifyFD = 1023

func (r *rules) readiness(at place, c *Readiness) {
	r.oneWay(at, c.ways(), "notify: {}, notify_fd: 3, log, exit: {}, http, tcp, exec")
	switch {
	case c.NotifyFD < 0 || c.NotifyFD > 0 && c.NotifyFD < firstNotifyFD:
		r.report(at.key("notify_fd"), notAStream, c.NotifyFD, firstNotifyFD)
	case c.NotifyFD > maxNotifyFD:
		r.report(at.key("notify_fd"), "%d is more than %d, the last descriptor that the usual limit allows: write a small number such as %d",
			c.NotifyFD, maxNotifyFD, firstNotifyFD)
	}
	if c.Log != nil {
		r.pattern(at.key("log").key("pattern"), c.Log.Pattern)
	}
	r.checks(at, c.HTTP, c.TCP, c.Exec)
	if c.asks() {
		r.positive(at.key("interval"), c.Interval, "1s")
		r.positive(at.key("timeout"), c.Timeout, "1s")
	}
}

func (r *rules) liveness(at place, c *Liveness) {
	r.oneWay(at, c.ways(), "http, tcp, exec, notify: {}")
	r.checks(at, c.HTTP, c.TCP, c.Exec)
	if c.InitialDelay < 0 {
		r.report(at.key("initial_delay"), "%s is negative: write 0s to begin when the process is ready, or more", formatDuration(c.InitialDelay))
	}
	r.positive(at.key("interval"), c.Interval, "10s")
	if c.Notify == nil {
		r.positive(at.key("timeout"), c.Timeout, "1s")
	}
	if c.FailureThreshold < 1 {
		r.report(at.key("failure_threshold"), "%d is less than 1: write 1 to end the process at the first failure, or more", c.FailureThreshold)
	}
}

func (r *rules) oneWay(at place, ways []string, all string) {
	switch {
	case len(ways) == 0:
		r.missing(at, "write one of "+all)
	case len(ways) > 1:
		r.report(at, "%s exclude each other: keep one", strings.Join(ways, " and "))
	}
}

// checks checks those that are given.
func (r *rules) checks(at place, http *HTTPCheck, tcp *TCPCheck, exec *ExecCheck) {
	if http != nil {
		r.httpEndpoint(at.key("http").key("endpoint"), http.Endpoint)
		r.headers(at.key("http").key("headers"), http.Headers)
	}
	if tcp != nil {
		r.tcpEndpoint(at.key("tcp").key("endpoint"), tcp.Endpoint)
	}
	if exec != nil {
		r.command(at.key("exec").key("command"), exec.Command)
	}
}

func (r *rules) pattern(at place, pattern string) {
	if pattern == "" {
		r.missing(at, "write a regular expression that the line matches, such as listening on")
	} else if _, err := regexp.Compile(pattern); err != nil {
		r.report(at, "%s is not a regular expression (RE2): %s; write \\ before a character that stands for itself",
			quoted(pattern), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (r *rules) httpEndpoint(at place, endpoint string) {
	if endpoint == "" {
		r.missing(at, "write a URL such as http://localhost:8080/healthz")
		return
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		r.report(at, "%s is not a URL of http or https with a host: write one such as http://localhost:8080/healthz", quoted(endpoint))
	case u.User != nil:
		r.report(at, "a user and a password in a URL are shown in errors and dumps: write headers: {Authorization: …} instead")
	case u.Port() != "" && !isPort(u.Port()):
		r.report(at, "%s has no port from 1 to 65535: write one such as http://localhost:8080/healthz", quoted(endpoint))
	}
}

func (r *rules) tcpEndpoint(at place, endpoint string) {
	if endpoint == "" {
		r.missing(at, "write an address such as localhost:8080")
		return
	}
	host, port, err := net.SplitHostPort(endpoint)
	switch {
	case err != nil || host == "" || strings.ContainsAny(host, "/ \x00"):
		r.report(at, "%s is not host:port: write one such as localhost:8080 or [::1]:8080", quoted(endpoint))
	case !isPort(port):
		r.report(at, "%s has no port from 1 to 65535: write one such as localhost:8080", quoted(endpoint))
	}
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// headers checks what net/http would refuse at every request.
func (r *rules) headers(at place, headers map[string]configopaque.String) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		here := at.key(name)
		if !headerName.MatchString(name) {
			r.report(here, "%s cannot name a header: write letters, digits and -, such as Authorization", quoted(name))
		}
		if strings.ContainsFunc(string(headers[name]), func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			r.report(here, "a header cannot hold a control character such as the end of a line: remove it")
		}
	}
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
