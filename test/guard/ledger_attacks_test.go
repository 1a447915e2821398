// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// ledgerAttack is a request on the ledger that only the operator may make.
type ledgerAttack struct {
	name string
	do   func(context.Context, caller) error
	// verb and resource are the right that the ClusterRole admin does not give.
	verb, resource string
	// wildcard is what whoever has every right in the namespace meets.
	wildcard refusal
	// everywhere is what an administrator of the cluster meets; unset where that one may, or where the request
	// changes nothing.
	everywhere refusal
	// rehearse, where it is set, is what the operator meets instead of success.
	rehearse refusal
}

// ledgerAttacks are all that somebody else could do to the ledger.
func ledgerAttacks() []ledgerAttack {
	const object, status = "meshrestarts", "meshrestarts/status"
	ledger := func(message string) refusal { return byPolicy(ledgerOnly, message) }
	create := func(restart func() *v1alpha1.MeshRestart) func(context.Context, caller) error {
		return func(ctx context.Context, c caller) error { return c.Create(ctx, restart()) }
	}
	patched := func(name, patch string, everywhere refusal) ledgerAttack {
		return ledgerAttack{name: name, verb: "patch", resource: object, wildcard: ledger(updatedMessage), everywhere: everywhere,
			do: func(ctx context.Context, c caller) error { return jsonPatch(ctx, c, unfinished(), patch) }}
	}
	edited := func(name string, restart func() *v1alpha1.MeshRestart, edit func(*v1alpha1.MeshRestart), everywhere refusal) ledgerAttack {
		return ledgerAttack{name: name, verb: "update", resource: object, wildcard: ledger(updatedMessage), everywhere: everywhere,
			do: rewriting(restart, edit, func(ctx context.Context, c caller, o client.Object) error { return c.Update(ctx, o) })}
	}
	ended := func(name string, restart func() *v1alpha1.MeshRestart, edit func(*v1alpha1.MeshRestart)) ledgerAttack {
		return ledgerAttack{name: name, verb: "update", resource: status, wildcard: ledger(updatedMessage), everywhere: ledger(statusMessage),
			do: rewriting(restart, edit, func(ctx context.Context, c caller, o client.Object) error { return c.Status().Update(ctx, o) })}
	}
	deleted := func(name string, restart func() *v1alpha1.MeshRestart, options ...client.DeleteOption) ledgerAttack {
		return ledgerAttack{name: name, verb: "delete", resource: object, wildcard: ledger(deletedMessage),
			do: func(ctx context.Context, c caller) error { return c.Delete(ctx, restart(), options...) }}
	}
	anew := func() *v1alpha1.MeshRestart { return meshRestart(shop, "deployment-evil-1") }
	generated := func() *v1alpha1.MeshRestart {
		restart := meshRestart(shop, "")
		restart.GenerateName = "deployment-evil-"
		return restart
	}
	probe := func() *v1alpha1.MeshRestart { return meshRestart(shop, "guard-probe") }
	succeed := func(restart *v1alpha1.MeshRestart) { finish(restart, v1alpha1.ResultSucceeded) }
	immutable := byAPI("what a MeshRestart says of a restart never changes")
	owner := `{"apiVersion":"v1","kind":"ConfigMap","name":"evil","uid":"1b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d"}`

	attacks := []ledgerAttack{
		{name: "created", verb: "create", resource: object, do: create(anew), wildcard: ledger(createdMessage),
			everywhere: ledger(createdMessage)},
		{name: "created with a generated name", verb: "create", resource: object, do: create(generated),
			wildcard: ledger(createdMessage), everywhere: ledger(createdMessage)},
		{name: "created by apply", verb: "patch", resource: object, wildcard: ledger(createdMessage), everywhere: ledger(createdMessage),
			do: func(ctx context.Context, c caller) error { return applyRestart(ctx, c, anew()) }},
		{name: "created as guard-probe", verb: "create", resource: object, do: create(probe),
			wildcard: ledger(createdMessage), everywhere: ledger(createdMessage), rehearse: ledger(probeMessage)},

		// Whatever it says, an update of the object itself does not change its status.
		edited("ended by an update of the object", unfinished, succeed, nil),
		patched("ended by a patch of the object", `[{"op":"add","path":"/status","value":{"evicting":["x"]}}]`, nil),
		ended("ended", unfinished, succeed),
		ended("a failure that succeeded", finished, succeed),
		ended("evictions that nobody makes", unfinished, func(r *v1alpha1.MeshRestart) { r.Status.Evicting = []string{"x"} }),
		{name: "ended by a patch", verb: "patch", resource: status, wildcard: ledger(updatedMessage), everywhere: ledger(statusMessage),
			do: func(ctx context.Context, c caller) error {
				return c.Status().Patch(ctx, unfinished(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"evicting":["x"]}}`)))
			}},
		{name: "ended by apply", verb: "patch", resource: status, wildcard: ledger(updatedMessage), everywhere: ledger(statusMessage),
			do: func(ctx context.Context, c caller) error {
				end := identity(unfinished())
				end.Object["status"] = map[string]any{"evicting": []any{"x"}}
				return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(end), client.FieldOwner("evil"), client.ForceOwnership)
			}},

		patched("an owner added", `[{"op":"add","path":"/metadata/ownerReferences/-","value":`+owner+`}]`, ledger(addedMessage)),
		patched("another owner", `[{"op":"replace","path":"/metadata/ownerReferences/0","value":`+owner+`}]`, ledger(addedMessage)),
		patched("an owner that is not deleted before it",
			`[{"op":"add","path":"/metadata/ownerReferences/0/blockOwnerDeletion","value":true}]`, ledger(addedMessage)),
		// The API server makes one of two that are equal.
		patched("an owner twice", `[{"op":"copy","from":"/metadata/ownerReferences/0","path":"/metadata/ownerReferences/-"}]`, nil),
		patched("a finalizer twice", `[{"op":"copy","from":"/metadata/finalizers/0","path":"/metadata/finalizers/-"}]`, ledger(addedMessage)),
		patched("no owner", `[{"op":"remove","path":"/metadata/ownerReferences"}]`, nil),
		patched("a finalizer added", `[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/forever"}]`, ledger(addedMessage)),
		patched("another finalizer", `[{"op":"replace","path":"/metadata/finalizers/0","value":"example.com/forever"}]`, ledger(addedMessage)),
		patched("no finalizer", `[{"op":"remove","path":"/metadata/finalizers"}]`, nil),
		patched("a label added", `[{"op":"add","path":"/metadata/labels/evil","value":"true"}]`, ledger(labelsMessage)),
		patched("a label changed", `[{"op":"replace","path":"/metadata/labels/team","value":"cart"}]`, ledger(labelsMessage)),
		patched("no label", `[{"op":"remove","path":"/metadata/labels"}]`, ledger(labelsMessage)),
		patched("an annotation added", `[{"op":"add","path":"/metadata/annotations/evil","value":"true"}]`, ledger(labelsMessage)),
		patched("an annotation changed", `[{"op":"replace","path":"/metadata/annotations/note","value":"evil"}]`, ledger(labelsMessage)),
		patched("no annotation", `[{"op":"remove","path":"/metadata/annotations"}]`, ledger(labelsMessage)),
		// Each moves the resourceVersion under the operator's next write.
		patched("managedFields that are nobody's", `[{"op":"add","path":"/metadata/managedFields","value":[{}]}]`, nil),
		edited("an update without a change", unfinished, func(*v1alpha1.MeshRestart) {}, nil),
		{name: "an update of the status without a change", verb: "update", resource: status, wildcard: ledger(updatedMessage),
			do: rewriting(unfinished, func(*v1alpha1.MeshRestart) {}, func(ctx context.Context, c caller, o client.Object) error {
				return c.Status().Update(ctx, o)
			})},

		deleted("deleted", unfinished),
		deleted("deleted when finished", finished),
		deleted("deleted in the foreground", unfinished, client.PropagationPolicy(metav1.DeletePropagationForeground)),
		deleted("deleted with its dependents orphaned", unfinished, client.PropagationPolicy(metav1.DeletePropagationOrphan)),
		deleted("deleted at once", unfinished, client.GracePeriodSeconds(0)),
		{name: "all deleted", verb: "deletecollection", resource: object, wildcard: ledger(deletedMessage),
			do: func(ctx context.Context, c caller) error {
				return c.DeleteAllOf(ctx, &v1alpha1.MeshRestart{}, client.InNamespace(shop))
			}},
		{name: "one deleted as a collection", verb: "deletecollection", resource: object, wildcard: ledger(deletedMessage),
			do: func(ctx context.Context, c caller) error {
				return c.DeleteAllOf(ctx, &v1alpha1.MeshRestart{}, client.InNamespace(shop),
					client.MatchingFields{metav1.ObjectNameField: finished().Name})
			}},
	}
	for _, attack := range []ledgerAttack{
		edited("its spec edited", unfinished, func(r *v1alpha1.MeshRestart) { r.Spec.InputsHash = "1/evil" }, nil),
		patched("its spec patched", `[{"op":"replace","path":"/spec/policy","value":"evil"}]`, nil),
	} {
		attack.wildcard, attack.everywhere, attack.rehearse = immutable, immutable, immutable
		attacks = append(attacks, attack)
	}
	return attacks
}

// rewriting reads a MeshRestart, changes it and writes it. What is read is read anew for each attempt.
func rewriting(restart func() *v1alpha1.MeshRestart, edit func(*v1alpha1.MeshRestart),
	write func(context.Context, caller, client.Object) error,
) func(context.Context, caller) error {
	return func(ctx context.Context, c caller) error {
		object := restart()
		if err := c.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		edit(object)
		return write(ctx, c, object)
	}
}

func identity(restart *v1alpha1.MeshRestart) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("MeshRestart"))
	object.SetNamespace(restart.Namespace)
	object.SetName(restart.Name)
	return object
}

func applyRestart(ctx context.Context, c caller, restart *v1alpha1.MeshRestart) error {
	object := identity(restart)
	whole, err := runtime.DefaultUnstructuredConverter.ToUnstructured(restart)
	if err != nil {
		return err
	}
	object.Object["spec"] = whole["spec"]
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("evil"), client.ForceOwnership)
}

func testLedgerAttacks(t *testing.T, w *ledgerWorld) {
	before := w.ledger(t)
	rehearsal := rehearsing(w.operator)
	for _, attack := range ledgerAttacks() {
		t.Run(attack.name, func(t *testing.T) {
			err := attack.do(t.Context(), rehearsal)
			if attack.rehearse != nil {
				err = attack.rehearse(err)
			}
			if err != nil {
				t.Fatalf("The operator cannot do it either, so it shows nothing: %v", err)
			}
			try := func(who string, c caller, want refusal) {
				if err := want(attack.do(t.Context(), c)); err != nil {
					t.Errorf("By %s: %v", who, err)
				}
			}
			try("the namespace's admin", w.accounts[tenant], byRBACOf(userOf(tenant), attack.verb, attack.resource))
			try("who has a Role with *", w.accounts[wildcard], attack.wildcard)
			if attack.everywhere != nil {
				try("an administrator of the cluster", w.admin, attack.everywhere)
			}
		})
	}
	if after := w.ledger(t); !maps.Equal(before, after) {
		t.Errorf("Something was written: resource versions were %v and are %v", before, after)
	}
}

// ledger are the resource versions of the MeshRestarts in the namespace that is attacked.
func (w *ledgerWorld) ledger(t *testing.T) map[string]string {
	t.Helper()
	restarts := &v1alpha1.MeshRestartList{}
	if err := w.admin.List(t.Context(), restarts, client.InNamespace(shop)); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, restart := range restarts.Items {
		versions[restart.Name] = restart.ResourceVersion
	}
	if len(versions) != 2 {
		t.Errorf("There are %d MeshRestarts, want the 2 from before: %v", len(versions), versions)
	}
	return versions
}
