// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// testForeignAdmission restarts a Deployment where somebody's mutating admission writes into its template
// on every update: what would be rolled out is then no longer a restart alone, and the guard refuses it
// like anything else that the operator's account writes. It is not refused to others.
func testForeignAdmission(t *testing.T, w *world) {
	const restart = `[{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":"foreign"}]`
	policy := &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "stamp"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
				}}},
			},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType: admissionregistrationv1.PatchTypeJSONPatch,
				JSONPatch: &admissionregistrationv1.JSONPatch{
					Expression: `[JSONPatch{op: "add", path: "/spec/template/metadata/annotations/example.com~1stamp", value: "stamped"}]`,
				},
			}},
		},
	}
	binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "stamp"},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "stamp"},
	}
	// stamped rehearses a restart by an administrator.
	stamped := func(ctx context.Context) (bool, error) {
		web := deployment()
		err := jsonPatch(ctx, w.admin, web, restart, client.DryRunAll)
		return hasStamp(web), err
	}
	for _, object := range []client.Object{policy, binding} {
		w.create(t, object)
		defer func() {
			if err := client.IgnoreNotFound(w.admin.Delete(context.Background(), object)); err != nil {
				t.Errorf("Deleting %T: %v", object, err)
			}
		}()
	}
	await(t, "the template is changed beside the restart", func(ctx context.Context) error {
		if is, err := stamped(ctx); err != nil || !is {
			return errors.Join(errors.New("it is not"), err)
		}
		return nil
	})
	if err := byPolicy(restartOnly, tAnnotationMessage)(jsonPatch(t.Context(), w.operator, deployment(), restart)); err != nil {
		t.Error(err)
	}
	if err := w.admin.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	await(t, "the template is left alone again", func(ctx context.Context) error {
		if is, err := stamped(ctx); err != nil || is {
			return errors.Join(errors.New("it is not"), err)
		}
		return nil
	})
	if err := jsonPatch(t.Context(), w.operator, deployment(), restart, client.DryRunAll); err != nil {
		t.Errorf("Restarting when nobody interferes: %v", err)
	}
}

func hasStamp(web *appsv1.Deployment) bool {
	_, stamped := web.Spec.Template.Annotations["example.com/stamp"]
	return stamped
}
