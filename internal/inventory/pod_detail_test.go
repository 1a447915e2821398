package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestCarriedTellsOfEveryPod(t *testing.T) {
	i := shop()
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "c-old").Ready(noon).Build()))
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "b-new").Injected("default").Ready(noon.Add(time.Minute)).Build()))
	i.SetPod(mesh.CutDown(podOf("shop", "cart-1", "a-going").Ready(noon).Terminating(noon).Build()))
	i.SetPod(mesh.CutDown(builder.Pod("shop", "debug").CreatedAt(noon).Build()))
	key := theDeployment(t, i)

	type line struct {
		Pod     string
		Running bool
		Proxy   mesh.Proxy
		Finding v1alpha1.Finding
	}
	var got []line
	for _, pod := range i.PodDetails(key) {
		got = append(got, line{pod.Name, pod.Running(), pod.Observed.Value().Proxy, pod.Judgement.Finding})
	}
	want := []line{
		{"a-going", false, mesh.ProxyNone, v1alpha1.FindingMissing},
		{"b-new", true, mesh.ProxyClassic, v1alpha1.FindingMeshed},
		{"c-old", true, mesh.ProxyNone, v1alpha1.FindingMissing},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("carried (-want +got):\n%s", diff)
	}
	if got, found := i.WorkloadOf("shop", "c-old"); !found || got != key {
		t.Errorf("Pod c-old is of %v", got)
	}
	if _, found := i.WorkloadOf("shop", "gone"); found {
		t.Error("a Pod was found that is not there")
	}
	if diff := cmp.Diff([]string{"a-going", "b-new", "c-old", "debug"}, i.PodNames("shop")); diff != "" {
		t.Errorf("Pods (-want +got):\n%s", diff)
	}
	if carried := i.PodDetails(mesh.Key{Kind: "Deployment", Name: "nobody"}); carried != nil {
		t.Errorf("a workload that is not there carries %v", carried)
	}
}

func theDeployment(t *testing.T, i *inventory.Inventory) mesh.Key {
	t.Helper()
	for _, workload := range i.Snapshot().Namespaces[0].Workloads {
		if workload.Key.Kind == "Deployment" {
			return workload.Key
		}
	}
	t.Fatal("there is no Deployment")
	return mesh.Key{}
}

// checkCarried demands that what Carried tells one by one adds up to what the inventory counts.
func checkCarried(t *rapid.T, i *inventory.Inventory, snapshot *inventory.Snapshot) {
	for _, namespace := range snapshot.Namespaces {
		for _, workload := range namespace.Workloads {
			var counted inventory.Pods
			worst := false
			for _, pod := range i.PodDetails(workload.Key) {
				if !pod.Running() {
					continue
				}
				counted.Running++
				if pod.Ready() {
					counted.Ready++
				}
				if pod.Judgement.Finding == v1alpha1.FindingMeshed || pod.Judgement.Finding == v1alpha1.FindingStale {
					counted.Meshed++
				}
				worst = worst || pod.Judgement.Finding == workload.Finding
				if key, found := i.WorkloadOf(workload.Key.Namespace, pod.Name); !found || key.Namespace != workload.Key.Namespace {
					t.Fatalf("Pod %s of %s is of %s", pod.Name, workload.Key, key)
				}
			}
			want := inventory.Pods{Running: workload.Pods.Running, Ready: workload.Pods.Ready, Meshed: workload.Pods.Meshed}
			if counted != want || counted.Running > 0 && !worst {
				t.Fatalf("%s is %s with %+v, and its Pods carry %+v", workload.Key, workload.Finding, want, counted)
			}
		}
	}
}
