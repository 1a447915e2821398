package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestRestartWritesOneAnnotationOfTheTemplateAndNothingElse(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name   string
		object client.Object
	}{
		{name: "a Deployment without annotations", object: builder.Deployment(shop, "plain").Build()},
		{name: "a Deployment with annotations",
			object: builder.Deployment(shop, "annotated").Annotated("team/own", "er").TemplateAnnotated("team/tem", "plate").Build()},
		{name: "a StatefulSet without annotations", object: builder.StatefulSet(shop, "plain").Build()},
		{name: "a StatefulSet with annotations on itself alone",
			object: builder.StatefulSet(shop, "annotated").Annotated("team/own", "er").Build()},
		{name: "a StatefulSet with annotations on the template alone",
			object: builder.StatefulSet(shop, "template").TemplateAnnotated("team/tem", "plate").Build()},
		{name: "a DaemonSet", object: builder.DaemonSet(shop, "plain").Build()},
		{name: "a workload that was restarted before",
			object: builder.Deployment(shop, "again").TemplateAnnotated(v1alpha1.RestartedByAnnotation, "former").Build()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.object)
			want := test.object.DeepCopyObject().(client.Object)
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), test.object))
			verdict := restartOf(known(t, test.object))

			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			got := get(t, w, test.object)
			if diff := cmp.Diff([]string{"f:" + v1alpha1.RestartedByAnnotation}, fieldsOf(t, got, FieldOwner)); diff != "" {
				t.Errorf("fields of the manager %s (-want +got):\n%s", FieldOwner, diff)
			}
			if seen := workloadIn(t, a.inventory, verdict.Workload.Key); !seen.InFlight.HasTouched(seen.Object) ||
				seen.Object.Generation != got.GetGeneration() {
				t.Errorf("the inventory does not have the answer at once: %+v", seen)
			}
			templateOf(want).Annotations = with(templateOf(want).Annotations, v1alpha1.RestartedByAnnotation, verdict.Restart.Name)
			want.SetGeneration(want.GetGeneration() + 1)
			want.SetResourceVersion(got.GetResourceVersion())
			for _, object := range []client.Object{want, got} {
				object.SetManagedFields(nil)
				// The API server's own, from before apps/v1.
				delete(object.GetAnnotations(), appsv1.DeprecatedTemplateGeneration)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the workload (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMeshRestartSaysWhatIsIntendedAndGoesWithItsWorkload(t *testing.T) {
	w := apiServer(t)
	w.define(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name   string
		object client.Object
		method v1alpha1.RestartMethod
		owner  string
	}{
		{name: "a Deployment", object: builder.Deployment(shop, "web").Build(), method: v1alpha1.MethodRolloutRestart,
			owner: "apps/v1 Deployment web"},
		{name: "a StatefulSet", object: builder.StatefulSet(shop, "db").Build(), method: v1alpha1.MethodEviction,
			owner: "apps/v1 StatefulSet db"},
		{name: "a ReplicaSet", object: builder.ReplicaSet(shop, "alone").Build(), method: v1alpha1.MethodEviction,
			owner: "apps/v1 ReplicaSet alone"},
		{name: "a Rollout", object: builder.Rollout(shop, "cart").Build(), method: v1alpha1.MethodRestartAt,
			owner: "argoproj.io/v1alpha1 Rollout cart"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.object)
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), test.object))
			verdict := restartOf(known(t, test.object))
			intended := verdict.Restart
			intended.Method, intended.Excused = test.method, 2
			intended.Probes = inventory.Probes{Namespace: 1}
			intended.Requests = v1alpha1.RetryRequests{Workload: "a", Namespace: "b", Policy: "c"}
			if test.method == v1alpha1.MethodRestartAt {
				intended.RestartAt = noon
			}
			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			got := get(t, w, &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: intended.Name}})
			if want := intended.MeshRestart(); !equalSpecs(&want.Spec, &got.Spec) {
				t.Errorf("the spec (-want +got):\n%s", cmp.Diff(want.Spec, got.Spec))
			}
			if !inventory.FromMeshRestart(got).InFlight() || len(got.OwnerReferences) != 1 {
				t.Fatalf("the MeshRestart is %+v", got)
			}
			owner := got.OwnerReferences[0]
			if is := owner.APIVersion + " " + owner.Kind + " " + owner.Name; is != test.owner || owner.UID != test.object.GetUID() ||
				owner.Controller != nil || owner.BlockOwnerDeletion != nil {
				t.Errorf("its owner is %+v, want %s by its UID, neither as a controller nor blocking", owner, test.owner)
			}
		})
	}
}

// Its owner may delete the workload, and with it what opens the breaker of other namespaces again.
func TestMeshRestartOfAPolicysProbeStaysWithoutItsWorkload(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Build()
	w.create(t, object)
	a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
	verdict := restartOf(known(t, object))
	verdict.Restart.Probes = inventory.Probes{Policy: 3, Namespace: 1}
	if err := a.start(t.Context(), verdict, nil); err != nil {
		t.Fatal(err)
	}
	got := get(t, w, &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: verdict.Restart.Name}})
	if want := verdict.Restart.MeshRestart(); !equalSpecs(&want.Spec, &got.Spec) || len(got.OwnerReferences) > 0 {
		t.Errorf("its owners are %v, its spec (-want +got):\n%s", got.OwnerReferences, cmp.Diff(want.Spec, got.Spec))
	}
}

// What happened between the decision and the restart.
func TestRestartLooksAgainWhereTheWorkloadHasMovedOn(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name    string
		then    func(t *testing.T, object *appsv1.StatefulSet)
		touched bool
	}{
		{
			name: "its status has changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				object.Status.Replicas, object.Status.ReadyReplicas = 1, 1
				if err := w.admin.Status().Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			},
			touched: true,
		},
		{
			name: "its labels have changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"metadata":{"labels":{"team":"a"}}}`)
			},
			touched: true,
		},
		{
			name: "its own annotations have changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"metadata":{"annotations":null}}`)
			},
			touched: true,
		},
		{
			name: "its template has its first annotation",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"spec":{"template":{"metadata":{"annotations":{"team/tem":"plate"}}}}}`)
			},
		},
		{
			name: "it was scaled",
			then: func(t *testing.T, object *appsv1.StatefulSet) { w.patch(t, object, `{"spec":{"replicas":3}}`) },
		},
		{
			name: "it was scaled and scaled back",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"spec":{"replicas":3}}`)
				w.patch(t, object, `{"spec":{"replicas":1}}`)
			},
		},
		{
			name: "it was deleted and created again",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				if err := w.admin.Delete(t.Context(), object); err != nil {
					t.Fatal(err)
				}
				w.create(t, builder.StatefulSet(shop, object.Name).Build())
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := builder.StatefulSet(shop, strings.ReplaceAll(test.name, " ", "-")).Annotated("team/own", "er").Build()
			w.create(t, object)
			verdict := restartOf(known(t, object))
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
			test.then(t, object)
			before := get(t, w, object).DeepCopy()

			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			got := get(t, w, object)
			changes := a.recorder.Memory().SpecChanges[verdict.Workload.Object.UID].InARow
			known := slices.ContainsFunc(w.ledger(t, shop), func(r v1alpha1.MeshRestart) bool { return r.Name == verdict.Restart.Name })
			if !test.touched {
				if diff := cmp.Diff(before, got); diff != "" {
					t.Errorf("something was written (-before +after):\n%s", diff)
				}
				if known || changes != 1 {
					t.Errorf("its MeshRestart stays: %t; %d changes of its spec are remembered", known, changes)
				}
				return
			}
			if got.Spec.Template.Annotations[v1alpha1.RestartedByAnnotation] != verdict.Restart.Name || !known || changes != 0 {
				t.Errorf("restarted by %v; there is a MeshRestart: %t; %d changes of its spec are remembered", got.Spec.Template.Annotations, known,
					changes)
			}
		})
	}
}

// finishedPatch is a merge patch of a MeshRestart's status that ends it.
func finishedPatch(result v1alpha1.RestartResult) string {
	return fmt.Sprintf(`{"status":{"endTime":"2026-11-23T12:00:00Z","conditions":[{"type":"Finished","status":"True","reason":%q,"message":"",`+
		`"lastTransitionTime":"2026-11-23T12:00:00Z"}]}}`, result)
}

// Whoever makes the same attempt again, with the knowledge of before it, changes nothing.
func TestRestartIsNotMadeTwice(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Build()
	w.create(t, object)
	verdict := restartOf(known(t, object))
	again := func() *acting { return w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object)) }
	if err := again().start(t.Context(), verdict, nil); err != nil {
		t.Fatal(err)
	}
	before := get(t, w, object.DeepCopy())

	second := again()
	if err := second.start(t.Context(), verdict, nil); err != nil {
		t.Error(err)
	}
	if seen := workloadIn(t, second.inventory, verdict.Workload.Key); seen.InFlight == nil || seen.InFlight.Pending() {
		t.Errorf("the MeshRestart of the first attempt is not known: %+v", seen.InFlight)
	}
	touched, err := again().touch(t.Context(), inventory.FromMeshRestart(&w.ledger(t, shop)[0]), verdict.Workload.Object)
	if !touched || err != nil {
		t.Errorf("the patch alone, again: touched %t, %v", touched, err)
	}
	if diff := cmp.Diff(before, get(t, w, object.DeepCopy())); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
	if ledger := w.ledger(t, shop); len(ledger) != 1 {
		t.Errorf("there are %d MeshRestarts", len(ledger))
	}
}

// Another attempt of another process has the name, whatever it says.
func TestAttemptOfAnotherProcessIsNotCarriedOn(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Build()
	w.create(t, object)
	verdict := restartOf(known(t, object))
	w.create(t, verdict.Restart.MeshRestart())
	before := get(t, w, object.DeepCopy())
	a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
	if err := a.start(t.Context(), verdict, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, get(t, w, object.DeepCopy())); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
}

// A workload that is gone is no error, and the inventory does not keep it, whichever comes first: the
// answer or the informer's news.
func TestWhatIsGoneLeavesTheInventory(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)

	t.Run("the informer comes after the refusal", func(t *testing.T) {
		object := builder.Deployment(shop, "refused").Build()
		w.create(t, object)
		a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
		if err := w.admin.Delete(t.Context(), object.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		if err := a.start(t.Context(), restartOf(known(t, object)), nil); err != nil {
			t.Error(err)
		}
		if left := a.inventory.Snapshot().Namespaces[0]; len(left.Workloads)+len(left.Restarts) > 0 {
			t.Errorf("the inventory still has %d workloads and %d MeshRestarts", len(left.Workloads), len(left.Restarts))
		}
		if ledger := w.ledger(t, shop); len(ledger) > 0 {
			t.Errorf("there is a MeshRestart of a workload that is gone: %+v", ledger)
		}
	})
	t.Run("the informer comes before the answer", func(t *testing.T) {
		object := builder.Deployment(shop, "answered").Build()
		w.create(t, object)
		known := known(t, object)
		seen := inventoryOf(t, builder.Namespace(shop).Build(), object)
		late := intercept(t, w, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, target client.Object, patch client.Patch, options ...client.PatchOption) error {
				err := c.Patch(ctx, target, patch, options...)
				seen.DeleteObject(known)
				return err
			},
		})
		if err := w.actor(late, seen).start(t.Context(), restartOf(known), nil); err != nil {
			t.Error(err)
		}
		if left := seen.Snapshot().Namespaces[0].Workloads; len(left) > 0 {
			t.Errorf("the inventory has %s again", left[0].Key)
		}
	})
}

func TestFinishReplacesTheStatusThatItSaw(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	status := func(t *testing.T, r *v1alpha1.MeshRestart, patch string) {
		t.Helper()
		if err := w.admin.Status().Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		then    func(t *testing.T, r *v1alpha1.MeshRestart)
		written bool
	}{
		{name: "nothing has happened since", then: func(*testing.T, *v1alpha1.MeshRestart) {}, written: true},
		{name: "another round of evictions was written",
			then: func(t *testing.T, r *v1alpha1.MeshRestart) { status(t, r, `{"status":{"evicting":["a"]}}`) }},
		{name: "somebody else has written how it ended", then: func(t *testing.T, r *v1alpha1.MeshRestart) {
			status(t, r, finishedPatch(v1alpha1.ResultFailed))
		}},
		{name: "it was deleted", then: func(t *testing.T, r *v1alpha1.MeshRestart) {
			if err := w.admin.Delete(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "it was deleted and created again", then: func(t *testing.T, r *v1alpha1.MeshRestart) {
			again := &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}, Spec: r.Spec}
			if err := w.admin.Delete(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			w.create(t, again)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, object, begun := w.restarted(t, shop, strings.ReplaceAll(test.name, " ", "-"))
			verdict := &restart.Verdict{Workload: begun, Step: restart.StepFinish,
				Restart: begun.InFlight.Ended(v1alpha1.ResultSucceeded, "Late.", noon)}
			read := func() *v1alpha1.MeshRestart {
				var r v1alpha1.MeshRestart
				key := client.ObjectKey{Namespace: shop, Name: begun.InFlight.Name}
				if err := client.IgnoreNotFound(w.admin.Get(t.Context(), key, &r)); err != nil {
					t.Fatal(err)
				}
				return &r
			}
			test.then(t, read())
			before, touched := read(), get(t, w, object.DeepCopy())

			if err := a.finish(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(touched, get(t, w, object.DeepCopy())); diff != "" {
				t.Errorf("the end of a restart changed its workload (-before +after):\n%s", diff)
			}
			if sent := a.events.take(); (len(sent) == 1) != test.written {
				t.Errorf("Events are %q", sent)
			}
			got := read()
			if !test.written {
				if diff := cmp.Diff(before, got); diff != "" {
					t.Errorf("something was written (-before +after):\n%s", diff)
				}
				return
			}
			want := []metav1.Condition{{Type: v1alpha1.ConditionFinished, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "Late.",
				LastTransitionTime: metav1.NewTime(noon)}}
			if diff := cmp.Diff(want, got.Status.Conditions); diff != "" || !got.Status.EndTime.Time.Equal(noon) {
				t.Errorf("it ended at %s (-want +got):\n%s", got.Status.EndTime, diff)
			}
			if seen := workloadIn(t, a.inventory, begun.Key); seen.InFlight != nil || seen.Last.Result != v1alpha1.ResultSucceeded {
				t.Errorf("the inventory does not have the answer at once: %+v", seen.Last)
			}
		})
	}
}

// What the API server does not admit is told from what has moved on: it will not be admitted the next
// time either. Nothing stays of it.
func TestRestartThatIsNotAdmitted(t *testing.T) {
	w := apiServer(t)
	// Forty bytes below what the annotations of a template may have together.
	almostTooLong := strings.Repeat("x", 256*1024-40-len("team/notes"))
	for _, test := range []struct {
		name   string
		object func(shop string) *appsv1.Deployment
		refuse func(t *testing.T, shop string)
		says   string
		// outcome is what is remembered, where it is not that admission refused the restart.
		outcome restart.CheckOutcome
	}{
		{
			name:   "by a policy",
			refuse: func(t *testing.T, shop string) { w.refuseByPolicy(t, shop, "object.metadata.generation == 1") },
			says:   "denied request",
		},
		{
			name: "by a webhook that is down",
			refuse: func(t *testing.T, shop string) {
				w.refuseByClosedWebhook(t, shop, "audit.example.com",
					admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
					admissionregistrationv1.Update)
			},
			says: "failed calling webhook",
		},
		{
			name: "because the annotation no longer fits in",
			object: func(shop string) *appsv1.Deployment {
				return builder.Deployment(shop, "web").TemplateAnnotated("team/notes", almostTooLong).Build()
			},
			says: "Too long",
		},
		{
			name: "because the namespace may have no MeshRestarts",
			refuse: func(t *testing.T, shop string) {
				none := corev1.ResourceList{"count/meshrestarts.fullmesh.dev": resource.MustParse("0")}
				w.quota(t, none, none, (&inventory.Restart{
					Namespace: shop, Name: "try", Workload: mesh.Key{Group: "apps", Kind: "Deployment", Namespace: shop, Name: "try"},
					WorkloadUID: "try", Policy: "try", Cause: inventory.Cause{Finding: v1alpha1.FindingMissing}, Method: v1alpha1.MethodEviction, InputsHash: "v1-try", Attempt: 1,
				}).MeshRestart())
			},
			says:    "exceeded quota: team, requested: count/meshrestarts.fullmesh.dev=1, used: count/meshrestarts.fullmesh.dev=0",
			outcome: restart.CheckNotRecorded,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			shop := w.namespace(t)
			object := builder.Deployment(shop, "web").Build()
			if test.object != nil {
				object = test.object(shop)
			}
			w.create(t, object)
			if test.refuse != nil {
				test.refuse(t, shop)
			}
			before := get(t, w, object).DeepCopy()
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
			verdict := restartOf(known(t, object))
			a.inventory.AddPendingRestart(verdict.Restart)
			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Error(err)
			}
			want := restart.CheckRefused
			if test.outcome != 0 {
				want = test.outcome
			}
			if answer := a.checker.Answers(a.inventory.Snapshot())[verdict.CheckKey]; answer.Outcome != want ||
				!strings.Contains(answer.Message, test.says) {
				t.Errorf("remembered is %+v", answer)
			}
			if sent := a.events.take(); len(sent) != 1 || !strings.HasPrefix(sent[0], "Warning RefusedByAdmission on Deployment web: ") {
				t.Errorf("Events are %q", sent)
			}
			if diff := cmp.Diff(before, get(t, w, object)); diff != "" {
				t.Errorf("something was written (-before +after):\n%s", diff)
			}
			if ledger, seen := w.ledger(t, shop), a.inventory.Snapshot().Namespaces[0].Restarts; len(ledger)+len(seen) > 0 {
				t.Errorf("of the attempt stays %d in the cluster and %d in the inventory", len(ledger), len(seen))
			}
		})
	}
}

// A webhook may answer with a message of any length, which is in the sentence of how evictions ended.
func TestEndOfARestartIsWrittenHoweverLongItsMessage(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Build()
	w.create(t, object)
	a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
	if err := a.start(t.Context(), restartOf(known(t, object)), nil); err != nil {
		t.Fatal(err)
	}
	begun := workloadIn(t, a.inventory, known(t, object).Key())
	ended := begun.InFlight.Ended(v1alpha1.ResultFailed, strings.Repeat("refusé ", 10000), noon)
	if err := a.finish(t.Context(), &restart.Verdict{Workload: begun, Step: restart.StepFinish, Restart: ended}, nil); err != nil {
		t.Fatal(err)
	}
	if got := inventory.FromMeshRestart(&w.ledger(t, shop)[0]); got.Result != v1alpha1.ResultFailed || len(got.Message) > longestMessage {
		t.Errorf("it has the result %s and a message of %d bytes", got.Result, len(got.Message))
	}
}

// An answer that is taken in after the informer has forgotten a MeshRestart brings it back. It must not count forever.
func TestMeshRestartThatIsGoneLeavesTheInventory(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name string
		do   func(a *acting, workload *inventory.Workload) error
	}{
		{name: "when its end is written", do: func(a *acting, workload *inventory.Workload) error {
			return a.finish(t.Context(), &restart.Verdict{Workload: workload, Restart: workload.InFlight.Ended(v1alpha1.ResultSucceeded, "", noon)},
				nil)
		}},
		{name: "when it is deleted", do: func(a *acting, workload *inventory.Workload) error {
			return a.deleteRestart(t.Context(), workload.InFlight)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, object, workload := w.restarted(t, shop, strings.ReplaceAll(test.name, " ", "-"))
			if err := w.admin.Delete(t.Context(), &w.ledgerOf(t, object)[0]); err != nil {
				t.Fatal(err)
			}
			if err := test.do(a, workload); err != nil {
				t.Error(err)
			}
			if left := workloadIn(t, a.inventory, workload.Key).Restarts; len(left) > 0 {
				t.Errorf("the inventory still has %s", left[0].Name)
			}
		})
	}
}

// Where its status has moved on, it is known how, however far the informer is behind: otherwise the same write is
// made again and again.
func TestStatusThatHasMovedOnIsTakenIn(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Build()
	w.create(t, object)
	a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
	if err := a.start(t.Context(), restartOf(known(t, object)), nil); err != nil {
		t.Fatal(err)
	}
	workload := workloadIn(t, a.inventory, known(t, object).Key())
	for range 2 {
		if err := a.finish(t.Context(), &restart.Verdict{Workload: workload,
			Restart: workload.InFlight.Ended(v1alpha1.ResultSucceeded, "", noon)}, nil); err != nil {
			t.Fatal(err)
		}
		// As an informer that has not heard of the end would have it.
		a.inventory = inventoryOf(t, builder.Namespace(shop).Build(), object)
		a.inventory.SetRestart(workload.InFlight)
	}
	if err := a.finish(t.Context(), &restart.Verdict{Workload: workload, Restart: workload.InFlight.Ended(v1alpha1.ResultFailed, "", noon)},
		nil); err != nil {
		t.Fatal(err)
	}
	if seen := workloadIn(t, a.inventory, workload.Key); seen.InFlight != nil || seen.Last.Result != v1alpha1.ResultSucceeded {
		t.Errorf("the inventory has %+v", seen.Newest())
	}
}

// A ReplicaSet may be adopted while its Pods are evicted. It is no workload any more, and what was begun is void.
func TestMeshRestartOfAnAdoptedReplicaSetIsVoid(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	deployment := builder.Deployment(shop, "web").Build()
	w.create(t, deployment)
	for _, test := range []struct {
		name  string
		owner metav1.OwnerReference
	}{
		{name: "by a Deployment", owner: builder.ControlledBy(deployment)},
		{name: "by another kind", owner: builder.ControlledByOther("example.com/v1", "Fleet", "web", "fleet")},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := builder.ReplicaSet(shop, strings.ToLower(strings.ReplaceAll(test.name, " ", "-"))).Build()
			w.create(t, set)
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), set))
			verdict := restartOf(known(t, set))
			verdict.Restart.Method = v1alpha1.MethodEviction
			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			begun := workloadIn(t, a.inventory, verdict.Workload.Key).InFlight
			set.OwnerReferences = []metav1.OwnerReference{test.owner}
			if err := w.admin.Update(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			if err := a.recheck(t.Context(), begun); err != nil {
				t.Error(err)
			}
			if ledger := w.ledger(t, shop); len(ledger) > 0 {
				t.Errorf("the MeshRestart stays: %+v", ledger[0].Spec.Workload)
			}
		})
	}
}

// Nobody is told that a restart was refused where the namespace is on its way out.
func TestRestartInANamespaceThatGoesIsLeftAlone(t *testing.T) {
	w := apiServer(t)
	leaving := w.namespace(t)
	if err := w.admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: leaving}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, namespace string }{
		{name: "it is being deleted", namespace: leaving},
		{name: "it is gone", namespace: "never-was"},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := known(t, builder.Deployment(test.namespace, "web").Build())
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(test.namespace).Build(), object))
			verdict := restartOf(object)
			a.inventory.AddPendingRestart(verdict.Restart)
			if err := a.start(t.Context(), verdict, nil); !errors.Is(err, errRecheckLater) {
				t.Errorf("the error is %v", err)
			}
			if sent, answers := a.events.take(), a.checker.Answers(a.inventory.Snapshot()); len(sent)+len(answers) > 0 {
				t.Errorf("Events are %q, and remembered is %v", sent, answers)
			}
			if left := a.inventory.Snapshot().Namespaces[0].Restarts; len(left) > 0 {
				t.Errorf("it still counts: %+v", left)
			}
		})
	}
}

// An API server with an older definition does not know every field, and says so (strict field validation).
func TestMeshRestartThatTheDefinitionDoesNotKnowIsAHold(t *testing.T) {
	object := known(t, builder.Deployment("shop", "web").Build())
	c := answering(interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return apierrors.NewBadRequest(`strict decoding error: unknown field "spec.excused"`)
		},
	})
	a := actorOf(c, c, inventoryOf(t, builder.Namespace("shop").Build(), object))
	verdict := restartOf(object)
	if err := a.start(t.Context(), verdict, nil); err != nil {
		t.Error(err)
	}
	if answer := a.checker.Answers(a.inventory.Snapshot())[verdict.CheckKey]; answer.Outcome != restart.CheckRefused ||
		!strings.Contains(answer.Message, "spec.excused") {
		t.Errorf("remembered is %+v", answer)
	}
}

func TestKindsThatAreNeverRestartedAreNotWritten(t *testing.T) {
	for _, object := range []client.Object{
		builder.Job("shop", "web").Build(),
		builder.CronJob("shop", "web").Build(),
	} {
		a := actorOf(answering(interceptor.Funcs{}), nil, inventory.New())
		if touched, err := a.touch(t.Context(), intended(known(t, object)), known(t, object)); touched || err == nil {
			t.Errorf("a %T was touched: %t, %v", object, touched, err)
		}
	}
}

func TestMethodThatThisVersionDoesNotKnowIsNotCarriedOut(t *testing.T) {
	object := known(t, builder.Deployment("shop", "web").Build())
	r := intended(object)
	r.Method = "Teleport"
	touched, err := actorOf(answering(interceptor.Funcs{}), nil, inventory.New()).touch(t.Context(), r, object)
	if touched || err == nil || !strings.Contains(err.Error(), "does not know the method Teleport") {
		t.Errorf("touched %t, %v", touched, err)
	}
}

func TestFieldOwnerIsNoneThatFluxTakesForItsOwn(t *testing.T) {
	if strings.HasPrefix(FieldOwner, "kubectl") {
		t.Errorf("the field manager is %s", FieldOwner)
	}
}

// templateOf is the Pod template of a workload of any kind that is restarted.
func templateOf(object client.Object) *corev1.PodTemplateSpec {
	switch object := object.(type) {
	case *appsv1.Deployment:
		return &object.Spec.Template
	case *appsv1.StatefulSet:
		return &object.Spec.Template
	case *appsv1.DaemonSet:
		return &object.Spec.Template
	default:
		panic(fmt.Sprintf("a %T is never restarted", object))
	}
}

func with(annotations map[string]string, key, value string) map[string]string {
	changed := maps.Clone(annotations)
	if changed == nil {
		changed = map[string]string{}
	}
	changed[key] = value
	return changed
}

// fieldsOf are the innermost fields that a manager owns, sorted.
func fieldsOf(t *testing.T, object client.Object, manager string) []string {
	t.Helper()
	var fields []string
	var walk func(name string, below map[string]any)
	walk = func(name string, below map[string]any) {
		for key, value := range below {
			walk(key, value.(map[string]any))
		}
		// A dot is the map itself.
		if len(below) == 0 && name != "." {
			fields = append(fields, name)
		}
	}
	for _, entry := range object.GetManagedFields() {
		if entry.Manager != manager {
			continue
		}
		var tree map[string]any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &tree); err != nil {
			t.Fatal(err)
		}
		walk("", tree)
	}
	slices.Sort(fields)
	return fields
}

// restarted is a Deployment that has just been restarted, as the actor that did it knows it.
func (w *world) restarted(t *testing.T, namespace, name string) (*acting, *appsv1.Deployment, *inventory.Workload) {
	t.Helper()
	object := builder.Deployment(namespace, name).Build()
	w.create(t, object)
	a := w.actor(w.operator, inventoryOf(t, builder.Namespace(namespace).Build(), object))
	if err := a.start(t.Context(), restartOf(known(t, object)), nil); err != nil {
		t.Fatal(err)
	}
	return a, object, workloadIn(t, a.inventory, known(t, object).Key())
}

// workloadIn is a workload as the inventory has it.
func workloadIn(t *testing.T, picture *inventory.Inventory, key mesh.Key) *inventory.Workload {
	t.Helper()
	for _, namespace := range picture.Snapshot().Namespaces {
		for _, workload := range namespace.Workloads {
			if workload.Key == key {
				return workload
			}
		}
	}
	t.Fatalf("the picture has no %s", key)
	return nil
}

// refuse lets a policy refuse requests for objects of a namespace, where the expression is false. It is in force soon.
func (w *world) refuse(
	t *testing.T, namespace string, operation admissionregistrationv1.OperationType, group, resource, expression, message string,
) {
	t.Helper()
	w.create(t, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: named(namespace),
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{operation},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: expression, Message: message}},
		},
	})
	w.create(t, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        namespace,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	})
}

// refuseByPolicy lets a policy of somebody else refuse updates of Deployments of a namespace, where
// the expression is false, and waits until it does.
func (w *world) refuseByPolicy(t *testing.T, namespace, expression string) {
	t.Helper()
	w.refuse(t, namespace, admissionregistrationv1.Update, "apps", "deployments", expression, "it is not the season")
	var deployments appsv1.DeploymentList
	if err := w.admin.List(t.Context(), &deployments, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is in force", func(ctx context.Context) error {
		object := deployments.Items[0].DeepCopy()
		patch := client.RawPatch("application/merge-patch+json",
			[]byte(`{"metadata":{"labels":{"try":"it"}},"spec":{"template":{"metadata":{"annotations":{"try":"it"}}}}}`))
		if err := w.admin.Patch(ctx, object, patch, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "the season") {
			return errors.Join(errors.New("it is admitted, or not for this"), err)
		}
		return nil
	})
}

// refuseByClosedWebhook lets a webhook at which nobody listens refuse requests of a namespace, and
// waits until it does.
func (w *world) refuseByClosedWebhook(
	t *testing.T, namespace, name string, rule admissionregistrationv1.Rule, operation admissionregistrationv1.OperationType,
) {
	t.Helper()
	w.create(t, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:              name,
			NamespaceSelector: named(namespace),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/inject")},
			Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{operation},
				Rule: rule}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			FailurePolicy:           new(admissionregistrationv1.Fail),
			AdmissionReviewVersions: []string{"v1"},
		}},
	})
	eventually(t, "the webhook is called", func(ctx context.Context) error {
		var err error
		if operation == admissionregistrationv1.Create {
			err = w.admin.Create(ctx, builder.Pod(namespace, "try").Build(), client.DryRunAll)
		} else {
			var deployments appsv1.DeploymentList
			if err := w.admin.List(ctx, &deployments, client.InNamespace(namespace)); err != nil {
				return err
			}
			err = w.admin.Patch(ctx, &deployments.Items[0],
				client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"try":"it"}}}`)), client.DryRunAll)
		}
		if !apierrors.IsInternalError(err) {
			return errors.Join(errors.New("it is admitted, or not for this"), err)
		}
		return nil
	})
}

// named selects a namespace by its name.
func named(namespace string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
}
