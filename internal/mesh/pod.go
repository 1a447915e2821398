package mesh

import (
	"fmt"

	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ReasonMirrorPod: the kubelet runs the Pod from a file, and injection does not reach it.
const ReasonMirrorPod Reason = "MirrorPod"

// Pod is what is judged of a Pod, a small part of a corev1.Pod. A cluster's Pods are cut down to
// it when they are decoded.
type Pod struct {
	Meta
	Owner Owner

	// Created and ReadySince are in seconds since 1970. ReadySince is 0 where the Pod is not
	// ready.
	Created, ReadySince int64

	// Revision is the template revision that the Pod runs: its pod-template-hash, an Argo
	// Rollout's rollouts-pod-template-hash or controller-revision-hash; empty where it has none.
	Revision string

	// Observed is what the Pod carries.
	Observed unique.Handle[Observation]

	// Node on which it runs; the handle of an empty name where there is none yet.
	Node unique.Handle[string]

	// Terminating: it has a deletion time. Finished: it has succeeded or failed. Pending: not all of its
	// containers have started once. Static: the kubelet runs it from a file.
	Terminating, Finished, Pending, Static bool

	// Unschedulable is why the scheduler found no node, in its words; nil where it found one or has
	// not looked.
	Unschedulable *string

	// Trouble says what keeps a Pod from being ready; nil where nothing is known to.
	Trouble *Trouble

	// Template is the Pod's own labels and annotations, kept only where no known workload has a
	// template for it.
	Template *Template
}

// Trouble is what keeps a Pod from being ready.
type Trouble struct {
	// Container that is in trouble; empty where the Pod as a whole is.
	Container string
	// Reason as the kubelet or the scheduler gives it, for instance CrashLoopBackOff.
	Reason string
	// ExitCode of the container's last run.
	ExitCode int32
	// Restarts of the container.
	Restarts int32
}

// String says it in a few words, without the Pod's name.
func (t *Trouble) String() string {
	text := t.Reason
	if t.Container != "" {
		text = fmt.Sprintf("container %s: %s", t.Container, t.Reason)
	}
	if t.ExitCode != 0 {
		text += fmt.Sprintf(", last exit code %d", t.ExitCode)
	}
	if t.Restarts > 0 {
		text += fmt.Sprintf(", %d restarts", t.Restarts)
	}
	return text
}

// CutDown keeps of a Pod what is judged.
func CutDown(pod *corev1.Pod) *Pod {
	observed := Observe(pod)
	observed.Asks = asksOf(pod.Labels)
	cut := &Pod{
		Meta:        MetaOf(pod),
		Owner:       OwnerOf(pod),
		Created:     pod.CreationTimestamp.Unix(),
		Revision:    pod.Labels["controller-revision-hash"],
		Observed:    unique.Make(observed),
		Node:        unique.Make(pod.Spec.NodeName),
		Terminating: pod.DeletionTimestamp != nil,
		Pending:     pod.Status.Phase == corev1.PodPending,
		Finished:    pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
		Static:      isStatic(pod),
	}
	for _, label := range []string{"pod-template-hash", "rollouts-pod-template-hash"} {
		if hash := pod.Labels[label]; hash != "" {
			cut.Revision = hash
		}
	}
	cut.Revision = unique.Make(cut.Revision).Value()
	cut.Owner = unique.Make(cut.Owner).Value()
	for i := range pod.Status.Conditions {
		condition := &pod.Status.Conditions[i]
		switch {
		case condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue:
			cut.ReadySince = max(condition.LastTransitionTime.Unix(), cut.Created)
		case condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse &&
			condition.Reason == corev1.PodReasonUnschedulable && pod.Spec.NodeName == "":
			cut.Unschedulable = new(unique.Make(condition.Message).Value())
		}
	}
	if cut.ReadySince == 0 && !cut.Finished {
		cut.Trouble = troubleOf(pod)
	}
	if !hasKnownTemplate(cut.Owner) {
		cut.Template = &Template{Labels: pod.Labels, Annotations: pod.Annotations, HostNetwork: pod.Spec.HostNetwork}
	}
	return cut
}

// Ready reports whether the Pod is ready.
func (p *Pod) Ready() bool { return p.ReadySince != 0 }

// Running reports whether the Pod counts: it has not finished and is not on its way out.
func (p *Pod) Running() bool { return !p.Finished && !p.Terminating }

// isStatic reports whether the kubelet runs the Pod from a file or URL and not from the API
// server (https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/).
func isStatic(pod *corev1.Pod) bool {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return true
	}
	source, set := pod.Annotations["kubernetes.io/config.source"]
	return set && source != "api"
}

// hasKnownTemplate reports whether the owner is of a kind whose template is read.
func hasKnownTemplate(owner Owner) bool {
	kind := owner.Is()
	return kind.IsRead() && !kind.Optional && kind.Makes == ""
}

func troubleOf(pod *corev1.Pod) *Trouble {
	statuses := [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses}
	for _, list := range statuses {
		for i := range list {
			if trouble := containerTrouble(&list[i]); trouble != nil {
				return trouble
			}
		}
	}
	return nil
}

// containerTrouble tells the trouble of one container. Waiting to be created is none.
func containerTrouble(status *corev1.ContainerStatus) *Trouble {
	trouble := &Trouble{Container: status.Name, Restarts: status.RestartCount}
	if last := status.LastTerminationState.Terminated; last != nil {
		trouble.ExitCode = last.ExitCode
	}
	switch {
	case status.State.Waiting != nil:
		switch status.State.Waiting.Reason {
		case "", "ContainerCreating", "PodInitializing":
			return nil
		}
		trouble.Reason = status.State.Waiting.Reason
	case status.State.Terminated != nil && status.State.Terminated.ExitCode != 0:
		trouble.Reason = "Terminated"
		trouble.ExitCode = status.State.Terminated.ExitCode
	default:
		return nil
	}
	return trouble
}

// DeepCopyObject implements runtime.Object. A Pod is never changed once it is made, so the
// copy shares what it points to.
func (p *Pod) DeepCopyObject() runtime.Object {
	cut := *p
	return &cut
}
