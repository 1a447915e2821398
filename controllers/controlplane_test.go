package controllers

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// The control plane is what is behind the webhook's Service, whatever it is called; where the Service may
// not be read, the labels of Istio's charts tell it.
func TestControlPlaneIsFoundBehindTheWebhooksService(t *testing.T) {
	w := apiServer(t)
	w.create(t, builder.LettingPass(builder.Webhooks()))
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: "istiod"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"team": "mesh"}, Ports: []corev1.ServicePort{{Port: 443}}},
	}
	pilot := builder.Deployment(istioNamespace, "pilot").Labelled("team", "mesh").Replicas(2).Build()
	istiod := builder.Deployment(istioNamespace, "istiod").Labelled("app", "istiod", "istio.io/rev", "default").Replicas(2).Build()
	for _, object := range []client.Object{service, pilot, istiod} {
		w.create(t, object)
		t.Cleanup(func() {
			if err := client.IgnoreNotFound(w.admin.Delete(context.Background(), object)); err != nil {
				t.Error(err)
			}
		})
	}
	// No controller rolls them out here: pilot has finished, istiod has not begun.
	pilot.Status = builder.Deployment(istioNamespace, "pilot").Replicas(2).RolledOut().Build().Status
	pilot.Status.ObservedGeneration = pilot.Generation
	if err := w.admin.Status().Update(t.Context(), pilot); err != nil {
		t.Fatal(err)
	}
	planes := func(snapshot *inventory.Snapshot) string {
		text := ""
		for _, plane := range snapshot.ControlPlanes[mesh.DefaultRevision] {
			text += fmt.Sprintf("%s %d of %d", plane.Key, plane.Object.Available, plane.Object.Replicas)
		}
		return text
	}
	const byService, byLabels = "Deployment istio-system/pilot 2 of 2", "Deployment istio-system/istiod 0 of 2"
	watched, _ := w.watching(t, &corev1.Service{})
	if got := planes(watched.Inventory.Snapshot()); got != byService {
		t.Errorf("by the informers the control plane is %q", got)
	}
	for _, test := range []struct {
		name   string
		reader client.Reader
		want   string
	}{
		{"by the Service", w.operator, byService},
		{"by labels where Services may not be read", withoutServices{w.operator}, byLabels},
	} {
		t.Run(test.name, func(t *testing.T) {
			observer := NewObserver(mesh.Options{IstioNamespace: istioNamespace}, time.Now)
			if err := observer.ReadOnce(t.Context(), test.reader, istioNamespace); err != nil {
				t.Fatal(err)
			}
			if got := planes(observer.Inventory.Snapshot()); got != test.want {
				t.Errorf("the control plane is %q", got)
			}
		})
	}
	w.patch(t, pilot, `{"spec":{"template":{"metadata":{"annotations":{"version":"new"}}}}}`)
	eventually(t, "the upgrade is seen", func(context.Context) error {
		snapshot := watched.Inventory.Snapshot()
		if plane := snapshot.ControlPlanes[mesh.DefaultRevision]; len(plane) != 1 || !plane[0].Object.RollingOut() {
			return fmt.Errorf("the control plane is %s, and no rollout of it is seen", planes(snapshot))
		}
		return nil
	})
	if err := w.admin.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Service is forgotten", func(context.Context) error {
		if got := planes(watched.Inventory.Snapshot()); got != byLabels {
			return fmt.Errorf("the control plane is %q", got)
		}
		return nil
	})
}

// withoutServices may read everything else.
type withoutServices struct{ client.Reader }

func (r withoutServices) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if _, is := list.(*corev1.ServiceList); is {
		return apierrors.NewForbidden(corev1.Resource("services"), "", fmt.Errorf("not for this account"))
	}
	return r.Reader.List(ctx, list, options...)
}
