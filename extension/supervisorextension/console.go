// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"context"
	"io"
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/otelwarden/warden/internal/output"
)

// console writes captured lines to the collector's own streams, each behind the id of
// its process, when nobody else takes them.
type console struct{ stdout, stderr *consoleStream }

// newConsole takes descriptors of its own: the runtime ends a program that writes to
// standard output or error when nobody reads it any more.
func newConsole(logger *zap.Logger) *console {
	open := func(file *os.File) *consoleStream {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			logger.Error("the collector's own stream can not be written to, captured output for it is thrown away", zap.String("stream", file.Name()), zap.Error(err))
			return newConsoleStream(io.Discard, logger)
		}
		return newConsoleStream(os.NewFile(uintptr(fd), file.Name()), logger)
	}
	return &console{stdout: open(os.Stdout), stderr: open(os.Stderr)}
}

func (c *console) of(stream string) *consoleStream {
	if stream == "stderr" {
		return c.stderr
	}
	return c.stdout
}

type consoleStream struct {
	to     io.Writer
	logger *zap.Logger
	turn   chan struct{} // holds one element while somebody writes
	// Of whoever has the turn.
	buffer []byte
	failed bool
}

func newConsoleStream(to io.Writer, logger *zap.Logger) *consoleStream {
	return &consoleStream{to: to, logger: logger, turn: make(chan struct{}, 1)}
}

// take returns when the lines are written, or when ctx ends, whatever comes of them
// then: a write that hangs cannot be called off. Where writing fails nobody ever will
// see the lines, and the process is not to be held up for that.
func (s *consoleStream) take(ctx context.Context, id string, lines []output.Line) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.buffer = s.buffer[:0]
	for i := range lines {
		s.buffer = append(append(append(append(s.buffer, id...), " | "...), lines[i].Text...), '\n')
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer func() { <-s.turn }()
		if _, err := s.to.Write(s.buffer); err != nil && !s.failed {
			s.failed = true
			s.logger.Error("the collector's own stream can not be written to, captured output for it is thrown away", zap.Error(err))
		}
	}()
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
