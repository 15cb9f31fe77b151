// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/otelwarden/warden/internal/keeper"
)

// notifyDirectory holds the sockets on which processes speak as to a service
// manager. Each run has a socket of its own, so that nobody speaks for another.
type notifyDirectory struct {
	runtimeDirectory string

	mu sync.Mutex
	// own is for processes of this user, common for those of others, who can not come
	// into the runtime directory; guarded by mu, and made for the first socket.
	own, common string
	last        uint64 // guarded by mu
}

const notifyPrefix = "notify-"

// maxSocketPath is the longest path in a socket's address, in the address that
// programs are given.
const maxSocketPath = 107

// place is where the directory for sockets goes: the runtime directory, or, where no
// path in there would fit into an address, the one for temporary files, under a prefix
// that no other runtime directory has.
func (d *notifyDirectory) place() (directory, prefix string) {
	const longest = "0123456789/0123456789" // what is random, and a socket's number
	if len(filepath.Join(d.runtimeDirectory, notifyPrefix+longest)) <= maxSocketPath {
		return d.runtimeDirectory, notifyPrefix
	}
	return d.commonPlace()
}

// commonPlace is where everybody can come.
func (d *notifyDirectory) commonPlace() (directory, prefix string) {
	return os.TempDir(), "warden-" + notifyPrefix + InstanceID(d.runtimeDirectory)[:8] + "-"
}

// listen opens a new socket for a process of that user; nil: of this one. Two
// collectors may have one runtime directory, so each makes directories of its own.
func (d *notifyDirectory) listen(owner *keeper.Credential) (*net.UnixConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := owner != nil && int(owner.UID) != os.Geteuid()
	place := d.ownLocked
	if others {
		place = d.commonLocked
	}
	directory, err := place()
	if err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	d.last++
	path := filepath.Join(directory, strconv.FormatUint(d.last, 10))
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("notify socket: %s has %d bytes, and an address takes %d: choose a shorter runtime_directory, or TMPDIR", path, len(path), maxSocketPath)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	if others {
		// To write to a socket takes the right to write to its file.
		if err := os.Chown(path, int(owner.UID), int(owner.GID)); err != nil {
			_ = conn.Close()
			_ = os.Remove(path)
			return nil, fmt.Errorf("notify socket: %w", err)
		}
	}
	return conn, nil
}

// ownLocked makes the directory for this user's processes.
func (d *notifyDirectory) ownLocked() (string, error) {
	if d.own != "" {
		return d.own, nil
	}
	directory, prefix := d.place()
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", err
	}
	var err error
	d.own, err = os.MkdirTemp(directory, prefix)
	return d.own, err
}

// commonLocked makes the directory for other users' processes, which can pass through
// it and not see what is in it.
func (d *notifyDirectory) commonLocked() (string, error) {
	if d.common != "" {
		return d.common, nil
	}
	made, err := os.MkdirTemp(d.commonPlace())
	if err != nil {
		return "", err
	}
	if err := os.Chmod(made, 0o711); err != nil {
		_ = os.Remove(made)
		return "", err
	}
	d.common = made
	return made, nil
}

// close removes what listen made.
func (d *notifyDirectory) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range []string{d.own, d.common} {
		if path != "" {
			_ = os.RemoveAll(path)
		}
	}
}

// closeAll removes what any collector made in the runtime directory, which must be
// this one's alone.
func (d *notifyDirectory) closeAll() {
	d.close()
	for _, place := range []func() (directory, prefix string){d.place, d.commonPlace} {
		directory, prefix := place()
		left, err := filepath.Glob(filepath.Join(directory, prefix+"*"))
		if err != nil {
			continue // the pattern is valid, unless the directory has a name that makes it another
		}
		for _, path := range left {
			_ = os.RemoveAll(path)
		}
	}
}

// notification is what one datagram says, of what is understood here.
type notification struct {
	ready, watchdog bool
}

// parseNotification reads KEY=value lines; keys that are not known say nothing here.
func parseNotification(datagram string) (n notification) {
	for line := range strings.SplitSeq(datagram, "\n") {
		switch line {
		case "READY=1":
			n.ready = true
		case "WATCHDOG=1":
			n.watchdog = true
		}
	}
	return n
}

// serveNotifications tells take of every datagram until the socket is closed.
func serveNotifications(conn *net.UnixConn, take func(notification)) {
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			take(parseNotification(string(buffer[:n])))
		}
	}
}

// awaitNewline returns true once the process has written a line to the pipe, false
// if it closed it, or the pipe was closed here, before.
func awaitNewline(pipe *os.File) bool {
	buffer := make([]byte, 256)
	for {
		n, err := pipe.Read(buffer)
		if strings.ContainsRune(string(buffer[:n]), '\n') {
			return true
		}
		if err != nil {
			return false
		}
	}
}
