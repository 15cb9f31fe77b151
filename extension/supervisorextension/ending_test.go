// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
)

func TestEnding_StopsForTheFirstSignalThatEndsAndForNoReload(t *testing.T) {
	e := newEnding(func() {})
	defer e.close()
	stopped := make(chan os.Signal, 3)
	e.listen(func(s os.Signal) { stopped <- s })
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		e.signals <- s
	}
	assert.Equal(t, syscall.SIGINT, <-stopped)
	e.close()
	assert.Empty(t, stopped, "one is enough")
}

func TestEnding_ThatIsClosedForAReloadTellsTheNextOneOfItsDirectory(t *testing.T) {
	stops := func(of string) bool {
		e := newEnding(func() {})
		e.of = of
		stopped := false
		e.listen(func(os.Signal) { stopped = true })
		e.end()
		return stopped
	}
	e := newEnding(func() {})
	e.of = t.TempDir()
	e.listen(func(os.Signal) {})
	e.expect()
	e.close()
	assert.False(t, stops(t.TempDir()), "of another directory")
	assert.True(t, stops(e.of))
	assert.False(t, stops(e.of), "once")
}

func TestEnding_InsistsNoMoreOnceItIsClosed(t *testing.T) {
	e := newEnding(func() { assert.Fail(t, "it was raised") })
	e.close()
	e.insist(0)
	e.close()
	assert.True(t, e.begun())
}

func TestEnding_ACallForAReloadDoesNotSpoilAnEndThatIsOver(t *testing.T) {
	e := newEnding(func() {})
	e.listen(func(os.Signal) {})
	e.expect()
	e.close()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP)) // would end the test
	assert.Equal(t, syscall.SIGHUP, <-afterEnd)
}

func TestSupervisor_AFatalStatusOfAnyComponentIsAnEndAndNoReload(t *testing.T) {
	st := newStage(t, nil, sh("a", forever))
	require.NoError(t, st.Ready())
	st.ComponentStatusChanged(nil, componentstatus.NewRecoverableErrorEvent(errors.New("for a while")))
	assert.False(t, st.ending.begun())
	st.ComponentStatusChanged(nil, componentstatus.NewFatalErrorEvent(errors.New("for good")))
	assert.True(t, st.ending.signalled())
	assert.False(t, st.reloading())
}
