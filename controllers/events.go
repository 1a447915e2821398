package controllers

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// announcer sends Events, on the workload and on the policy. It is called after the write that an
// Event is about has succeeded.
type announcer struct {
	recorder events.EventRecorder
}

// Ended says how a restart ended.
func (a announcer) Ended(verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) {
	ended := verdict.Restart
	kind, reason, message := corev1.EventTypeWarning, "Restart"+string(ended.Result), ended.Message
	if ended.Result == v1alpha1.ResultSucceeded {
		kind = corev1.EventTypeNormal
		switch {
		case message != "": // it has a reservation
		case ended.Cause.Finding == v1alpha1.FindingLeftover:
			message = "Every Pod is ready without a sidecar."
		default:
			reason, message = "InMesh", "Every Pod is ready in the mesh."
		}
	}
	a.both(verdict.Workload.Object, policy, kind, reason, message)
}

// Refused says that admission refused a restart.
func (a announcer) Refused(verdict *restart.Verdict, policy *v1alpha1.MeshPolicy, err error) {
	a.both(verdict.Workload.Object, policy, corev1.EventTypeWarning, "RefusedByAdmission", err.Error())
}

// EvictionRefused says that the API server refused to evict a Pod.
func (a announcer) EvictionRefused(verdict *restart.Verdict, policy *v1alpha1.MeshPolicy, err error) {
	a.both(verdict.Workload.Object, policy, corev1.EventTypeNormal, "EvictionRefused", err.Error())
}

// Held says that somebody must act before a workload can be brought in.
func (a announcer) Held(verdict *restart.Verdict) {
	if object := verdict.Workload.Object; object != nil {
		a.recorder.Eventf(referenceTo(object), nil, corev1.EventTypeWarning, string(verdict.Reason), "Hold", "%s",
			shorten(verdict.Message, longestMessage))
	}
}

// Breaker says that a policy's breaker has opened or closed.
func (a announcer) Breaker(policy *v1alpha1.MeshPolicy, before *v1alpha1.BreakerStatus, plan *restart.PolicyPlan) {
	now := policy.Status.Breaker
	switch {
	case isOpen(now) && !isOpen(before):
		message := "Too many restarts have failed, and nothing more is started under this policy."
		if plan != nil && plan.Gate != nil && plan.Gate.Reason == restart.ReasonBreakerOpen { // another gate may be spoken of first
			message = plan.Gate.Message
		}
		a.recorder.Eventf(policy, nil, corev1.EventTypeWarning, "BreakerOpened", "Restart", "%s", shorten(message, longestMessage))
	case isOpen(before) && !isOpen(now):
		a.recorder.Eventf(policy, nil, corev1.EventTypeNormal, "BreakerClosed", "Restart", "%s", "Workloads are restarted again.")
	}
}

func isOpen(breaker *v1alpha1.BreakerStatus) bool {
	return breaker != nil && breaker.State != v1alpha1.BreakerClosed
}

func (a announcer) both(object *inventory.Object, policy *v1alpha1.MeshPolicy, kind, reason, message string) {
	a.recorder.Eventf(referenceTo(object), nil, kind, reason, "Restart", "%s", shorten(message, longestMessage))
	if policy != nil {
		a.recorder.Eventf(policy, referenceTo(object), kind, reason, "Restart", "%s",
			shorten(fmt.Sprintf("%s: %s", object.Key(), message), longestMessage))
	}
}

func referenceTo(object *inventory.Object) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion:      object.Is().APIVersion(),
		Kind:            object.Kind,
		Namespace:       object.Namespace,
		Name:            object.Name,
		UID:             object.UID,
		ResourceVersion: object.ResourceVersion,
	}
}

// longestMessage is how long a message may be, in bytes, in an Event and in a report.
const longestMessage = 1024

// shorten cuts a text to at most limit bytes, between characters: the API server would store others,
// and what was stored would differ from what was meant ever after.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-3], "") + "..."
}
