// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/keeper"
	"github.com/otelwarden/warden/internal/tree"
)

// notifierVariable makes this test binary a process that sends what it says to
// NOTIFY_SOCKET, one datagram for each word, and then waits.
const notifierVariable = "WARDEN_TEST_NOTIFIER"

func init() {
	words, ok := os.LookupEnv(notifierVariable)
	if !ok {
		return
	}
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		os.Exit(100)
	}
	for _, word := range strings.Fields(words) {
		if _, err := conn.Write([]byte("STATUS=here\n" + word)); err != nil {
			os.Exit(101)
		}
	}
	for {
		time.Sleep(time.Hour) // select {} would be taken for a deadlock
	}
}

func notifier(name, words string, change ...func(*ChildConfig)) ChildConfig {
	p := sh(name, "", change...)
	p.Process.Command = []string{os.Args[0]}
	p.Process.Environment = map[string]configopaque.String{notifierVariable: configopaque.String(words)}
	return p
}

func readiness(r Readiness) func(*ChildConfig) {
	return func(p *ChildConfig) {
		r.Interval, r.Timeout = 5*time.Millisecond, 5*time.Second
		p.Process.Readiness = &r
	}
}

func TestReadiness_TheNextSiblingStartsOnceAProcessIsReady(t *testing.T) {
	flag := func(t *testing.T) string { return filepath.Join(t.TempDir(), "flag") }
	tests := []struct {
		name string
		// give returns the process, and what has to happen for it to be ready, nil if
		// it does so by itself.
		give func(t *testing.T) (ChildConfig, func())
	}{
		{"notify", func(*testing.T) (ChildConfig, func()) {
			return notifier("a", "READY=1", readiness(Readiness{Notify: &NotifyCheck{}})), nil
		}},
		{"notify_fd", func(t *testing.T) (ChildConfig, func()) {
			path := flag(t)
			return sh("a", "while [ ! -e "+path+" ]; do sleep 0.01; done; printf 'not yet' >&7; echo >&7; "+forever, readiness(Readiness{NotifyFD: 7})),
				func() { require.NoError(t, os.WriteFile(path, nil, 0o600)) }
		}},
		{"log", func(t *testing.T) (ChildConfig, func()) {
			path := flag(t)
			return sh("a", "echo starting; while [ ! -e "+path+" ]; do sleep 0.01; done; echo listening on 80 >&2; "+forever,
					readiness(Readiness{Log: &LogCheck{Pattern: `listening on \d+`}})),
				func() { require.NoError(t, os.WriteFile(path, nil, 0o600)) }
		}},
		{"exit", func(t *testing.T) (ChildConfig, func()) {
			path := flag(t)
			return sh("a", "while [ ! -e "+path+" ]; do sleep 0.01; done; exit 0",
					readiness(Readiness{Exit: &ExitCheck{}}), func(p *ChildConfig) { p.Restart = RestartTransient }),
				func() { require.NoError(t, os.WriteFile(path, nil, 0o600)) }
		}},
		{"exec", func(t *testing.T) (ChildConfig, func()) {
			path := flag(t)
			return sh("a", forever, readiness(Readiness{Exec: &ExecCheck{Command: []string{"test", "-e", path}}})),
				func() { require.NoError(t, os.WriteFile(path, nil, 0o600)) }
		}},
		{"http", func(t *testing.T) (ChildConfig, func()) {
			var up atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !up.Load() || r.Header.Get("X-Probe") != "yes" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			t.Cleanup(server.Close)
			return sh("a", forever, readiness(Readiness{HTTP: &HTTPCheck{Endpoint: server.URL, Headers: map[string]configopaque.String{"X-Probe": "yes"}}})),
				func() { up.Store(true) }
		}},
		{"tcp", func(t *testing.T) (ChildConfig, func()) {
			listener, err := net.Listen("tcp", "localhost:0")
			require.NoError(t, err)
			address := listener.Addr().String()
			require.NoError(t, listener.Close())
			return sh("a", forever, readiness(Readiness{TCP: &TCPCheck{Endpoint: address}})), func() {
				listener, err := net.Listen("tcp", address)
				require.NoError(t, err)
				t.Cleanup(func() { _ = listener.Close() })
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			process, makeReady := tt.give(t)
			st := newStage(t, nil, process, sh("b", forever))
			ready := make(chan error, 1)
			go func() { ready <- st.Ready() }()
			st.await("a", journal.ProcessStarted, 1)
			if makeReady != nil {
				assert.Equal(t, tree.StateStarting, st.process("a").State)
				assert.Zero(t, st.process("b").Run, "it waits for its sibling")
				makeReady()
			}
			require.NoError(t, <-ready)
			st.await("b", journal.ProcessReady, 1)
			assert.Less(t, st.await("a", journal.ProcessReady, 1).Seq, st.await("b", journal.ProcessStarted, 1).Seq)
			_, err := st.end()
			require.NoError(t, err)
		})
	}
}

func TestReadiness_AStartThatTakesTooLongHasFailed(t *testing.T) {
	st := newStage(t, nil, sh("a", forever, readiness(Readiness{Exec: &ExecCheck{Command: []string{"false"}}}), func(p *ChildConfig) {
		p.Process.StartTimeout = 100 * time.Millisecond
	}))
	assert.ErrorContains(t, st.Ready(), `the first start failed, what was up has been stopped: process "a": it was ended by SIGTERM after`)
	told, err := st.end()
	require.NoError(t, err)
	// On a slow machine the time may be over before the process is there.
	assert.Contains(t, told, "a started")
	told = slices.DeleteFunc(told, func(event string) bool { return event == "a started" })
	assert.Equal(t, []string{"a stopping", "a start_failed", "supervisor.stopped"}, told)
	assert.EqualValues(t, 1, st.process("a").Totals.Exits[tree.ExitStartTimeout])
}

func TestReadiness_AnEndBeforeItIsAFailedStart(t *testing.T) {
	st := newStage(t, nil, sh("a", "exit 4", readiness(Readiness{NotifyFD: 3})))
	assert.ErrorContains(t, st.Ready(), `process "a": it exited with code 4 after`)
	crash := st.await("a", journal.ProcessCrashed, 1)
	assert.Equal(t, "start_error", attribute(crash, journal.KeyReportContext))
	assert.Equal(t, "exit", attribute(crash, journal.KeyExitReason))
	assert.EqualValues(t, 4, attribute(crash, journal.KeyExitCode))
}

func liveness(l Liveness) func(*ChildConfig) {
	return func(p *ChildConfig) {
		l.Timeout = 5 * time.Second
		if l.Interval == 0 {
			l.Interval = 5 * time.Millisecond
		}
		if l.FailureThreshold == 0 {
			l.FailureThreshold = 3
		}
		p.Process.Liveness = &l
	}
}

func TestLiveness_AProcessThatStopsAnsweringIsACrash(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "broken")
	st := newStage(t, nil, sh("a", forever, liveness(Liveness{Exec: &ExecCheck{Command: []string{"test", "!", "-e", flag}}})))
	require.NoError(t, st.Ready())
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	crash := st.await("a", journal.ProcessCrashed, 1)
	assert.Equal(t, "liveness", attribute(crash, journal.KeyExitReason))
	require.NoError(t, os.Remove(flag))
	assert.Equal(t, "liveness", attribute(st.await("a", journal.ProcessRestarting, 1), journal.KeyRestartReason))
	st.await("a", journal.ProcessReady, 2)
	third := st.await("a", journal.ProcessUnhealthy, 3)
	assert.Equal(t, `process "a" does not answer: "test" exited with code 1 (3 failures in a row, it is ended)`, third.Body)
}

func TestLiveness_FailuresThatAreNotInARowAreForgiven(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%3 != 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	st := newStage(t, nil, sh("a", forever, liveness(Liveness{HTTP: &HTTPCheck{Endpoint: server.URL}})))
	require.NoError(t, st.Ready())
	st.await("a", journal.ProcessHealthy, 3)
	assert.EqualValues(t, 1, st.process("a").Run)
	_, err := st.end()
	require.NoError(t, err)
}

func TestLiveness_AProcessThatIsBeingStoppedIsNotAsked(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "broken")
	st := newStage(t, nil, sh("a", "trap '' TERM; echo up; "+forever, liveness(Liveness{Exec: &ExecCheck{Command: []string{"test", "!", "-e", flag}}}),
		func(p *ChildConfig) { p.Process.Stop.Timeout = 500 * time.Millisecond }))
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool { return len(st.captured()) == 1 }, 10*time.Second, time.Millisecond)
	st.stop()
	st.await("a", journal.ProcessStopping, 1)
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	told, err := st.end()
	require.NoError(t, err)
	assert.NotContains(t, told, "a unhealthy")
}

func TestLiveness_AWatchdogIsFedByNotifications(t *testing.T) {
	st := newStage(t, nil, notifier("a", "WATCHDOG=1", liveness(Liveness{Notify: &NotifyCheck{}, Interval: 100 * time.Millisecond, FailureThreshold: 1})))
	require.NoError(t, st.Ready())
	missed := st.await("a", journal.ProcessWatchdogMissed, 1)
	assert.Equal(t, "liveness", attribute(st.await("a", journal.ProcessCrashed, 1), journal.KeyExitReason))
	assert.Equal(t, `process "a" does not answer: no WATCHDOG=1 in time (1 failures in a row, it is ended)`, missed.Body)
}

func TestLiveness_AProcessWhoseOutputIsHeldUpIsLeftAlone(t *testing.T) {
	st := newStage(t, nil, sh("a", "while :; do echo "+strings.Repeat("x", 1000)+"; done", liveness(Liveness{Exec: &ExecCheck{Command: []string{"false"}}, InitialDelay: time.Millisecond})))
	st.mu.Lock() // whoever takes the output now waits
	locked := true
	unlock := func() {
		if locked {
			locked = false
			st.mu.Unlock()
		}
	}
	defer unlock()
	require.NoError(t, st.Ready())
	require.Eventually(t, func() bool {
		events, _ := st.reader.Read(nil, journalCapacity)
		for _, e := range events {
			if e.Name == journal.ProcessUnhealthy && strings.Contains(e.Body, "held up") {
				return true
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	unlock()
	st.await("a", journal.ProcessCrashed, 1)
}

func inProcessRunner(t *testing.T) *runner {
	t.Helper()
	r := newRunner()
	spawner, err := keeper.NewInProcess(r.deliver)
	require.NoError(t, err)
	r.spawner = spawner
	t.Cleanup(func() {
		r.close()
		spawner.Close()
		_, err := r.run(t.Context(), job{argv: []string{"true"}})
		assert.ErrorIs(t, err, keeper.ErrClosed)
	})
	return r
}

func TestRunner_EndsACommandThatTakesTooLong(t *testing.T) {
	r := inProcessRunner(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	exit, err := r.run(ctx, job{argv: []string{"sleep", "1000"}})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
}

func TestProbe_SaysWhatWasWrong(t *testing.T) {
	r := inProcessRunner(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	const long = time.Minute
	tests := []struct {
		name    string
		give    probe
		timeout time.Duration
		want    string
	}{
		{"a status that is none of success", httpProbe(&HTTPCheck{Endpoint: server.URL}), long, "GET " + server.URL + " answered 404 Not Found"},
		{"no answer", httpProbe(&HTTPCheck{Endpoint: slow.URL}), 100 * time.Millisecond, "no answer within 100ms"},
		{"a code", execProbe(&ExecCheck{Command: []string{"sh", "-c", "exit 4"}}, r, newDefaultProcess().Process, nil), long, `"sh" exited with code 4`},
		{"no such program", execProbe(&ExecCheck{Command: []string{"/nonexistent"}}, r, newDefaultProcess().Process, nil), long, `execute "/nonexistent": no such file or directory`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.EqualError(t, tt.give.attempt(t.Context(), tt.timeout), tt.want)
		})
	}
}

func TestParseNotification(t *testing.T) {
	assert.Equal(t, notification{ready: true}, parseNotification("STATUS=up\nREADY=1\n"))
	assert.Equal(t, notification{ready: true, watchdog: true}, parseNotification("READY=1\nWATCHDOG=1"))
	assert.Equal(t, notification{}, parseNotification("READY=0\nXREADY=1\nREADY=12"))
}

func FuzzParseNotification(f *testing.F) {
	f.Add("READY=1\nWATCHDOG=1\n")
	f.Fuzz(func(t *testing.T, datagram string) {
		n := parseNotification(datagram)
		assert.Equal(t, n.ready, strings.Contains("\n"+datagram+"\n", "\nREADY=1\n"))
	})
}
