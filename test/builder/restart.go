package builder

import (
	"encoding/json"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// restartsAnnotation carries, in tests alone, the MeshRestarts of a workload until Ledger takes them off.
const restartsAnnotation = "test.fullmesh.dev/restarts"

// Restarted has Fullmesh restart the workload: the MeshRestart exists, and where the template is changed for it, the
// template names it, which the workload's controller has seen.
func (w *Workload[T]) Restarted(r *v1alpha1.MeshRestart) *Workload[T] {
	if r.Spec.Method == v1alpha1.MethodRolloutRestart {
		w.TemplateAnnotated(v1alpha1.RestartedByAnnotation, r.Name).Changed()
	}
	return w.Intended(r)
}

// Changed is the workload after one more change of its spec, which its controller has seen.
func (w *Workload[T]) Changed() *Workload[T] {
	w.object.SetGeneration(w.object.GetGeneration() + 1)
	switch object := any(w.object).(type) {
	case *appsv1.Deployment:
		object.Status.ObservedGeneration = object.Generation
	case *appsv1.StatefulSet:
		object.Status.ObservedGeneration = object.Generation
	case *appsv1.DaemonSet:
		object.Status.ObservedGeneration = object.Generation
	case *appsv1.ReplicaSet:
		object.Status.ObservedGeneration = object.Generation
	}
	return w
}

// Intended adds a MeshRestart that has not touched the workload.
func (w *Workload[T]) Intended(r *v1alpha1.MeshRestart) *Workload[T] {
	carry(w.object, r)
	return w
}

// Restarted has Fullmesh restart the Rollout: the MeshRestart exists and spec.restartAt says when.
func (b *RolloutBuilder) Restarted(r *v1alpha1.MeshRestart) *RolloutBuilder {
	b.RestartAt(r.Spec.RestartAt.Time)
	return b.Changed().Intended(r)
}

// Changed is the Rollout after one more change of its spec, which its controller has seen.
func (b *RolloutBuilder) Changed() *RolloutBuilder {
	b.object.SetGeneration(b.object.GetGeneration() + 1)
	return b.Set(strconv.FormatInt(b.object.GetGeneration(), 10), "status", "observedGeneration")
}

// Intended adds a MeshRestart that has not touched the Rollout.
func (b *RolloutBuilder) Intended(r *v1alpha1.MeshRestart) *RolloutBuilder {
	carry(b.object, r)
	return b
}

func carry(object metav1.Object, r *v1alpha1.MeshRestart) {
	text, err := json.Marshal(append(carried(object), *r))
	if err != nil {
		panic(err)
	}
	object.SetAnnotations(with(object.GetAnnotations(), []string{restartsAnnotation, string(text)}))
}

func carried(object metav1.Object) []v1alpha1.MeshRestart {
	var restarts []v1alpha1.MeshRestart
	if text, found := object.GetAnnotations()[restartsAnnotation]; found {
		if err := json.Unmarshal([]byte(text), &restarts); err != nil {
			panic(err)
		}
	}
	return restarts
}

// Ledger takes off an object what Restarted and Intended have put on it. The object itself stays as it is.
func Ledger(object metav1.Object) (metav1.Object, []v1alpha1.MeshRestart) {
	restarts := carried(object)
	if len(restarts) == 0 {
		return object, nil
	}
	without := object.(runtime.Object).DeepCopyObject().(metav1.Object)
	annotations := without.GetAnnotations()
	delete(annotations, restartsAnnotation)
	without.SetAnnotations(annotations)
	return without, restarts
}
