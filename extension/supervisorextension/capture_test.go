// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.uber.org/zap"

	"github.com/otelwarden/warden/internal/output"
)

var someLines = []output.Line{{Seq: 1, Text: []byte("hello")}}

func TestCapture_LinesWaitForTheNextTakerOnceThereWasOne(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	offer := (&stream{capture: c, of: Output{Stream: "stdout"}}).take
	release, err := c.claimOutput(component.MustNewID("first"), func(context.Context, Output) error { return nil })
	require.NoError(t, err)
	require.True(t, c.begin())
	require.NoError(t, offer(t.Context(), someLines))
	release()
	assert.ErrorIs(t, offer(t.Context(), someLines), errUnclaimed, "so they are offered again")

	var got []output.Line
	_, err = c.claimOutput(component.MustNewID("second"), func(_ context.Context, o Output) error {
		got = o.Lines
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, offer(t.Context(), someLines))
	assert.Equal(t, someLines, got)
}

func TestCapture_LinesThatNobodyClaimsGoToTheCollectorsOwnStreams(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	require.False(t, c.begin())
	var stdout, stderr bytes.Buffer
	c.console = &console{newConsoleStream(&stdout, zap.NewNop()), newConsoleStream(&stderr, zap.NewNop())}
	require.NoError(t, (&stream{capture: c, id: "web", of: Output{Stream: "stdout"}}).take(t.Context(), someLines))
	require.NoError(t, (&stream{capture: c, id: "pipeline.ingest", of: Output{Stream: "stderr"}}).take(t.Context(), someLines))
	assert.Equal(t, "web | hello\n", stdout.String())
	assert.Equal(t, "pipeline.ingest | hello\n", stderr.String())
}

// Whoever waits is let go when its context ends, and no line is mixed with another.
func TestConsole_AStreamThatHangsHoldsNobodyUpForEver(t *testing.T) {
	read, write := io.Pipe()
	s := newConsoleStream(write, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	for range 3 {
		go func() { waiting <- s.take(ctx, "web", someLines) }()
	}
	cancel()
	for range 3 {
		assert.ErrorIs(t, <-waiting, context.Canceled)
	}
	_ = read.CloseWithError(errors.New("nobody reads it any more"))
	assert.NoError(t, s.take(t.Context(), "web", someLines), "lines that can never be written hold no process up")
}

func TestCapture_WhatNobodyHearsOfIsKeptForWhoAsksLater(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	first, second, third := trouble{lines: 1}, trouble{lines: 2}, trouble{lines: 3}
	c.report(first)
	var heard []trouble
	hears := true
	c.hear(func(t trouble) bool {
		if hears {
			heard = append(heard, t)
		}
		return hears
	}, nil)
	c.report(second)
	hears = false
	c.report(third)
	assert.Equal(t, []trouble{second}, heard)
	assert.Equal(t, []trouble{first, third}, c.takeUntold())
	assert.Empty(t, c.takeUntold())
}

func TestCapture_ReleaseEndsACallThatHangs(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	entered := make(chan struct{})
	release, err := c.claimOutput(component.MustNewID("slow"), func(ctx context.Context, _ Output) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
	offered := make(chan error, 1)
	go func() { offered <- (&stream{capture: c}).take(context.Background(), someLines) }()
	<-entered
	released := make(chan struct{})
	go func() { release(); close(released) }()
	select {
	case <-released:
	case <-time.After(10 * time.Second):
		require.Fail(t, "release waits for a call that nothing ends")
	}
	assert.ErrorIs(t, <-offered, context.Canceled)
}
