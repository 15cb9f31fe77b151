// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"strings"
	"time"

	"github.com/otelwarden/warden/internal/journal"
	"github.com/otelwarden/warden/internal/tree"
)

// maxListed is how many children one event names.
const maxListed = 200

// The words for what a configuration means for a child. One whose keys differ in
// nothing that its process was started with is kept.
var appliedWord = [tree.NumChangeKinds]string{
	tree.ChangeKept: "kept", tree.ChangeUpdated: "kept",
	tree.ChangeRestarted: "restarted", tree.ChangeStarted: "started", tree.ChangeStopped: "stopped",
}

// tellApplied tells what a configuration means: for all children together, and for
// each that is not as it was.
func (e *engine) tellApplied(changes []change) {
	names := map[string][]string{}
	for _, c := range changes {
		if c.id == "" {
			continue
		}
		name := c.id
		if len(c.keys) > 0 {
			name += " (" + strings.Join(c.keys, ", ") + ")"
		}
		names[appliedWord[c.kind]] = append(names[appliedWord[c.kind]], name)
	}
	body := "the supervisor has its configuration applied"
	var attrs []journal.Attr
	for _, of := range []struct{ word, key string }{
		{"kept", journal.KeyConfigKept},
		{"restarted", journal.KeyConfigRestarted},
		{"started", journal.KeyConfigStarted},
		{"stopped", journal.KeyConfigStopped},
	} {
		list := names[of.word]
		attrs = append(attrs, journal.Int(of.key, int64(len(list))))
		if len(list) > 0 {
			body += fmt.Sprintf("; %s: %s", of.word, listed(list))
		}
	}
	e.stageApplied(e.roster.root.info.ID, body, append(attrs, keysOf(changes[0])...))
	for _, c := range changes[1:] {
		if c.kind == tree.ChangeKept {
			continue
		}
		body := fmt.Sprintf("%q is %s by the configuration", c.id, appliedWord[c.kind])
		if len(c.keys) > 0 {
			body += ", changed: " + strings.Join(c.keys, ", ")
		}
		e.stageApplied(c.id, body, append(keysOf(c), journal.String(journal.KeyConfigAction, appliedWord[c.kind])))
	}
}

func listed(names []string) string {
	if over := len(names) - maxListed; over > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), over)
	}
	return strings.Join(names, ", ")
}

func keysOf(c change) []journal.Attr {
	if len(c.keys) == 0 {
		return nil
	}
	return []journal.Attr{journal.String(journal.KeyConfigKeys, strings.Join(c.keys, ","))}
}

// stageApplied is append for children that may not be there yet, or no more.
func (e *engine) stageApplied(id, body string, attrs []journal.Attr) {
	e.journal.Stage(journal.Event{
		Time: time.Now(), Mono: monotonic(),
		Topic: journal.TopicSupervisor, Name: journal.ConfigApplied, Severity: journal.SeverityInfo,
		Body: body, Process: id, Attrs: attrs,
	})
}
