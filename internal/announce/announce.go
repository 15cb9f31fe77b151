// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// Package announce is what a collector tells the init process that started it
// (`warden init`): that an extension is attached to its keeper, and that the
// collector is about to end and why. Without it init could not tell an end that
// was meant from a crash.
//
// The supervisor extension is one end:
//
//	announcer, err := announce.Inherited() // before the process starts another one
//	…
//	announcer.Attached(keeperPID)   // each time it has attached to its keeper
//	announcer.Ending(status)        // as soon as it has decided, or heard, that the collector ends
//
// and init the other: it makes a pipe for each run of the collector, gives it the
// write end in Variable, and reads with a Reader.
//
// What travels is text, one announcement a line, so that a shell can play the
// collector:
//
//	attached 4711     the keeper with PID 4711 holds processes of this collector
//	ending 137        the collector ends; init is to end with status 137
//	ending own        the collector ends; init is to end with the collector's own status
//
// A line is written at once and is far shorter than PIPE_BUF, so that lines of
// several writers never mix. Lines that init does not know are passed over: the
// collector may be newer.
package announce

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Variable is the environment variable with the number of the descriptor that
// announcements are written to. It is absent where no init listens.
const Variable = "WARDEN_INIT_FD"

// OwnStatus as the status of an Ending: init ends with the collector's own.
const OwnStatus = -1

// Announcer tells init. A nil one has nobody to tell, and does nothing. It may be
// used from several goroutines.
type Announcer struct {
	fd int
}

// Inherited is the Announcer of this process: nil if no init listens. The first
// call takes the descriptor over and removes Variable, so that neither reaches the
// processes that are started from then on; all calls return the same.
//
// With an error the Announcer is nil: Variable was there, but its descriptor is not
// one that init gave, which something between init and this process has to answer
// for. The collector works without init, which then takes each of its ends for one
// that no extension announced.
var Inherited = sync.OnceValues(inherit)

func inherit() (*Announcer, error) {
	value, found := os.LookupEnv(Variable)
	if !found {
		return nil, nil
	}
	if err := os.Unsetenv(Variable); err != nil {
		return nil, fmt.Errorf("remove %s from the environment: %w", Variable, err)
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= 2 {
		return nil, fmt.Errorf("%s=%q is not the number of a descriptor above 2; it is set by warden init, and by nobody else", Variable, value)
	}
	if err := checkWriteEnd(fd); err != nil {
		return nil, fmt.Errorf("%s=%q: descriptor %d is not the pipe of warden init (%w); what starts the collector between them has to leave it open", Variable, value, fd, err)
	}
	syscall.CloseOnExec(fd)
	// An init that does not read must never hold the collector up.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("%s=%q: %w", Variable, value, err)
	}
	return &Announcer{fd: fd}, nil
}

func checkWriteEnd(fd int) error {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return errors.New("it is no pipe")
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFL, 0)
	if errno != 0 {
		return errno
	}
	if flags&syscall.O_ACCMODE != syscall.O_WRONLY {
		return errors.New("it is not the end to write to")
	}
	return nil
}

// Attached says that an extension has attached to the keeper with this PID. From
// the first one on, an end of the collector that is not announced is a crash, after
// which init starts it again. Init stops the keeper where no collector can.
func (a *Announcer) Attached(keeper int) error {
	return a.write(Announcement{Kind: Attached, Keeper: keeper})
}

// Ending says that the collector is about to end, and the status, 0 to 255 or
// OwnStatus, that init shall end with. Of several statuses the first one other than
// OwnStatus holds. It cannot be taken back.
func (a *Announcer) Ending(status int) error {
	return a.write(Announcement{Kind: Ending, Status: status})
}

// write fails if the announcement is not one, if init has gone (EPIPE), or if it
// does not read (EAGAIN).
func (a *Announcer) write(announcement Announcement) error {
	if err := announcement.check(); err != nil {
		return err
	}
	if a == nil {
		return nil
	}
	line := announcement.String() + "\n"
	for {
		_, err := syscall.Write(a.fd, []byte(line))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("tell warden init %q: %w", announcement, err)
		}
		return nil
	}
}
