package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// restartAtOf is the verdict that a Rollout is restarted.
func restartAtOf(object *inventory.Object, at time.Time) *restart.Verdict {
	verdict := restartOf(object)
	verdict.Method, verdict.Restart.Method, verdict.Restart.RestartAt = v1alpha1.MethodRestartAt, v1alpha1.MethodRestartAt, at
	return verdict
}

func TestRestartOfARolloutWritesRestartAtAndNothingElse(t *testing.T) {
	w := apiServer(t)
	w.define(t)
	shop := w.namespace(t)
	at := noon.Add(time.Second)
	lender := builder.Deployment(shop, "lender").Replicas(0).Build()
	for _, test := range []struct {
		name   string
		object client.Object
	}{
		{name: "without annotations", object: builder.Rollout(shop, "plain").Build()},
		{name: "with annotations",
			object: builder.Rollout(shop, "annotated").Annotated("team/own", "er").TemplateAnnotated("team/tem", "plate").Build()},
		{name: "restarted before", object: builder.Rollout(shop, "again").RestartAt(noon.Add(-time.Hour)).Build()},
		{name: "with the template of a Deployment",
			object: builder.Rollout(shop, "borrower").TemplateOf("apps/v1", "Deployment", "lender").Build()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.object)
			want := test.object.DeepCopyObject().(*unstructured.Unstructured)
			seen := inventoryOf(t, builder.Namespace(shop).Build(), lender, test.object)
			verdict := restartAtOf(workloadIn(t, seen, rolloutKey(shop, test.object.GetName())).Object, at)

			if err := w.actor(w.operator, seen).start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			got := get(t, w, test.object).(*unstructured.Unstructured)
			if diff := cmp.Diff([]string{"f:restartAt"}, fieldsOf(t, got, "fullmesh")); diff != "" {
				t.Errorf("fields of the manager fullmesh (-want +got):\n%s", diff)
			}
			if workload := workloadIn(t, seen, verdict.Workload.Key); !workload.InFlight.HasTouched(workload.Object) ||
				!workload.Object.RestartAt.Equal(at) || workload.Object.TemplateUnknown != "" {
				t.Errorf("the inventory does not have the answer at once: %+v", workload.Object)
			}
			if err := unstructured.SetNestedField(want.Object, "2026-11-23T12:00:01Z", "spec", "restartAt"); err != nil {
				t.Fatal(err)
			}
			want.SetGeneration(want.GetGeneration() + 1)
			want.SetResourceVersion(got.GetResourceVersion())
			for _, object := range []client.Object{want, got} {
				object.SetManagedFields(nil)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the Rollout (-want +got):\n%s", diff)
			}

			// Made again, the patch is refused: the generation has moved on.
			made := inventory.FromMeshRestart(&w.ledgerOf(t, test.object)[0])
			if touched, err := w.actor(w.operator, seen).touch(t.Context(), made, verdict.Workload.Object); !touched || err != nil {
				t.Errorf("made again: touched %t, %v", touched, err)
			}
			if again := get(t, w, test.object); again.GetResourceVersion() != got.GetResourceVersion() {
				t.Error("made again, it changes the Rollout again")
			}
		})
	}
}

// A Rollout whose definition has been taken away is gone as one that was deleted is.
func TestRolloutWhoseKindIsGoneLeavesTheInventory(t *testing.T) {
	w := apiServer(t)
	definition := w.define(t)
	shop := w.namespace(t)
	object := builder.Rollout(shop, "cart").Build()
	w.create(t, object)
	seen := inventoryOf(t, builder.Namespace(shop).Build(), object)
	// Its mapper has never seen the definition.
	late, err := client.New(w.config, client.Options{Scheme: testScheme, FieldOwner: FieldOwner})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.operator.List(t.Context(), optionalKinds[0].list()); err != nil {
		t.Fatal(err)
	}
	w.undefine(t.Context(), t, definition)
	for _, c := range []client.Client{w.operator, late} {
		seen.SetObject(known(t, object))
		if err := w.actor(c, seen).start(t.Context(), restartAtOf(known(t, object), noon), nil); err != nil {
			t.Error(err)
		}
		if ledger := w.ledger(t, shop); len(ledger) > 0 {
			t.Errorf("a MeshRestart stays: %+v", ledger)
		}
		if left := seen.Snapshot().Namespaces[0].Workloads; len(left) > 0 {
			t.Errorf("the inventory still has %s", left[0].Key)
		}
	}
}
