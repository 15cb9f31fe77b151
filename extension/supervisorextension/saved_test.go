// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSavedChild_IsReadAsItWasWritten(t *testing.T) {
	// By reflection: a field that is new is among them.
	saved := rapid.MakeCustom[savedChild](rapid.MakeConfig{
		Types: map[reflect.Type]*rapid.Generator[any]{
			reflect.TypeFor[time.Time](): rapid.Map(rapid.Int64(), func(n int64) any {
				if n == 0 {
					return time.Time{}
				}
				return time.Unix(0, n).UTC()
			}),
		},
	})
	rapid.Check(t, func(t *rapid.T) {
		give := saved.Draw(t, "saved")
		var got savedChild
		require.NoError(t, json.Unmarshal(give.encode(), &got))
		assert.Equal(t, give, got)
	})
}
