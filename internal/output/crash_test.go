// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// numbered is the n-th line of writeNumbered. Its length follows from n.
func numbered(n int) string {
	length := n * 7919 % 200
	if n%1000 == 0 {
		length = n * 7919 % 20_000
	}
	return fmt.Sprintf("<%d:%s>", n, strings.Repeat("x", length))
}

var numberedLine = regexp.MustCompile(`(?m)^<(\d+):x*>$`)

// writeNumbered writes count numbered lines, in writes of random size.
func writeNumbered(args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for n := range count {
		fmt.Fprintln(&text, numbered(n))
	}
	for text.Len() > 0 {
		if _, err := os.Stdout.Write(text.Next(1 + rand.IntN(6000))); err != nil {
			return err
		}
	}
	return nil
}

// appendLines reads descriptor 3 and appends the lines to its standard output.
// A batch that the end of this process cuts off does not spoil the next reader's.
func appendLines([]string) error {
	const pipe = 3
	if err := unix.SetNonblock(pipe, true); err != nil {
		return err
	}
	reader, err := NewReader(os.NewFile(pipe, "pipe"), Settings{Wait: Forever}, func(_ context.Context, lines []Line) error {
		batch := []byte{'\n'}
		for _, line := range lines {
			batch = append(append(batch, line.Text...), '\n')
		}
		_, err := os.Stdout.Write(batch)
		return err
	})
	if err != nil {
		return err
	}
	_, err = reader.Run(context.Background())
	return err
}

// Readers are killed at random while a process writes; whatever the next one finds
// in the pipe, no line is missing and none is damaged.
func TestReader_LosesNothingWhenItsProcessIsKilled(t *testing.T) {
	for _, size := range []int{8 << 10, 64 << 10} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			const count = 20_000
			read, write := pipe(t)
			defer read.Close()
			setCapacity(t, read, size)
			path := filepath.Join(t.TempDir(), "lines")
			file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			require.NoError(t, err)
			defer file.Close()

			writer := helperProcess(t, "write-numbered", strconv.Itoa(count))
			writer.Stdout = write
			require.NoError(t, writer.Start())
			require.NoError(t, write.Close())

			kills := 0
			for ended := false; !ended; {
				reader := helperProcess(t, "append")
				reader.ExtraFiles, reader.Stdout = []*os.File{read}, file
				require.NoError(t, reader.Start())
				exited := make(chan error, 1)
				go func() { exited <- reader.Wait() }()
				grown := fileSize(t, file) + 1 + rand.Int64N(1<<20)
				for alive := true; alive; {
					select {
					case err := <-exited:
						alive, ended = false, err == nil
						assert.NoError(t, err)
					case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
						if fileSize(t, file) >= grown {
							require.NoError(t, reader.Process.Kill())
							<-exited
							alive = false
							kills++
						}
					}
				}
			}
			require.NoError(t, writer.Wait())

			text, err := os.ReadFile(path)
			require.NoError(t, err)
			seen, found := make([]bool, count), 0
			for _, match := range numberedLine.FindAllSubmatch(text, -1) {
				n, err := strconv.Atoi(string(match[1]))
				require.NoError(t, err)
				if string(match[0]) == numbered(n) { // not one that a kill cut off
					seen[n] = true
					found++
				}
			}
			for n := range seen {
				require.True(t, seen[n], "line %d is lost", n)
			}
			require.Positive(t, kills, "or nothing was tried")
			t.Logf("%d kills, %d lines came more than once", kills, found-count)
		})
	}
}

func fileSize(t *testing.T, file *os.File) int64 {
	t.Helper()
	info, err := file.Stat()
	require.NoError(t, err)
	return info.Size()
}
