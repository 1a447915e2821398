// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cel

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

func TestValidation(t *testing.T) {
	c := cluster.ForTest(t, cluster.Options{APIServerOnly: true})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	persistent, err := client.New(c.Config(), client.Options{
		Scheme:          scheme,
		FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	// The API server refuses definitions whose rules do not compile or may cost too much.
	if err := manifests.Apply(t.Context(), persistent, root, "config/crd"); err != nil {
		t.Fatal(err)
	}
	// Dry-run creation validates in full and leaves nothing behind.
	dryRun := client.NewDryRunClient(persistent)

	t.Run("definitions", func(t *testing.T) { testDefinitions(t, persistent) })
	t.Run("refused policies", func(t *testing.T) { testRefusedPolicies(t, dryRun) })
	t.Run("accepted policies", func(t *testing.T) { testAcceptedPolicies(t, dryRun) })
	t.Run("selectors", func(t *testing.T) { testSelectors(t, dryRun) })
	t.Run("samples", func(t *testing.T) { testSamples(t, dryRun, root) })
	t.Run("reports", func(t *testing.T) { testReports(t, persistent) })
	t.Run("restarts", func(t *testing.T) { testRestarts(t, persistent) })
}

// testDefinitions asks for the conditions that the API server sets on what it accepts in full.
func testDefinitions(t *testing.T, c client.Client) {
	for _, name := range []string{"meshpolicies.fullmesh.dev", "meshreports.fullmesh.dev", "meshrestarts.fullmesh.dev"} {
		definition := &unstructured.Unstructured{}
		definition.SetAPIVersion("apiextensions.k8s.io/v1")
		definition.SetKind("CustomResourceDefinition")
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, definition); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
		for _, condition := range conditions {
			condition := condition.(map[string]any)
			got[condition["type"].(string)] = fmt.Sprint(condition["status"], " ", condition["message"])
		}
		for _, want := range []string{"Established", "NamesAccepted"} {
			if !strings.HasPrefix(got[want], "True") {
				t.Errorf("%s: condition %s is %q, want True", name, want, got[want])
			}
		}
		if message, found := got["NonStructuralSchema"]; found {
			t.Errorf("%s has a schema that is not structural: %s", name, message)
		}
	}
}

// policy reads a MeshPolicy from the YAML of its spec.
func policy(t *testing.T, spec string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(v1alpha1.GroupVersion.String())
	object.SetKind("MeshPolicy")
	object.SetName("policy")
	var value any
	if err := yaml.Unmarshal([]byte(spec), &value); err != nil {
		t.Fatalf("Reading the spec: %v", err)
	}
	object.Object["spec"] = value
	return object
}

// checkRefused demands that err is a refusal of what was sent (and nothing like an unknown kind
// or a lost connection) which says all of wantErrors.
func checkRefused(t *testing.T, err error, wantErrors ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("It was accepted")
	}
	// Unknown fields are a bad request, everything else is invalid.
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Fatalf("It was not refused for what it says: %v", err)
	}
	for _, want := range wantErrors {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("The refusal does not say %q:\n%v", want, err)
		}
	}
}
