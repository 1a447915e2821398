package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// Workloads that a changed template does not move, of which few Pods are out, whose rolling update would
// break a disruption budget, or whose owner would take the change back: their Pods are evicted, and
// nothing is written to any spec.
func TestPodsAreEvictedWhereARollingUpdateWouldNotDo(test *testing.T) {
	t := onCluster(test)
	const shop = "evicted"
	create(t, builder.Namespace(shop).Labelled("team", shop, "istio-injection", "enabled").Build())
	wide := builder.Deployment(shop, "wide").Replicas(7).Surge(0).Unavailable(2).Build()
	startWorkloads(t, wide)
	injected := uids(podsOf(t, shop, "wide"))

	// What is created while injection is off is outside.
	label(t, shop, "istio-injection", "disabled")
	eventually(t, "no Pod is injected any more", func(ctx context.Context) error {
		if expectInjected(ctx, t, builder.Pod(shop, "probe").Build()) == nil {
			return fmt.Errorf("one would be")
		}
		return nil
	})
	modify(t, wide, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(8)) })
	main := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "main"}}
	create(t, main)
	db := builder.StatefulSet(shop, "db").Replicas(3).OnDelete().Build()
	queue := builder.StatefulSet(shop, "queue").Replicas(3).Partition(2).Build()
	logs := builder.DaemonSet(shop, "logs").OnDelete().Build()
	old := builder.ReplicaSet(shop, "old").Replicas(2).Build()
	bounded := builder.Deployment(shop, "bounded").Replicas(4).Surge(0).Unavailable(2).Build()
	owned := builder.Deployment(shop, "owned").Replicas(2).Surge(0).Unavailable(1).Build()
	owned.OwnerReferences = []metav1.OwnerReference{builder.ControlledByOther("v1", "ConfigMap", "main", main.UID)}
	workloads := []client.Object{wide, db, queue, logs, old, bounded, owned}
	startWorkloads(t, workloads[1:]...)
	eventually(t, "every Pod is ready", func(ctx context.Context) error { return rolledOut(ctx, t, wide) })
	budget := builder.DisruptionBudget(shop, "bounded").With(func(b *policyv1.PodDisruptionBudget) { b.Spec.MinAvailable = new(intstr.FromInt32(3)) }).Build()
	create(t, budget)
	eventually(t, "the disruption budget is counted", func(ctx context.Context) error {
		if err := t.admin.Get(ctx, client.ObjectKeyFromObject(budget), budget); err != nil || budget.Status.DisruptionsAllowed == 1 {
			return err
		}
		return fmt.Errorf("%+v", budget.Status)
	})
	before := specs(t, workloads)
	least := followReady(t, shop)

	begin := serverTime()
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Unbounded().Build())
	label(t, shop, "istio-injection", "enabled")
	row := awaitHeld(t, shop, "Deployment", "owned", "OwnedByOperator")
	if row.ClearsBy != v1alpha1.ClearedByAdmin || row.Method != v1alpha1.MethodEviction || !containsAll(row.Message, "ConfigMap evicted/main", "accept: [OwnedByOperator]") {
		t.Errorf("it is held by %+v", row)
	}
	modify(t, owned, func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{v1alpha1.AcceptAnnotation: string(v1alpha1.RiskOwnedByOperator)}
	})
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	made := awaitNothingInFlight(t, shop)

	requests := operatorRequests(t, begin)
	if changes := templateChanges(requests, shop); len(changes) > 0 {
		t.Errorf("templates were changed: %v", changes)
	}
	if diff := cmp.Diff(before, specs(t, workloads)); diff != "" {
		t.Errorf("specs were changed (-before +after):\n%s", diff)
	}
	var want []string
	for _, workload := range workloads {
		want = append(want, workload.GetName()+" by Eviction: Succeeded")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, inWords(made)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
	evicted := evictions(requests, shop)
	for workload, pods := range map[string]int{"wide": 1, "db": 3, "queue": 3, "logs": 3, "old": 2, "bounded": 4, "owned": 2} {
		if evicted[workload] != pods {
			t.Errorf("%d Pods of %s were evicted, want %d", evicted[workload], workload, pods)
		}
	}
	for _, uid := range injected {
		if !slices.Contains(uids(podsOf(t, shop, "wide")), uid) {
			t.Errorf("the injected Pod %s was evicted", uid)
		}
	}
	for workload, atLeast := range map[string]int{"wide": 6, "db": 2, "queue": 2, "logs": 2, "old": 1, "bounded": 3, "owned": 1} {
		if got := least(workload); got < atLeast {
			t.Errorf("only %d Pods of %s were ready at a time, want %d at least", got, workload, atLeast)
		}
	}
}

// specs are what workloads ask for, by name.
func specs(t *clusterTest, workloads []client.Object) map[string]string {
	t.Helper()
	specs := map[string]string{}
	for _, workload := range workloads {
		if err := t.admin.Get(t.Context(), client.ObjectKeyFromObject(workload), workload); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(workload)
		if err != nil {
			t.Fatal(err)
		}
		var read struct{ Spec json.RawMessage }
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		specs[workload.GetName()] = string(read.Spec)
	}
	return specs
}

// evictions counts, by workload, the Pods that were evicted. StatefulSets use names again.
func evictions(events []cluster.AuditEvent, namespace string) map[string]int {
	counts := map[string]int{}
	for i := range events {
		event := &events[i]
		if event.Namespace == namespace && event.Subresource == "eviction" && event.Code < 300 && !event.DryRun {
			workload, _, _ := strings.Cut(event.Name, "-")
			counts[workload]++
		}
	}
	return counts
}

// followReady follows every write to the Pods of a namespace, and gives for a workload how many of its
// Pods were ready when the fewest were.
func followReady(t *clusterTest, namespace string) func(workload string) int {
	t.Helper()
	var mu sync.Mutex
	ready, least := map[string]map[types.UID]bool{}, map[string]int{}
	names := map[string]corev1.Pod{}
	note := func(pod *corev1.Pod, is bool) {
		workload := pod.Labels["app"]
		if ready[workload] == nil {
			ready[workload] = map[types.UID]bool{}
		}
		delete(ready[workload], pod.UID)
		if is {
			ready[workload][pod.UID] = true
		}
		if fewest, known := least[workload]; known {
			least[workload] = min(fewest, len(ready[workload]))
		}
	}
	journal, err := t.Follow(t.Context(), func(write *cluster.Write) {
		if write.Resource != "pods" || write.Namespace != namespace {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		pod := corev1.Pod{}
		if write.Deleted() {
			pod = names[write.Name]
			note(&pod, false)
			return
		}
		if err := write.Into(&pod); err != nil {
			t.Error(err)
			return
		}
		names[write.Name] = pod
		note(&pod, isReady(&pod))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	all, err := pods(t.Context(), t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range all {
		names[all[i].Name] = all[i]
		note(&all[i], isReady(&all[i]))
	}
	for workload, pods := range ready {
		least[workload] = len(pods)
	}
	return func(workload string) int {
		if err := journal.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return least[workload]
	}
}

func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(condition corev1.PodCondition) bool {
		return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
	})
}

// The operator is killed while Pods are evicted, and started again: each Pod that is out is evicted
// once, and no other.
func TestKilledOperatorEvictsEachPodOnce(test *testing.T) {
	t := onCluster(test)
	const shop = "killed-evicting"
	db := builder.StatefulSet(shop, "db").Replicas(5).OnDelete().TemplateAnnotated(cluster.ReadyAfter, "500ms").Build()
	startShop(t, shop, db)
	outside := uids(podsOf(t, shop, "db"))
	begin := serverTime()
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	label(t, shop, "istio-injection", "enabled")
	for replaced := 1; replaced <= 3; replaced++ {
		running := startOperator(t)
		eventually(t, fmt.Sprintf("%d Pods are replaced", replaced), func(context.Context) error {
			left := slices.DeleteFunc(podsOf(t, shop, "db"), func(pod corev1.Pod) bool { return !slices.Contains(outside, pod.UID) })
			if len(left) > len(outside)-replaced {
				return fmt.Errorf("%d are left", len(left))
			}
			return nil
		})
		running.Kill()
	}
	startOperator(t)
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if got := evictions(operatorRequests(t, begin), shop)["db"]; got != 5 {
		t.Errorf("%d evictions, want 5", got)
	}
}
