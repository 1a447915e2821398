package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

func recordIsUnknown(s *situation) *hold {
	if s.workload.RecordError == nil {
		return nil
	}
	return &hold{reason: ReasonUnknownRecord, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("What is written down about the last restart cannot be read (%v). Run the version of Fullmesh that wrote it, or remove the annotation.", s.workload.RecordError)}
}

func lastRestartFailed(s *situation) *hold {
	record := s.workload.Record
	if record == nil || record.Result != v1alpha1.ResultFailed || record.Decided != s.decided() || goesOnByEviction(s) || s.askedAgain() && !s.workload.Complete() {
		return nil
	}
	return &hold{reason: ReasonRestartFailed, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("%s The workload's own controller goes on trying; Fullmesh restarts it again only after its template, the namespace's labels or the injector has changed, or when asked: %s", record.Message, retryCure(s.workload))}
}

func causeWasTriedAlready(s *situation) *hold {
	object, record := s.workload.Object, s.workload.Record
	if object == nil {
		return nil
	}
	if record != nil && record.Decided == s.decided() && !s.askedAgain() {
		answer := &hold{message: fmt.Sprintf("%s It is not tried again before its template, the namespace's labels or the injector changes. To have it tried now, run: %s", record.Message, retryCure(s.workload))}
		switch record.Result {
		case v1alpha1.ResultIneffective:
			answer.reason, answer.clearsBy = ReasonRestartIneffective, v1alpha1.ClearedByAdmin
			return answer
		case v1alpha1.ResultReverted:
			if goesOnByEviction(s) {
				return nil
			}
			answer.reason, answer.clearsBy = ReasonRestartReverted, v1alpha1.ClearedByOwner
			return answer
		}
	}
	if goesOnByEviction(s) {
		return nil
	}
	if s.recordWasTakenAway() {
		_, who := s.undone()
		return &hold{reason: ReasonRestartReverted, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("It was restarted for this very cause already, and what was written down about it has been taken away: %s. See what replaces the workload's annotations (Replace=true, --force) and have it keep fullmesh.dev/ ones; then run: %s", who, retryCure(s.workload))}
	}
	if !s.saysItWasTried(s.cause()) {
		return nil
	}
	return &hold{reason: ReasonAlreadyRestarted, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("It was restarted for this very cause already, and these Pods were not replaced. Find out what keeps its controller from replacing them, or delete them. For another try run: %s", retryCure(s.workload))}
}

// goesOnByEviction reports whether what the last restart was made for is not tried again but brought to
// its end: the template was changed back, evictions were interrupted, brought a Pod without a sidecar that has
// gone since while something that decides has changed, or what they had failed for is in the mesh and ready since.
func goesOnByEviction(s *situation) bool {
	record := s.workload.Record
	switch {
	case record == nil || s.method().name != v1alpha1.MethodEviction:
		return false
	case record.Method == v1alpha1.MethodEviction && record.Result == v1alpha1.ResultIneffective:
		return record.Decided != s.decided()
	case record.Method == v1alpha1.MethodEviction && record.Failed():
		return !isMoving(s.workload) && record.End != nil && time.Unix(newestReady(s.workload), 0).After(*record.End)
	default:
		return record.Result == v1alpha1.ResultInterrupted || wasTakenBack(record)
	}
}

// cause is why the workload needs a restart now.
func (s *situation) cause() inventory.Cause {
	return inventory.Cause{
		Finding:  s.workload.Finding,
		Revision: s.workload.Expectation.Revision,
		UID:      s.workload.Object.UID,
		Newest:   s.workload.NewestToReplace,
		Retry:    s.retryToken(),
	}
}
