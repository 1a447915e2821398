package controllers

import (
	"testing"
	"time"

	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// A watch that was away for a while may tell of another Pod of the same name as a change of the
// former one.
func TestSuccessorOfTheSameNameReplaces(t *testing.T) {
	observer := NewObserver(mesh.Options{}, time.Now)
	observer.take(builder.Namespace("shop").Build())
	db := builder.StatefulSet("shop", "db").Build()
	cut := func(uid string) any {
		pod, err := cutDown(builder.Pod("shop", "db-0").UID(uid).OwnedBy(db).Build())
		if err != nil {
			t.Fatal(err)
		}
		return pod
	}
	observer.take(cut("former"))
	observer.replace(cut("former"), cut("successor"))
	workloads := observer.Inventory.Snapshot().Namespaces[0].Workloads
	if len(workloads) != 1 || workloads[0].Pods.Running != 1 {
		t.Errorf("the picture has %d workloads, the first with %d Pods", len(workloads), workloads[0].Pods.Running)
	}
}
