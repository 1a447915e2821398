package builder

import (
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Workload builds a workload of any kind.
type Workload[T metav1.Object] struct {
	object   T
	template *corev1.PodTemplateSpec
	replicas **int32
}

// Deployment runs one Pod by a rolling update of 25% and 25%, as the API server would default it.
func Deployment(namespace, name string) *Workload[*appsv1.Deployment] {
	d := &appsv1.Deployment{ObjectMeta: named("deployment", namespace, name)}
	d.Spec.Selector = selecting(name)
	d.Spec.Template = template(name)
	built := &Workload[*appsv1.Deployment]{object: d, template: &d.Spec.Template, replicas: &d.Spec.Replicas}
	return built.Replicas(1).Surge("25%").Unavailable("25%")
}

// StatefulSet runs one Pod by a rolling update.
func StatefulSet(namespace, name string) *Workload[*appsv1.StatefulSet] {
	s := &appsv1.StatefulSet{ObjectMeta: named("statefulset", namespace, name)}
	s.Spec.Selector = selecting(name)
	s.Spec.ServiceName = name
	s.Spec.Template = template(name)
	s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
		Type:          appsv1.RollingUpdateStatefulSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(0))},
	}
	built := &Workload[*appsv1.StatefulSet]{object: s, template: &s.Spec.Template, replicas: &s.Spec.Replicas}
	return built.Replicas(1)
}

// DaemonSet runs a Pod on each node by a rolling update of one at a time.
func DaemonSet(namespace, name string) *Workload[*appsv1.DaemonSet] {
	d := &appsv1.DaemonSet{ObjectMeta: named("daemonset", namespace, name)}
	d.Spec.Selector = selecting(name)
	d.Spec.Template = template(name)
	d.Spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	built := &Workload[*appsv1.DaemonSet]{object: d, template: &d.Spec.Template}
	return built.Surge(0).Unavailable(1)
}

// ReplicaSet runs one Pod.
func ReplicaSet(namespace, name string) *Workload[*appsv1.ReplicaSet] {
	r := &appsv1.ReplicaSet{ObjectMeta: named("replicaset", namespace, name)}
	r.Spec.Selector = selecting(name)
	r.Spec.Template = template(name)
	built := &Workload[*appsv1.ReplicaSet]{object: r, template: &r.Spec.Template, replicas: &r.Spec.Replicas}
	return built.Replicas(1)
}

// Job runs one Pod to its end.
func Job(namespace, name string) *Workload[*batchv1.Job] {
	j := &batchv1.Job{ObjectMeta: named("job", namespace, name)}
	j.Spec.Template = template(name)
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return &Workload[*batchv1.Job]{object: j, template: &j.Spec.Template}
}

// CronJob runs a Job every hour.
func CronJob(namespace, name string) *Workload[*batchv1.CronJob] {
	c := &batchv1.CronJob{ObjectMeta: named("cronjob", namespace, name)}
	c.Spec.Schedule = "0 * * * *"
	c.Spec.JobTemplate.Spec.Template = template(name)
	c.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return &Workload[*batchv1.CronJob]{object: c, template: &c.Spec.JobTemplate.Spec.Template}
}

func named(kind, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:  namespace,
		Name:       name,
		UID:        types.UID(strings.Join([]string{kind, namespace, name}, "-")),
		Generation: 1,
	}
}

func selecting(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func template(name string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// Replicas asks for so many Pods.
func (w *Workload[T]) Replicas(n int32) *Workload[T] {
	*w.replicas = &n
	return w
}

// Surge lets a rolling update run so many Pods on top: a number or a percentage.
func (w *Workload[T]) Surge(most any) *Workload[T] {
	switch object := any(w.object).(type) {
	case *appsv1.Deployment:
		w.rollingDeployment().MaxSurge = amount(most)
	case *appsv1.DaemonSet:
		rollingDaemonSet(object).MaxSurge = amount(most)
	default:
		panic(fmt.Sprintf("a %T has no surge", object))
	}
	return w
}

// Unavailable lets a rolling update take down so many Pods: a number or a percentage.
func (w *Workload[T]) Unavailable(most any) *Workload[T] {
	switch object := any(w.object).(type) {
	case *appsv1.Deployment:
		w.rollingDeployment().MaxUnavailable = amount(most)
	case *appsv1.DaemonSet:
		rollingDaemonSet(object).MaxUnavailable = amount(most)
	case *appsv1.StatefulSet:
		object.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = amount(most)
	default:
		panic(fmt.Sprintf("a %T has no rolling update", object))
	}
	return w
}

func (w *Workload[T]) rollingDeployment() *appsv1.RollingUpdateDeployment {
	strategy := &any(w.object).(*appsv1.Deployment).Spec.Strategy
	strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	if strategy.RollingUpdate == nil {
		strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
	}
	return strategy.RollingUpdate
}

func rollingDaemonSet(d *appsv1.DaemonSet) *appsv1.RollingUpdateDaemonSet {
	if d.Spec.UpdateStrategy.RollingUpdate == nil {
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
	}
	return d.Spec.UpdateStrategy.RollingUpdate
}

func amount(value any) *intstr.IntOrString {
	return new(intstr.Parse(fmt.Sprint(value)))
}

// Recreate stops all Pods of a Deployment before new ones start.
func (w *Workload[T]) Recreate() *Workload[T] {
	any(w.object).(*appsv1.Deployment).Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	return w
}

// OnDelete lets a changed template replace nothing.
func (w *Workload[T]) OnDelete() *Workload[T] {
	switch object := any(w.object).(type) {
	case *appsv1.StatefulSet:
		object.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	case *appsv1.DaemonSet:
		object.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	default:
		panic(fmt.Sprintf("a %T has no such strategy", object))
	}
	return w
}

// Partition leaves the Pods of a StatefulSet below an ordinal alone.
func (w *Workload[T]) Partition(ordinal int32) *Workload[T] {
	any(w.object).(*appsv1.StatefulSet).Spec.UpdateStrategy.RollingUpdate.Partition = &ordinal
	return w
}

// Labelled adds labels to the template: key, value, key, value.
func (w *Workload[T]) Labelled(pairs ...string) *Workload[T] {
	w.template.Labels = with(w.template.Labels, pairs)
	return w
}

// Grace gives the Pods so many seconds to end.
func (w *Workload[T]) Grace(seconds int64) *Workload[T] {
	w.template.Spec.TerminationGracePeriodSeconds = &seconds
	return w
}

// TemplateAnnotated adds annotations to the template: key, value, key, value.
func (w *Workload[T]) TemplateAnnotated(pairs ...string) *Workload[T] {
	w.template.Annotations = with(w.template.Annotations, pairs)
	return w
}

// Annotated adds annotations to the object itself: key, value, key, value.
func (w *Workload[T]) Annotated(pairs ...string) *Workload[T] {
	w.object.SetAnnotations(with(w.object.GetAnnotations(), pairs))
	return w
}

// OwnedBy names another object as the controller.
func (w *Workload[T]) OwnedBy(owner metav1.Object) *Workload[T] {
	w.object.SetOwnerReferences([]metav1.OwnerReference{ControlledBy(owner)})
	return w
}

// UID says which of several objects of the same name it is.
func (w *Workload[T]) UID(uid string) *Workload[T] {
	w.object.SetUID(types.UID(uid))
	return w
}

// CreatedAt says when it was created.
func (w *Workload[T]) CreatedAt(at time.Time) *Workload[T] {
	w.object.SetCreationTimestamp(metav1.NewTime(at))
	return w
}

// RolledOut gives it the status of a workload whose controller has nothing left to do. A DaemonSet
// is on so many nodes; other kinds run what they ask for.
func (w *Workload[T]) RolledOut(nodes ...int32) *Workload[T] {
	generation := w.object.GetGeneration()
	switch object := any(w.object).(type) {
	case *appsv1.Deployment:
		n := *object.Spec.Replicas
		object.Status = appsv1.DeploymentStatus{ObservedGeneration: generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	case *appsv1.StatefulSet:
		n := *object.Spec.Replicas
		object.Status = appsv1.StatefulSetStatus{ObservedGeneration: generation, Replicas: n, CurrentReplicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	case *appsv1.DaemonSet:
		n := nodes[0]
		object.Status = appsv1.DaemonSetStatus{ObservedGeneration: generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n, UpdatedNumberScheduled: n, NumberReady: n, NumberAvailable: n}
	case *appsv1.ReplicaSet:
		n := *object.Spec.Replicas
		object.Status = appsv1.ReplicaSetStatus{ObservedGeneration: generation, Replicas: n, ReadyReplicas: n, AvailableReplicas: n}
	}
	return w
}

// With changes what no other method does.
func (w *Workload[T]) With(change func(T)) *Workload[T] {
	change(w.object)
	return w
}

// Build is the object.
func (w *Workload[T]) Build() T { return w.object }

// with is a copy of a map with pairs added to it.
func with(existing map[string]string, pairs []string) map[string]string {
	merged := maps.Clone(existing)
	if merged == nil {
		merged = map[string]string{}
	}
	for i := 0; i < len(pairs); i += 2 {
		merged[pairs[i]] = pairs[i+1]
	}
	return merged
}

// ControlledBy is the reference that makes an object the controller of another.
func ControlledBy(owner metav1.Object) metav1.OwnerReference {
	version, kind := "apps/v1", ""
	switch owner := owner.(type) {
	case *unstructured.Unstructured:
		version, kind = owner.GetAPIVersion(), owner.GetKind()
	case *appsv1.Deployment:
		kind = "Deployment"
	case *appsv1.StatefulSet:
		kind = "StatefulSet"
	case *appsv1.DaemonSet:
		kind = "DaemonSet"
	case *appsv1.ReplicaSet:
		kind = "ReplicaSet"
	case *batchv1.Job:
		version, kind = "batch/v1", "Job"
	case *batchv1.CronJob:
		version, kind = "batch/v1", "CronJob"
	default:
		panic(fmt.Sprintf("a %T owns nothing here; use ControlledByOther", owner))
	}
	return ControlledByOther(version, kind, owner.GetName(), owner.GetUID())
}

// ControlledByOther is a reference to a controller of any kind.
func ControlledByOther(version, kind, name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: version, Kind: kind, Name: name, UID: uid, Controller: new(true)}
}
