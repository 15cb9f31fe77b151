// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/otelwarden/warden/internal/tree"
)

// everyKey says something else than the default for every key that the tree hears of.
const everyKey = `
strategy: one_for_all
intensity: {max_restarts: 7, period: 1m}
auto_shutdown: any_significant
first_start: retry
children:
  - name: web
    command: [./web]
    restart: transient
    significant: true
    autostart: false
    readiness: {notify: {}}
    start_timeout: 7s
    backoff: {initial_interval: 1s, multiplier: 3, max_interval: 9s, jitter: 0.5, reset_after: 2m}
  - name: pipeline
    restart: temporary
    strategy: rest_for_one
    intensity: {max_restarts: 0, period: 2s}
    auto_shutdown: all_significant
    children:
      - name: crowd
        parallel: true
        backoff: {initial_interval: 0s}
        children:
          - {name: one, command: [./one], start_timeout: 0s, backoff: {initial_interval: 0s}}
  - {name: worker, command: [./worker], restart: temporary, instances: 2}
  - {name: jobs, command: [./job], restart: transient, template: true, start_timeout: 3s, readiness: {exit: {}}}
`

func TestTreeSpec_HoldsEveryKey(t *testing.T) {
	immediate := tree.Backoff{Max: time.Minute, ResetAfter: time.Minute, Multiplier: 2, Jitter: 0.2}
	usual := immediate
	usual.Initial = 500 * time.Millisecond
	want := tree.Supervisor{
		Strategy: tree.OneForAll, MaxRestarts: 7, Period: time.Minute, AutoShutdown: tree.AnySignificant, FirstStart: tree.Retry,
		Children: []tree.Child{
			{
				Name: "web", Restart: tree.Transient, Significant: true,
				Worker:  &tree.Worker{Manual: true, AwaitReady: true, StartTimeout: 7 * time.Second},
				Backoff: tree.Backoff{Initial: time.Second, Multiplier: 3, Max: 9 * time.Second, Jitter: 0.5, ResetAfter: 2 * time.Minute},
			},
			{
				Name: "pipeline", Restart: tree.Temporary, Backoff: usual,
				Supervisor: &tree.Supervisor{
					Strategy: tree.RestForOne, MaxRestarts: 0, Period: 2 * time.Second, AutoShutdown: tree.AllSignificant,
					Children: []tree.Child{{
						Name: "crowd", Backoff: immediate,
						Supervisor: &tree.Supervisor{
							Parallel: true, MaxRestarts: 10, Period: 5 * time.Minute,
							Children: []tree.Child{{Name: "one", Backoff: immediate, Worker: &tree.Worker{}}},
						},
					}},
				},
			},
			{Name: "worker-0", Restart: tree.Temporary, Backoff: usual, Worker: &tree.Worker{StartTimeout: time.Minute}},
			{Name: "worker-1", Restart: tree.Temporary, Backoff: usual, Worker: &tree.Worker{StartTimeout: time.Minute}},
			{
				Name: "jobs", Backoff: usual, // it is restarted itself, whatever its instances are
				Supervisor: &tree.Supervisor{
					MaxRestarts: 7, Period: time.Minute,
					Template: &tree.Child{Name: "jobs", Restart: tree.Transient, Backoff: usual, Worker: &tree.Worker{AwaitReady: true, StartTimeout: 3 * time.Second}},
				},
			},
		},
	}
	config := &loadGood(t, everyKey).SupervisorConfig
	got := treeSpec(config)
	takeData(t, config, &got)
	assert.Equal(t, want, got)

	// A field that the tree learns must be set above, so that its key is not forgotten.
	seen := map[string]bool{}
	noteSet(seen, reflect.ValueOf(got))
	for _, typ := range []reflect.Type{reflect.TypeFor[tree.Supervisor](), reflect.TypeFor[tree.Child](), reflect.TypeFor[tree.Worker](), reflect.TypeFor[tree.Backoff]()} {
		for field := range typ.Fields() {
			switch name := typ.Name() + "." + field.Name; name {
			case "Child.Data": // see takeData
			default:
				assert.Contains(t, seen, name)
			}
		}
	}
}

// takeData removes the data from a specification, having seen that they lead every
// child back to its configuration.
func takeData(t *testing.T, config *SupervisorConfig, spec *tree.Supervisor) {
	require.Len(t, spec.Children, len(config.Children))
	for i := range spec.Children {
		child := &spec.Children[i]
		assert.Same(t, &config.Children[i], child.Data)
		child.Data = nil
		switch {
		case child.Supervisor == nil:
		case child.Supervisor.Template != nil:
			assert.Same(t, &config.Children[i], child.Supervisor.Template.Data)
			child.Supervisor.Template.Data = nil
		default:
			takeData(t, config.Children[i].Supervisor, child.Supervisor)
		}
	}
}

// noteSet notes the fields that are not zero somewhere in v.
func noteSet(seen map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noteSet(seen, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			noteSet(seen, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				seen[v.Type().Name()+"."+v.Type().Field(i).Name] = true
			}
			noteSet(seen, v.Field(i))
		}
	}
}

// What Validate takes, the tree has to take.
func TestTreeSpec_OfAValidConfigurationIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		require.NoError(t, cfg.Validate())
		_, err := tree.New(treeSpec(&cfg.SupervisorConfig), 1)
		require.NoError(t, err)
	})
}

func TestRoster_HoldsEveryChildASupervisorBeforeItsChildren(t *testing.T) {
	now := time.Now()
	r := newRoster(loadGood(t, everyKey), "/run/warden/test", now)
	var ids []string
	instances := map[string]bool{}
	for _, c := range r.children {
		id := c.info.ID
		ids = append(ids, id)
		assert.Same(t, c, r.byID[id])
		assert.Equal(t, now, c.info.Created)
		instance, _ := c.info.Resource.Attributes().Get("service.instance.id")
		instances[instance.Str()] = true
		if id != "" {
			name, _ := c.info.Resource.Attributes().Get("service.name")
			assert.Equal(t, id, name.Str())
		}
		_, isProcess := c.info.Resource.Attributes().Get("supervisor.process.id")
		assert.Equal(t, c.cfg != nil || id == "jobs", isProcess)
		assert.Equal(t, id == "jobs", c.info.Template)
		if c.cfg != nil {
			assert.Equal(t, TypeService, c.info.Type)
		} else {
			assert.Equal(t, TypeSupervisor, c.info.Type)
		}
	}
	assert.Equal(t, []string{"", "web", "pipeline", "pipeline.crowd", "pipeline.crowd.one", "worker-0", "worker-1", "jobs"}, ids)
	assert.Len(t, r.byID, len(ids))
	assert.Len(t, instances, len(ids), "everyone has an id of its own")
	assert.Equal(t, RestartTemporary, r.byID["pipeline"].config.Restart)
	assert.Equal(t, map[string]string{"worker-0": "0", "worker-1": "1"}, map[string]string{
		"worker-0": string(r.byID["worker-0"].cfg.Environment[instanceVariable]),
		"worker-1": string(r.byID["worker-1"].cfg.Environment[instanceVariable]),
	})
}
