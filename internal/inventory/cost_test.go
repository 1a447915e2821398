package inventory_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// sizes of a namespace, in Pods.
var sizes = []int{10, 1_000, 100_000}

// podsPerWorkload is what a cluster of 100,000 Pods in 20,000 workloads has.
const podsPerWorkload = 5

// crowd is a namespace of so many Pods, and the Pods.
func crowd(pods, perWorkload int) (*inventory.Inventory, []*mesh.Pod) {
	i := inventory.New()
	i.SetInjector(injectorOf(builder.Webhooks()), noon)
	i.SetNamespace(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(noon).Build(), noon)
	setWorkloads(i, pods, perWorkload)
	made := makePods(pods, perWorkload)
	for _, pod := range made {
		i.SetPod(pod)
	}
	i.Snapshot()
	return i, made
}

func setWorkloads(i *inventory.Inventory, pods, perWorkload int) {
	for n := range (pods + perWorkload - 1) / perWorkload {
		deployment := builder.Deployment("shop", fmt.Sprintf("workload-%d", n)).Replicas(int32(perWorkload)).RolledOut().Build()
		i.SetObject(inventory.FromDeployment(deployment))
		i.SetLink(inventory.LinkTo(replicaSet(n).OwnedBy(deployment).Build()))
	}
}

func replicaSet(n int) *builder.Workload[*appsv1.ReplicaSet] {
	return builder.ReplicaSet("shop", fmt.Sprintf("workload-%d-7c5ddbdf54", n))
}

// makePods have names, UIDs and versions as long as real ones, and do not share them.
func makePods(pods, perWorkload int) []*mesh.Pod {
	made := make([]*mesh.Pod, pods)
	for n := range made {
		b := builder.Pod("shop", fmt.Sprintf("workload-%d-7c5ddbdf54-%05d", n/perWorkload, n)).
			UID(fmt.Sprintf("3f2504e0-4f89-11d3-9a0c-%012d", n)).
			OwnedBy(replicaSet(n/perWorkload).Build()).
			Labelled("pod-template-hash", "7c5ddbdf54").
			CreatedAt(noon.Add(time.Duration(n) * time.Second)).Ready(noon.Add(time.Duration(n) * time.Second))
		if n%2 == 0 {
			b.Injected("default")
		}
		pod := b.Build()
		pod.ResourceVersion = fmt.Sprint(100_000_000 + n)
		made[n] = mesh.CutDown(pod)
		made[n].Name, made[n].UID = strings.Clone(pod.Name), types.UID(strings.Clone(string(pod.UID)))
	}
	return made
}

// another is the Pod with its readiness turned.
func another(pod *mesh.Pod) *mesh.Pod {
	turned := *pod
	turned.ReadySince = noon.Unix() - turned.ReadySince
	return &turned
}

func TestPodEventAllocatesTheSameInAnyNamespace(t *testing.T) {
	allocations := func(pods, perWorkload int) float64 {
		i, made := crowd(pods, perWorkload)
		pod, turned := made[0], another(made[0])
		return testing.AllocsPerRun(100, func() {
			i.SetPod(turned)
			i.SetPod(pod)
		})
	}
	small := allocations(10, podsPerWorkload)
	for _, large := range []float64{allocations(10_000, podsPerWorkload), allocations(10_000, 10_000)} {
		if large > small {
			t.Errorf("an event allocates %v times among 10,000 Pods and %v times among 10", large, small)
		}
	}
}

// BenchmarkPodEvent is one Pod's change in namespaces of different sizes.
func BenchmarkPodEvent(b *testing.B) {
	b.Run("spread", func(b *testing.B) { benchmarkEvents(b, func(int) int { return podsPerWorkload }, false) })
	b.Run("one workload", func(b *testing.B) { benchmarkEvents(b, func(pods int) int { return pods }, false) })
}

// BenchmarkLook is one Pod's change and a look at the inventory after it.
func BenchmarkLook(b *testing.B) {
	b.Run("spread", func(b *testing.B) { benchmarkEvents(b, func(int) int { return podsPerWorkload }, true) })
	b.Run("one workload", func(b *testing.B) { benchmarkEvents(b, func(pods int) int { return pods }, true) })
}

func benchmarkEvents(b *testing.B, perWorkload func(pods int) int, look bool) {
	took := map[int]float64{}
	for _, pods := range sizes {
		b.Run(fmt.Sprintf("%d Pods", pods), func(b *testing.B) {
			i, made := crowd(pods, perWorkload(pods))
			turned := make([]*mesh.Pod, len(made))
			for n := range made {
				turned[n] = another(made[n])
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				i.SetPod(turned[n%pods])
				if look {
					i.Snapshot()
				}
				if n++; n%pods == 0 {
					made, turned = turned, made
				}
			}
			took[pods] = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(took[pods]/took[sizes[0]], "times-as-long")
		})
	}
}

// heapPerPod is the heap that each of so many Pods takes up: what is kept of it, the inventory's share
// and a map like the informer's; first before it is judged, then after.
func heapPerPod(pods int) (kept, judged int) {
	i := inventory.New()
	i.SetNamespace(builder.Namespace("shop").Build(), noon)
	setWorkloads(i, pods, podsPerWorkload)
	before := heap()
	store := map[string]*mesh.Pod{}
	for _, pod := range makePods(pods, podsPerWorkload) {
		store[pod.Namespace+"/"+pod.Name] = pod
		i.SetPod(pod)
	}
	kept = int(heap()-before) / pods
	clear(store)
	runtime.KeepAlive(store)
	i.Snapshot()
	judged = int(heap()-before) / pods
	runtime.KeepAlive(i)
	return kept, judged
}

// An empty corev1.Pod takes up 1.2 KiB by itself; of whole ones an operator for 100,000 Pods would need
// gigabytes.
func TestAPodTakesUpLittleMemory(t *testing.T) {
	const most = 700
	if kept, _ := heapPerPod(20_000); kept <= 0 || kept > most {
		t.Errorf("a Pod takes up %d bytes, want at most %d", kept, most)
	}
}

func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		kept, judged := heapPerPod(100_000)
		b.ReportMetric(float64(kept), "B/Pod")
		b.ReportMetric(float64(judged), "B/Pod-judged")
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Pods are judged by what they carry, once per template, not one by one.
func TestJudgingPodsOfAKnownTemplateAllocatesNothingPerPod(t *testing.T) {
	allocations := func(pods int) float64 {
		i, made := crowd(pods, pods)
		pod, turned := made[0], another(made[0])
		i.SetPod(turned)
		i.Snapshot()
		return testing.AllocsPerRun(100, func() {
			i.SetPod(pod)
			i.Snapshot()
			i.SetPod(turned)
			i.Snapshot()
		})
	}
	if few, many := allocations(10), allocations(2_000); many > few {
		t.Errorf("looking at a changed workload allocates %v times with 2,000 Pods and %v times with 10", many, few)
	}
}
