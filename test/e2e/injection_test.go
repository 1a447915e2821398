package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// What would keep an injected Pod from being created holds the workload, for the right reason and
// without one Pod lost. When it goes away, the workload is restarted.
func TestBlockedRestartIsHeld(t *testing.T) {
	t.Parallel()
	for _, blocked := range []struct {
		name     string
		reason   string
		clearsBy v1alpha1.ClearedBy
		workload func(namespace string) *appsv1.Deployment
		block    func(t *clusterTest, namespace string)
		unblock  func(t *clusterTest, namespace string)
	}{
		{
			name:     "pod-security",
			reason:   "PodSecurityDenied",
			clearsBy: v1alpha1.ClearedByAdmin,
			workload: func(namespace string) *appsv1.Deployment {
				return builder.Deployment(namespace, "web").Replicas(2).With(restricted).Build()
			},
			block: func(t *clusterTest, namespace string) {
				label(t, namespace, "pod-security.kubernetes.io/enforce", "restricted")
			},
			unblock: func(t *clusterTest, namespace string) {
				label(t, namespace, "pod-security.kubernetes.io/enforce", "privileged")
			},
		},
		{
			name:     "quota",
			reason:   "QuotaExceeded",
			clearsBy: v1alpha1.ClearedByOwner,
			workload: func(namespace string) *appsv1.Deployment {
				return builder.Deployment(namespace, "web").Replicas(2).Surge(1).Unavailable(0).Build()
			},
			block: func(t *clusterTest, namespace string) {
				create(t, podQuota(namespace, 2))
				eventually(t, "the quota is counted", func(ctx context.Context) error {
					quota := podQuota(namespace, 2)
					if err := t.admin.Get(ctx, client.ObjectKeyFromObject(quota), quota); err != nil {
						return err
					}
					if used := quota.Status.Used[corev1.ResourcePods]; used.Value() != 2 {
						return fmt.Errorf("%s Pods are", &used)
					}
					return nil
				})
			},
			unblock: func(t *clusterTest, namespace string) { remove(t, podQuota(namespace, 2)) },
		},
		{
			name:     "injector-down",
			reason:   "InjectorUnreachable",
			clearsBy: v1alpha1.ClearedByCluster,
			workload: func(namespace string) *appsv1.Deployment {
				return builder.Deployment(namespace, "web").Replicas(2).Build()
			},
			block: func(t *clusterTest, _ string) {
				t.Cleanup(func() { startIstiod(t) })
				if err := t.StopIstiod(t.Context(), cluster.DefaultRevision); err != nil {
					t.Fatal(err)
				}
			},
			unblock: func(t *clusterTest, _ string) { startIstiod(t) },
		},
	} {
		t.Run(blocked.name, func(test *testing.T) {
			t := onCluster(test)
			shop := "blocked-" + blocked.name
			web := blocked.workload(shop)
			startShop(t, shop, web)
			blocked.block(t, shop)
			before := uids(podsOf(t, shop, "web"))
			label(t, shop, "istio-injection", "enabled")
			begin := serverTime()
			startOperator(t)
			create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
			row := awaitHeld(t, shop, "Deployment", "web", blocked.reason)
			if row.ClearsBy != blocked.clearsBy {
				t.Errorf("the hold is cleared by %s, want %s: %s", row.ClearsBy, blocked.clearsBy, row.Message)
			}
			if diff := cmp.Diff(before, uids(podsOf(t, shop, "web"))); diff != "" {
				t.Errorf("Pods were lost (-before +after):\n%s", diff)
			}
			blocked.unblock(t, shop)
			awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
			if got := templateChanges(operatorRequests(t, begin), shop)["deployments/web"]; got != 1 {
				t.Errorf("%d restarts, want 1", got)
			}
		})
	}
}

// restricted makes a Deployment's Pods pass the PodSecurity profile of the same name.
func restricted(d *appsv1.Deployment) {
	d.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	d.Spec.Template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func podQuota(namespace string, pods int64) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pods"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI)}},
	}
}

// A quota that is used up does not hold a workload whose strategy takes a Pod down before it adds
// one.
func TestQuotaLeavesRoomForReplacement(test *testing.T) {
	t := onCluster(test)
	const shop = "tight-quota"
	web := builder.Deployment(shop, "web").Replicas(2).Surge(0).Unavailable(1).Build()
	startShop(t, shop, web)
	create(t, podQuota(shop, 2))
	label(t, shop, "istio-injection", "enabled")
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
}

// A template that the injector refuses is held, and its owner told.
func TestUnknownTemplateIsHeld(test *testing.T) {
	t := onCluster(test)
	const shop = "unknown-template"
	web := builder.Deployment(shop, "web").Replicas(2).TemplateAnnotated("inject.istio.io/templates", "nonsense").Build()
	startShop(t, shop, web)
	before := uids(podsOf(t, shop, "web"))
	label(t, shop, "istio-injection", "enabled")
	startOperator(t)
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	row := awaitHeld(t, shop, "Deployment", "web", "InjectorDenied")
	if row.ClearsBy != v1alpha1.ClearedByOwner || !containsAll(row.Message, "nonsense") {
		t.Errorf("the hold is %+v", row)
	}
	if diff := cmp.Diff(before, uids(podsOf(t, shop, "web"))); diff != "" {
		t.Errorf("Pods were lost (-before +after):\n%s", diff)
	}
}

// A namespace that asks for a revision that nobody serves is never restarted: no sidecar would come.
func TestDanglingRevisionIsNeverRestarted(test *testing.T) {
	t := onCluster(test)
	const shop = "dangling"
	startShop(t, shop, builder.Deployment(shop, "web").Replicas(2).Build())
	label(t, shop, "istio.io/rev", "ghost")
	begin := serverTime()
	startOperator(t)
	policy := builder.Enforcing(shop).Over("team", shop).Settling(2).Build()
	create(t, policy)
	eventually(t, "the Pods are counted as not expected", func(ctx context.Context) error {
		if err := t.admin.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		if policy.Status.Pods == nil || *policy.Status.Pods.NotExpected != 2 {
			return fmt.Errorf("Pods %+v", policy.Status.Pods)
		}
		return nil
	})
	if got := templateChanges(operatorRequests(t, begin), shop); len(got) != 0 {
		t.Errorf("restarts: %v", got)
	}
}

// A tag is moved to another revision: with Stale remediated, every workload comes to the new one,
// once.
func TestMovedTagBringsTheNewRevision(test *testing.T) {
	t := onCluster(test)
	const shop, canary, tag = "moved-tag", "canary", "prod"
	if err := t.InstallRevision(t.Context(), canary, tag); err != nil {
		t.Fatal(err)
	}
	startShop(t, shop)
	label(t, shop, "istio.io/rev", tag)
	web, cart := builder.Deployment(shop, "web").Replicas(2).Build(), builder.Deployment(shop, "cart").Replicas(2).Build()
	startInjected(t, web, cart)
	expectRevision(t, shop, canary)

	begin := serverTime()
	startOperator(t)
	policy := builder.Enforcing(shop).Over("team", shop).Settling(2).Build()
	policy.Spec.Remediate = []v1alpha1.Remediation{"Missing", "Stale"}
	create(t, policy)
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	if err := t.SetTag(t.Context(), tag, cluster.DefaultRevision); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both workloads were restarted", func(context.Context) error {
		if got := templateChanges(operatorRequests(t, begin), shop); len(got) != 2 {
			return fmt.Errorf("restarts: %v", got)
		}
		return nil
	})
	awaitNothingInFlight(t, shop)
	expectRevision(t, shop, cluster.DefaultRevision)
	want := map[string]int{"deployments/web": 1, "deployments/cart": 1}
	if diff := cmp.Diff(want, templateChanges(operatorRequests(t, begin), shop)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
}

func expectRevision(t *clusterTest, namespace, revision string) {
	t.Helper()
	running, err := pods(t.Context(), t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	for i := range running {
		if observed := mesh.Observe(&running[i]); observed.Revision != revision {
			t.Errorf("Pod %s is of revision %q, want %q", running[i].Name, observed.Revision, revision)
		}
	}
}

// The label is taken away: with Leftover remediated, the sidecars go, by one restart.
func TestRemovedLabelTakesTheSidecarsAway(test *testing.T) {
	t := onCluster(test)
	const shop = "leftover"
	startShop(t, shop)
	label(t, shop, "istio-injection", "enabled")
	web := builder.Deployment(shop, "web").Replicas(2).Build()
	startInjected(t, web)
	modify(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}, func(n *corev1.Namespace) {
		delete(n.Labels, "istio-injection")
	})
	begin := serverTime()
	startOperator(t)
	policy := builder.Enforcing(shop).Over("team", shop).Settling(2).Build()
	policy.Spec.Remediate = []v1alpha1.Remediation{"Leftover"}
	create(t, policy)
	eventually(t, "no Pod has a sidecar", func(context.Context) error {
		for _, pod := range podsOf(t, shop, "web") {
			if isInjected(&pod) {
				return fmt.Errorf("%s has one", pod.Name)
			}
		}
		return nil
	})
	awaitNothingInFlight(t, shop)
	if got := templateChanges(operatorRequests(t, begin), shop)["deployments/web"]; got != 1 {
		t.Errorf("%d restarts, want 1", got)
	}
}
