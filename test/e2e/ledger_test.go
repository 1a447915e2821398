package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/referee"
)

// ledgerWitness shows the referee every write to MeshRestarts and to what they restart. No workload is deleted
// while it looks.
type ledgerWitness struct {
	journal *cluster.Journal
	// prefix is how the names of the test's namespaces begin. Those of others may be there still.
	prefix string

	mu      sync.Mutex
	ledger  referee.Ledger
	names   map[types.UID]string // that templates name
	deleted map[string]int       // MeshRestarts, by namespace/name
	errs    []error
}

// followLedger begins to follow the ledger of the namespaces with a prefix until the test ends.
func followLedger(t *clusterTest, prefix string) *ledgerWitness {
	t.Helper()
	w := &ledgerWitness{prefix: prefix, names: map[types.UID]string{}, deleted: map[string]int{}}
	var err error
	w.journal, err = t.Follow(t.Context(), func(write *cluster.Write) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := w.see(write); err != nil {
			w.errs = append(w.errs, fmt.Errorf("revision %d, %s %s/%s: %w", write.Revision, write.Resource, write.Namespace, write.Name, err))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.journal.Close)
	return w
}

func (w *ledgerWitness) see(write *cluster.Write) error {
	switch {
	case !strings.HasPrefix(write.Namespace, w.prefix):
	case write.Resource == "meshrestarts.fullmesh.dev" && write.Deleted():
		w.deleted[write.Namespace+"/"+write.Name]++
		return w.ledger.Delete(write.Namespace, write.Name, false)
	case write.Resource == "meshrestarts.fullmesh.dev":
		var object v1alpha1.MeshRestart
		if err := write.Into(&object); err != nil {
			return err
		}
		return w.ledger.Write(inventory.FromMeshRestart(&object))
	case write.Resource == "deployments" && !write.Deleted():
		var object appsv1.Deployment
		if err := write.Into(&object); err != nil {
			return err
		}
		if name := object.Spec.Template.Annotations[v1alpha1.RestartedByAnnotation]; name != w.names[object.UID] {
			w.names[object.UID] = name
			touched, err := w.ledger.Touch(write.Namespace, name, object.UID, object.Generation)
			if err == nil && !touched {
				err = fmt.Errorf("the template names %s, which does not restart it", name)
			}
			return err
		}
	}
	return nil
}

// begun are the restarts of a workload that have touched it, and how often a MeshRestart of theirs was deleted.
func (w *ledgerWitness) begun(t *clusterTest, workload client.Object) (begun []*inventory.Restart, deleted int) {
	t.Helper()
	if err := w.journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	begun = w.ledger.Begun(workload.GetUID())
	for _, r := range begun {
		deleted += w.deleted[r.Namespace+"/"+r.Name]
	}
	return begun, deleted
}

// check fails the test where a promise was broken.
func (w *ledgerWitness) check(t *clusterTest) {
	t.Helper()
	if err := w.journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.errs {
		t.Error(err)
	}
	for _, r := range w.ledger.Unfinished() {
		t.Errorf("MeshRestart %s/%s has not ended", r.Namespace, r.Name)
	}
}

// sent is what the operator sent about one workload, and the API server took. An answer to a process that has died
// may be logged as an error.
type sent struct {
	recorded map[string]int // MeshRestarts, by their names
	touches  []referee.Touch
	evicted  []types.UID
}

// sentAbout reads from the audit log what the operator sent about a workload. What is not as a restart is fails the
// test.
func sentAbout(t *clusterTest, events []cluster.AuditEvent, workload client.Object) sent {
	t.Helper()
	s := sent{recorded: map[string]int{}}
	for i := range events {
		event := &events[i]
		switch {
		case event.DryRun || event.Code >= 300 || event.Namespace != workload.GetNamespace():
		case event.Resource == "meshrestarts" && event.Verb == "create":
			var object v1alpha1.MeshRestart
			if err := json.Unmarshal(event.Object, &object); err != nil {
				t.Fatal(err)
			}
			if object.Spec.Workload.UID == string(workload.GetUID()) {
				s.recorded[object.Name]++
			}
		case event.Subresource == "eviction":
			var object policyv1.Eviction
			if err := json.Unmarshal(event.Object, &object); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(event.Name, workload.GetName()+"-") {
				s.evicted = append(s.evicted, *object.DeleteOptions.Preconditions.UID)
			}
		case slices.Contains(workloadKinds, event.Resource) && event.Verb == "patch" && event.Name == workload.GetName():
			touch, err := referee.ReadTouch(event.Object)
			if err != nil {
				t.Error(err)
			} else if touch.Workload == workload.GetUID() {
				s.touches = append(s.touches, touch)
			}
		}
	}
	return s
}
