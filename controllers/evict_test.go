package controllers

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		"nothing is in the way":       {asked: []string{"web-0", "web-1", "web-2"}},
		"a Pod is refused":            {refuse: map[string]error{"web-1": disturbed}, asked: []string{"web-0", "web-1"}, events: 1},
		"a Pod is gone":               {refuse: map[string]error{"web-1": apierrors.NewNotFound(corev1.Resource("pods"), "web-1")}, asked: []string{"web-0", "web-1", "web-2"}},
		"the red button is pressed":   {stopAt: "web-0", asked: []string{"web-0"}},
		"the API server is not there": {refuse: map[string]error{"web-0": errors.New("connection refused")}, asked: []string{"web-0"}, events: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			button := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "fullmesh-system", Name: v1alpha1.StopConfigMap}}
			c := answering(interceptor.Funcs{
				SubResourceCreate: func(ctx context.Context, c client.Client, _ string, pod, _ client.Object, _ ...client.SubResourceCreateOption) error {
					asked = append(asked, pod.GetName())
					if pod.GetName() == test.stopAt {
						if err := c.Create(ctx, button); err != nil {
							t.Error(err)
						}
					}
					return test.refuse[pod.GetName()]
				},
			})
			events := &recorder{}
			r := &Reconciler{client: c, now: time.Now, namespace: button.Namespace, actor: &actor{client: c, inventory: inventory.New()}, announcer: announcer{recorder: events}}
			verdict := &restart.Verdict{Workload: &inventory.Workload{Object: inventory.FromDeployment(builder.Deployment("shop", "web").Build())}}
			for _, pod := range []string{"web-0", "web-1", "web-2"} {
				verdict.Evict = append(verdict.Evict, &mesh.Pod{Meta: mesh.Meta{Namespace: "shop", Name: pod}})
			}
			if _, err := r.evict(t.Context(), verdict, nil); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.asked, asked); diff != "" {
				t.Errorf("evictions (-want +got):\n%s", diff)
			}
			if sent := events.take(); len(sent) != test.events {
				t.Errorf("Events: %q", sent)
			}
		})
	}
}

// Evictions are given up by how long they have been refused, which begins with the first refusal.
func TestEvictionsAreRefusedSinceTheFirst(t *testing.T) {
	var past pastEvictions
	var first []bool
	refuse := func(after time.Duration) {
		first = append(first, past.refused("web", noon.Add(after), errors.New("no")))
	}
	refuse(0)
	refuse(time.Minute)
	if got := past.of("web"); !got.RefusedSince.Equal(noon) || got.Refused != "no" || !got.Until.After(noon.Add(time.Minute)) {
		t.Errorf("after two: %+v", got)
	}
	past.accepted("web", noon.Add(2*time.Minute))
	if got := past.of("web"); got.Refused != "" || !got.RefusedSince.IsZero() || !got.Last.Equal(noon.Add(2*time.Minute)) {
		t.Errorf("after one that was accepted: %+v", got)
	}
	refuse(3 * time.Minute)
	if got := past.of("web"); !got.RefusedSince.Equal(noon.Add(3 * time.Minute)) {
		t.Errorf("after another: %+v", got)
	}
	if want := []bool{true, false, true}; !slices.Equal(first, want) {
		t.Errorf("the first in a row: %v, want %v", first, want)
	}
}
