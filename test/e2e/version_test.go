// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/otelwarden/warden/internal/keeper/wire"
)

// What never changes in the protocol: how a client begins, and how a keeper refuses it
// for want of a common version.
const (
	helloKind      = 1
	refusedKind    = 66
	refusedVersion = 2
)

// otherKeeper plays a keeper of another release in the runtime directory. It returns
// what each collector has told it until that went away.
func (c *collector) otherKeeper(text string) (told <-chan []wire.Frame) {
	require.NoError(c.t, os.Mkdir(c.path("run"), 0o700))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.path("run/keeper.sock")})
	require.NoError(c.t, err)
	heard := make(chan []wire.Frame, 1)
	served := make(chan struct{})
	c.t.Cleanup(func() {
		_ = listener.Close()
		<-served
	})
	go func() {
		defer close(served)
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			file, err := conn.File()
			_ = conn.Close()
			if !assert.NoError(c.t, err) {
				return
			}
			heard <- refuseVersion(c.t, file, text)
		}
	}()
	return heard
}

func refuseVersion(t *testing.T, file *os.File, text string) (frames []wire.Frame) {
	own, err := syscall.Dup(int(file.Fd()))
	_ = file.Close()
	if !assert.NoError(t, err) {
		return nil
	}
	socket, err := wire.NewSocket(own, wire.Kernel())
	if !assert.NoError(t, err) {
		return nil
	}
	defer socket.Close()
	for {
		frame, err := socket.Receive()
		if err != nil {
			return frames
		}
		frames = append(frames, wire.Frame{Kind: frame.Kind, Payload: append([]byte(nil), frame.Payload...)})
		if frame.Kind == helloKind {
			var e wire.Encoder
			e.Uint(refusedVersion)
			e.String(text)
			assert.NoError(t, socket.Post(wire.Frame{Kind: refusedKind, Payload: e.Buf}))
		}
	}
}

func TestVersion_OfAKeeperThatIsNotSpoken(t *testing.T) {
	t.Parallel()
	c := prepare(t, "children: [{name: a, command: [/bin/sh, -c, \"touch DIR/started; exec sleep 1000\"]}]")
	const text = "the keeper of a directory speaks the protocol's versions 7 to 8, this program 1 to 2: nothing was changed; do that"
	told := c.otherKeeper(text)
	c.start()
	assert.Equal(t, 1, c.wait())
	frames := <-told
	require.Len(t, frames, 1, "nothing but a hello")
	assert.Equal(t, wire.Frame{Kind: helloKind, Payload: []byte{1, 2}}, frames[0])
	assert.Contains(t, c.output(), "the keeper speaks other versions of the protocol: "+text)
	assert.False(t, c.exists("started"))
	c.requireNothingLeft()
	assert.True(t, c.exists("run/keeper.sock"), "it is the keeper's")
}
