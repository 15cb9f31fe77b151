// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/journal"
)

// answers is a script that says what it hears, and ends when it is interrupted.
const answers = "exec 2>/dev/null; trap 'echo hup' HUP; trap 'echo term' TERM; trap 'echo int; exit 0' INT; echo up; while :; do sleep 0.01; done"

func (st *stage) hears(lines ...string) {
	st.t.Helper()
	require.EventuallyWithT(st.t, func(t *assert.CollectT) { assert.Equal(t, lines, st.captured()) }, 20*time.Second, time.Millisecond)
}

func stops(stop StopConfig) func(*ChildConfig) {
	return func(c *ChildConfig) {
		if stop.Signal == 0 {
			stop.Signal = c.Process.Stop.Signal
		}
		stop.Scope = c.Process.Stop.Scope
		c.Process.Stop = stop
	}
}

func TestStop_ByCommandSendsNoSignal(t *testing.T) {
	st := newStage(t, nil, sh("a", answers, stops(StopConfig{Timeout: 20 * time.Second, Command: []string{"/bin/sh", "-c", "kill -INT $MAINPID"}})))
	require.NoError(t, st.Ready())
	st.hears("a stdout up")
	require.NoError(t, st.command(OpStop, "a", nil))
	st.hears("a stdout up", "a stdout int")
}

func TestStop_TheSignalFollowsACommandThatFails(t *testing.T) {
	for name, command := range map[string][]string{
		"that says so":           {"/bin/sh", "-c", "exit 1"},
		"that can not be run":    {"/nonexistent"},
		"that does not end soon": {"/bin/sleep", "1000"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, nil, sh("a", answers, stops(StopConfig{Signal: syscall.SIGINT, Timeout: 500 * time.Millisecond, Command: command})))
			require.NoError(t, st.Ready())
			st.hears("a stdout up")
			require.NoError(t, st.command(OpStop, "a", nil))
			if name != "that does not end soon" {
				st.hears("a stdout up", "a stdout int")
			}
		})
	}
}

func TestStop_ACommandThatDoesNotHelpIsFollowedByKillAfterTheGrace(t *testing.T) {
	st := newStage(t, nil, sh("a", answers, stops(StopConfig{Timeout: 100 * time.Millisecond, Command: []string{"true"}})))
	require.NoError(t, st.Ready())
	st.hears("a stdout up")
	require.NoError(t, st.command(OpStop, "a", nil))
	st.await("a", journal.ProcessKilled, 1)
	assert.Equal(t, []string{"a stdout up"}, st.captured(), "no signal was sent")
}

func TestReload_IsWhatTheProcessWants(t *testing.T) {
	st := newStage(t, nil,
		sh("signal", answers, func(c *ChildConfig) { c.Process.Reload.Signal, c.Process.Stop.Signal = syscall.SIGHUP, syscall.SIGINT }),
		sh("command", forever, func(c *ChildConfig) {
			c.Process.Reload.Command = []string{"/bin/sh", "-c", `echo "$MAINPID $GIVEN" >"$REPORT"`}
			c.Process.Environment = opaque(map[string]string{"GIVEN": "yes", "REPORT": filepath.Join(t.TempDir(), "report")})
		}),
		sh("fails", forever, func(c *ChildConfig) { c.Process.Reload.Command = []string{"/bin/sh", "-c", "exit 3"} }),
		sh("neither", forever),
		sh("down", forever, func(c *ChildConfig) { c.Process.Autostart, c.Process.Reload.Signal = false, syscall.SIGHUP }),
	)
	assert.ErrorIs(t, st.Reload(t.Context(), "signal"), ErrClosed)
	require.NoError(t, st.Ready())
	st.hears("signal stdout up")
	require.NoError(t, st.Reload(t.Context(), "signal"))
	st.hears("signal stdout up", "signal stdout hup")
	require.NoError(t, st.Reload(t.Context(), "command"))
	command := st.process("command")
	report, err := os.ReadFile(string(st.cfg.Children[1].Process.Environment["REPORT"]))
	require.NoError(t, err)
	assert.Equal(t, itoa(command.PID)+" yes\n", string(report))
	for id, want := range map[string]string{
		"fails":   `reload "fails": "/bin/sh" exited with code 3`,
		"neither": `reload "neither": invalid: it has no reload: write reload: {signal: SIGHUP} or a command`,
		"down":    `reload "down": the process is not running`,
		"nobody":  `reload "nobody": no such child`,
		"":        `reload "": invalid: it is no process`,
	} {
		assert.EqualError(t, st.Reload(t.Context(), id), want)
	}
}
