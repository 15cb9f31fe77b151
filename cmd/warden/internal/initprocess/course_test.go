// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/announce"
)

var epoch = time.Unix(1_000_000, 0)

func exited(code int) ending { return ending{wait: syscall.WaitStatus(code << 8)} }

func killedBy(signal syscall.Signal) ending { return ending{wait: syscall.WaitStatus(signal)} }

func attached() announce.Announcement {
	return announce.Announcement{Kind: announce.Attached, Keeper: 4711}
}

func endingWith(status int) announce.Announcement {
	return announce.Announcement{Kind: announce.Ending, Status: status}
}

// begunWith returns a course whose collector was started at epoch and has announced.
func begunWith(t require.TestingT, announced ...announce.Announcement) *course {
	c := newCourse()
	require.Equal(t, step{verb: start}, c.begin(epoch))
	for _, a := range announced {
		c.heard(a)
	}
	return c
}

func TestCourse_TellsAFinalEndFromACrash(t *testing.T) {
	const own = announce.OwnStatus
	tests := []struct {
		name      string
		announced []announce.Announcement
		asked     syscall.Signal // sent to init before the end
		give      ending
		want      int // the status init ends with; -1: it was a crash
	}{
		{name: "before the first attachment, well", give: exited(0), want: 0},
		{name: "before the first attachment, ill", give: exited(3), want: 3},
		{name: "before the first attachment, killed", give: killedBy(syscall.SIGKILL), want: 137},
		{name: "not started at all: missing", give: ending{err: syscall.ENOENT}, want: 127},
		{name: "not started at all: not executable", give: ending{err: syscall.EACCES}, want: 126},
		{name: "not started at all: not a program", give: ending{err: syscall.ENOEXEC}, want: 126},
		{name: "not started at all: no memory", give: ending{err: syscall.ENOMEM}, want: 1},
		{name: "attached, ill", announced: []announce.Announcement{attached()}, give: exited(1), want: -1},
		{name: "attached, well but unannounced", announced: []announce.Announcement{attached()}, give: exited(0), want: -1},
		{name: "attached, killed", announced: []announce.Announcement{attached()}, give: killedBy(syscall.SIGSEGV), want: -1},
		{name: "announced with its own status", announced: []announce.Announcement{attached(), endingWith(own)}, give: exited(4), want: 4},
		{name: "announced with its own status, killed", announced: []announce.Announcement{attached(), endingWith(own)}, give: killedBy(syscall.SIGKILL), want: 137},
		{name: "announced with another status", announced: []announce.Announcement{attached(), endingWith(139)}, give: exited(1), want: 139},
		{name: "announced with status 0", announced: []announce.Announcement{attached(), endingWith(0)}, give: exited(1), want: 0},
		{name: "announced by two, the cause first", announced: []announce.Announcement{attached(), endingWith(139), endingWith(own)}, give: exited(1), want: 139},
		{name: "announced by two, the cause last", announced: []announce.Announcement{attached(), endingWith(own), endingWith(139)}, give: exited(1), want: 139},
		{name: "announced by two causes", announced: []announce.Announcement{attached(), endingWith(139), endingWith(3)}, give: exited(1), want: 139},
		{name: "announced without being attached", announced: []announce.Announcement{endingWith(3)}, give: exited(1), want: 3},
		{name: "asked for, before the extension could hear it", announced: []announce.Announcement{attached()}, asked: syscall.SIGTERM, give: killedBy(syscall.SIGTERM), want: 143},
		{name: "interrupted, before the extension could hear it", announced: []announce.Announcement{attached()}, asked: syscall.SIGINT, give: killedBy(syscall.SIGINT), want: 130},
		{name: "a signal that asks for no end", announced: []announce.Announcement{attached()}, asked: syscall.SIGQUIT, give: exited(2), want: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := begunWith(t, tt.announced...)
			if tt.asked != 0 {
				require.Equal(t, step{verb: forward, signal: tt.asked}, c.signalled(epoch, tt.asked, false, 0))
			}
			got := c.ended(epoch, tt.give, 0)
			if tt.want < 0 {
				assert.Equal(t, waiting, c.phase)
				assert.Equal(t, nothing, got.verb)
				assert.Equal(t, epoch.Add(firstDelay), c.wake)
				return
			}
			assert.Equal(t, leave, got.verb)
			assert.Equal(t, tt.want, c.status)
			assert.Equal(t, tt.give.err != nil, got.say != "", "only the collector itself can say why it ended")
		})
	}
}

func TestCourse_SaysInOneLineWhatCrashedAndWhatFollows(t *testing.T) {
	tests := []struct {
		give ending
		want string
	}{
		{exited(0), "the collector crashed (exit status 0, unannounced) and is started again in 500ms; its processes are left as they are"},
		{exited(2), "the collector crashed (exit status 2, unannounced) and is started again in 500ms; its processes are left as they are"},
		{killedBy(syscall.SIGKILL), "the collector crashed (SIGKILL) and is started again in 500ms; its processes are left as they are"},
		{killedBy(syscall.SIGSEGV | 0x80), "the collector crashed (SIGSEGV, core dumped) and is started again in 500ms; its processes are left as they are"},
		{killedBy(40), "the collector crashed (signal 40) and is started again in 500ms; its processes are left as they are"},
		{ending{err: syscall.EAGAIN}, "the collector crashed (resource temporarily unavailable) and is started again in 500ms; its processes are left as they are"},
	}
	for _, tt := range tests {
		c := begunWith(t, attached())
		assert.Equal(t, step{say: tt.want}, c.ended(epoch, tt.give, 1))
	}
}

func TestCourse_TakesOverEveryExitCodeAndSignal(t *testing.T) {
	for code := range 256 {
		c := begunWith(t)
		c.ended(epoch, exited(code), 0)
		assert.Equal(t, code, c.status)
	}
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		c := begunWith(t)
		c.ended(epoch, killedBy(signal), 0)
		assert.Equal(t, 128+int(signal), c.status)
	}
}

func TestCourse_DoublesTheBackOffUntilARunIsSteady(t *testing.T) {
	c := begunWith(t, attached())
	now := epoch
	crashAfter := func(up time.Duration) time.Duration {
		now = now.Add(up)
		c.ended(now, exited(1), 1)
		delay := c.wake.Sub(now)
		now = c.wake
		require.Equal(t, step{verb: start}, c.due(now, 1))
		return delay
	}
	for _, want := range []time.Duration{500 * time.Millisecond, 1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		assert.Equal(t, want, crashAfter(steadyAfter-1))
	}
	assert.Equal(t, firstDelay, crashAfter(steadyAfter))
	assert.Equal(t, 2*firstDelay, crashAfter(0))
}

func TestCourse_BacksOffFromStartsThatFail(t *testing.T) {
	c := begunWith(t, attached())
	now := epoch.Add(time.Hour)
	c.ended(now, exited(1), 1)
	for _, want := range []time.Duration{2 * firstDelay, 4 * firstDelay} {
		now = c.wake
		require.Equal(t, step{verb: start}, c.due(now, 1))
		c.ended(now, ending{err: syscall.EAGAIN}, 1)
		assert.Equal(t, want, c.wake.Sub(now))
	}
}

func TestCourse_AnAttachmentOutlivesItsCollector(t *testing.T) {
	c := begunWith(t, attached())
	c.ended(epoch, exited(1), 1)
	require.Equal(t, step{verb: start}, c.due(c.wake, 1))
	got := c.ended(c.started, exited(1), 0)
	assert.Equal(t, waiting, c.phase, "the processes are held by a keeper that this run never reached")
	assert.NotEmpty(t, got.say)
}

func TestCourse_AnswersASignalByWhereItIs(t *testing.T) {
	const hup, term, interrupt, quit = syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT
	atWork := func(t *testing.T) *course { return begunWith(t, attached()) }
	inBackOff := func(t *testing.T) *course {
		c := atWork(t)
		c.ended(epoch, exited(1), 1)
		return c
	}
	onLeave := func(t *testing.T) *course {
		c := begunWith(t, attached(), endingWith(3))
		c.ended(epoch, exited(1), 1)
		return c
	}
	const waitForKeepers = "the collector has ended; waiting for its keeper to stop the processes that it left"
	tests := []struct {
		name     string
		in       func(*testing.T) *course
		give     syscall.Signal
		keyboard bool
		keepers  int
		want     step
		phase    phase
	}{
		{name: "running, TERM", in: atWork, give: term, keepers: 1, want: step{verb: forward, signal: term}, phase: running},
		{name: "running, INT", in: atWork, give: interrupt, keepers: 1, want: step{verb: forward, signal: interrupt}, phase: running},
		{name: "running, INT by the keyboard", in: atWork, give: interrupt, keyboard: true, keepers: 1, phase: running},
		{name: "running, QUIT by the keyboard", in: atWork, give: quit, keyboard: true, keepers: 1, phase: running},
		{name: "running, HUP", in: atWork, give: hup, keepers: 1, want: step{verb: forward, signal: hup}, phase: running},
		{name: "back-off, TERM", in: inBackOff, give: term, keepers: 1, want: step{verb: stopKeepers, say: waitForKeepers}, phase: leaving},
		{name: "back-off, INT by the keyboard", in: inBackOff, give: interrupt, keyboard: true, keepers: 1, want: step{verb: stopKeepers, say: waitForKeepers}, phase: leaving},
		{name: "back-off, TERM, no keeper lives", in: inBackOff, give: term, want: step{verb: leave}, phase: left},
		{name: "back-off, HUP", in: inBackOff, give: hup, keepers: 1, want: step{verb: start}, phase: running},
		{name: "back-off, QUIT", in: inBackOff, give: quit, keepers: 1, phase: waiting},
		{name: "leaving, TERM", in: onLeave, give: term, keepers: 1, phase: leaving},
		{name: "leaving, HUP", in: onLeave, give: hup, keepers: 1, phase: leaving},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.in(t)
			assert.Equal(t, tt.want, c.signalled(epoch, tt.give, tt.keyboard, tt.keepers))
			assert.Equal(t, tt.phase, c.phase)
		})
	}
}

func TestCourse_AskedInTheBackOffEndsWithStatus0(t *testing.T) {
	c := begunWith(t, attached())
	c.ended(epoch, killedBy(syscall.SIGKILL), 1)
	require.Equal(t, stopKeepers, c.signalled(epoch, syscall.SIGTERM, false, 1).verb)
	assert.Equal(t, step{verb: leave}, c.keepersGone())
	assert.Equal(t, 0, c.status)
}

func TestCourse_PassesAKeyboardsSignalOnOnlyIfTheCollectorShowsNothing(t *testing.T) {
	t.Run("it shows nothing", func(t *testing.T) {
		c := begunWith(t, attached())
		c.signalled(epoch, syscall.SIGINT, true, 1)
		require.Equal(t, epoch.Add(keyboardPatience), c.wake)
		assert.Equal(t, step{verb: forward, signal: syscall.SIGINT}, c.due(c.wake, 1))
		assert.Zero(t, c.wake, "once")
		require.Equal(t, step{verb: leave}, c.ended(epoch, killedBy(syscall.SIGINT), 0), "it was asked for")
	})
	t.Run("it announces its end", func(t *testing.T) {
		c := begunWith(t, attached())
		c.signalled(epoch, syscall.SIGINT, true, 1)
		c.heard(endingWith(announce.OwnStatus))
		assert.Zero(t, c.wake)
	})
	t.Run("it had announced its end before", func(t *testing.T) {
		c := begunWith(t, attached(), endingWith(announce.OwnStatus))
		c.signalled(epoch, syscall.SIGINT, true, 1)
		assert.Zero(t, c.wake)
	})
	t.Run("it dies of it and is started again", func(t *testing.T) {
		c := begunWith(t, attached())
		c.signalled(epoch, syscall.SIGQUIT, true, 1)
		c.ended(epoch, exited(2), 1)
		assert.Equal(t, step{verb: start}, c.due(c.wake, 1))
		assert.Zero(t, c.wake, "the next collector never saw the keyboard")
	})
}

func TestCourse_RemindsKeepersAndLeavesThemBehindInTheEnd(t *testing.T) {
	tests := []struct{ announced, want int }{
		{announced: 139, want: 139},
		{announced: 0, want: exitFailure},
	}
	for _, tt := range tests {
		c := begunWith(t, attached(), endingWith(tt.announced))
		require.Equal(t, stopKeepers, c.ended(epoch, killedBy(syscall.SIGKILL), 2).verb)
		reminders := 0
		got := c.due(c.wake, 2)
		for ; got.verb == stopKeepers; got = c.due(c.wake, 2) {
			assert.Empty(t, got.say)
			reminders++
		}
		assert.Equal(t, int(keepersPatience/remindKeepers)-1, reminders)
		assert.Equal(t, step{verb: leave, say: "2 keepers have not stopped their processes within 1m0s and are left behind"}, got)
		assert.Equal(t, tt.want, c.status)
	}
}

func TestCourse_KeepersMayLeaveWhileTheCollectorIsThere(t *testing.T) {
	c := begunWith(t, attached())
	assert.Equal(t, step{}, c.keepersGone())
	assert.Equal(t, running, c.phase)
	c.ended(epoch, exited(1), 0)
	assert.Equal(t, step{}, c.keepersGone())
	assert.Equal(t, waiting, c.phase)
}
