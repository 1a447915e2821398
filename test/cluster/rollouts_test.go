// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// testRollouts shows what Argo's controller does with spec.restartAt.
func testRollouts(t *testing.T, c *Cluster) {
	if err := c.StartRollouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	namespace := newNamespace(t, c, "argo", nil)
	selector, template := podTemplate("web", nil)
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&struct {
		Replicas int32                  `json:"replicas"`
		Selector *metav1.LabelSelector  `json:"selector"`
		Template corev1.PodTemplateSpec `json:"template"`
		Strategy map[string]struct{}    `json:"strategy"`
	}{3, selector, template, map[string]struct{}{"canary": {}}})
	if err != nil {
		t.Fatal(err)
	}
	rollout := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": spec}}
	rollout.SetName("web")
	rollouts := client.Resource(rolloutResource).Namespace(namespace)
	if _, err := rollouts.Create(t.Context(), rollout, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := awaitPods(t, c, namespace, "3 ready Pods without sidecar", func(pods []corev1.Pod) bool {
		return count(pods, ready) == 3 && count(pods, injected) == 0
	})
	label(t, c, namespace, "istio-injection", "enabled")

	newest := pods[0].CreationTimestamp.Time
	for _, pod := range pods {
		if pod.CreationTimestamp.After(newest) {
			newest = pod.CreationTimestamp.Time
		}
	}
	at := newest.Add(time.Second).UTC().Format(time.RFC3339)
	patch := fmt.Appendf(nil, `{"spec":{"restartAt":%q}}`, at)
	if _, err := rollouts.Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, c, namespace, "3 ready Pods with sidecar", func(pods []corev1.Pod) bool {
		return len(pods) == 3 && count(pods, ready) == 3 && count(pods, injected) == 3
	})
	eventually(t, c, "the restart to be over", func(ctx context.Context) error {
		rollout, err := rollouts.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if done, _, _ := unstructured.NestedString(rollout.Object, "status", "restartedAt"); done != at {
			return errors.New("status.restartedAt is " + done)
		}
		return nil
	})
	if err := c.RemoveRollouts(t.Context()); err != nil {
		t.Fatal(err)
	}
}
