package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// askingFor lets a template's container ask for so much CPU.
func askingFor(cpu string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		d.Spec.Template.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	}
}

func TestQuotaWithoutRoomForOneMorePod(t *testing.T) {
	for _, test := range []struct {
		name    string
		object  *builder.Workload[*appsv1.Deployment]
		refusal string
		want    bool
	}{
		{"the old Pod makes room", takesDown().With(askingFor("100m")),
			"exceeded quota: team, requested: pods=1,requests.cpu=110m, used: pods=2,requests.cpu=200m, limited: pods=2,requests.cpu=250m", true},
		{"it does so to the last bit", takesDown().With(askingFor("100m")),
			"exceeded quota: team, requested: requests.cpu=150m, used: requests.cpu=200m, limited: requests.cpu=250m", true},
		{"the sidecar is too large", takesDown().With(askingFor("100m")),
			"exceeded quota: team, requested: requests.cpu=151m, used: requests.cpu=200m, limited: requests.cpu=250m", false},
		{"one of several resources has no room", takesDown().With(askingFor("100m")),
			"exceeded quota: team, requested: limits.cpu=100m,limits.memory=1Gi, used: limits.cpu=200m,limits.memory=1Gi, limited: limits.cpu=200m,limits.memory=1Gi", false},
		{"what is used is above the limit already", takesDown(),
			"exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=2", false},
		{"no old Pod counts in it", takesDown(),
			"exceeded quota: team, requested: pods=1, used: pods=0, limited: pods=0", false},
		{"what it says cannot be read", takesDown(), "exceeded quota: team", false},
		{"a number cannot be read", takesDown(), "exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=x", false},
		{"nothing is requested", takesDown(), "exceeded quota: team, requested: x, used: x, limited: x", false},
	} {
		if got := fitsInTurn(known(t, test.object.Build()), test.refusal); got != test.want {
			t.Errorf("%s: it fits %t", test.name, got)
		}
	}
}

func takesDown() *builder.Workload[*appsv1.Deployment] {
	return builder.Deployment("shop", "web").Replicas(2).Surge(0).Unavailable(1)
}

// The same in the API server's own words.
func TestQuotaThatHasRoomInTurn(t *testing.T) {
	w := apiServer(t)
	for _, test := range []struct {
		name     string
		hard     map[corev1.ResourceName]string
		template string
		want     restart.CheckOutcome
	}{
		{"of Pods", map[corev1.ResourceName]string{"pods": "2"}, "100m", restart.CheckFitsInTurn},
		{"of CPU", map[corev1.ResourceName]string{"requests.cpu": "250m", "limits.cpu": "250m", "pods": "9"}, "100m", restart.CheckFitsInTurn},
		{"of CPU, by its short name", map[corev1.ResourceName]string{"cpu": "200m"}, "100m", restart.CheckFitsInTurn},
		{"that is not large enough for one", map[corev1.ResourceName]string{"requests.cpu": "50m"}, "100m", restart.CheckOverQuota},
	} {
		t.Run(test.name, func(t *testing.T) {
			shop := w.namespace(t)
			hard, used := corev1.ResourceList{}, corev1.ResourceList{}
			for name, amount := range test.hard {
				hard[name] = resource.MustParse(amount)
				used[name] = resource.MustParse("200m")
				if name == "pods" {
					used[name] = resource.MustParse("2")
				}
			}
			object := builder.Deployment(shop, "web").Replicas(2).Surge(0).Unavailable(1).With(askingFor(test.template)).Build()
			w.create(t, object)
			w.quota(t, hard, used, podOf(known(t, object)))
			if got := (&checker{client: w.operator}).dryRun(t.Context(), known(t, object)); got.Outcome != test.want {
				t.Errorf("the answer is %s: %s", got.Outcome, got.Message)
			}
		})
	}
}

// quota bounds the namespace of a Pod, of which so much is used, and waits until it keeps the Pod out.
func (w *world) quota(t *testing.T, hard, used corev1.ResourceList, refused client.Object) {
	t.Helper()
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: refused.GetNamespace(), Name: "team"}}
	quota.Spec.Hard = hard
	w.create(t, quota)
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: used}
	if err := w.admin.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota is in force", func(ctx context.Context) error {
		err := w.admin.Create(ctx, refused.DeepCopyObject().(client.Object), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "quota") {
			return errors.Join(errors.New("it would be created, or not refused for this"), err)
		}
		return nil
	})
}
