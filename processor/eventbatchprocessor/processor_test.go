// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package eventbatchprocessor

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func TestProcessor_BatchesHoldOneGroupEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.consume(t, records("started/a", "crashed/b", "started/c"))
		f.consume(t, records("crashed/d", "plain"))
		pass(time.Second)
		assert.ElementsMatch(t, [][]string{{"a", "c"}, {"b", "d"}, {"plain"}}, f.sink.got())
	})
}

func TestProcessor_TracesAreGroupedBySpanName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := new(consumertest.TracesSink)
		set, _, _ := settings(t)
		p, err := newTracesProcessor(set, createDefaultConfig().(*Config), next)
		require.NoError(t, err)
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		td := ptrace.NewTraces()
		spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
		for _, name := range []string{"run", "stop", "run"} {
			spans.AppendEmpty().SetName(name)
		}
		require.NoError(t, p.ConsumeTraces(t.Context(), td))
		require.NoError(t, p.Shutdown(t.Context()))
		var got []string
		for _, td := range next.AllTraces() {
			spans := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
			got = append(got, fmt.Sprint(spans.At(0).Name(), spans.Len()))
		}
		assert.ElementsMatch(t, []string{"run2", "stop1"}, got)
	})
}

func TestProcessor_ABatchLeavesWhenItIsLargeEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.SendBatchSize, c.Timeout = 3, time.Hour })
		f.consume(t, records("a", "b"))
		synctest.Wait()
		assert.Empty(t, f.sink.got())
		f.consume(t, records("c", "d"))
		synctest.Wait()
		assert.Equal(t, [][]string{{"a", "b", "c", "d"}}, f.sink.got())
	})
}

func TestProcessor_ABatchLeavesWhenItsFirstItemHasWaitedForTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
		f.consume(t, records("x/1"))
		time.Sleep(60 * time.Millisecond)
		f.consume(t, records("x/2", "y/3"))
		time.Sleep(39 * time.Millisecond)
		synctest.Wait()
		assert.Empty(t, f.sink.got(), "99 ms after the first item")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, [][]string{{"1", "2"}}, f.sink.got(), "101 ms")
		time.Sleep(60 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, [][]string{{"1", "2"}, {"3"}}, f.sink.got(), "the other group, 101 ms after its own first item")
	})
}

func TestProcessor_ItemsThatCameDuringASendDoNotWaitLongerForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := build(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
		sent := map[string]time.Duration{}
		begin := time.Now()
		f.sink.before = func(_ context.Context, bodies []string) error {
			f.sink.mu.Lock()
			sent[bodies[0]] = time.Since(begin)
			f.sink.mu.Unlock()
			time.Sleep(80 * time.Millisecond)
			return nil
		}
		require.NoError(t, f.Start(t.Context(), componenttest.NewNopHost()))
		f.consume(t, records("a/1")) // sent from 100 to 180 ms
		pass(120 * time.Millisecond)
		f.consume(t, records("a/2"))
		pass(30 * time.Millisecond)
		f.consume(t, records("b/3"))
		pass(time.Second)
		assert.Equal(t, map[string]time.Duration{"1": 100 * time.Millisecond, "2": 220 * time.Millisecond, "3": 250 * time.Millisecond}, sent)
	})
}

func TestProcessor_BatchesAreNotLargerThanTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.SendBatchSize, c.SendBatchMaxSize = 3, 3 })
		f.consume(t, records("1", "2"))
		f.consume(t, records("3", "4", "5", "6", "7"))
		pass(time.Second)
		assert.Equal(t, [][]string{{"1", "2", "3"}, {"4", "5", "6"}, {"7"}}, f.sink.got())
	})
}

func TestProcessor_ZeroTimeoutOrZeroSizeSendsAtOnce(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"timeout":         func(c *Config) { c.Timeout = 0 },
		"send_batch_size": func(c *Config) { c.SendBatchSize = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, change)
				f.consume(t, records("a"))
				synctest.Wait()
				assert.Equal(t, [][]string{{"a"}}, f.sink.got())
			})
		})
	}
}

func TestProcessor_EqualResourcesOfABatchAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		f.consume(t, records("a", "b"))
		f.consume(t, records("c"))
		other := records("d")
		other.ResourceLogs().At(0).Resource().Attributes().PutStr("service.name", "other")
		f.consume(t, other)
		f.consume(t, records("e"))
		pass(time.Second)
		require.Len(t, f.sink.data, 1)
		rls := f.sink.data[0].ResourceLogs()
		require.Equal(t, 2, rls.Len())
		assert.Equal(t, 1, rls.At(0).ScopeLogs().Len())
		assert.Equal(t, 4, rls.At(0).ScopeLogs().At(0).LogRecords().Len())
		assert.Equal(t, []string{"a", "b", "c", "e", "d"}, f.sink.got()[0])
	})
}

func TestProcessor_GroupsBeyondTheLimitShareOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.MaxGroups = 2 })
		f.consume(t, records("a/1", "b/2", "c/3", "d/4", "a/5"))
		f.consume(t, records("g/0"))
		assert.Equal(t, int64(3), f.observe().overflow)
		assert.Equal(t, 1, f.logs.FilterMessageSnippet("share the overflow group").Len())
		pass(time.Second)
		assert.ElementsMatch(t, [][]string{{"1", "5"}, {"2"}, {"3", "4", "0"}}, f.sink.got())
		// Groups that have gone quiet give way.
		f.consume(t, records("e/6", "f/7"))
		pass(time.Second)
		assert.ElementsMatch(t, [][]string{{"1", "5"}, {"2"}, {"3", "4", "0"}, {"6"}, {"7"}}, f.sink.got())
		f.consume(t, records("a/8"))
		assert.Len(t, f.partitions.single.groups, 2)
		f.consume(t, records("f/9"))
		pass(time.Second)
		assert.ElementsMatch(t, [][]string{{"1", "5"}, {"2"}, {"3", "4", "0"}, {"6"}, {"7"}, {"8"}, {"9"}}, f.sink.got())
		assert.Equal(t, int64(3), f.observe().overflow)
	})
}

func TestProcessor_MetadataKeepsRequestsApartAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.MetadataKeys, c.MetadataCardinalityLimit = []string{"TENANT"}, 3 })
		for _, r := range []struct {
			ctx  context.Context
			body string
		}{
			{tenant(t.Context(), "red"), "1"},
			{tenant(t.Context(), "blue"), "2"},
			{tenant(t.Context(), "red"), "3"},
			{t.Context(), "4"},
		} {
			require.NoError(t, f.ConsumeLogs(r.ctx, records(r.body)))
		}
		err := f.ConsumeLogs(tenant(t.Context(), "red", "blue"), records("5"))
		require.Error(t, err)
		assert.True(t, consumererror.IsPermanent(err))
		assert.ErrorContains(t, err, "'metadata_cardinality_limit'")

		pass(time.Second)
		got := map[string][]string{}
		for i, b := range f.sink.got() {
			got[fmt.Sprint(client.FromContext(f.sink.contexts[i]).Metadata.Get("tenant"))] = b
		}
		assert.Equal(t, map[string][]string{"[red]": {"1", "3"}, "[blue]": {"2"}, "[]": {"4"}}, got)
	})
}

func TestProcessor_AnEmptyRequestLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(c *Config) { c.Acknowledge = AcknowledgeDelivered })
		f.consume(t, plog.NewLogs())
		f.consume(t, records())
		require.NoError(t, f.Shutdown(t.Context()))
		assert.Empty(t, f.sink.got())
	})
}

func TestProcessor_GroupKeys(t *testing.T) {
	request := func() plog.Logs {
		ld := plog.NewLogs()
		for _, service := range []string{"web", "db"} {
			rl := ld.ResourceLogs().AppendEmpty()
			rl.Resource().Attributes().PutStr("service.name", service)
			for _, scope := range []string{"x", "y"} {
				sl := rl.ScopeLogs().AppendEmpty()
				sl.Scope().SetName(scope)
				sl.Scope().Attributes().PutBool("first", scope == "x")
				for i, n := range []plog.SeverityNumber{plog.SeverityNumberInfo, plog.SeverityNumberInfo2, plog.SeverityNumberError} {
					r := sl.LogRecords().AppendEmpty()
					r.SetSeverityNumber(n)
					r.Attributes().PutInt("code", int64(i%2))
					r.Body().SetStr(fmt.Sprintf("%s%s%d", service, scope, i))
				}
			}
		}
		return ld
	}
	for _, tt := range []struct {
		keys []string
		want [][]string
	}{
		{[]string{`resource.attributes["service.name"]`}, [][]string{
			{"webx0", "webx1", "webx2", "weby0", "weby1", "weby2"},
			{"dbx0", "dbx1", "dbx2", "dby0", "dby1", "dby2"},
		}},
		{[]string{"scope.name"}, [][]string{
			{"webx0", "webx1", "webx2", "dbx0", "dbx1", "dbx2"},
			{"weby0", "weby1", "weby2", "dby0", "dby1", "dby2"},
		}},
		{[]string{`scope.attributes["first"]`, `resource.attributes["service.name"]`}, [][]string{
			{"webx0", "webx1", "webx2"}, {"weby0", "weby1", "weby2"}, {"dbx0", "dbx1", "dbx2"}, {"dby0", "dby1", "dby2"},
		}},
		{[]string{"severity"}, [][]string{
			{"webx0", "webx1", "weby0", "weby1", "dbx0", "dbx1", "dby0", "dby1"},
			{"webx2", "weby2", "dbx2", "dby2"},
		}},
		{[]string{`attributes["code"]`, "scope.name"}, [][]string{
			{"webx0", "webx2", "dbx0", "dbx2"}, {"webx1", "dbx1"}, {"weby0", "weby2", "dby0", "dby2"}, {"weby1", "dby1"},
		}},
		{[]string{`attributes["missing"]`}, [][]string{
			{"webx0", "webx1", "webx2", "weby0", "weby1", "weby2", "dbx0", "dbx1", "dbx2", "dby0", "dby1", "dby2"},
		}},
	} {
		t.Run(fmt.Sprint(tt.keys), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, func(c *Config) { c.Logs.GroupBy = tt.keys })
				f.consume(t, request())
				pass(time.Second)
				assert.ElementsMatch(t, tt.want, f.sink.got())
			})
		})
	}
}
