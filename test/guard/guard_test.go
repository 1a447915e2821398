// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"maps"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// attack is a request that the operator's account must not make.
type attack struct {
	name string
	do   func(context.Context, caller) error
	// want is the refusal for the operator.
	want refusal
	// rehearse, where it is set, is what the administrator's dry-run meets instead of success.
	rehearse refusal
}

func TestGuard(t *testing.T) {
	w := newWorld(t)

	t.Run("allowed", func(t *testing.T) { testAllowed(t, w) })
	t.Run("refused by the roles", func(t *testing.T) { testAttacks(t, w, attacksOnRoles()) })
	t.Run("refused by the policies", func(t *testing.T) { testAttacks(t, w, append(attacksOnWorkloads(), attacksOnRollouts()...)) })
	t.Run("a DaemonSet's template generation is the server's", func(t *testing.T) { testTemplateGeneration(t, w) })
	t.Run("whoever changes the template beside a restart has it refused", func(t *testing.T) { testForeignAdmission(t, w) })

	// From here on, RBAC allows everything: the policies hold by themselves.
	w.grantEverything(t)
	t.Run("refused to an administrator's role too", func(t *testing.T) { testAttacks(t, w, append(attacksOnWorkloads(), attacksOnRollouts()...)) })
	t.Run("refused where only a role protected", func(t *testing.T) { testAttacks(t, w, attacksWithMoreRights()) })
}

func testAttacks(t *testing.T, w *world, attacks []attack) {
	before := w.versions(t)
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			err := attack.do(t.Context(), w.rehearsal)
			if attack.rehearse != nil {
				err = attack.rehearse(err)
			}
			if err != nil {
				t.Fatalf("An administrator cannot do it either, so it shows nothing: %v", err)
			}
			if err := attack.want(attack.do(t.Context(), w.operator)); err != nil {
				t.Error(err)
			}
		})
	}
	if after := w.versions(t); !maps.Equal(before, after) {
		t.Errorf("Something was written: resource versions were %v and are %v", before, after)
	}
}

// versions are the resource versions of what is attacked.
func (w *world) versions(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, object := range append(things(), rollout(), meshRestart(shop, "deployment-web-1")) {
		key := client.ObjectKeyFromObject(object)
		if err := w.admin.Get(t.Context(), key, object); err != nil {
			t.Fatal(err)
		}
		gvk, err := w.admin.GroupVersionKindFor(object)
		if err != nil {
			t.Fatal(err)
		}
		versions[gvk.Kind+" "+key.String()] = object.GetResourceVersion()
	}
	return versions
}
