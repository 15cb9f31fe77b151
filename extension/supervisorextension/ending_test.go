// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
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
		e.quitOnce.Do(func() { close(e.quit) })
		e.running.Wait()
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
