// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatus_GivesBackTheDataOfTheSpecificationInForce(t *testing.T) {
	worker := func(name, data string) Child { return Child{Name: name, Worker: &Worker{}, Data: data} }
	instance := worker("", "instance")
	tree, err := New(Supervisor{Children: []Child{
		worker("a", "declared"),
		{Name: "t", Supervisor: &Supervisor{Template: &instance}, Data: "template"},
	}}, 1)
	require.NoError(t, err)
	data := func(id string) any {
		s, ok := tree.Status(id)
		require.True(t, ok, id)
		return s.Data
	}
	tree.Step(0, Start{})
	tree.Step(0, Spawned{ID: "a", Run: 1})
	tree.Step(0, Command{Op: OpAdd, ID: "t", Child: &Child{Name: "x"}})
	require.Nil(t, data(""))
	require.Equal(t, "declared", data("a"))
	require.Equal(t, "template", data("t"))
	require.Equal(t, "instance", data("t.x"))

	tree.Step(0, Command{Op: OpStop, ID: "a"})
	tree.Step(0, Exited{ID: "a", Run: 1, Reason: ExitStopped})
	tree.Step(0, Command{Op: OpDelete, ID: "a"})
	added := worker("a", "added")
	tree.Step(0, Command{Op: OpAdd, Child: &added})
	require.Equal(t, "added", data("a"))
}
