// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
)

// backend takes logs over OTLP/HTTP, and counts the numbers that the lines of each
// process begin with.
type backend struct {
	t      *testing.T
	server *http.Server
	at     string

	mu       sync.Mutex
	refuses  func() (status int, after time.Duration) // guarded by mu; nil: nothing
	requests int                                      // guarded by mu
	taken    map[string]*numbers                      // guarded by mu; by process
	dropped  map[string]int                           // guarded by mu; lines, by process, of the events that were told
	told     map[int64]bool                           // guarded by mu; the events
}

// numbers is a set of numbers from 0.
type numbers struct {
	bits       []uint64
	count      int
	duplicates int
	highest    int
}

func (n *numbers) add(i int) {
	for i/64 >= len(n.bits) {
		n.bits = append(n.bits, make([]uint64, len(n.bits)+1024)...)
	}
	if bit := uint64(1) << (i % 64); n.bits[i/64]&bit != 0 {
		n.duplicates++
	} else {
		n.bits[i/64] |= bit
		n.count++
	}
	n.highest = max(n.highest, i)
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, taken: map[string]*numbers{}, dropped: map[string]int{}, told: map[int64]bool{}}
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	b.at = "http://" + listener.Addr().String()
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() { _ = b.server.Serve(listener); close(served) }()
	t.Cleanup(func() { _ = b.server.Close(); <-served })
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := b.body(r)
	b.mu.Lock()
	refuses := b.refuses
	b.mu.Unlock()
	if refuses != nil {
		status, after := refuses()
		time.Sleep(after)
		switch status {
		case http.StatusOK:
		case 0: // not even an answer
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(status)
			return
		}
	}
	if err == nil && r.URL.Path == "/v1/logs" {
		err = b.take(body)
	}
	if err != nil { // a collector that was killed while it wrote
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (b *backend) body(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Encoding") != "gzip" {
		return body, err
	}
	plain, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

func (b *backend) take(body []byte) error {
	request := plogotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	for _, rl := range request.Logs().ResourceLogs().All() {
		id, _ := rl.Resource().Attributes().Get("supervisor.process.id")
		for _, sl := range rl.ScopeLogs().All() {
			for _, record := range sl.LogRecords().All() {
				b.takeRecord(id.Str(), record)
			}
		}
	}
	return nil
}

// takeRecord is called with mu held.
func (b *backend) takeRecord(process string, record plog.LogRecord) {
	if sequence, ok := record.Attributes().Get("supervisor.event.sequence"); ok {
		if record.EventName() == "output.dropped" && !b.told[sequence.Int()] {
			lines, _ := record.Attributes().Get("supervisor.output.lines")
			b.dropped[process] += int(lines.Int())
		}
		b.told[sequence.Int()] = true
		return
	}
	text := record.Body().Str()
	number, err := strconv.Atoi(text[:min(len(text), 9)])
	if err != nil {
		b.t.Errorf("%s: a line that it did not write: %q", process, text)
		return
	}
	if b.taken[process] == nil {
		b.taken[process] = &numbers{}
	}
	b.taken[process].add(number)
}

func (b *backend) refuse(how func() (int, time.Duration)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = how
}

func (b *backend) answered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

// moods refuses, delays and fails some of the requests.
func moods() (status int, after time.Duration) {
	switch rand.N(10) {
	case 0:
		return http.StatusServiceUnavailable, 0
	case 1:
		return http.StatusTooManyRequests, rand.N(50 * time.Millisecond)
	case 2:
		return 0, rand.N(50 * time.Millisecond)
	case 3, 4:
		return http.StatusOK, rand.N(100 * time.Millisecond)
	}
	return http.StatusOK, 0
}

func isDown() (int, time.Duration) { return http.StatusServiceUnavailable, 0 }

// result is what became of the lines of all processes together.
type result struct{ written, missing, duplicates, dropped int }

func (r result) String() string {
	return fmt.Sprintf("%d lines written, %d missing, %d twice (%.2f %%), %d told as dropped", r.written, r.missing, r.duplicates,
		100*float64(r.duplicates)/float64(max(r.written, 1)), r.dropped)
}
