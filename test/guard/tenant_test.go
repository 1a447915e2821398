// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// reach is a request of a namespace's admin that would be felt in other namespaces.
type reach struct {
	name string
	do   func(context.Context, caller) error
	// verb and resource are the right that nobody gives it.
	verb, resource string
}

// reaches are what would take places in the budgets of others, or open, close or get around what holds them.
func reaches() []reach {
	elsewhere := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}
	}
	quota := noMeshRestarts()
	quota.Namespace = metav1.NamespaceDefault
	workload := deployment()
	workload.ObjectMeta = elsewhere("web")
	return []reach{
		{"asks on the MeshPolicy for another try", func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, meshPolicy(), `[{"op":"add","path":"/metadata/annotations","value":{"fullmesh.dev/retry-requested":"x"}}]`)
		}, "patch", "meshpolicies"},
		{"raises the budget of the MeshPolicy", func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, meshPolicy(), `[{"op":"add","path":"/spec/budgets","value":[{"scope":"Policy","workloads":1000}]}]`)
		}, "patch", "meshpolicies"},
		{"closes the breaker in the status of the MeshPolicy", func(ctx context.Context, c caller) error {
			return c.Status().Patch(ctx, meshPolicy(), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"breaker":null}}`)))
		}, "patch", "meshpolicies/status"},
		{"makes a MeshPolicy of its own", func(ctx context.Context, c caller) error {
			policy := meshPolicy()
			policy.Name = "evil"
			return c.Create(ctx, policy)
		}, "create", "meshpolicies"},
		{"presses the red button", func(ctx context.Context, c caller) error {
			return c.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: v1alpha1.StopConfigMap}})
		}, "create", "configmaps"},
		{"records a restart in another namespace", func(ctx context.Context, c caller) error {
			return c.Create(ctx, meshRestart(metav1.NamespaceDefault, "deployment-evil-1"))
		}, "create", "meshrestarts"},
		{"keeps MeshRestarts out of another namespace", func(ctx context.Context, c caller) error {
			return c.Create(ctx, quota)
		}, "create", "resourcequotas"},
		{"edits a workload of another namespace", func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, workload, `[{"op":"add","path":"/metadata/labels","value":{"evil":"true"}}]`)
		}, "patch", "deployments"},
		{"takes the guard away", func(ctx context.Context, c caller) error {
			return c.Delete(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: ledgerOnly}})
		}, "delete", "validatingadmissionpolicybindings"},
		{"cordons a node", func(ctx context.Context, c caller) error {
			return jsonPatch(ctx, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}},
				`[{"op":"add","path":"/spec/unschedulable","value":true}]`)
		}, "patch", "nodes"},
	}
}

// testTenants has both kinds of a namespace's admin reach for other namespaces.
func testTenants(t *testing.T, w *ledgerWorld) {
	for _, name := range []string{tenant, wildcard} {
		for _, reach := range reaches() {
			t.Run(name+" "+reach.name, func(t *testing.T) {
				if err := byRBACOf(userOf(name), reach.verb, reach.resource)(reach.do(t.Context(), w.accounts[name])); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Run("tenant has no right to quotas", func(t *testing.T) {
		if err := byRBACOf(userOf(tenant), "create", "resourcequotas")(w.accounts[tenant].Create(t.Context(), noMeshRestarts())); err != nil {
			t.Error(err)
		}
	})
	t.Run("tenant does not edit its MeshReport", func(t *testing.T) {
		report := &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: v1alpha1.ReportName}}
		if err := byRBACOf(userOf(tenant), "create", "meshreports")(w.accounts[tenant].Create(t.Context(), report)); err != nil {
			t.Error(err)
		}
	})
	t.Run("wildcard keeps MeshRestarts out of its own namespace alone", func(t *testing.T) { testQuota(t, w) })
}

// noMeshRestarts is a quota that leaves no room for MeshRestarts in the namespace that is attacked.
func noMeshRestarts() *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/meshrestarts.fullmesh.dev": resource.MustParse("0")}},
	}
}

func testQuota(t *testing.T, w *ledgerWorld) {
	quota, operator := noMeshRestarts(), rehearsing(w.operator)
	if err := w.accounts[wildcard].Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	await(t, "the quota refuses MeshRestarts", func(ctx context.Context) error {
		// The quota controller writes the status too, and takes minutes for a kind that is new to it.
		counted := quota.DeepCopy()
		counted.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: quota.Spec.Hard}
		if err := w.admin.Status().Patch(ctx, counted, client.MergeFrom(quota)); err != nil {
			return err
		}
		return refused(operator.Create(ctx, meshRestart(shop, "deployment-web-3")), apierrors.IsForbidden,
			"exceeded quota: none, requested: count/meshrestarts.fullmesh.dev=1")
	})
	if err := operator.Create(t.Context(), meshRestart(metav1.NamespaceDefault, "deployment-web-3")); err != nil {
		t.Errorf("Nothing can be restarted in another namespace: %v", err)
	}
	// What has begun can be ended.
	target := unfinished()
	if err := operator.Get(t.Context(), client.ObjectKeyFromObject(target), target); err != nil {
		t.Fatal(err)
	}
	finish(target, v1alpha1.ResultSucceeded)
	if err := operator.Status().Update(t.Context(), target); err != nil {
		t.Errorf("A restart cannot be ended: %v", err)
	}
	// The owner ends it.
	if err := w.accounts[wildcard].Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	await(t, "MeshRestarts are admitted again", func(ctx context.Context) error {
		return operator.Create(ctx, meshRestart(shop, "deployment-web-3"))
	})
}
