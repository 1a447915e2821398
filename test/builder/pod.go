package builder

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodBuilder builds a Pod.
type PodBuilder struct{ pod *corev1.Pod }

// Pod is a running Pod without sidecar that nobody owns and that is not ready.
func Pod(namespace, name string) *PodBuilder {
	pod := &corev1.Pod{ObjectMeta: named("pod", namespace, name)}
	pod.Generation = 0
	pod.Labels = map[string]string{"app": name}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
	pod.Status.Phase = corev1.PodRunning
	return &PodBuilder{pod}
}

// OwnedBy names the controller and takes on its labels.
func (b *PodBuilder) OwnedBy(owner metav1.Object) *PodBuilder {
	return b.OwnedByOther(ControlledBy(owner))
}

// OwnedByOther names a controller of any kind.
func (b *PodBuilder) OwnedByOther(owner metav1.OwnerReference) *PodBuilder {
	b.pod.OwnerReferences = []metav1.OwnerReference{owner}
	return b
}

// UID says which of several Pods of the same name it is.
func (b *PodBuilder) UID(uid string) *PodBuilder {
	b.pod.UID = types.UID(uid)
	return b
}

// Labelled adds labels: key, value, key, value.
func (b *PodBuilder) Labelled(pairs ...string) *PodBuilder {
	b.pod.Labels = with(b.pod.Labels, pairs)
	return b
}

// Annotated adds annotations: key, value, key, value.
func (b *PodBuilder) Annotated(pairs ...string) *PodBuilder {
	b.pod.Annotations = with(b.pod.Annotations, pairs)
	return b
}

// CreatedAt says when it was created.
func (b *PodBuilder) CreatedAt(at time.Time) *PodBuilder {
	b.pod.CreationTimestamp = metav1.NewTime(at)
	return b
}

// Injected gives it the sidecar of a revision as injection does.
func (b *PodBuilder) Injected(revision string) *PodBuilder {
	b.Annotated(
		"istio.io/rev", revision,
		"sidecar.istio.io/status", `{"initContainers":["istio-init"],"containers":["istio-proxy"],"revision":"`+revision+`"}`,
	)
	b.pod.Spec.InitContainers = []corev1.Container{{Name: "istio-init", Image: "proxyv2"}}
	b.pod.Spec.Containers = append(b.pod.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: "proxyv2", Args: []string{"proxy", "sidecar"}})
	return b
}

// Ready makes it ready since a time.
func (b *PodBuilder) Ready(since time.Time) *PodBuilder {
	b.pod.Status.Conditions = append(b.pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since),
	})
	return b
}

// Crashing makes one of its containers fail again and again.
func (b *PodBuilder) Crashing(container string, exitCode int32) *PodBuilder {
	b.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name:                 container,
		RestartCount:         3,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode}},
	}}
	return b
}

// OnNode says where it runs.
func (b *PodBuilder) OnNode(node string) *PodBuilder {
	b.pod.Spec.NodeName = node
	return b
}

// Unschedulable leaves it without a node, for a reason that the scheduler gives.
func (b *PodBuilder) Unschedulable(message string) *PodBuilder {
	b.pod.Status.Phase = corev1.PodPending
	b.pod.Status.Conditions = append(b.pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
	})
	return b
}

// Terminating gives it a deletion time.
func (b *PodBuilder) Terminating(at time.Time) *PodBuilder {
	b.pod.DeletionTimestamp = new(metav1.NewTime(at))
	return b
}

// Finished lets it have run to its end.
func (b *PodBuilder) Finished() *PodBuilder {
	b.pod.Status.Phase = corev1.PodSucceeded
	return b
}

// Mirror makes it the mirror of a Pod that the kubelet runs from a file.
func (b *PodBuilder) Mirror(node string) *PodBuilder {
	b.Annotated(corev1.MirrorPodAnnotationKey, "hash")
	return b.OwnedByOther(ControlledByOther("v1", "Node", node, types.UID("node-"+node)))
}

// Build is the Pod.
func (b *PodBuilder) Build() *corev1.Pod { return b.pod }

// RedirectionFailed lets istio-validation find that traffic is not sent through the sidecar.
func (b *PodBuilder) RedirectionFailed() *PodBuilder {
	b.pod.Status.InitContainerStatuses = append(b.pod.Status.InitContainerStatuses, corev1.ContainerStatus{
		Name:                 "istio-validation",
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 126}},
	})
	return b
}
