package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// evictionTimeout bounds one eviction: where several are made under one PodDisruptionBudget at once, the
// API server tries for ten seconds before it answers
// (k8s.io/kubernetes/pkg/registry/core/pod/storage, EvictionsRetry).
const evictionTimeout = 5 * time.Second

// evict writes down which Pods are evicted, and evicts them until one is refused or the red button is pressed. What
// another process has written meanwhile is looked at first, also where the round is written down already: another one
// may have ended it.
func (a *actor) evict(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) error {
	round := verdict.Restart
	if written, err := a.writeStatus(ctx, round); err != nil || !written {
		return err
	}
	for _, pod := range verdict.Evict {
		if stopped, err := a.stopped(ctx); err != nil || stopped {
			return err
		}
		gone, err := a.evictPod(ctx, pod)
		switch {
		case err != nil:
			log.FromContext(ctx).V(1).Info("The eviction of a Pod was refused", "pod", klog.KRef(pod.Namespace, pod.Name), "reason", err.Error())
			evictions.WithLabelValues("refused").Inc()
			if a.recorder.EvictionRefused(round.WorkloadUID, err.Error(), a.now()) {
				a.announcer.EvictionRefused(verdict, policy, err)
			}
			return nil
		case gone:
			log.FromContext(ctx).Info("Evicted Pod", "pod", klog.KRef(pod.Namespace, pod.Name), "workload", round.Workload.String())
			evictions.WithLabelValues("evicted").Inc()
			a.recorder.EvictionAccepted(round.WorkloadUID, a.now())
		}
	}
	return nil
}

// evictPod evicts one Pod, and only if it is the one that was looked at. The disruption budgets are asked
// by the API server. It is false where the Pod is gone, or another one has its name.
func (a *actor) evictPod(parent context.Context, pod *mesh.Pod) (bool, error) {
	ctx, cancel := context.WithTimeout(parent, evictionTimeout)
	defer cancel()
	meta := metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}
	err := a.client.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: meta}, &policyv1.Eviction{
		ObjectMeta:    meta,
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
	})
	switch {
	case err == nil:
		a.inventory.Evicted(pod.UID)
		return true, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return false, nil
	case errors.Is(err, context.DeadlineExceeded) && a.isAnother(parent, pod):
		return false, nil // the API server tries for longer where a Pod has another UID
	case errors.Is(err, context.DeadlineExceeded):
		return false, fmt.Errorf("evicting Pod %s: there was no answer within %s", pod.Name, evictionTimeout)
	default:
		return false, fmt.Errorf("evicting Pod %s: %w", pod.Name, err)
	}
}

// isAnother reports whether a Pod is gone, or another one has its name.
func (a *actor) isAnother(ctx context.Context, pod *mesh.Pod) bool {
	var current metav1.PartialObjectMetadata
	current.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	err := a.reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: pod.Name}, &current)
	return apierrors.IsNotFound(err) || err == nil && current.UID != pod.UID
}
