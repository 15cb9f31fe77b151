// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"strconv"
	"syscall"
	"time"
)

// stat is what the keeper needs of /proc/PID/stat.
type stat struct {
	state        byte
	ppid         int
	pgid         int
	session      int
	user, system time.Duration
	startTicks   uint64
}

// living: it is neither a zombie nor about to vanish.
func (s stat) living() bool { return s.state != 'Z' && s.state != 'X' }

// userHZ is the unit of times in /proc. It is part of the kernel's interface to
// programs and 100 on every architecture that Go supports.
const userHZ = 100

func readStat(pid int) (stat, error) {
	var buf [1024]byte
	text, err := readProc(pid, "stat", buf[:])
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// readProc reads a file of a process with a single read into buf: the kernel makes
// such a file anew for each, and those read here are shorter.
func readProc(pid int, name string, buf []byte) ([]byte, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/" + name
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, errorf("open %s: %w", path, err)
	}
	defer syscall.Close(fd)
	var n int
	if err := retry(func() (e error) { n, e = syscall.Read(fd, buf); return e }); err != nil {
		return nil, errorf("read %s: %w", path, err)
	}
	return buf[:n], nil
}

// parseStat reads the fields after the name, which may hold anything, brackets and
// newlines too, and ends with the last closing bracket.
func parseStat(text []byte) (stat, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	const first = 3 // the number of the first field after the name
	if end < 0 || len(fields) <= 22-first || len(fields[0]) != 1 {
		return stat{}, errorf("process stat %q: too short", text[:min(len(text), 80)])
	}
	var err error
	number := func(field int) uint64 {
		n, e := strconv.ParseUint(string(fields[field-first]), 10, 64)
		if e != nil && err == nil {
			err = errorf("process stat, field %d: %w", field, e)
		}
		return n
	}
	const tick = time.Second / userHZ
	s := stat{
		state:      fields[0][0],
		ppid:       int(number(4)),
		pgid:       int(number(5)),
		session:    int(number(6)),
		user:       time.Duration(number(14)) * tick,
		system:     time.Duration(number(15)) * tick,
		startTicks: number(22),
	}
	return s, err
}

// readIO returns nil where the kernel does not tell.
func readIO(pid int) *IO {
	var buf [512]byte
	text, err := readProc(pid, "io", buf[:])
	if err != nil {
		return nil
	}
	return parseIO(text)
}

// parseIO returns nil unless every number is there.
func parseIO(text []byte) *IO {
	var io IO
	names := [...]string{"rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes"}
	fields := io.fields()
	found := 0
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		for i := range names {
			if string(name) != names[i] {
				continue
			}
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			if err != nil {
				return nil
			}
			*fields[i] = n
			found++
		}
	}
	if found != len(fields) {
		return nil
	}
	return &io
}
