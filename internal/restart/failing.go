package restart

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

func injectedPodsAreFailing(s *situation) *hold {
	failing := s.workload.Failing
	if failing == nil || s.replacesFailed() || failing.Stale && s.workload.Finding == v1alpha1.FindingStale {
		return nil
	}
	return &hold{reason: ReasonInjectedPodsFailing, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Pods of this workload that are in the mesh already cannot become ready: %s. Mend that before the others follow.", describeInMesh(failing))}
}

// replacesFailed reports whether a restart would replace the Pods as well with which the last one failed. Evictions
// leave them where they are.
func (s *situation) replacesFailed() bool {
	return s.workload.Record.Failed() && s.triesAgain() && s.method().name != v1alpha1.MethodEviction
}

// fail ends a restart that makes no progress, and says what keeps it from going on. Where the owner has
// begun a rollout of another template since, that is what makes none.
func (s *situation) fail(progressTimeout time.Duration) Verdict {
	culprit, eventsOf := s.whatFails()
	writer := s.workload.Object.TemplateWriter
	if s.workload.Record.Decided != s.decided() && writer.Time.After(s.workload.Record.Start) {
		return s.finish(v1alpha1.ResultInterrupted, fmt.Sprintf("A rollout of its own%s overtook the restart and makes no progress (%s)%s.", begunBy(writer), progress(s.workload), culprit))
	}
	verdict := s.finish(v1alpha1.ResultFailed, s.failure(progressTimeout)+culprit+".")
	verdict.EventsOf = eventsOf
	return verdict
}

// failure says for how long a restart has made no progress.
func (s *situation) failure(progressTimeout time.Duration) string {
	workload, patience := s.workload, progressTimeout+s.workload.Object.Patience()
	text := fmt.Sprintf("The restart has failed: no further Pod became ready for %s (%s)", seconds(patience), progress(workload))
	if s.longest(patience).Before(lastProgress(workload).Add(patience)) {
		text = fmt.Sprintf("The restart has failed: its Pods become ready and unready again, and no further one stayed ready for %s (%s)", seconds(patience), progress(workload))
	}
	return text
}

// whatFails names what keeps a restart from going on, as far as the picture tells, and whose Events tell
// more; nobody's where it has been told already.
func (s *situation) whatFails() (culprit string, eventsOf types.UID) {
	workload := s.workload
	cause, _ := inventory.ParseCause(workload.Record.Cause)
	inMesh, exhausted := cause.Finding != v1alpha1.FindingLeftover, s.exhausted()
	switch object := workload.Object; {
	case inMesh && workload.Failing != nil:
		return "; " + describeInMesh(workload.Failing), workload.Failing.UID
	case !inMesh && workload.FailingOutside != nil:
		return "; " + describe(workload.FailingOutside), workload.FailingOutside.UID
	case object.ReplicaFailure != "":
		return "; no further Pod is created: " + inShort(object.ReplicaFailure), ""
	case workload.Unschedulable != nil:
		return fmt.Sprintf("; the scheduler finds no node for Pod %s: %s", workload.Unschedulable.Pod, inShort(workload.Unschedulable.Scheduler)), ""
	case workload.Unready != nil:
		return fmt.Sprintf("; Pod %s is not ready", workload.Unready.Name), workload.Unready.UID
	case workload.Record.Method == v1alpha1.MethodRestartAt && exhausted != nil:
		return fmt.Sprintf("; PodDisruptionBudget %s does not let Argo Rollouts evict the next Pod", exhausted.Name), object.UID
	default:
		return "", object.UID
	}
}

// describeInMesh is describe, with the hint that helps Pods with a sidecar most often.
func describeInMesh(failing *inventory.FailingPod) string {
	text := describe(failing)
	if hint := failing.Trouble.Hint(); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}

// describe names what keeps a Pod from being ready.
func describe(failing *inventory.FailingPod) string {
	return fmt.Sprintf("Pod %s, %s", failing.Name, &failing.Trouble)
}
