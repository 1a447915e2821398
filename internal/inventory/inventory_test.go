package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// shop is a namespace that asks for sidecars, with a Deployment whose ReplicaSet is known.
func shop() *inventory.Inventory {
	i := inventory.New()
	i.SetInjector(injectorOf(builder.Webhooks()), noon)
	i.SetNamespace(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(noon).Build(), noon)
	cart := builder.Deployment("shop", "cart").Replicas(2).RolledOut().Build()
	i.SetObject(inventory.FromDeployment(cart))
	i.SetLink(inventory.LinkTo(builder.ReplicaSet("shop", "cart-1").OwnedBy(cart).Build()))
	return i
}

func podOf(namespace, replicaSet, name string) *builder.PodBuilder {
	return builder.Pod(namespace, name).OwnedBy(builder.ReplicaSet("shop", replicaSet).Build()).CreatedAt(noon)
}

func theWorkload(t *testing.T, i *inventory.Inventory) *inventory.Workload {
	t.Helper()
	workloads := i.Snapshot().Namespaces[0].Workloads
	if len(workloads) != 1 {
		t.Fatalf("%d workloads", len(workloads))
	}
	return workloads[0]
}

func TestWorkloadIsSummedUp(t *testing.T) {
	i := shop()
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "old").Ready(noon).Build()))
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "new").Injected("default").Ready(noon.Add(time.Minute)).Build()))
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "newer").Injected("default").Crashing("app", 3).CreatedAt(noon.Add(time.Hour)).Build()))
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "going").Ready(noon).Terminating(noon).Build()))
	got := theWorkload(t, i)
	if diff := cmp.Diff(inventory.Pods{Running: 3, Ready: 2, Meshed: 2, MeshedReady: 1, ToReplace: 1, ToReplaceReady: 1, Eligible: 3, Outside: 1}, got.Pods); diff != "" {
		t.Errorf("Pods (-want +got):\n%s", diff)
	}
	if got.Finding != "Missing" || got.Reason != mesh.ReasonSidecarMissing || got.OldestToReplace != noon.Unix() || got.NewestToReplace != noon.Unix() || got.NewestMeshed != noon.Add(time.Hour).Unix() || got.NewestMeshedReady != noon.Add(time.Minute).Unix() {
		t.Errorf("finding %s (%s), newest to replace %d, newest ready %d", got.Finding, got.Reason, got.NewestToReplace, got.NewestMeshedReady)
	}
	failing := &inventory.FailingPod{Name: "newer", UID: "pod-shop-newer", Trouble: mesh.Trouble{Container: "app", Reason: "CrashLoopBackOff", ExitCode: 3, Restarts: 3}}
	if diff := cmp.Diff(failing, got.Failing); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
}

// Whoever may create Pods in one namespace must not have the workloads of another restarted.
func TestPodsOfAnotherNamespaceDoNotCount(t *testing.T) {
	i := shop()
	i.SetNamespace(builder.Namespace("evil").Build(), noon)
	i.SetPod(mesh.CutDown(podOf("evil", "cart-1", "forged").Ready(noon).Build()))
	snapshot := i.Snapshot()
	for _, workload := range snapshot.Namespaces[1].Workloads {
		if workload.Pods.Running > 0 || workload.Open() {
			t.Errorf("%s in shop counts %+v", workload.Key, workload.Pods)
		}
	}
	if keys := snapshot.Namespaces[0].Workloads; len(keys) != 1 || keys[0].Key.String() != "ReplicaSet evil/cart-1" {
		t.Errorf("the Pod stands for %v", keys)
	}
}

// Our own write's answer may come before the informer's older events.
func TestOlderObjectAfterNewerIsIgnored(t *testing.T) {
	at := func(version string, replicas int32) *inventory.Object {
		deployment := builder.Deployment("shop", "cart").Replicas(replicas).Build()
		deployment.ResourceVersion = version
		return inventory.FromDeployment(deployment)
	}
	i := shop()
	for _, step := range []struct {
		object *inventory.Object
		want   int
	}{
		{at("20", 5), 5}, {at("9", 3), 5}, {at("20", 6), 6}, {at("21", 7), 7},
	} {
		i.SetObject(step.object)
		if got := theWorkload(t, i).Object.Replicas; got != step.want {
			t.Errorf("after version %s: %d replicas, want %d", step.object.ResourceVersion, got, step.want)
		}
	}
}

func TestNamespaceChangedWhenItsLabelsDid(t *testing.T) {
	i := inventory.New()
	labelled := func(value string) *builder.NamespaceBuilder {
		return builder.Namespace("shop").Labelled("istio-injection", value).CreatedAt(noon)
	}
	changed := func() time.Time { return i.Snapshot().Namespaces[0].Changed }
	i.SetNamespace(labelled("enabled").Build(), noon.Add(time.Hour))
	if !changed().Equal(noon) {
		t.Errorf("at first it changed at %s, want when it was created", changed())
	}
	i.SetNamespace(labelled("enabled").Annotated("a", "1").Build(), noon.Add(2*time.Hour))
	if !changed().Equal(noon) {
		t.Errorf("an annotation counts as a change at %s", changed())
	}
	i.SetNamespace(labelled("disabled").Build(), noon.Add(3*time.Hour))
	if !changed().Equal(noon.Add(3 * time.Hour)) {
		t.Errorf("a label that was seen to change counts from %s", changed())
	}
	i.DeleteNamespace("shop")
	i.SetNamespace(labelled("enabled").Build(), noon.Add(-time.Hour))
	if !changed().Equal(noon.Add(-time.Hour)) {
		t.Errorf("a writer's clock that is ahead counts: %s", changed())
	}
}

func TestInjectorThatDecidesTheSameHasNotChanged(t *testing.T) {
	i := shop()
	i.SetInjector(injectorOf(builder.Webhooks()), noon.Add(time.Hour))
	if got := i.Snapshot().InjectorChanged; !got.Equal(noon) {
		t.Errorf("it changed at %s", got)
	}
	i.SetInjector(injectorOf(builder.LettingPass(builder.Webhooks())), noon.Add(time.Hour))
	if got := i.Snapshot().InjectorChanged; !got.Equal(noon.Add(time.Hour)) {
		t.Errorf("it changed at %s", got)
	}
}

func TestWhatHasNotChangedIsSharedBetweenPictures(t *testing.T) {
	i := shop()
	i.SetNamespace(builder.Namespace("bank").Build(), noon)
	before := i.Snapshot().Namespaces
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "old").Ready(noon).Build()))
	after := i.Snapshot().Namespaces
	if before[0] != after[0] {
		t.Error("bank was looked at again, though nothing happened there")
	}
	if before[1] == after[1] || before[1].Workloads[0].Pods.Running != 0 {
		t.Error("shop was not looked at again")
	}
}

func TestNamespaceThatIsNotKnownIsNotInThePicture(t *testing.T) {
	i := inventory.New()
	i.SetPod(mesh.CutDown(builder.Pod("shop", "alone").Build()))
	if got := i.Snapshot().Namespaces; len(got) != 0 {
		t.Errorf("it shows %v", got)
	}
}

func TestResourceVersionOf(t *testing.T) {
	i := inventory.New()
	meta := func(uid string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: uid, UID: types.UID(uid), ResourceVersion: "v-" + uid}
	}
	deployment, replicaSet, pod := builder.Deployment("shop", "a").Build(), builder.ReplicaSet("shop", "b").Build(), builder.Pod("shop", "c").Build()
	deployment.ObjectMeta, replicaSet.ObjectMeta, pod.ObjectMeta = meta("deployment"), meta("replicaset"), meta("pod")
	replicaSet.OwnerReferences = append(replicaSet.OwnerReferences, builder.ControlledBy(deployment))
	i.SetObject(inventory.FromDeployment(deployment))
	i.SetLink(inventory.LinkTo(replicaSet))
	i.SetPod(mesh.CutDown(pod))
	for _, uid := range []string{"deployment", "replicaset", "pod"} {
		if got, known := i.ResourceVersionOf(types.UID(uid)); !known || got != "v-"+uid {
			t.Errorf("%s: %q, %t", uid, got, known)
		}
	}
	if got, known := i.ResourceVersionOf("another"); known {
		t.Errorf("another: %q", got)
	}
}
