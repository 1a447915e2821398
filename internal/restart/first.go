package restart

import (
	"fmt"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// firstsAtMost is how many different first workloads may fail before a namespace needs somebody.
const firstsAtMost = 2

// trial is how far it is shown that injection by one revision works in one namespace. It is read from
// the Pods and from the records on the workloads, in every pass anew.
type trial struct {
	// shown: a Pod that was injected since the injector's last change is ready, and the first workload,
	// where there was one, has been well for long enough.
	shown bool
	// first is the workload that goes alone before the others, and soaks until when those wait although
	// it is well; nil and zero where there is none.
	first *inventory.Workload
	soaks time.Time
	// failed are those that went first, and not well.
	failed []*inventory.Workload
}

type trialKey struct{ namespace, revision string }

// trials are those of one pass.
type trials map[trialKey]*trial

// trial is the one that a workload waits for; nil where a restart of it injects nothing.
func (s *situation) trial() *trial {
	if !s.workload.Expectation.Inject {
		return nil
	}
	key := trialKey{s.namespace.Name, s.workload.Expectation.Revision}
	known, found := s.pass.trials[key]
	if !found {
		known = s.tryOut(key.revision)
		s.pass.trials[key] = known
	}
	return known
}

func (s *situation) tryOut(revision string) *trial {
	t := &trial{shown: s.namespace.Shown.Has(revision)}
	for _, workload := range s.namespace.Tried {
		if t.shown {
			return t
		}
		if cause, err := inventory.ParseCause(workload.Record.Cause); err == nil && cause.Revision == revision {
			t.take(&situation{pass: s.pass, namespace: s.namespace, policy: s.policy, workload: workload})
		}
	}
	if t.shown {
		return t
	}
	for _, workload := range s.namespace.Open {
		// One that began before the injector's last change has its slot to itself as well.
		if workload.Record.InFlight() && workload.Expectation.Revision == revision {
			t.first = workload
		}
	}
	return t
}

// take takes in what became of a workload that was restarted since the injector's last change. One that
// was scaled to zero, or whose restart was taken back, shows nothing, and neither does one that is not
// ready for a reason of its own when it has soaked: another goes first.
func (t *trial) take(s *situation) {
	workload, record := s.workload, s.workload.Record
	switch {
	case s.failedFirst():
		t.failed = append(t.failed, workload)
	case record.Result != v1alpha1.ResultSucceeded || record.End == nil || record.End.After(s.pass.Now.Add(longestSkew)) || workload.Pods.Running == 0:
	default:
		// Pods of an autoscaler may come up all the time.
		since := max(record.End.Unix(), min(workload.NewestReady, record.End.Add(s.policy.soak).Unix()))
		soaked := time.Unix(since, 0).UTC().Add(s.policy.soak)
		well := isWell(s)
		switch {
		case well && !soaked.After(s.pass.Now):
			t.shown = true
		case soaked.After(s.pass.Now) && (t.first == nil || soaked.Before(t.soaks)):
			t.first, t.soaks = workload, soaked
		}
	}
}

// failedFirst reports whether a restart shows that something is wrong: it failed, or brought no sidecar
// and nothing excuses that, or its Pods do not stay well; nothing that decides has changed since, and
// nobody has asked for another try.
func (s *situation) failedFirst() bool {
	record := s.workload.Record
	switch record.Result {
	case v1alpha1.ResultFailed, v1alpha1.ResultIneffective:
		return record.Decided == s.decided() && !s.askedAgain()
	case v1alpha1.ResultSucceeded:
		return s.workload.Failing != nil && !s.askedAgain()
	default:
		return false
	}
}

// isWell reports whether every Pod is ready, and one was injected since the injector's last change.
func isWell(s *situation) bool {
	pods := s.workload.Pods
	return pods.Ready >= pods.Running && time.Unix(s.workload.NewestInjected, 0).After(s.pass.Snapshot.ChangedFor(s.workload.Expectation))
}

// begin lets the workload go first, where somebody must.
func (t *trial) begin(workload *inventory.Workload) {
	if t != nil && !t.shown && t.first == nil {
		t.first = workload
	}
}

// open reports whether it is to be found out which workload goes first.
func (t *trial) open() bool { return t != nil && !t.shown }

// firstAnnotationIsInvalid speaks where the owner's word cannot be understood.
func firstAnnotationIsInvalid(s *situation) *hold {
	if s.workload.Object == nil {
		return nil
	}
	value := s.workload.Object.Annotations[v1alpha1.FirstAnnotation]
	if value == "" || value == "true" {
		return nil
	}
	return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Annotation %s has the value %q, and only \"true\" is known. Set that to have the workload restarted before the others, or remove the annotation.", v1alpha1.FirstAnnotation, value)}
}

// firstWorkloadsFailed speaks where the workloads that went first have failed: the others would go the
// same way.
func firstWorkloadsFailed(s *situation) *hold {
	t := s.trial()
	if !t.open() || len(t.failed) < firstsAtMost {
		return nil
	}
	var names []string
	for _, workload := range t.failed {
		names = append(names, workload.Key.String())
	}
	answer := &hold{reason: ReasonFirstWorkloadsFailed, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("%d workloads have been brought into the mesh and are not well there (%s), and none is that shows that injection works. Nothing else is restarted in this namespace before: see their messages and mend one, or ask for another try: %s",
			len(names), strings.Join(names[:min(len(names), 3)], ", "), RetryCommand("namespace", s.namespace.Name, ""))}
	if breaker := s.pass.breakers.namespaces[s.namespace.Name]; breaker.open {
		spoken := breaker.holds(s.pass.Now)
		if spoken == nil {
			return nil // one more is tried
		}
		answer.until = spoken.until
	}
	return answer
}

// firstWorkloadIsNotWell speaks where one workload goes alone to show that injection works here.
func firstWorkloadIsNotWell(s *situation) *hold {
	t := s.trial()
	switch {
	case !t.open() || t.first == nil:
		return nil
	case !t.soaks.IsZero() && !t.first.Record.InFlight():
		return &hold{reason: ReasonSoaking, clearsBy: v1alpha1.ClearedByTime, until: t.soaks,
			message: fmt.Sprintf("%s went first and is in the mesh; the others follow at %s, when it has been well for %s.", t.first.Key, moment(t.soaks), s.policy.soak)}
	default:
		return &hold{reason: ReasonFirstWorkloadPending, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("It is not shown yet that injection works in this namespace: %s goes first, alone, and the others follow when it is in the mesh.", t.first.Key)}
	}
}

// rankAsFirst says which workload goes first: the one that its owner names, then a Deployment that is healthy
// and of more than one Pod. StatefulSets are the last.
func rankAsFirst(workload *inventory.Workload) int {
	object := workload.Object
	switch {
	case object.Annotations[v1alpha1.FirstAnnotation] == "true":
		return 0
	case object.Kind == "Deployment" && object.Replicas > 1 && workload.Pods.Ready >= object.Replicas:
		return 1
	case object.Kind == "StatefulSet":
		return 3
	default:
		return 2
	}
}
