// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// probe asks a process once whether it works; nil is yes.
type probe func(ctx context.Context) error

// newProbe returns the probe of the one check that is given.
func newProbe(httpCheck *HTTPCheck, tcp *TCPCheck, exec *ExecCheck, commands *runner, cfg *ProcessConfig, env []string) probe {
	switch {
	case httpCheck != nil:
		return httpProbe(httpCheck)
	case tcp != nil:
		return tcpProbe(tcp)
	default:
		return execProbe(exec, commands, cfg, env)
	}
}

func httpProbe(check *HTTPCheck) probe {
	// A connection of its own for each question: one that is kept would answer for a
	// listener that is long gone. No proxy: it would answer for the process.
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, check.Endpoint, http.NoBody)
		if err != nil {
			return err
		}
		for key, value := range check.Headers {
			if http.CanonicalHeaderKey(key) == "Host" {
				request.Host = string(value)
			}
			request.Header.Set(key, string(value))
		}
		request.Header.Set("User-Agent", "warden-probe")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
		if response.StatusCode < 200 || response.StatusCode > 399 {
			return fmt.Errorf("GET %s answered %s", check.Endpoint, response.Status)
		}
		return nil
	}
}

func tcpProbe(check *TCPCheck) probe {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", check.Endpoint)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func execProbe(check *ExecCheck, commands *runner, cfg *ProcessConfig, env []string) probe {
	return func(ctx context.Context) error {
		j, err := jobOf(cfg, check.Command, env)
		if err != nil {
			return err
		}
		exit, err := commands.run(ctx, j)
		switch {
		case err != nil:
			return err
		case exit.Signal == 0 && exit.Code == 0:
			return nil
		}
		return fmt.Errorf("%q %s", check.Command[0], describe(exit))
	}
}

// attempt asks once, for at most timeout.
func (p probe) attempt(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := p(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", timeout)
	}
	return err
}

// until asks every interval until the answer is yes; false: ctx ended before.
func (p probe) until(ctx context.Context, interval, timeout time.Duration) bool {
	for {
		if p.attempt(ctx, timeout) == nil {
			return true
		}
		if !sleep(ctx, interval) {
			return false
		}
	}
}

// watch asks every interval and tells report of each answer, until ctx ends.
func (p probe) watch(ctx context.Context, interval, timeout time.Duration, report func(error)) {
	for {
		err := p.attempt(ctx, timeout)
		if ctx.Err() != nil {
			return
		}
		report(err)
		if !sleep(ctx, interval) {
			return
		}
	}
}

// sleep returns false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
