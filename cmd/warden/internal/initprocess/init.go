// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/announce"
)

// reapAtOnce bounds the zombies that are reaped before everything else gets its
// turn again.
const reapAtOnce = 128

// absent in place of a descriptor: poll passes it over.
const absent = -1

// initProcess carries out what its course decides.
type initProcess struct {
	course *course

	path    string // of the collector's program
	command []string
	env     []string // without announce.Variable

	signals   *signals
	collector collector
	keepers   []keeper
	// zombies: children may have died since the last look.
	zombies bool
}

// collector is its present run.
type collector struct {
	pid    int // 0: none
	pidfd  int
	pipe   int // of its announcements; absent, too, once it has closed its end
	reader announce.Reader
}

// keeper is a process that an extension named as its keeper.
type keeper struct {
	pid   int
	pidfd int
}

func newInit(path string, command []string) (*initProcess, error) {
	// PID 1 inherits orphans anyhow.
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("become the parent of orphans (prctl PR_SET_CHILD_SUBREAPER): %w", err)
		}
	}
	signals, err := listen()
	if err != nil {
		return nil, fmt.Errorf("listen to signals: %w", err)
	}
	return &initProcess{
		course:  newCourse(),
		path:    path,
		command: command,
		env: slices.DeleteFunc(os.Environ(), func(entry string) bool {
			return strings.HasPrefix(entry, announce.Variable+"=")
		}),
		signals:   signals,
		collector: collector{pidfd: absent, pipe: absent},
		// Children of whatever this process was before it executed warden may have died
		// before there was anybody to notice.
		zombies: true,
	}, nil
}

// run returns the exit status.
func (i *initProcess) run() int {
	i.carryOut(i.course.begin(time.Now()))
	for i.course.phase != left {
		i.await()
		// What the collector announced counts for the signals, and both for its end.
		i.hear()
		for _, signal := range i.signals.take() {
			i.takeSignal(signal)
		}
		i.lookAtCollector()
		i.lookAtKeepers()
		i.reapOrphans()
		if now := time.Now(); !i.course.wake.IsZero() && !now.Before(i.course.wake) {
			i.carryOut(i.course.due(now, len(i.keepers)))
		}
	}
	return i.course.status
}

func (i *initProcess) carryOut(s step) {
	if s.say != "" {
		tell(s.say)
	}
	switch s.verb {
	case start:
		if err := i.startCollector(); err != nil {
			i.carryOut(i.course.ended(time.Now(), ending{err: err}, len(i.keepers)))
		}
	case forward:
		if i.collector.pid != 0 {
			// The collector may be a zombie, which is as good as a signal delivered.
			_ = unix.PidfdSendSignal(i.collector.pidfd, s.signal, nil, 0)
		}
	case stopKeepers:
		for _, k := range i.keepers {
			_ = unix.PidfdSendSignal(k.pidfd, unix.SIGTERM, nil, 0)
		}
	}
}

// await returns when there is something to do. Errors of poll, which can only be
// those of a lack of memory and interruptions, are answered by looking at everything.
func (i *initProcess) await() {
	fds := []unix.PollFd{
		{Fd: int32(i.signals.fd), Events: unix.POLLIN},
		{Fd: int32(i.collector.pidfd), Events: unix.POLLIN},
		{Fd: int32(i.collector.pipe), Events: unix.POLLIN},
	}
	for _, k := range i.keepers {
		fds = append(fds, unix.PollFd{Fd: int32(k.pidfd), Events: unix.POLLIN})
	}
	timeout := -1
	if i.zombies {
		timeout = 0
	} else if wake := i.course.wake; !wake.IsZero() {
		timeout = int(max(0, time.Until(wake)+time.Millisecond-1) / time.Millisecond)
	}
	_, _ = unix.Poll(fds, timeout)
}

func (i *initProcess) takeSignal(signal syscall.Signal) {
	if signal == syscall.SIGCHLD {
		i.zombies = true
		return
	}
	i.carryOut(i.course.signalled(time.Now(), signal, fromKeyboard(signal), len(i.keepers)))
}

// hear reads what the collector has announced, at most as much as a pipe holds: a
// collector that never pauses shall not keep init from everything else.
func (i *initProcess) hear() {
	const capacity = 64 << 10
	var buffer [4096]byte
	for total := 0; i.collector.pipe != absent && total < capacity; {
		n, err := unix.Read(i.collector.pipe, buffer[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0:
			i.closePipe()
		default:
			total += n
			for _, a := range i.collector.reader.Feed(buffer[:n]) {
				i.takeAnnouncement(a)
			}
		}
	}
}

func (i *initProcess) takeAnnouncement(a announce.Announcement) {
	if a.Kind == announce.Attached {
		i.addKeeper(a.Keeper)
	}
	i.course.heard(a)
}

func (i *initProcess) closePipe() {
	_ = unix.Close(i.collector.pipe)
	i.collector.pipe = absent
}

// addKeeper begins to watch a keeper. One that has left before its announcement was
// read is none any more.
func (i *initProcess) addKeeper(pid int) {
	if pid == os.Getpid() || pid == i.collector.pid {
		return
	}
	i.lookAtKeepers()
	if slices.ContainsFunc(i.keepers, func(k keeper) bool { return k.pid == pid }) {
		return
	}
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		i.keepers = append(i.keepers, keeper{pid: pid, pidfd: pidfd})
	}
}

// lookAtKeepers forgets those that are dead, and reaps those that were adopted: init
// may leave before it would come across them.
func (i *initProcess) lookAtKeepers() {
	if len(i.keepers) == 0 {
		return
	}
	i.keepers = slices.DeleteFunc(i.keepers, func(k keeper) bool {
		dead := readable(k.pidfd)
		if dead {
			_ = unix.Waitid(unix.P_PIDFD, k.pidfd, nil, unix.WEXITED|unix.WNOHANG, nil)
			_ = unix.Close(k.pidfd)
		}
		return dead
	})
	if len(i.keepers) == 0 {
		i.carryOut(i.course.keepersGone())
	}
}

// lookAtCollector takes its end, if it has come.
func (i *initProcess) lookAtCollector() {
	if i.collector.pid == 0 {
		return
	}
	status, dead := reap(i.collector.pid)
	if !dead {
		return
	}
	i.hear() // what it said last
	if i.collector.pipe != absent {
		i.closePipe()
	}
	_ = unix.Close(i.collector.pidfd)
	i.collector = collector{pidfd: absent, pipe: absent}
	i.lookAtKeepers()
	i.carryOut(i.course.ended(time.Now(), ending{wait: status}, len(i.keepers)))
}

// reapOrphans reaps what died among the adopted, and leaves the collector, which
// may be found here too, to its own place.
func (i *initProcess) reapOrphans() {
	if !i.zombies {
		return
	}
	for range reapAtOnce {
		switch pid := findZombie(); pid {
		case 0:
			i.zombies = false
			return
		case i.collector.pid:
			i.lookAtCollector()
		default:
			reap(pid)
		}
	}
}

func (i *initProcess) startCollector() (err error) {
	i.collector, err = spawn(i.path, i.command, i.env)
	return err
}
