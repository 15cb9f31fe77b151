// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
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
	offer := c.handler(Output{Stream: "stdout"}, nil, "")
	release, err := c.claimOutput(component.MustNewID("first"), func(context.Context, Output) error { return nil })
	require.NoError(t, err)
	require.False(t, c.ignoreUnclaimed())
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

func TestCapture_LinesThatNobodyEverWantedAreThrownAway(t *testing.T) {
	c := newCapture(zap.NewNop())
	defer c.cancel()
	require.True(t, c.ignoreUnclaimed())
	assert.NoError(t, c.handler(Output{}, nil, "")(t.Context(), someLines))
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
	go func() { offered <- c.handler(Output{}, nil, "")(context.Background(), someLines) }()
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
