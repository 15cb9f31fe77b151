// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package initprocess

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/announce"
)

// player plays the collector: what one script says, a word at a time. All that it
// does and hears it writes to a file, a line each.
type player struct {
	dir     string
	signals chan os.Signal
}

// playCollector plays the first script in its first run, the second in the second,
// and so on, the last again and again. A script that comes to its end exits with 0.
func playCollector(dir string, scripts []string) {
	p := player{dir: dir, signals: make(chan os.Signal, 64)}
	signal.Notify(p.signals, forwarded...)
	run := strings.Count(readLog(dir), "run\n")
	p.log("run")
	for word := range strings.FieldsSeq(scripts[min(run, len(scripts)-1)]) {
		verb, value, _ := strings.Cut(word, "=")
		if err := p.play(verb, value); err != nil {
			p.log(fmt.Sprintf("%s: %s", word, err))
			os.Exit(98)
		}
	}
	os.Exit(0)
}

func (p player) play(verb, value string) error {
	number, _ := strconv.Atoi(value)
	switch verb {
	case "attach": // to a keeper that is started for it
		return p.attach()
	case "attach-again": // to the keeper of an earlier run
		_, pid, _ := strings.Cut(readLog(p.dir), "keeper ")
		if _, err := fmt.Sscan(pid, &number); err != nil {
			return err
		}
		return p.announcer().Attached(number)
	case "ending":
		if value == "own" {
			number = announce.OwnStatus
		}
		return p.announcer().Ending(number)
	case "ending-often": // until init has heard it that many times
		for range number {
			err := p.announcer().Ending(announce.OwnStatus)
			for errors.Is(err, syscall.EAGAIN) {
				time.Sleep(look)
				err = p.announcer().Ending(announce.OwnStatus)
			}
			if err != nil {
				return err
			}
		}
	case "hang-up": // never announces anything
		fd, err := strconv.Atoi(os.Getenv(announce.Variable))
		if err != nil {
			return err
		}
		pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		p.log(pipe)
		return syscall.Close(fd)
	case "exit":
		os.Exit(number)
	case "die": // of a signal
		sig := unix.SignalNum(value)
		signal.Reset(sig)
		_ = syscall.Kill(os.Getpid(), sig)
		select {}
	case "deaf": // to a signal, which then does what it does by default
		signal.Reset(unix.SignalNum(value))
	case "log":
		p.log(value)
	case "await": // a signal
		p.await(value)
	case "commands":
		p.commands(number)
	case "orphans": // that many leave children behind, which die
		return exec.Command("sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do (sh -c 'exit 5' &); i=$((i+1)); done", number)).Run()
	case "storm": // the same without an end
		return exec.Command("sh", "-c", "while :; do (true &); done").Start()
	case "until-no-zombie":
		for len(zombies()) > 0 {
			time.Sleep(look)
		}
	case "report":
		return p.report()
	default:
		return errors.New("the script is wrong")
	}
	return nil
}

func (p player) announcer() *announce.Announcer {
	a, err := announce.Inherited()
	if err != nil || a == nil {
		p.log(fmt.Sprintf("no init listens: %v", err))
		os.Exit(97)
	}
	return a
}

func (p player) attach() error {
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		return err
	}
	keeper := exec.Command("/proc/self/exe", partKeeper, p.dir)
	keeper.ExtraFiles = []*os.File{readyEnd}
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return err
	}
	readyEnd.Close()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return err
	}
	p.log(fmt.Sprintf("keeper %d", keeper.Process.Pid))
	return p.announcer().Attached(keeper.Process.Pid)
}

// await logs every signal until the one that is waited for has come.
func (p player) await(name string) {
	for {
		got := unix.SignalName((<-p.signals).(syscall.Signal))
		p.log("heard " + got)
		if got == name {
			return
		}
	}
}

// commands runs n with all kinds of exit codes, as other components of a collector
// would.
func (p player) commands(n int) {
	wrong := 0
	for i := range n {
		err := exec.Command("sh", "-c", fmt.Sprintf("exit %d", i%256)).Run()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			code = -1
		}
		if code != i%256 {
			wrong++
		}
	}
	p.log(fmt.Sprintf("%d of %d exit codes wrong", wrong, n))
}

// report tells what it has inherited.
func (p player) report() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	inherited, err := os.Readlink("/proc/self/fd/3")
	if err != nil {
		return err
	}
	p.log("dir " + dir)
	p.log("variable " + os.Getenv("WARDEN_TEST_INHERITED"))
	p.log("descriptor 3 " + inherited)
	p.announcer()
	p.log("init listens")
	p.log("own group " + strconv.FormatBool(syscall.Getpgrp() == os.Getpid()))
	return nil
}

func (p player) log(line string) { appendLog(p.dir, line) }

// playKeeper plays a keeper: a session of its own, which stops its processes and
// leaves when it is told to. It never outlives its test's directory.
func playKeeper(dir string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	ready := os.NewFile(3, "ready")
	_, _ = ready.Write([]byte{1})
	_ = ready.Close()
	<-signals
	appendLog(dir, "keeper is stopping its processes")
	// Init must not have left before this.
	time.Sleep(10 * look)
	appendLog(dir, "keeper leaves")
	os.Exit(0)
}

func appendLog(dir, line string) {
	file, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(96)
	}
	defer file.Close()
	_, _ = file.WriteString(line + "\n")
}

func readLog(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	return string(text)
}

// zombies are the dead children of PID 1 of this /proc, which nobody has reaped.
func zombies() []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []string
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if i := strings.LastIndex(string(text), ") "); strings.HasPrefix(string(text)[i+2:], "Z 1 ") {
			found = append(found, string(text)[:i+1])
		}
	}
	return found
}
