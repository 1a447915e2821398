// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

// The whole install, in a cluster whose controllers run: what only they find wrong is found here.
func TestTheDefaultInstallRuns(t *testing.T) {
	c, err := client.New(cluster.ForTest(t, cluster.Options{Nodes: 1, WithoutIstio: true}).Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	istio := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "istio-system"}}
	if err := c.Create(t.Context(), istio); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"Installing", "Installing again"} {
		if err := manifests.Apply(t.Context(), c, root, "config/default"); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	t.Run("the operator's Pods are admitted and ready", func(t *testing.T) {
		// By PodSecurity, the priority class and its quota.
		await(t, func(ctx context.Context) error {
			deployment := &appsv1.Deployment{}
			if err := c.Get(ctx, client.ObjectKey{Namespace: "fullmesh-system", Name: "fullmesh"}, deployment); err != nil {
				return err
			}
			if deployment.Status.AvailableReplicas != 2 {
				return fmt.Errorf("status is %+v, want 2 available replicas", deployment.Status)
			}
			return nil
		})
	})

	t.Run("the guard's expressions fit the types", func(t *testing.T) {
		policies := &admissionregistrationv1.ValidatingAdmissionPolicyList{}
		await(t, func(ctx context.Context) error {
			if err := c.List(ctx, policies); err != nil {
				return err
			}
			for _, policy := range policies.Items {
				if policy.Status.ObservedGeneration != policy.Generation {
					return fmt.Errorf("policy %s has not been looked at", policy.Name)
				}
			}
			return nil
		})
		if len(policies.Items) != 5 {
			t.Errorf("There are %d policies, want 5", len(policies.Items))
		}
		for _, policy := range policies.Items {
			if checking := policy.Status.TypeChecking; checking != nil {
				for _, warning := range checking.ExpressionWarnings {
					t.Errorf("Policy %s, %s: %s", policy.Name, warning.FieldRef, warning.Warning)
				}
			}
		}
	})

	t.Run("whoever may view a namespace may read its report and its restarts", func(t *testing.T) {
		for _, name := range []string{"view", "edit", "admin"} {
			await(t, func(ctx context.Context) error {
				role := &rbacv1.ClusterRole{}
				if err := c.Get(ctx, client.ObjectKey{Name: name}, role); err != nil {
					return err
				}
				for _, resource := range []string{"meshreports", "meshrestarts"} {
					if !slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
						return slices.Contains(rule.Resources, resource) && slices.Contains(rule.Verbs, "list")
					}) {
						return fmt.Errorf("role %s does not reach %s", name, resource)
					}
				}
				for _, rule := range role.Rules {
					writes := slices.ContainsFunc(rule.Verbs, func(verb string) bool { return !slices.Contains([]string{"get", "list", "watch"}, verb) })
					if slices.Contains(rule.APIGroups, "fullmesh.dev") && writes {
						return fmt.Errorf("role %s may %v %v", name, rule.Verbs, rule.Resources)
					}
				}
				return nil
			})
		}
	})
}

func await(t *testing.T, condition func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true,
		func(ctx context.Context) (bool, error) {
			if err := condition(ctx); err == nil || ctx.Err() == nil {
				last = err
			}
			return last == nil, nil
		})
	if err != nil {
		t.Fatal(errors.Join(err, last))
	}
}
