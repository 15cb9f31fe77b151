// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package output

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReader_ExitedTellsTheLastBytesTakenOrNot(t *testing.T) {
	for _, lines := range []int{2, 20_000} {
		t.Run(fmt.Sprint(lines), func(t *testing.T) {
			read, write := pipe(t)
			setCapacity(t, read, 1<<20)
			entered := make(chan struct{})
			reader, err := NewReader(read, Settings{Wait: Forever}, func(ctx context.Context, lines []Line) error {
				entered <- struct{}{}
				if lines[0].Seq == 1 {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			})
			require.NoError(t, err)
			go func() {
				_, err := reader.Run(t.Context())
				assert.NoError(t, err)
			}()
			var want strings.Builder
			put := func(text string) {
				want.WriteString(text)
				_, err := write.WriteString(text)
				require.NoError(t, err)
			}
			put("taken\n")
			<-entered
			for i := range lines {
				put(fmt.Sprintf("line %d\n", i))
			}
			put("unfinished")
			<-entered
			all := want.String()
			assert.Equal(t, all[max(0, len(all)-tailSize):], string(reader.Exited()))
			reader.Detach()
		})
	}
}

func TestReader_ExitedRemembersWhatWasTaken(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000} {
		read, write := pipe(t)
		reader, wait := run(t, t.Context(), read, func([]Line) error { return nil })
		var text strings.Builder
		for i := range n {
			line := fmt.Sprintf("line %d\n", i)
			text.WriteString(line)
			_, err := write.WriteString(line)
			require.NoError(t, err)
		}
		require.NoError(t, write.Close())
		assert.Zero(t, wait())
		want := text.String()
		assert.Equal(t, want[max(0, len(want)-tailSize):], string(reader.Exited()), "when the pipe is closed already")
	}
}

func TestReader_MarksWhatIsWrittenAfterTheExit(t *testing.T) {
	read, write := pipe(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	got := map[string]bool{}
	reader, err := NewReader(read, Settings{Wait: Forever}, func(_ context.Context, lines []Line) error {
		entered <- struct{}{}
		<-leave
		for _, line := range lines {
			got[string(line.Text)] = line.AfterExit
		}
		return nil
	})
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := reader.Run(t.Context())
		assert.NoError(t, err)
	}()
	write.WriteString("read before\n")
	<-entered
	write.WriteString("written before\n")
	reader.Exited()
	write.WriteString("written by what it left\n")
	leave <- struct{}{}
	<-entered
	write.WriteString("and more\n")
	leave <- struct{}{}
	<-entered
	require.NoError(t, write.Close())
	leave <- struct{}{}
	<-ended
	assert.Equal(t, map[string]bool{"read before": false, "written before": false, "written by what it left": true, "and more": true}, got)
}
