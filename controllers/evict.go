package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// evictionTimeout bounds one eviction: where several are made under one PodDisruptionBudget at once, the
// API server tries for ten seconds before it answers
// (k8s.io/kubernetes/pkg/registry/core/pod/storage, EvictionsRetry), and everything else waits meanwhile.
const evictionTimeout = 5 * time.Second

// evict evicts one Pod, and only if it is the one that was looked at. The disruption budgets are asked
// by the API server.
func (a *actor) evict(ctx context.Context, pod *mesh.Pod) (written, error) {
	ctx, cancel := context.WithTimeout(ctx, evictionTimeout)
	defer cancel()
	meta := metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}
	err := a.client.SubResource("eviction").Create(ctx, &corev1.Pod{ObjectMeta: meta}, &policyv1.Eviction{
		ObjectMeta:    meta,
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
	})
	switch {
	case err == nil:
		a.inventory.Evicted(pod.UID)
		return writtenDone, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return writtenStale, nil // it is gone, or another one has its name
	case errors.Is(err, context.DeadlineExceeded):
		return writtenRefused, fmt.Errorf("evicting Pod %s: there was no answer within %s", pod.Name, evictionTimeout)
	default:
		return writtenRefused, fmt.Errorf("evicting Pod %s: %w", pod.Name, err)
	}
}

// evict evicts the Pods that the verdict names, until one is refused or the red button is pressed.
func (r *Reconciler) evict(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) (time.Duration, error) {
	object := verdict.Workload.Object
	for _, pod := range verdict.Evict {
		if stopped, err := r.stopped(ctx); err != nil || stopped {
			return 0, err
		}
		became, err := r.actor.evict(ctx, pod)
		switch became {
		case writtenDone:
			log.FromContext(ctx).Info("Evicted Pod", "pod", klog.KRef(pod.Namespace, pod.Name), "kind", object.Kind, "workload", klog.KObj(object))
			evictions.WithLabelValues("evicted").Inc()
			r.evictions.accepted(object.UID, r.now())
		case writtenRefused:
			log.FromContext(ctx).V(1).Info("The eviction of a Pod was refused", "pod", klog.KRef(pod.Namespace, pod.Name), "reason", err.Error())
			evictions.WithLabelValues("refused").Inc()
			if r.evictions.refused(object.UID, r.now(), err) {
				r.announcer.EvictionRefused(verdict, policy, err)
			}
			return gather, nil
		}
	}
	return gather, nil
}

// pastEvictions remembers how the evictions of each workload went. Its zero value is ready for use, by
// one goroutine at a time.
type pastEvictions struct {
	known   map[types.UID]restart.Evictions
	backOff backOff[types.UID]
}

func (p *pastEvictions) of(uid types.UID) restart.Evictions { return p.known[uid] }

func (p *pastEvictions) accepted(uid types.UID, now time.Time) {
	p.backOff.succeeded(uid)
	p.remember(uid, restart.Evictions{Last: now}, now)
}

// refused reports whether it is the first refusal in a row.
func (p *pastEvictions) refused(uid types.UID, now time.Time, why error) bool {
	past := p.known[uid]
	first := past.Refused == ""
	if first {
		past.RefusedSince = now
	}
	past.Refused = why.Error()
	past.Until = p.backOff.failed(uid, now, lastRetry)
	p.remember(uid, past, now)
	return first
}

func (p *pastEvictions) remember(uid types.UID, past restart.Evictions, now time.Time) {
	if p.known == nil {
		p.known = map[types.UID]restart.Evictions{}
	}
	maps.DeleteFunc(p.known, func(_ types.UID, old restart.Evictions) bool {
		return now.Sub(old.Last) > startsAreKept && now.Sub(old.Until) > startsAreKept
	})
	p.known[uid] = past
}
