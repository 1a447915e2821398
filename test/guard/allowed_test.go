// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// testAllowed does with the operator's token what the operator does.
func testAllowed(t *testing.T, w *world) {
	t.Run("observe", func(t *testing.T) { testReads(t, w) })
	t.Run("check", func(t *testing.T) { testDryRunPod(t, w) })
	t.Run("record", func(t *testing.T) { testRecords(t, w) })
	t.Run("act", func(t *testing.T) { testRestarts(t, w) })
	t.Run("act on Rollouts", func(t *testing.T) { testRolloutRestarts(t, w) })
	t.Run("evict", func(t *testing.T) { testEviction(t, w) })
	t.Run("report", func(t *testing.T) { testReports(t, w) })
	t.Run("lead", func(t *testing.T) { testLease(t, w) })
	t.Run("authenticate scrapers", func(t *testing.T) { testReviews(t, w) })
}

func testReads(t *testing.T, w *world) {
	everywhere := []client.ObjectList{
		&corev1.NamespaceList{}, &corev1.NodeList{}, &corev1.PodList{},
		&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &appsv1.ReplicaSetList{},
		&batchv1.JobList{}, &batchv1.CronJobList{}, &policyv1.PodDisruptionBudgetList{},
		&admissionregistrationv1.MutatingWebhookConfigurationList{},
		&v1alpha1.MeshPolicyList{}, &v1alpha1.MeshReportList{}, &v1alpha1.MeshRestartList{},
	}
	reader, err := client.NewWithWatch(w.operator.config, client.Options{Scheme: w.operator.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	read := func(list client.ObjectList, namespace string) {
		t.Run(fmt.Sprintf("%T in %q", list, namespace), func(t *testing.T) {
			if err := reader.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
				t.Error(err)
			}
			events, err := reader.Watch(t.Context(), list, client.InNamespace(namespace))
			if err != nil {
				t.Fatal(err)
			}
			events.Stop()
			gvk, err := reader.GroupVersionKindFor(list)
			if err != nil {
				t.Fatal(err)
			}
			namespaced, err := reader.IsObjectNamespaced(list)
			if err != nil {
				t.Fatal(err)
			}
			in := namespace
			if namespaced && in == "" {
				in = shop
			}
			object := &unstructured.Unstructured{}
			object.SetGroupVersionKind(gvk.GroupVersion().WithKind(strings.TrimSuffix(gvk.Kind, "List")))
			// Whether it is there is not the question.
			err = reader.Get(t.Context(), client.ObjectKey{Namespace: in, Name: "mesh"}, object)
			if client.IgnoreNotFound(err) != nil {
				t.Error(err)
			}
		})
	}
	rollouts := &unstructured.UnstructuredList{}
	rollouts.SetAPIVersion("argoproj.io/v1alpha1")
	rollouts.SetKind("RolloutList")
	peers := &unstructured.UnstructuredList{}
	peers.SetAPIVersion("security.istio.io/v1beta1")
	peers.SetKind("PeerAuthenticationList")
	for _, list := range append(everywhere, rollouts, peers) {
		read(list, "")
	}
	testDefinitions(t, reader)
	for _, namespace := range []string{operatorNamespace, injectorNamespace} {
		read(&corev1.ConfigMapList{}, namespace)
	}
	read(&corev1.ServiceList{}, injectorNamespace)
}

// testDefinitions reads what says whether the kinds are served that not every cluster has.
func testDefinitions(t *testing.T, reader client.WithWatch) {
	t.Helper()
	for _, definition := range []string{"rollouts.argoproj.io", "peerauthentications.security.istio.io"} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("apiextensions.k8s.io/v1")
		list.SetKind("CustomResourceDefinitionList")
		byName := client.MatchingFields{metav1.ObjectNameField: definition}
		if err := reader.List(t.Context(), list, byName); err != nil || len(list.Items) != 1 {
			t.Errorf("%d definitions are listed: %v", len(list.Items), err)
		}
		events, err := reader.Watch(t.Context(), list, byName)
		if err != nil {
			t.Fatal(err)
		}
		events.Stop()
	}
}

func testDryRunPod(t *testing.T, w *world) {
	if err := w.operator.Create(t.Context(), pod("check"), client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	pods := &corev1.PodList{}
	if err := w.admin.List(t.Context(), pods, client.InNamespace(shop)); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Errorf("There are %d Pods, want the 1 from before", len(pods.Items))
	}
}

// testRecords writes the ledger the way the operator does.
func testRecords(t *testing.T, w *world) {
	c := w.operator
	restart := meshRestart(shop, "deployment-cart-1")
	web := deployment()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(web), web); err != nil {
		t.Fatal(err)
	}
	restart.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: web.Name, UID: web.UID}}
	w.record(t, restart.DeepCopy())
	if err := c.Create(t.Context(), restart); !apierrors.IsAlreadyExists(err) {
		t.Errorf("Creating it twice: %v", err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(restart), restart); err != nil {
		t.Fatal(err)
	}
	restart.Status.Evicting = []string{"one"}
	if err := c.Status().Update(t.Context(), restart); err != nil {
		t.Errorf("Writing what is evicted: %v", err)
	}
	end := restart.DeepCopy()
	finish(end, v1alpha1.ResultFailed)
	if err := c.Status().Patch(t.Context(), end, client.MergeFromWithOptions(restart, client.MergeFromWithOptimisticLock{})); err != nil {
		t.Errorf("Writing how it ended: %v", err)
	}
	finish(end, v1alpha1.ResultSucceeded)
	if err := c.Status().Update(t.Context(), end); err != nil {
		t.Errorf("Writing that it succeeded late: %v", err)
	}
	if err := c.Delete(t.Context(), end, client.Preconditions{UID: &end.UID}); err != nil {
		t.Errorf("Deleting it: %v", err)
	}
	intent := meshRestart(shop, "deployment-cart-2")
	w.record(t, intent)
	if err := c.Delete(t.Context(), intent); err != nil {
		t.Errorf("Deleting one that has not ended: %v", err)
	}

	for what, create := range map[string]func(context.Context, client.Object, ...client.CreateOption) error{
		"with dryRun": rehearsing(c).Create, "for real": c.Create,
	} {
		if err := refusedByPolicy(create(t.Context(), meshRestart(shop, "guard-probe")), ledgerOnly, probeMessage); err != nil {
			t.Errorf("Creating guard-probe %s: %v", what, err)
		}
	}
}

// testRestarts restarts each kind the way the operator does: a JSON patch that tests the UID and
// the generation, and sets the name of the MeshRestart on the template.
func testRestarts(t *testing.T, w *world) {
	for _, test := range []struct {
		name     string
		workload client.Object
		// annotated says whether the template has annotations already.
		annotated bool
	}{
		{name: "Deployment", workload: deployment(), annotated: true},
		{name: "StatefulSet", workload: statefulSet()},
		{name: "DaemonSet", workload: daemonSet()},
	} {
		t.Run(test.name, func(t *testing.T) {
			workload := test.workload
			restart := func(by string, annotated bool) {
				t.Helper()
				if err := w.operator.Get(t.Context(), client.ObjectKeyFromObject(workload), workload); err != nil {
					t.Fatal(err)
				}
				write := fmt.Sprintf(`{"op":"add","path":"/spec/template/metadata/annotations","value":{"fullmesh.dev/restarted-by":%q}}`, by)
				if annotated {
					write = fmt.Sprintf(`{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":%q}`, by)
				}
				patch := fmt.Sprintf(`[{"op":"test","path":"/metadata/uid","value":%q},{"op":"test","path":"/metadata/generation","value":%d},%s]`,
					workload.GetUID(), workload.GetGeneration(), write)
				generation := workload.GetGeneration()
				if err := jsonPatch(t.Context(), w.operator, workload, patch); err != nil {
					t.Fatalf("Restarting by %s: %v", by, err)
				}
				if got := restartOf(workload); got != by {
					t.Errorf("The template says %q, want %q", got, by)
				}
				if got := workload.GetGeneration(); got != generation+1 {
					t.Errorf("The generation is %d, want one more than %d", got, generation)
				}
				if err := jsonPatch(t.Context(), w.operator, workload, patch); !apierrors.IsInvalid(err) {
					t.Errorf("The same restart again: %v", err)
				}
			}
			restart("one", test.annotated)
			restart(strings.Repeat("a.b-c", v1alpha1.MaxRestartName/5)+"def", true)
		})
	}
}

// testEviction evicts the Pod that was looked at and not another of its name.
func testEviction(t *testing.T, w *world) {
	gone := pod("evicted")
	w.create(t, gone)
	evict := func(uid types.UID) error {
		return w.operator.SubResource("eviction").Create(t.Context(), pod("evicted"), &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: shop, Name: "evicted"},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
		})
	}
	if err := evict("another"); !apierrors.IsConflict(err) {
		t.Errorf("Evicting another Pod of the same name: %v", err)
	}
	if err := evict(gone.UID); err != nil {
		t.Fatal(err)
	}
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(gone), gone); err == nil && gone.DeletionTimestamp == nil {
		t.Error("The Pod is still there")
	}
}

func restartOf(workload client.Object) string {
	switch workload := workload.(type) {
	case *appsv1.Deployment:
		return workload.Spec.Template.Annotations[restartedBy]
	case *appsv1.StatefulSet:
		return workload.Spec.Template.Annotations[restartedBy]
	case *appsv1.DaemonSet:
		return workload.Spec.Template.Annotations[restartedBy]
	default:
		return fmt.Sprintf("none is known in a %T", workload)
	}
}

func testReports(t *testing.T, w *world) {
	c := w.operator
	report := &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName}}
	if err := c.Create(t.Context(), report); err != nil {
		t.Fatalf("Creating a report: %v", err)
	}
	report.Status.Policy = "policy"
	if err := c.Status().Update(t.Context(), report); err != nil {
		t.Errorf("Updating a report's status: %v", err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(report), report); err != nil {
		t.Errorf("Reading a report: %v", err)
	}
	if err := c.Delete(t.Context(), report); err != nil {
		t.Errorf("Deleting a report: %v", err)
	}

	policy := meshPolicy()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
		t.Fatal(err)
	}
	policy.Status.ObservedGeneration = new(policy.Generation)
	if err := c.Status().Update(t.Context(), policy); err != nil {
		t.Errorf("Updating a policy's status: %v", err)
	}

	// Events about workloads, policies and the lease.
	now := metav1.NowMicro()
	for _, namespace := range []string{shop, metav1.NamespaceDefault} {
		event := &eventsv1.Event{
			ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: "restarted"},
			EventTime:           now,
			ReportingController: "fullmesh",
			ReportingInstance:   "fullmesh-0",
			Action:              "Restart",
			Reason:              "Restarted",
			Type:                corev1.EventTypeNormal,
			Regarding:           corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: "web"},
		}
		if err := c.Create(t.Context(), event); err != nil {
			t.Errorf("Creating an Event in %s: %v", namespace, err)
			continue
		}
		if err := c.Patch(t.Context(), event, client.RawPatch(types.MergePatchType,
			[]byte(fmt.Sprintf(`{"series":{"count":2,"lastObservedTime":%q}}`, now.UTC().Format(metav1.RFC3339Micro))))); err != nil {
			t.Errorf("Patching an Event in %s: %v", namespace, err)
		}
	}
	led := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: operatorNamespace, Name: "leads"},
		InvolvedObject: corev1.ObjectReference{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: operatorNamespace, Name: "fullmesh"},
		Reason:         "LeaderElection",
		Message:        "fullmesh-0 became leader",
	}
	if err := c.Create(t.Context(), led); err != nil {
		t.Fatalf("Creating an Event of leader election: %v", err)
	}
	if err := c.Patch(t.Context(), led, client.RawPatch(types.MergePatchType, []byte(`{"count":2}`))); err != nil {
		t.Errorf("Patching an Event of leader election: %v", err)
	}
}

func testLease(t *testing.T, w *world) {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "fullmesh"}}
	if err := w.operator.Create(t.Context(), lease); err != nil {
		t.Fatalf("Creating the lease: %v", err)
	}
	if err := w.operator.Get(t.Context(), client.ObjectKeyFromObject(lease), lease); err != nil {
		t.Fatalf("Reading the lease: %v", err)
	}
	lease.Spec.HolderIdentity = new("fullmesh-0")
	lease.Spec.RenewTime = new(metav1.NewMicroTime(time.Now()))
	if err := w.operator.Update(t.Context(), lease); err != nil {
		t.Errorf("Renewing the lease: %v", err)
	}
}

func testReviews(t *testing.T, w *world) {
	token := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: w.operator.config.BearerToken}}
	if err := w.operator.Create(t.Context(), token); err != nil {
		t.Errorf("Reviewing a token: %v", err)
	}
	access := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:                  "prometheus",
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"},
	}}
	if err := w.operator.Create(t.Context(), access); err != nil {
		t.Errorf("Reviewing an access: %v", err)
	}
}

// testTemplateGeneration is about an annotation from before apps/v1, in which a DaemonSet still
// shows how often its template has changed. The policy must let it change, so this shows that the
// API server does not take it from the client.
func testTemplateGeneration(t *testing.T, w *world) {
	const annotation = "deprecated.daemonset.template.generation"
	agent := daemonSet()
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(agent), agent); err != nil {
		t.Fatal(err)
	}
	want := agent.Annotations[annotation]
	if want == "" {
		t.Fatalf("Annotation %s is missing: the policy need not allow it any more", annotation)
	}
	if err := jsonPatch(t.Context(), w.operator, agent,
		`[{"op":"add","path":"/metadata/annotations/deprecated.daemonset.template.generation","value":"99"}]`); err != nil {
		t.Fatal(err)
	}
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(agent), agent); err != nil {
		t.Fatal(err)
	}
	if got := agent.Annotations[annotation]; got != want {
		t.Errorf("Annotation %s is %q, want %q", annotation, got, want)
	}
}

// testRolloutRestarts restarts a Rollout the way the operator does.
func testRolloutRestarts(t *testing.T, w *world) {
	for _, allowed := range []struct{ name, patch string }{
		{"restartAt", `[{"op":"add","path":"/spec/restartAt","value":"2026-01-02T03:04:05Z"}]`},
		{"a later restartAt", `[{"op":"add","path":"/spec/restartAt","value":"2026-01-02T03:04:06Z"}]`},
	} {
		t.Run(allowed.name, func(t *testing.T) {
			if err := jsonPatch(t.Context(), w.operator, rollout(), allowed.patch); err != nil {
				t.Error(err)
			}
		})
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(rollout().GroupVersionKind())
	if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(rollout()), object); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := unstructured.NestedString(object.Object, "spec", "restartAt"); got != "2026-01-02T03:04:06Z" {
		t.Errorf("spec.restartAt is %q, want the later one", got)
	}
}
