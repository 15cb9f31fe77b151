// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// many starts so many processes with two pipes each.
func many(b *testing.B, c *Client, processes int) {
	for run := range uint64(processes) {
		s, err := c.Spawn(Spec{ID: "sleep", Run: run, Argv: []string{"/bin/sleep", "100000"}, Stdout: StreamPipe, Stderr: StreamPipe, Stop: Stop{Signal: syscall.SIGTERM}})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func attachB(b *testing.B, directory string, notify func(Event)) (*Client, State) {
	c, state, err := Attach(b.Context(), Options{Directory: directory, OrphanGrace: time.Minute, JournalLimit: 10_000}, notify)
	if err != nil {
		b.Fatal(err)
	}
	return c, state
}

// BenchmarkRestart is from a SIGKILL of a process to the end of the exec of its next
// run, with a commit between, in a keeper that has so many others.
func BenchmarkRestart(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(strconv.Itoa(others), func(b *testing.B) {
			events := make(chan Event, 4*others+16)
			c, _ := attachB(b, runtimeDirectory(b), func(e Event) { events <- e })
			b.Cleanup(c.Close)
			many(b, c, others)
			spec := Spec{ID: "a", Argv: []string{"/bin/sleep", "100000"}, Stdout: StreamPipe, Stderr: StreamPipe, Stop: Stop{Signal: syscall.SIGTERM}}
			s, err := c.Spawn(spec)
			if err != nil {
				b.Fatal(err)
			}
			record := make([]byte, 200)
			for b.Loop() {
				_ = syscall.Kill(s.PID, syscall.SIGKILL)
				died, gone := <-events, <-events
				err := c.Commit(Commit{Values: []Value{{"state", record}}, Journal: [][]byte{record}, Acknowledge: []uint64{died.Seq, gone.Seq}})
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
				spec.Run++
				if s, err = c.Spawn(spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSpawn is a spawn, to the end of the exec, in a keeper that has so many
// processes with two pipes each: by a clone alone, into a cgroup, and with the exec stub.
func BenchmarkSpawn(b *testing.B) {
	mask := 0o27
	ways := []struct {
		name   string
		change func(*Spec)
	}{
		{"clone", func(s *Spec) { s.Stop.Scope = ScopeGroup }},
		{"cgroup", func(*Spec) {}},
		{"stub", func(s *Spec) { s.Stop.Scope = ScopeGroup; s.Rights.Umask = &mask }},
		{"stub+cgroup", func(s *Spec) { s.Rights.Umask = &mask }},
	}
	for _, others := range []int{0, 1000, 5000} {
		if err := Budget(others+10, 2*others+20, 0); err != nil {
			b.Skip(err)
		}
		gone := make(chan struct{}, 100_000)
		c, _ := attachB(b, runtimeDirectory(b), func(e Event) {
			if e.Kind == Gone {
				gone <- struct{}{}
			}
		})
		b.Cleanup(c.Close)
		many(b, c, others)
		run := uint64(0)
		for _, way := range ways {
			b.Run(strconv.Itoa(others)+"/"+way.name, func(b *testing.B) {
				spec := Spec{ID: "a", Argv: []string{"/bin/sleep", "100000"}, Stop: Stop{Signal: syscall.SIGTERM}}
				way.change(&spec)
				for b.Loop() {
					run++
					spec.Run = run
					s, err := c.Spawn(spec)
					if err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					_ = syscall.Kill(s.PID, syscall.SIGKILL)
					<-gone
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkCgroup is what one for each run costs beside the clone into it.
func BenchmarkCgroup(b *testing.B) {
	c, err := openCgroups(b.TempDir())
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(c.close)
	for run := uint64(0); b.Loop(); run++ {
		g, fd, err := c.make(runKey{"a", run}, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		_ = syscall.Close(fd)
		if g.populated() {
			b.Fatal("nothing was started into it")
		}
		c.discard(g)
	}
}

// BenchmarkAttach is the adoption of 5,000 processes with two pipes each and a full
// journal, after a client that was lost. It also tells the keeper's memory.
func BenchmarkAttach(b *testing.B) {
	const processes = 5000
	if err := Budget(processes, 2, 0); err != nil {
		b.Skip(err)
	}
	directory := runtimeDirectory(b)
	c, _ := attachB(b, directory, func(Event) {})
	idle := anonymous(b, c.KeeperPID())
	many(b, c, processes)
	for range 100 {
		records := make([][]byte, 100)
		for i := range records {
			records[i] = make([]byte, 300)
		}
		if err := c.Commit(Commit{Journal: records}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		// A connection that breaks: the same process may have the lease again at once.
		_ = c.socket.Close()
		<-c.ended
		b.StartTimer()
		var state State
		if c, state = attachB(b, directory, func(Event) {}); len(state.Runs) != processes {
			b.Fatal(len(state.Runs))
		}
		b.StopTimer()
		for _, run := range state.Runs {
			run.Started.Close()
		}
		b.StartTimer()
	}
	b.ReportMetric(idle, "kB/keeper-idle")
	b.ReportMetric(anonymous(b, c.KeeperPID()), "kB/keeper")
	c.Close()
}

// BenchmarkCommit is one value and one journal record.
func BenchmarkCommit(b *testing.B) {
	c, _ := attachB(b, runtimeDirectory(b), func(Event) {})
	b.Cleanup(c.Close)
	record := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Commit(Commit{Values: []Value{{"key", record}}, Journal: [][]byte{record}}); err != nil {
			b.Fatal(err)
		}
	}
}

// anonymous is the memory that is a process's own, in kB.
func anonymous(b *testing.B, pid int) float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == "Anonymous:" {
			kB, _ := strconv.ParseFloat(fields[1], 64)
			return kB
		}
	}
	return 0
}
