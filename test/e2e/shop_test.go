package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

// patience bounds every wait. It is generous, because a loaded machine is no reason to fail.
const patience = 4 * time.Minute

// eventually waits until condition returns nil, and fails the test with its last error.
func eventually(t *clusterTest, what string, condition func(ctx context.Context) error) {
	t.Helper()
	if err := cluster.Eventually(t.Context(), 50*time.Millisecond, patience, condition); err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

// create makes objects, and deletes those without a namespace when the test ends. It does not wait for
// a Namespace to be gone, which takes Kubernetes ten seconds: no policy of another test selects it.
func create(t *clusterTest, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := t.admin.Create(t.Context(), object); err != nil {
			t.Fatalf("creating %T %s: %v", object, object.GetName(), err)
		}
		if _, ends := object.(*corev1.Namespace); ends {
			t.Cleanup(func() {
				if err := client.IgnoreNotFound(t.admin.Delete(context.Background(), object)); err != nil {
					t.Errorf("deleting Namespace %s: %v", object.GetName(), err)
				}
			})
		} else if object.GetNamespace() == "" {
			t.Cleanup(func() { remove(t, object) })
		}
	}
}

// remove deletes an object and waits until it is gone, so that no test meets another's.
func remove(t *clusterTest, object client.Object) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := t.admin.Delete(ctx, object)
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Errorf("deleting %T %s: %v", object, object.GetName(), err)
	}
}

// modify changes an object in the cluster.
func modify[T client.Object](t *clusterTest, object T, change func(T)) {
	t.Helper()
	eventually(t, fmt.Sprintf("%T %s is changed", object, object.GetName()), func(ctx context.Context) error {
		if err := t.admin.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change(object)
		return t.admin.Update(ctx, object)
	})
}

// label sets a label on a namespace.
func label(t *clusterTest, namespace, key, value string) {
	t.Helper()
	modify(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, func(n *corev1.Namespace) {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[key] = value
	})
}

// startShop makes a namespace with workloads and waits until every Pod of them is ready.
func startShop(t *clusterTest, namespace string, workloads ...client.Object) {
	t.Helper()
	create(t, builder.Namespace(namespace).Labelled("team", namespace).Build())
	startWorkloads(t, workloads...)
}

func startWorkloads(t *clusterTest, workloads ...client.Object) {
	t.Helper()
	create(t, workloads...)
	for _, workload := range workloads {
		eventually(t, "every Pod of "+workload.GetName()+" is ready", func(ctx context.Context) error {
			return rolledOut(ctx, t, workload)
		})
	}
}

// rolledOut says what is missing until every Pod of a workload is on its newest template and ready.
func rolledOut(ctx context.Context, t *clusterTest, workload client.Object) error {
	if err := t.admin.Get(ctx, client.ObjectKeyFromObject(workload), workload); err != nil {
		return err
	}
	var observed int64
	var want, updated, total, ready int32
	switch w := workload.(type) {
	case *appsv1.Deployment:
		observed, want, updated, total, ready = w.Status.ObservedGeneration, *w.Spec.Replicas, w.Status.UpdatedReplicas, w.Status.Replicas, w.Status.ReadyReplicas
	case *appsv1.StatefulSet:
		observed, want, updated, total, ready = w.Status.ObservedGeneration, *w.Spec.Replicas, w.Status.UpdatedReplicas, w.Status.Replicas, w.Status.ReadyReplicas
	case *appsv1.DaemonSet:
		observed, want, updated, total, ready = w.Status.ObservedGeneration, 3, w.Status.UpdatedNumberScheduled, w.Status.CurrentNumberScheduled, w.Status.NumberReady
	default:
		return nil
	}
	if observed != workload.GetGeneration() || updated != want || total != want || ready != want {
		return fmt.Errorf("generation %d of %d; %d wanted, %d updated, %d in all, %d ready", observed, workload.GetGeneration(), want, updated, total, ready)
	}
	return nil
}

// pods are the running Pods of a namespace, by name.
func pods(ctx context.Context, t *clusterTest, namespace string) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := t.admin.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	running := slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	slices.SortFunc(running, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return running, nil
}

// podsOf are the running Pods with the label app=name.
func podsOf(t *clusterTest, namespace, name string) []corev1.Pod {
	t.Helper()
	all, err := pods(t.Context(), t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(pod corev1.Pod) bool { return pod.Labels["app"] != name })
}

func uids(pods []corev1.Pod) []types.UID {
	var uids []types.UID
	for i := range pods {
		uids = append(uids, pods[i].UID)
	}
	slices.Sort(uids)
	return uids
}

func isInjected(pod *corev1.Pod) bool { return mesh.Observe(pod).Proxy == mesh.ProxyNative }

// awaitReport waits until a namespace's report has a condition with a status, and returns the
// report.
func awaitReport(t *clusterTest, namespace, condition string, status metav1.ConditionStatus) *v1alpha1.MeshReport {
	t.Helper()
	report := &v1alpha1.MeshReport{}
	eventually(t, fmt.Sprintf("the report of %s has %s=%s", namespace, condition, status), func(ctx context.Context) error {
		if err := t.admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ReportName}, report); err != nil {
			return err
		}
		if meta.IsStatusConditionPresentAndEqual(report.Status.Conditions, condition, status) {
			return nil
		}
		return fmt.Errorf("conditions %+v, workloads %+v", report.Status.Conditions, report.Status.Workloads)
	})
	return report
}

// awaitHeld waits until a workload is held for a reason.
func awaitHeld(t *clusterTest, namespace, kind, name, reason string) v1alpha1.ReportedWorkload {
	t.Helper()
	var row v1alpha1.ReportedWorkload
	eventually(t, fmt.Sprintf("%s %s/%s is held for %s", kind, namespace, name, reason), func(ctx context.Context) error {
		report := &v1alpha1.MeshReport{}
		if err := t.admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ReportName}, report); err != nil {
			return err
		}
		for _, row = range report.Status.Workloads {
			if row.Kind == kind && row.Name == name && row.Action == v1alpha1.ActionHold && row.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("the report has %+v", report.Status.Workloads)
	})
	return row
}

// awaitPolicy waits until a policy has a condition with a status and a reason.
func awaitPolicy(t *clusterTest, name, condition string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	eventually(t, fmt.Sprintf("policy %s has %s=%s for %s", name, condition, status, reason), func(ctx context.Context) error {
		policy := &v1alpha1.MeshPolicy{}
		if err := t.admin.Get(ctx, client.ObjectKey{Name: name}, policy); err != nil {
			return err
		}
		if found := meta.FindStatusCondition(policy.Status.Conditions, condition); found != nil && found.Status == status && found.Reason == reason {
			return nil
		}
		return fmt.Errorf("conditions %+v", policy.Status.Conditions)
	})
}

// operatorWrites are the requests of the operator that changed, or would have changed, something
// since a moment.
func operatorRequests(t *clusterTest, since time.Time) []cluster.AuditEvent {
	t.Helper()
	events, err := t.AuditOf(t.Context(), operator.User)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(events, func(event cluster.AuditEvent) bool { return event.Received.Before(since) })
}

// workloadKinds are what the operator restarts.
var workloadKinds = []string{"deployments", "statefulsets", "daemonsets"}

// templateChanges counts, by resource/name, the restarts in a namespace: patches of templates that name a
// MeshRestart, dry runs and refused ones left out.
func templateChanges(events []cluster.AuditEvent, namespace string) map[string]int {
	counts := map[string]int{}
	for i := range events {
		event := &events[i]
		if event.Namespace == namespace && slices.Contains(workloadKinds, event.Resource) && event.Verb == "patch" &&
			!event.DryRun && event.Code == 200 && strings.Contains(string(event.Object), "/spec/template/metadata/annotations/fullmesh.dev~1restarted-by") {
			counts[event.Resource+"/"+event.Name]++
		}
	}
	return counts
}

// serverTime is the API server's clock, which is this machine's.
func serverTime() time.Time { return time.Now() }

// expectInjected says why a Pod would not be injected now.
func expectInjected(ctx context.Context, t *clusterTest, pod *corev1.Pod) error {
	if err := t.admin.Create(ctx, pod, client.DryRunAll); err != nil {
		return err
	}
	if !isInjected(pod) {
		return fmt.Errorf("a Pod would have no sidecar")
	}
	return nil
}

// restarts are the MeshRestarts of a namespace.
func restarts(ctx context.Context, t *clusterTest, namespace string) ([]*inventory.Restart, error) {
	var list v1alpha1.MeshRestartList
	if err := t.admin.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var all []*inventory.Restart
	for i := range list.Items {
		all = append(all, inventory.FromMeshRestart(&list.Items[i]))
	}
	return all, nil
}

// awaitNothingInFlight waits until every MeshRestart of a namespace has its result, and returns them.
func awaitNothingInFlight(t *clusterTest, namespace string) []*inventory.Restart {
	t.Helper()
	var all []*inventory.Restart
	eventually(t, "nothing is in flight", func(ctx context.Context) error {
		var err error
		if all, err = restarts(ctx, t, namespace); err != nil {
			return err
		}
		for _, r := range all {
			if r.InFlight() {
				return fmt.Errorf("%s is", r.Name)
			}
		}
		return nil
	})
	return all
}

// inWords says of restarts what was restarted how, and with which result.
func inWords(all []*inventory.Restart) []string {
	var words []string
	for _, r := range all {
		words = append(words, fmt.Sprintf("%s by %s: %s", r.Workload.Name, r.Method, r.Result))
	}
	slices.Sort(words)
	return words
}

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
