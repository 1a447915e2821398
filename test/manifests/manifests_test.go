// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The operator's account, as the guard names it.
const account = "system:serviceaccount:fullmesh-system:fullmesh"

func TestTheDefaultInstallIsComplete(t *testing.T) {
	objects := renderDefault(t)
	for _, want := range []string{
		"Namespace/fullmesh-system",
		"CustomResourceDefinition/meshpolicies.fullmesh.dev",
		"CustomResourceDefinition/meshreports.fullmesh.dev",
		"CustomResourceDefinition/meshrestarts.fullmesh.dev",
		"ServiceAccount/fullmesh",
		"ClusterRole/fullmesh",
		"ClusterRoleBinding/fullmesh",
		"ClusterRole/fullmesh-eviction",
		"ClusterRoleBinding/fullmesh-eviction",
		"Deployment/fullmesh",
		"PodDisruptionBudget/fullmesh",
		"Service/fullmesh-metrics",
		"ValidatingAdmissionPolicy/fullmesh-restart-only",
		"ValidatingAdmissionPolicyBinding/fullmesh-restart-only",
		"ValidatingAdmissionPolicy/fullmesh-pods-dry-run-only",
		"ValidatingAdmissionPolicyBinding/fullmesh-pods-dry-run-only",
		"ValidatingAdmissionPolicy/fullmesh-evict-only",
		"ValidatingAdmissionPolicyBinding/fullmesh-evict-only",
		"ValidatingAdmissionPolicy/fullmesh-no-subresources",
		"ValidatingAdmissionPolicyBinding/fullmesh-no-subresources",
		"ValidatingAdmissionPolicy/fullmesh-ledger",
		"ValidatingAdmissionPolicyBinding/fullmesh-ledger",
	} {
		if find(objects, want) == nil {
			t.Errorf("config/default has no %s", want)
		}
	}
	if first := objects[0].GetKind(); first != "Namespace" {
		t.Errorf("The first object is a %s; want the Namespace that the others are in", first)
	}
}

// A guard for another account than the one that the operator runs as guards nothing.
func TestTheGuardNamesTheAccountOfTheOperator(t *testing.T) {
	objects := renderDefault(t)
	deployment := find(objects, "Deployment/fullmesh")
	name, _, _ := unstructured.NestedString(deployment.Object, "spec", "template", "spec", "serviceAccountName")
	if got := "system:serviceaccount:" + deployment.GetNamespace() + ":" + name; got != account {
		t.Errorf("The operator runs as %s, want %s", got, account)
	}
	for _, object := range objects {
		switch object.GetKind() {
		case "ValidatingAdmissionPolicy":
			// The policy on the ledger is for everybody, and has exceptions for the account.
			field, wantConditions := "matchConditions", 1
			if object.GetName() == "fullmesh-ledger" {
				field, wantConditions = "variables", 0
			}
			expressions, _, _ := unstructured.NestedSlice(object.Object, "spec", field)
			var named []string
			for _, expression := range expressions {
				expression, _ := expression.(map[string]any)["expression"].(string)
				if strings.Contains(expression, "username") {
					named = append(named, expression)
				}
			}
			if want := []string{"request.userInfo.username == '" + account + "'"}; !slices.Equal(named, want) {
				t.Errorf("Policy %s has in %s %q, want %q", object.GetName(), field, named, want)
			}
			conditions, _, _ := unstructured.NestedSlice(object.Object, "spec", "matchConditions")
			if len(conditions) != wantConditions {
				t.Errorf("Policy %s has %d match conditions, want %d", object.GetName(), len(conditions), wantConditions)
			}
			if failure, _, _ := unstructured.NestedString(object.Object, "spec", "failurePolicy"); failure != "Fail" {
				t.Errorf("Policy %s has failurePolicy %q, want Fail", object.GetName(), failure)
			}
		case "ValidatingAdmissionPolicyBinding":
			policy, _, _ := unstructured.NestedString(object.Object, "spec", "policyName")
			if find(objects, "ValidatingAdmissionPolicy/"+policy) == nil {
				t.Errorf("Binding %s is for the policy %q, which is not there", object.GetName(), policy)
			}
			actions, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "validationActions")
			if !slices.Equal(actions, []string{"Deny"}) {
				t.Errorf("Binding %s does %v, want [Deny]", object.GetName(), actions)
			}
		}
	}
}

func TestTheOperatorsRolesHaveNoSecretsAndNoWildcards(t *testing.T) {
	for _, object := range renderDefault(t) {
		if kind := object.GetKind(); kind != "ClusterRole" && kind != "Role" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(object.Object, "rules")
		for _, rule := range rules {
			for _, field := range []string{"apiGroups", "resources", "verbs"} {
				values, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), field)
				for _, value := range values {
					if strings.Contains(value, "*") || value == "secrets" {
						t.Errorf("%s %s: %s has %q", object.GetKind(), object.GetName(), field, value)
					}
				}
			}
		}
	}
}

// What the operator writes is said here once more, apart from what is its own.
func TestTheOperatorPatchesThreeKindsOfWorkloadsAndRollouts(t *testing.T) {
	var patched []string
	for _, object := range renderDefault(t) {
		if object.GetKind() != "ClusterRole" || object.GetName() != "fullmesh" && object.GetName() != "fullmesh-eviction" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(object.Object, "rules")
		for _, rule := range rules {
			groups, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "apiGroups")
			resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
			verbs, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "verbs")
			ours := slices.Contains(groups, "fullmesh.dev") || slices.Contains(groups, "events.k8s.io")
			if !ours && (slices.Contains(verbs, "patch") || slices.Contains(verbs, "update")) {
				patched = append(patched, resources...)
			}
		}
	}
	if want := []string{"deployments", "statefulsets", "daemonsets", "rollouts"}; !slices.Equal(patched, want) {
		t.Errorf("The operator may patch %v, want %v", patched, want)
	}
}

// An install without evictions has neither the right nor the wish.
func TestTheComponentNoEvictionTakesTheVerbAway(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	overlay := t.TempDir()
	relative := func(path string) string {
		from, err := filepath.Rel(overlay, filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return from
	}
	kustomization := fmt.Sprintf("resources: [%s]\ncomponents: [%s]\n", relative("config/default"), relative("config/components/no-eviction"))
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(kustomization), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := Render("", overlay)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		text, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(object.GetKind(), "Role") && strings.Contains(string(text), "pods/eviction") {
			t.Errorf("%s %s still gives the verb", object.GetKind(), object.GetName())
		}
	}
	deployment, err := find(objects, "Deployment/fullmesh").MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(deployment), `"--eviction=Disabled"`) {
		t.Errorf("The operator may evict: %s", deployment)
	}
}

func renderDefault(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Render(root, "config/default")
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find returns the object that is named "Kind/name", or nil.
func find(objects []*unstructured.Unstructured, want string) *unstructured.Unstructured {
	for _, object := range objects {
		if object.GetKind()+"/"+object.GetName() == want {
			return object
		}
	}
	return nil
}
