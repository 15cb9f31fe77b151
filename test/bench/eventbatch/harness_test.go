// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatch

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
)

// side is one of the processors that are compared.
type side[T any] struct {
	name    string
	factory processor.Factory
	config  func(component.Config) // changes the default configuration; may be nil
	exact   bool                   // as many items come out as go in
}

// signal says how to make and to carry one kind of telemetry.
type signal[T any] struct {
	generate func(s shape, seed int) T
	create   func(processor.Factory, processor.Settings, component.Config, *atomic.Int64) (component.Component, func(context.Context, T) error, error)
}

type shape struct {
	items, producers int
	bare             bool // items without content, for processors that do not look at it
}

// requests keeps a round in the milliseconds, well above the resolution of rusage, and the payload in memory.
func (s shape) requests() int {
	if s.bare {
		return min(20_000, 1_000_000/s.items)
	}
	return min(20_000, 100_000/s.items)
}

// warmUp requests come before the clock runs: streams and groups exist when it does.
const warmUp = 2

type sample struct{ cpu, allocs float64 } // per item

// compare runs the sides in turns, b.N rounds each.
func compare[T any](b *testing.B, sig signal[T], s shape, sides ...side[T]) {
	samples := make([][]sample, len(sides))
	for round := range b.N {
		for i := range sides {
			// The first of a round would otherwise always be the same.
			at := (i + round) % len(sides)
			samples[at] = append(samples[at], measure(b, sig, s, sides[at], round))
		}
	}
	b.ReportMetric(0, "ns/op")
	cpu := make([]float64, len(sides))
	for i, side := range sides {
		cpu[i] = median(samples[i], func(s sample) float64 { return s.cpu })
		b.ReportMetric(cpu[i], side.name+"-cpu-ns/item")
		b.ReportMetric(median(samples[i], func(s sample) float64 { return s.allocs }), side.name+"-allocs/item")
	}
	if len(sides) == 2 {
		b.ReportMetric(cpu[0]/cpu[1], "ratio")
	}
}

func measure[T any](b *testing.B, sig signal[T], s shape, side side[T], round int) sample {
	cfg := side.factory.CreateDefaultConfig()
	if side.config != nil {
		side.config(cfg)
	}
	requests := make([]T, s.requests())
	for i := range requests {
		requests[i] = sig.generate(s, round*len(requests)+i)
	}
	var got atomic.Int64
	c, consume, err := sig.create(side.factory, processortest.NewNopSettings(side.factory.Type()), cfg, &got)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		b.Fatal(err)
	}
	for _, r := range requests[:warmUp] {
		if err := consume(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := cpuTime(b)
	var wg sync.WaitGroup
	for p := range s.producers {
		wg.Go(func() {
			for i := warmUp + p; i < len(requests); i += s.producers {
				if err := consume(context.Background(), requests[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Shutdown(context.Background()); err != nil {
		b.Fatal(err)
	}
	cpu := cpuTime(b) - start
	runtime.ReadMemStats(&after)
	if all := len(requests) * s.items; side.exact && got.Load() != int64(all) {
		b.Fatalf("%s: %d of %d items came out", side.name, got.Load(), all)
	}
	items := (len(requests) - warmUp) * s.items
	return sample{cpu: float64(cpu) / float64(items), allocs: float64(after.Mallocs-before.Mallocs) / float64(items)}
}

// cpuTime is the CPU time of the process so far, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func mustConsumer[C any](c C, err error) C {
	if err != nil {
		panic(err)
	}
	return c
}
