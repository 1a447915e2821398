package builder

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// RolloutBuilder builds an Argo Rollout.
type RolloutBuilder struct {
	object   *unstructured.Unstructured
	template corev1.PodTemplateSpec
}

// Rollout runs one Pod as a canary without steps, by Argo's defaults.
func Rollout(namespace, name string) *RolloutBuilder {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1",
		"kind":       "Rollout",
		"spec": map[string]any{
			"replicas": int64(1),
			"selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"strategy": map[string]any{"canary": map[string]any{}},
		},
	}}
	meta := named("rollout", namespace, name)
	object.SetNamespace(namespace)
	object.SetName(name)
	object.SetUID(meta.UID)
	object.SetGeneration(meta.Generation)
	return &RolloutBuilder{object: object, template: template(name)}
}

// Replicas asks for so many Pods.
func (b *RolloutBuilder) Replicas(n int64) *RolloutBuilder { return b.Set(n, "spec", "replicas") }

// Canary updates step by step; fields are those of spec.strategy.canary.
func (b *RolloutBuilder) Canary(fields map[string]any) *RolloutBuilder {
	return b.Set(map[string]any{"canary": fields}, "spec", "strategy")
}

// BlueGreen updates beside; fields are those of spec.strategy.blueGreen.
func (b *RolloutBuilder) BlueGreen(fields map[string]any) *RolloutBuilder {
	return b.Set(map[string]any{"blueGreen": fields}, "spec", "strategy")
}

// Unavailable lets a canary take down so many Pods: a number or a percentage.
func (b *RolloutBuilder) Unavailable(most any) *RolloutBuilder {
	if n, is := most.(int); is {
		most = int64(n)
	}
	return b.Set(most, "spec", "strategy", "canary", "maxUnavailable")
}

// TemplateOf takes the template from another workload.
func (b *RolloutBuilder) TemplateOf(apiVersion, kind, name string) *RolloutBuilder {
	return b.Set(map[string]any{"apiVersion": apiVersion, "kind": kind, "name": name}, "spec", "workloadRef").
		Set("1", "status", "workloadObservedGeneration")
}

// RestartAt asks for a restart, and RestartedAt says that it is done.
func (b *RolloutBuilder) RestartAt(at time.Time) *RolloutBuilder {
	return b.Set(at.UTC().Format(time.RFC3339), "spec", "restartAt")
}

// RestartedAt says for which restartAt the controller is done.
func (b *RolloutBuilder) RestartedAt(at time.Time) *RolloutBuilder {
	return b.Set(at.UTC().Format(time.RFC3339), "status", "restartedAt")
}

// Labelled adds labels to the template: key, value, key, value.
func (b *RolloutBuilder) Labelled(pairs ...string) *RolloutBuilder {
	b.template.Labels = with(b.template.Labels, pairs)
	return b
}

// TemplateAnnotated adds annotations to the template: key, value, key, value.
func (b *RolloutBuilder) TemplateAnnotated(pairs ...string) *RolloutBuilder {
	b.template.Annotations = with(b.template.Annotations, pairs)
	return b
}

// Annotated adds annotations to the object itself: key, value, key, value.
func (b *RolloutBuilder) Annotated(pairs ...string) *RolloutBuilder {
	b.object.SetAnnotations(with(b.object.GetAnnotations(), pairs))
	return b
}

// CreatedAt says when it was created.
func (b *RolloutBuilder) CreatedAt(at time.Time) *RolloutBuilder {
	b.object.SetCreationTimestamp(metav1.NewTime(at))
	return b
}

// UID says which of several objects of the same name it is.
func (b *RolloutBuilder) UID(uid string) *RolloutBuilder { return b.Set(uid, "metadata", "uid") }

// RolledOut gives it the status of a Rollout whose controller has nothing left to do.
func (b *RolloutBuilder) RolledOut() *RolloutBuilder {
	replicas, _, _ := unstructured.NestedInt64(b.object.Object, "spec", "replicas")
	for _, field := range []string{"replicas", "updatedReplicas", "readyReplicas", "availableReplicas"} {
		b.Set(replicas, "status", field)
	}
	return b.Set(strconv.FormatInt(b.object.GetGeneration(), 10), "status", "observedGeneration").
		Set("1", "status", "currentPodHash").Set("1", "status", "stableRS").Set("Healthy", "status", "phase")
}

// Set sets any field.
func (b *RolloutBuilder) Set(value any, path ...string) *RolloutBuilder {
	if err := unstructured.SetNestedField(b.object.Object, value, path...); err != nil {
		panic(err)
	}
	return b
}

// Without takes any field away.
func (b *RolloutBuilder) Without(path ...string) *RolloutBuilder {
	unstructured.RemoveNestedField(b.object.Object, path...)
	return b
}

// Build is the Rollout. Where it takes its template from elsewhere it has none of its own.
func (b *RolloutBuilder) Build() *unstructured.Unstructured {
	if _, elsewhere, _ := unstructured.NestedMap(b.object.Object, "spec", "workloadRef"); !elsewhere {
		template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&b.template)
		if err != nil {
			panic(err)
		}
		b.Set(template, "spec", "template")
	}
	return b.object
}
