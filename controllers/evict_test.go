package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// Each Pod is evicted only when the one before it was, and nobody has pressed the red button since.
func TestEvictionsStopInTime(t *testing.T) {
	disturbed := apierrors.NewTooManyRequests("the disruption budget web needs 2 healthy pods", 0)
	for name, test := range map[string]struct {
		refuse map[string]error
		// stopAt is the Pod during whose eviction the red button is pressed.
		stopAt string
		asked  []string
		events int
	}{
		"nothing is in the way": {asked: []string{"web-0", "web-1", "web-2"}},
		"a Pod is refused":      {refuse: map[string]error{"web-1": disturbed}, asked: []string{"web-0", "web-1"}, events: 1},
		"a Pod is gone": {refuse: map[string]error{"web-1": apierrors.NewNotFound(corev1.Resource("pods"), "web-1")},
			asked: []string{"web-0", "web-1", "web-2"}},
		"the red button is pressed":   {stopAt: "web-0", asked: []string{"web-0"}},
		"the API server is not there": {refuse: map[string]error{"web-0": errors.New("connection refused")}, asked: []string{"web-0"}, events: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			button := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "fullmesh-system", Name: v1alpha1.StopConfigMap}}
			c := answering(interceptor.Funcs{
				SubResourceCreate: func(ctx context.Context, c client.Client, _ string, pod, _ client.Object,
					_ ...client.SubResourceCreateOption) error {
					asked = append(asked, pod.GetName())
					if pod.GetName() == test.stopAt {
						if err := c.Create(ctx, button); err != nil {
							t.Error(err)
						}
					}
					return test.refuse[pod.GetName()]
				},
			})
			a := actorOf(c, c, inventory.New())
			object := known(t, builder.Deployment("shop", "web").Build())
			begun := intended(object)
			begun.Method = v1alpha1.MethodEviction
			written := begun.MeshRestart()
			if err := c.Create(t.Context(), written); err != nil {
				t.Fatal(err)
			}
			round := inventory.FromMeshRestart(written)
			round.Evicting = []types.UID{"0", "1", "2"}
			verdict := &restart.Verdict{Workload: &inventory.Workload{Object: object}, Restart: round}
			for i, uid := range round.Evicting {
				verdict.Evict = append(verdict.Evict, &mesh.Pod{Meta: mesh.Meta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), UID: uid}})
			}
			if err := a.evict(t.Context(), verdict, nil); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.asked, asked); diff != "" {
				t.Errorf("evictions (-want +got):\n%s", diff)
			}
			if sent := a.events.take(); len(sent) != test.events {
				t.Errorf("Events: %q", sent)
			}
		})
	}
}

// What was written down of a round by another process comes first: without a test of it, both would evict.
func TestRoundIsWrittenBeforeItsPodsAreEvicted(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	for _, test := range []struct {
		name string
		// again says that the round is written down already.
		again   bool
		then    string
		evicted bool
	}{
		{name: "nothing has happened since", evicted: true},
		{name: "nothing has happened since it was tried", again: true, evicted: true},
		{name: "it has ended since it was tried", again: true, then: finishedPatch(v1alpha1.ResultInterrupted)},
		{name: "another round was written", then: `{"status":{"evicting":["another"]}}`},
		{name: "it has ended", then: finishedPatch(v1alpha1.ResultInterrupted)},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := builder.StatefulSet(shop, strings.ReplaceAll(test.name, " ", "-")).Build()
			pod := builder.Pod(shop, object.Name+"-0").Build()
			w.create(t, object)
			w.create(t, pod)
			a := w.actor(w.operator, inventoryOf(t, builder.Namespace(shop).Build(), object))
			verdict := restartOf(known(t, object))
			verdict.Restart.Method = v1alpha1.MethodEviction
			if err := a.start(t.Context(), verdict, nil); err != nil {
				t.Fatal(err)
			}
			begun := workloadIn(t, a.inventory, verdict.Workload.Key)
			round := *begun.InFlight
			round.Evicting = []types.UID{pod.UID}
			if test.again {
				if written, err := a.writeStatus(t.Context(), &round); !written || err != nil {
					t.Fatalf("written %t, %v", written, err)
				}
				begun = workloadIn(t, a.inventory, verdict.Workload.Key)
				round = *begun.InFlight
			}
			r := &v1alpha1.MeshRestart{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: round.Name}}
			if test.then != "" {
				if err := w.admin.Status().Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(test.then))); err != nil {
					t.Fatal(err)
				}
			}
			evict := &restart.Verdict{Workload: begun, Step: restart.StepEvict, Restart: &round, Evict: []*mesh.Pod{{Meta: mesh.MetaOf(pod)}}}
			if err := a.evict(t.Context(), evict, nil); err != nil {
				t.Fatal(err)
			}
			err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
			if apierrors.IsNotFound(err) != test.evicted {
				t.Errorf("the Pod after the round: %v", err)
			}
			if named := slices.Contains(get(t, w, r).Status.Evicting, string(pod.UID)); named != (test.evicted || test.again) {
				t.Errorf("it is named: %t", named)
			}
		})
	}
}

func TestPodThatIsAnotherIsNotEvicted(t *testing.T) {
	w := apiServer(t)
	shop := w.namespace(t)
	pod := builder.Pod(shop, "web-0").Build()
	w.create(t, pod)
	former := &mesh.Pod{Meta: mesh.MetaOf(pod)}
	former.UID = "former"
	if gone, err := w.actor(w.operator, inventory.New()).evictPod(t.Context(), former); gone || err != nil {
		t.Errorf("evicted: %t, %v", gone, err)
	}
	get(t, w, pod)
}
