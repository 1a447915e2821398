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
	verdict.Method, verdict.RestartAt = v1alpha1.MethodRestartAt, at
	verdict.Record.Method = v1alpha1.MethodRestartAt
	return verdict
}

func TestRestartOfARolloutWritesRestartAtAndTheRecordAndNothingElse(t *testing.T) {
	w := apiServer(t)
	w.define(t)
	shop := w.namespace(t)
	at := noon.Add(time.Second)
	lender := builder.Deployment(shop, "lender").Replicas(0).Build()
	for _, test := range []struct {
		name   string
		object client.Object
	}{
		{"without annotations", builder.Rollout(shop, "plain").Build()},
		{"with annotations", builder.Rollout(shop, "annotated").Annotated("team/own", "er").TemplateAnnotated("team/tem", "plate").Build()},
		{"restarted before", builder.Rollout(shop, "again").RestartAt(noon.Add(-time.Hour)).Annotated(v1alpha1.LastRestartAnnotation, "former").Build()},
		{"with the template of a Deployment", builder.Rollout(shop, "borrower").TemplateOf("apps/v1", "Deployment", "lender").Build()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.object)
			want := test.object.DeepCopyObject().(*unstructured.Unstructured)
			picture := pictureOf(t, builder.Namespace(shop).Build(), lender, test.object)
			verdict := restartAtOf(workloadIn(t, picture, rolloutKey(shop, test.object.GetName())).Object, at)

			became, err := (&actor{client: w.operator, inventory: picture}).restart(t.Context(), verdict)
			if became != writtenDone || err != nil {
				t.Fatalf("it became %d, %v", became, err)
			}
			got := get(t, w, test.object).(*unstructured.Unstructured)
			if diff := cmp.Diff([]string{"f:" + v1alpha1.LastRestartAnnotation, "f:restartAt"}, fieldsOf(t, got, "fullmesh")); diff != "" {
				t.Errorf("fields of the manager fullmesh (-want +got):\n%s", diff)
			}
			if seen := workloadIn(t, picture, verdict.Workload.Key); !seen.Record.InFlight() || !seen.Object.RestartAt.Equal(at) || seen.Object.TemplateUnknown != "" {
				t.Errorf("the picture does not have the answer at once: %+v", seen.Object)
			}
			want.SetAnnotations(with(want.GetAnnotations(), v1alpha1.LastRestartAnnotation, verdict.Record.String()))
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

			// Made again, it is refused: the generation has moved on.
			if became, err := (&actor{client: w.operator, inventory: picture}).restart(t.Context(), verdict); became != writtenStale || err != nil {
				t.Errorf("made again, it became %d, %v", became, err)
			}
		})
	}
}

// A Rollout whose definition has been taken away is gone as one that was deleted is.
func TestRolloutWhoseKindIsGoneLeavesThePicture(t *testing.T) {
	w := apiServer(t)
	definition := w.define(t)
	shop := w.namespace(t)
	object := builder.Rollout(shop, "cart").Build()
	w.create(t, object)
	picture := pictureOf(t, builder.Namespace(shop).Build(), object)
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
		picture.SetObject(known(t, object))
		became, err := (&actor{client: c, inventory: picture}).restart(t.Context(), restartAtOf(known(t, object), noon))
		if became != writtenStale || err != nil {
			t.Errorf("it became %d, %v", became, err)
		}
		if left := picture.Snapshot().Namespaces[0].Workloads; len(left) > 0 {
			t.Errorf("the picture still has %s", left[0].Key)
		}
	}
}
