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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestRestartWritesTwoAnnotationsAndNothingElse(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name   string
		object client.Object
	}{
		{"a Deployment without annotations", builder.Deployment(shop, "plain").Build()},
		{"a Deployment with annotations", builder.Deployment(shop, "annotated").Annotated("team/own", "er").TemplateAnnotated("team/tem", "plate").Build()},
		{"a StatefulSet without annotations", builder.StatefulSet(shop, "plain").Build()},
		{"a StatefulSet with annotations on itself alone", builder.StatefulSet(shop, "annotated").Annotated("team/own", "er").Build()},
		{"a StatefulSet with annotations on the template alone", builder.StatefulSet(shop, "template").TemplateAnnotated("team/tem", "plate").Build()},
		{"a DaemonSet", builder.DaemonSet(shop, "plain").Build()},
		{"a workload that was restarted before", builder.Deployment(shop, "again").
			Annotated(v1alpha1.LastRestartAnnotation, "former").TemplateAnnotated(v1alpha1.RestartCauseAnnotation, "former").Build()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.object)
			want := test.object.DeepCopyObject().(client.Object)
			picture := pictureOf(t, builder.Namespace(shop).Build(), test.object)
			verdict := restartOf(known(t, test.object))

			became, err := (&actor{client: w.operator, inventory: picture}).restart(t.Context(), verdict)
			if became != writtenDone || err != nil {
				t.Fatalf("it became %d, %v", became, err)
			}
			got := get(t, w, test.object)
			if diff := cmp.Diff([]string{"f:" + v1alpha1.LastRestartAnnotation, "f:" + v1alpha1.RestartCauseAnnotation}, fieldsOf(t, got, "fullmesh")); diff != "" {
				t.Errorf("fields of the manager fullmesh (-want +got):\n%s", diff)
			}
			if seen := workloadIn(t, picture, verdict.Workload.Key); !seen.Record.InFlight() || seen.Object.Generation != got.GetGeneration() {
				t.Errorf("the picture does not have the answer at once: %+v", seen)
			}
			want.SetAnnotations(with(want.GetAnnotations(), v1alpha1.LastRestartAnnotation, verdict.Record.String()))
			templateOf(want).Annotations = with(templateOf(want).Annotations, v1alpha1.RestartCauseAnnotation, verdict.Record.Cause)
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

// What happened between the decision and the restart.
func TestRestartLooksAgainWhereTheWorkloadHasMovedOn(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name string
		// bare: it had no annotation.
		bare bool
		then func(t *testing.T, object *appsv1.StatefulSet)
		want written
	}{
		{
			name: "its status has changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				object.Status.Replicas, object.Status.ReadyReplicas = 1, 1
				if err := w.admin.Status().Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			},
			want: writtenDone,
		},
		{
			name: "its labels have changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"metadata":{"labels":{"team":"a"}}}`)
			},
			want: writtenDone,
		},
		{
			name: "its template has changed",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"spec":{"template":{"metadata":{"annotations":{"team/tem":"plate"}}}}}`)
			},
			want: writtenStale,
		},
		{
			name: "it was scaled",
			then: func(t *testing.T, object *appsv1.StatefulSet) { w.patch(t, object, `{"spec":{"replicas":3}}`) },
			want: writtenStale,
		},
		{
			name: "it has its first annotation since",
			bare: true,
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"metadata":{"annotations":{"team/own":"er"}}}`)
			},
			want: writtenStale,
		},
		{
			name: "it has lost its last annotation since",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				w.patch(t, object, `{"metadata":{"annotations":null}}`)
			},
			want: writtenStale,
		},
		{
			name: "it was deleted and created again",
			then: func(t *testing.T, object *appsv1.StatefulSet) {
				if err := w.admin.Delete(t.Context(), object); err != nil {
					t.Fatal(err)
				}
				again := builder.StatefulSet(shop, object.Name).Annotated("team/own", "er").Build()
				w.create(t, again)
			},
			want: writtenStale,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			built := builder.StatefulSet(shop, strings.ReplaceAll(test.name, " ", "-"))
			if !test.bare {
				built.Annotated("team/own", "er")
			}
			object := built.Build()
			w.create(t, object)
			verdict := restartOf(known(t, object))
			picture := pictureOf(t, builder.Namespace(shop).Build(), object)
			test.then(t, object)
			before := get(t, w, object).DeepCopy()

			became, err := (&actor{client: w.operator, inventory: picture}).restart(t.Context(), verdict)
			if became != test.want || err != nil {
				t.Fatalf("it became %d, %v; want %d", became, err, test.want)
			}
			got := get(t, w, object)
			if test.want == writtenStale {
				if diff := cmp.Diff(before, got); diff != "" {
					t.Errorf("something was written (-before +after):\n%s", diff)
				}
				return
			}
			for key, value := range before.Annotations {
				if got.Annotations[key] != value {
					t.Errorf("annotation %s was lost", key)
				}
			}
			if got.Spec.Template.Annotations[v1alpha1.RestartCauseAnnotation] != verdict.Record.Cause {
				t.Error("it was not restarted")
			}
		})
	}
}

func TestRestartIsNotMadeTwice(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	object := builder.Deployment(shop, "web").Annotated("team/own", "er").Build()
	w.create(t, object)
	picture := pictureOf(t, builder.Namespace(shop).Build(), object)
	a := &actor{client: w.operator, inventory: picture}
	verdict := restartOf(known(t, object))
	for _, want := range []written{writtenDone, writtenStale, writtenStale} {
		if became, err := a.restart(t.Context(), verdict); became != want || err != nil {
			t.Errorf("it became %d, %v; want %d", became, err, want)
		}
	}
	if got := get(t, w, object).Generation; got != 2 {
		t.Errorf("its generation is %d; it was restarted %d times", got, got-1)
	}
}

// The beginning of an eviction moves no generation: a record that another process has written since tells
// that it has begun, or ended, already.
func TestEvictionBeginsOnlyOnTheRecordThatWasRead(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	records := func(record string) map[string]any {
		return map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.LastRestartAnnotation: record}}}
	}
	for _, test := range []struct {
		name   string
		before []string
		then   map[string]any
		want   written
	}{
		{"another was written since", []string{v1alpha1.LastRestartAnnotation, "former"}, records("other"), writtenStale},
		{"a first one was written since", []string{"team/own", "er"}, records("other"), writtenStale},
		{"it was taken away since", []string{v1alpha1.LastRestartAnnotation, "former"}, map[string]any{"metadata": map[string]any{"annotations": nil}}, writtenStale},
		{"it is the one that was read, whatever else has changed", []string{v1alpha1.LastRestartAnnotation, "former"}, map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "a"}}}, writtenDone},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := builder.StatefulSet(shop, strings.NewReplacer(" ", "-", ",", "").Replace(test.name)).Annotated(test.before...).Build()
			w.create(t, object)
			verdict := restartOf(known(t, object))
			verdict.Method = v1alpha1.MethodEviction
			a := &actor{client: w.operator, inventory: pictureOf(t, builder.Namespace(shop).Build(), object)}
			patch, err := json.Marshal(test.then)
			if err != nil {
				t.Fatal(err)
			}
			w.patch(t, object, string(patch))
			before := get(t, w, object).DeepCopy()
			if became, err := a.restart(t.Context(), verdict); became != test.want || err != nil {
				t.Fatalf("it became %d, %v; want %d", became, err, test.want)
			}
			got := get(t, w, object).Annotations[v1alpha1.LastRestartAnnotation]
			want := verdict.Record.String()
			if test.want == writtenStale {
				want = before.Annotations[v1alpha1.LastRestartAnnotation]
			}
			if got != want {
				t.Errorf("the record is %q, want %q", got, want)
			}
		})
	}
}

// A workload that is gone is no error, and the picture does not keep it, whichever comes first: the
// answer or the informer's news.
func TestWhatIsGoneLeavesThePicture(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)

	t.Run("the informer comes after the refusal", func(t *testing.T) {
		object := builder.Deployment(shop, "refused").Build()
		w.create(t, object)
		picture := pictureOf(t, builder.Namespace(shop).Build(), object)
		if err := w.admin.Delete(t.Context(), object.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		became, err := (&actor{client: w.operator, inventory: picture}).restart(t.Context(), restartOf(known(t, object)))
		if became != writtenStale || err != nil {
			t.Errorf("it became %d, %v", became, err)
		}
		if left := picture.Snapshot().Namespaces[0].Workloads; len(left) > 0 {
			t.Errorf("the picture still has %s", left[0].Key)
		}
	})
	t.Run("the informer comes before the answer", func(t *testing.T) {
		object := builder.Deployment(shop, "answered").Build()
		w.create(t, object)
		picture := pictureOf(t, builder.Namespace(shop).Build(), object)
		late := intercept(t, w, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, target client.Object, patch client.Patch, options ...client.PatchOption) error {
				err := c.Patch(ctx, target, patch, options...)
				picture.DeleteObject(known(t, object))
				return err
			},
		})
		became, err := (&actor{client: late, inventory: picture}).restart(t.Context(), restartOf(known(t, object)))
		if became != writtenDone || err != nil {
			t.Errorf("it became %d, %v", became, err)
		}
		if left := picture.Snapshot().Namespaces[0].Workloads; len(left) > 0 {
			t.Errorf("the picture has %s again", left[0].Key)
		}
	})
}

func TestFinishReplacesTheRecordThatItSaw(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name string
		then func(t *testing.T, object *appsv1.Deployment)
		want written
	}{
		{"nothing has happened since", func(*testing.T, *appsv1.Deployment) {}, writtenDone},
		{"its spec has changed", func(t *testing.T, object *appsv1.Deployment) { w.patch(t, object, `{"spec":{"replicas":3}}`) }, writtenDone},
		{"somebody else has written how it ended", func(t *testing.T, object *appsv1.Deployment) {
			w.patch(t, object, `{"metadata":{"annotations":{"`+v1alpha1.LastRestartAnnotation+`":"other"}}}`)
		}, writtenStale},
		{"somebody has removed the record", func(t *testing.T, object *appsv1.Deployment) {
			w.patch(t, object, `{"metadata":{"annotations":{"`+v1alpha1.LastRestartAnnotation+`":null}}}`)
		}, writtenStale},
		{"it was created again with the same record", func(t *testing.T, object *appsv1.Deployment) {
			record := object.Annotations[v1alpha1.LastRestartAnnotation]
			if err := w.admin.Delete(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			w.create(t, builder.Deployment(shop, object.Name).Annotated(v1alpha1.LastRestartAnnotation, record).Build())
		}, writtenStale},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := builder.Deployment(shop, strings.ReplaceAll(test.name, " ", "-")).Build()
			w.create(t, object)
			a := &actor{client: w.operator, inventory: pictureOf(t, builder.Namespace(shop).Build(), object)}
			if became, err := a.restart(t.Context(), restartOf(known(t, object))); became != writtenDone || err != nil {
				t.Fatalf("the restart became %d, %v", became, err)
			}
			begun := workloadIn(t, a.inventory, mesh.Key{Group: "apps", Kind: "Deployment", Namespace: shop, Name: object.Name})
			verdict := &restart.Verdict{Workload: begun, Step: restart.StepFinish, Record: begun.Record.Ended(v1alpha1.ResultSucceeded, "", noon)}
			test.then(t, get(t, w, object))
			before := get(t, w, object).DeepCopy()

			became, err := a.finish(t.Context(), verdict)
			if became != test.want || err != nil {
				t.Fatalf("it became %d, %v; want %d", became, err, test.want)
			}
			got := get(t, w, object)
			if test.want == writtenStale {
				if diff := cmp.Diff(before, got); diff != "" {
					t.Errorf("something was written (-before +after):\n%s", diff)
				}
				return
			}
			if got := got.Annotations[v1alpha1.LastRestartAnnotation]; got != verdict.Record.String() {
				t.Errorf("the record is %s", got)
			}
			if diff := cmp.Diff(before.Spec, got.Spec); diff != "" {
				t.Errorf("the end of a restart changed the spec (-before +after):\n%s", diff)
			}
		})
	}
}

// What the API server does not admit is told from what has moved on: it will not be admitted the next
// time either.
func TestRestartThatIsNotAdmitted(t *testing.T) {
	w := apiServer(t)
	// A hundred bytes below what the annotations of an object may have together.
	almostTooLong := strings.Repeat("x", 256*1024-100-len("team/notes"))
	for _, test := range []struct {
		name   string
		object func(shop string) *appsv1.Deployment
		refuse func(t *testing.T, shop string)
		says   string
	}{
		{
			name:   "by a policy",
			refuse: func(t *testing.T, shop string) { w.refuseByPolicy(t, shop, "object.metadata.annotations.size() == 0") },
			says:   "denied request",
		},
		{
			name: "by a webhook that is down",
			refuse: func(t *testing.T, shop string) {
				w.refuseByClosedWebhook(t, shop, "audit.example.com", admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}}, admissionregistrationv1.Update)
			},
			says: "failed calling webhook",
		},
		{
			name: "because the record no longer fits in",
			object: func(shop string) *appsv1.Deployment {
				return builder.Deployment(shop, "web").Annotated("team/notes", almostTooLong).Build()
			},
			says: "Too long",
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
			became, err := (&actor{client: w.operator, inventory: pictureOf(t, object)}).restart(t.Context(), restartOf(known(t, object)))
			if became != writtenRefused || err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it became %d, %v", became, err)
			}
			if diff := cmp.Diff(before, get(t, w, object)); diff != "" {
				t.Errorf("something was written (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAnswerThatDoesNotComeIsAnError(t *testing.T) {
	object := known(t, builder.Deployment("shop", "web").Build())
	nobody, err := client.New(&rest.Config{Host: "http://127.0.0.1:1"}, client.Options{Scheme: testScheme, Mapper: mapper()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&actor{client: nobody, inventory: inventory.New()}).restart(t.Context(), restartOf(object)); err == nil || !strings.Contains(err.Error(), "patching Deployment shop/web") {
		t.Errorf("the error is %v", err)
	}
}

func TestKindsThatAreNeverRestartedAreNotWritten(t *testing.T) {
	for _, object := range []client.Object{
		builder.Job("shop", "web").Build(),
		builder.CronJob("shop", "web").Build(),
	} {
		if became, err := (&actor{}).restart(t.Context(), restartOf(known(t, object))); err == nil {
			t.Errorf("a restart of %T became %d", object, became)
		}
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

// workloadIn is a workload as the picture has it.
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

// refuseByPolicy lets a policy of somebody else refuse updates of Deployments of a namespace, where
// the expression is false, and waits until it does.
func (w *world) refuseByPolicy(t *testing.T, namespace, expression string) {
	t.Helper()
	w.create(t, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: named(namespace),
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: expression, Message: "it is not the season"}},
		},
	})
	w.create(t, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        namespace,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	})
	var deployments appsv1.DeploymentList
	if err := w.admin.List(t.Context(), &deployments, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is in force", func(ctx context.Context) error {
		object := deployments.Items[0].DeepCopy()
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"try":"it"},"labels":{"try":"it"}}}`))
		if err := w.admin.Patch(ctx, object, patch, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "the season") {
			return errors.Join(errors.New("it is admitted, or not for this"), err)
		}
		return nil
	})
}

// refuseByClosedWebhook lets a webhook at which nobody listens refuse requests of a namespace, and
// waits until it does.
func (w *world) refuseByClosedWebhook(t *testing.T, namespace, name string, rule admissionregistrationv1.Rule, operation admissionregistrationv1.OperationType) {
	t.Helper()
	w.create(t, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    name,
			NamespaceSelector:       named(namespace),
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/inject")},
			Rules:                   []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{operation}, Rule: rule}},
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
			err = w.admin.Patch(ctx, &deployments.Items[0], client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"try":"it"}}}`)), client.DryRunAll)
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
