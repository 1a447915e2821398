// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// What the policy on the ledger says.
const (
	createdMessage = "MeshRestarts are created by the operator alone"
	probeMessage   = "the name guard-probe is refused to everybody: the guard of the ledger is in force"
	deletedMessage = "MeshRestarts are deleted by the operator, and by whoever may delete them in all namespaces"
	updatedMessage = "MeshRestarts are updated by the operator, and without a change by whoever may update them in all namespaces"
	statusMessage  = "spec and status of a MeshRestart are written by the operator alone"
	labelsMessage  = "labels and annotations of a MeshRestart are written by the operator alone"
	addedMessage   = "owner references and finalizers of a MeshRestart are added by the operator alone"
	removedMessage = "owner references and finalizers of a MeshRestart are removed by whoever may delete MeshRestarts in all namespaces"
)

// Accounts that are not the operator's.
const (
	// tenant has the ClusterRole admin in its namespace.
	tenant = "tenant"
	// wildcard has a Role with * for everything in its namespace.
	wildcard = "wildcard"
	// migrator may get, update and patch everything in all namespaces, as what migrates stored objects may.
	migrator = "migrator"
)

func userOf(account string) string { return "system:serviceaccount:" + shop + ":" + account }

// The accounts of Kubernetes' own controllers in the test cluster, where each has its own.
const (
	garbageCollector    = "system:serviceaccount:kube-system:generic-garbage-collector"
	namespaceController = "system:serviceaccount:kube-system:namespace-controller"
)

// ledgerWorld is a cluster with controllers, some MeshRestarts to attack and those who attack them.
type ledgerWorld struct {
	*world
	cluster  *cluster.Cluster
	accounts map[string]caller
}

func TestLedger(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{Nodes: 1, WithoutIstio: true})
	w := &ledgerWorld{world: install(t, c), cluster: c, accounts: map[string]caller{}}
	w.awaitLedgerGuard(t)
	w.addAccounts(t)
	// The garbage collector needs a while to learn of a new kind; meanwhile, the attacks.
	stray := w.leaveStray(t)
	w.addTargets(t)

	// An attack is rehearsed by the operator's account, with every right.
	w.grantEverything(t)
	t.Run("attacked", func(t *testing.T) { testLedgerAttacks(t, w) })
	t.Run("reached from", func(t *testing.T) { testTenants(t, w) })
	t.Run("migrated", func(t *testing.T) { testMigration(t, w) })
	t.Run("read by whoever may view", func(t *testing.T) { testView(t, w) })
	t.Run("cleared by an administrator of the cluster", func(t *testing.T) { testAdministrator(t, w) })

	w.awaitCollector(t, stray)
	t.Run("collected with the workload", func(t *testing.T) { testCollection(t, w) })
	t.Run("deleted with the namespace", func(t *testing.T) { testNamespaceDeletion(t, w) })
}

// meshRestart is a MeshRestart of the Deployment web.
func meshRestart(namespace, name string) *v1alpha1.MeshRestart {
	return &v1alpha1.MeshRestart{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MeshRestart"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MeshRestartSpec{
			Workload: v1alpha1.RestartedWorkload{
				WorkloadReference: v1alpha1.WorkloadReference{Group: "apps", Kind: "Deployment", Name: "web"},
				UID:               "0b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d",
				Generation:        new(int64(7)),
			},
			Policy:        "policy",
			Cause:         v1alpha1.RestartCause{Finding: v1alpha1.FindingMissing, Revision: "default", NewestPodTime: metav1.Now()},
			Method:        v1alpha1.MethodRolloutRestart,
			InputsHash:    "1/abc",
			Replicas:      new(int32(3)),
			ReadyReplicas: new(int32(3)),
			Attempt:       1,
		},
	}
}

// finish ends a restart.
func finish(restart *v1alpha1.MeshRestart, result v1alpha1.RestartResult) {
	now := metav1.Now()
	restart.Status = v1alpha1.MeshRestartStatus{
		EndTime: &now,
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionFinished, Status: metav1.ConditionTrue, Reason: string(result), LastTransitionTime: now,
		}},
	}
}

func (w *ledgerWorld) addAccounts(t *testing.T) {
	t.Helper()
	everything := []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	writing := []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "update", "patch"}}}
	inShop := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: shop, Name: name} }
	subject := func(name string) []rbacv1.Subject {
		return []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: shop, Name: name}}
	}
	role := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	for _, object := range []client.Object{
		&rbacv1.RoleBinding{ObjectMeta: inShop(tenant), RoleRef: role("ClusterRole", "admin"), Subjects: subject(tenant)},
		&rbacv1.Role{ObjectMeta: inShop(wildcard), Rules: everything},
		&rbacv1.RoleBinding{ObjectMeta: inShop(wildcard), RoleRef: role("Role", wildcard), Subjects: subject(wildcard)},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: migrator}, Rules: writing},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: migrator}, RoleRef: role("ClusterRole", migrator),
			Subjects: subject(migrator)},
	} {
		w.create(t, object)
	}
	for _, name := range []string{tenant, wildcard, migrator} {
		w.create(t, &corev1.ServiceAccount{ObjectMeta: inShop(name)})
		w.accounts[name] = accountCaller(t, w.cluster, shop, name)
		await(t, name+" has its rights", func(ctx context.Context) error {
			return w.accounts[name].List(ctx, &v1alpha1.MeshRestartList{}, client.InNamespace(shop))
		})
	}
}

// addWorkload creates a Deployment, without Pods, and a MeshRestart that it owns.
func (w *ledgerWorld) addWorkload(t *testing.T, namespace, name string) (*appsv1.Deployment, *v1alpha1.MeshRestart) {
	t.Helper()
	workload := deployment()
	workload.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: name}
	workload.Spec.Replicas = new(int32(0))
	w.create(t, workload)
	restart := ownedBy(meshRestart(namespace, "deployment-"+name+"-1"), workload)
	w.record(t, restart)
	return workload, restart
}

func ownedBy(restart *v1alpha1.MeshRestart, workload *appsv1.Deployment) *v1alpha1.MeshRestart {
	restart.OwnerReferences = []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: workload.Name, UID: workload.UID},
	}
	return restart
}

// addTargets creates what is attacked: a MeshRestart that has not ended and one that has, with something of
// everything that could be taken away.
func (w *ledgerWorld) addTargets(t *testing.T) {
	t.Helper()
	workload := deployment()
	w.create(t, workload)
	for _, target := range []*v1alpha1.MeshRestart{unfinished(), finished()} {
		ownedBy(target, workload)
		target.Finalizers = []string{"example.com/hold"}
		target.Labels = map[string]string{"team": "shop"}
		target.Annotations = map[string]string{"note": "shop"}
		w.record(t, target)
		if target.Name == finished().Name {
			finish(target, v1alpha1.ResultFailed)
			if err := w.operator.Status().Update(t.Context(), target); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func unfinished() *v1alpha1.MeshRestart { return meshRestart(shop, "deployment-web-2") }

func finished() *v1alpha1.MeshRestart { return meshRestart(shop, "deployment-web-1") }

// testMigration writes what is stored once more, as after a change of the version in which it is stored.
func testMigration(t *testing.T, w *ledgerWorld) {
	c := w.accounts[migrator]
	rewrite := rewriting(finished, func(*v1alpha1.MeshRestart) {}, func(ctx context.Context, c caller, o client.Object) error {
		return c.Update(ctx, o)
	})
	if err := rewrite(t.Context(), c); err != nil {
		t.Errorf("Updating without a change: %v", err)
	}
	if err := rewrite(t.Context(), w.admin); err != nil {
		t.Errorf("Updating without a change, as an administrator: %v", err)
	}
	// Kubernetes' own controller applies nothing but which object it is.
	object := finished()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
	same := identity(object)
	same.SetUID(object.UID)
	same.SetResourceVersion(object.ResourceVersion)
	if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(same), client.FieldOwner("migrator"),
		client.ForceOwnership); err != nil {
		t.Errorf("Applying nothing: %v", err)
	}
	for what, patch := range map[string]string{
		"owner": `[{"op":"remove","path":"/metadata/ownerReferences"}]`, "finalizer": `[{"op":"remove","path":"/metadata/finalizers"}]`,
	} {
		err := refusedByPolicy(jsonPatch(t.Context(), c, finished(), patch), ledgerOnly, removedMessage)
		if err != nil {
			t.Errorf("Who may update in all namespaces and not delete removes the %s: %v", what, err)
		}
	}
}

func testView(t *testing.T, w *ledgerWorld) {
	c := w.accounts[tenant]
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(finished()), finished()); err != nil {
		t.Error(err)
	}
}

// testAdministrator clears by hand what hangs on a finalizer.
func testAdministrator(t *testing.T, w *ledgerWorld) {
	target := finished()
	for _, patch := range []string{`[{"op":"remove","path":"/metadata/ownerReferences"}]`, `[{"op":"remove","path":"/metadata/finalizers"}]`} {
		if err := jsonPatch(t.Context(), w.admin, target, patch); err != nil {
			t.Error(err)
		}
	}
	if err := w.admin.Delete(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := isGone(t.Context(), w.admin, target); err != nil {
		t.Error(err)
	}
}

// leaveStray creates a MeshRestart whose workload is not there, for the garbage collector to find.
func (w *ledgerWorld) leaveStray(t *testing.T) *v1alpha1.MeshRestart {
	t.Helper()
	never := deployment()
	never.UID = "2b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d"
	stray := ownedBy(meshRestart(metav1.NamespaceDefault, "deployment-stray-1"), never)
	w.record(t, stray)
	return stray
}

// awaitCollector waits until the garbage collector knows MeshRestarts.
func (w *ledgerWorld) awaitCollector(t *testing.T, stray *v1alpha1.MeshRestart) {
	t.Helper()
	await(t, "the garbage collector has collected a MeshRestart without a workload", func(ctx context.Context) error {
		return isGone(ctx, w.admin, stray)
	})
	w.checkDone(t, garbageCollector, "delete", stray.Namespace, stray.Name)
}

func testCollection(t *testing.T, w *ledgerWorld) {
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
		t.Run(string(policy), func(t *testing.T) {
			workload, restart := w.addWorkload(t, metav1.NamespaceDefault, strings.ToLower(string(policy)))
			if err := w.admin.Delete(t.Context(), workload, client.PropagationPolicy(policy)); err != nil {
				t.Fatal(err)
			}
			for _, object := range []client.Object{workload, restart} {
				await(t, fmt.Sprintf("%T is gone", object), func(ctx context.Context) error { return isGone(ctx, w.admin, object) })
			}
			w.checkDone(t, garbageCollector, "delete", restart.Namespace, restart.Name)
		})
	}
	t.Run("Orphan", func(t *testing.T) {
		workload, restart := w.addWorkload(t, metav1.NamespaceDefault, "left")
		if err := w.admin.Delete(t.Context(), workload, client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
			t.Fatal(err)
		}
		await(t, "the Deployment is gone", func(ctx context.Context) error { return isGone(ctx, w.admin, workload) })
		if err := w.admin.Get(t.Context(), client.ObjectKeyFromObject(restart), restart); err != nil {
			t.Fatal(err)
		}
		if len(restart.OwnerReferences) > 0 {
			t.Errorf("The MeshRestart still has the owners %v", restart.OwnerReferences)
		}
		w.checkDone(t, garbageCollector, "patch", restart.Namespace, restart.Name)
	})
	// The collector ends these deletions too, by taking off the finalizer that they put on.
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		t.Run("a MeshRestart deleted with "+string(policy), func(t *testing.T) {
			restart := meshRestart(metav1.NamespaceDefault, "deployment-alone-1")
			w.record(t, restart)
			if err := w.admin.Delete(t.Context(), restart, client.PropagationPolicy(policy)); err != nil {
				t.Fatal(err)
			}
			await(t, "the MeshRestart is gone", func(ctx context.Context) error { return isGone(ctx, w.admin, restart) })
			w.checkDone(t, garbageCollector, "patch", restart.Namespace, restart.Name)
		})
	}
}

func testNamespaceDeletion(t *testing.T, w *ledgerWorld) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}}
	w.create(t, namespace)
	_, restart := w.addWorkload(t, namespace.Name, "web")
	if err := w.admin.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	for _, object := range []client.Object{restart, namespace} {
		await(t, fmt.Sprintf("%T is gone", object), func(ctx context.Context) error { return isGone(ctx, w.admin, object) })
	}
	w.checkDone(t, namespaceController, "deletecollection", namespace.Name, "")
}

// checkDone looks for a request of a controller that succeeded, and for none that was refused.
func (w *ledgerWorld) checkDone(t *testing.T, user, verb, namespace, name string) {
	t.Helper()
	events, err := w.cluster.AuditOf(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	for _, event := range events {
		if event.Resource != "meshrestarts" {
			continue
		}
		if event.Code == 403 {
			t.Errorf("%s was refused %s of %s/%s", user, event.Verb, event.Namespace, event.Name)
		}
		done = done || event.Verb == verb && event.Namespace == namespace && event.Name == name && event.Code == 200
	}
	if !done {
		t.Errorf("It was not %s who did it by %s", user, verb)
	}
}

func isGone(ctx context.Context, c client.Client, object client.Object) error {
	uid := object.GetUID()
	now := object.DeepCopyObject().(client.Object)
	switch err := c.Get(ctx, client.ObjectKeyFromObject(object), now); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case now.GetUID() != uid:
		return nil
	}
	return errors.New("it is still there")
}
