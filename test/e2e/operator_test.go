package e2e

import (
	"testing"

	"github.com/fullmesh/fullmesh/test/operator"
)

// startOperator runs a replica as the operator's ServiceAccount until the test ends. A panic or a
// data race in it fails the test.
func startOperator(t *testing.T, flags ...string) *operator.Replica {
	t.Helper()
	return shared.fullmesh.Start(t, flags...)
}
