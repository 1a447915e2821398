package restart

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// undone says who took a restart back, and how: as far as the API server's record of writers tells, and
// that does not name whoever owns nothing that is left.
func (s *situation) undone() (result v1alpha1.RestartResult, who string) {
	writer := s.workload.Object.LastWriter
	switch {
	case writer.Manager == "":
		return v1alpha1.ResultReverted, "by whom is not known"
	case writer.IsRollback():
		return v1alpha1.ResultRolledBack, fmt.Sprintf("by its owner (kubectl rollout undo, at %s)", moment(writer.Time))
	default:
		return v1alpha1.ResultReverted, fmt.Sprintf("most likely by field manager %q (at %s)", writer.Manager, moment(writer.Time))
	}
}

// finishUndone ends a restart whose annotation is no longer on the template.
func (s *situation) finishUndone() Verdict {
	result, who := s.undone()
	if result == v1alpha1.ResultRolledBack {
		return s.finish(result, fmt.Sprintf("The restart was rolled back %s while it was going on.", who))
	}
	return s.finish(result, fmt.Sprintf("The annotation %s was taken off the template while the restart was going on: %s. Have whatever manages the workload keep fullmesh.dev/ annotations.", v1alpha1.RestartCauseAnnotation, who))
}

// ownerRolledItBack speaks where the owner has had the former Pods back: that is left alone until it is
// asked for again or the template has changed.
func ownerRolledItBack(s *situation) *hold {
	object, record := s.workload.Object, s.workload.Record
	if object == nil {
		return nil
	}
	says := ""
	switch {
	case record != nil && record.Result == v1alpha1.ResultRolledBack && ofSameTemplate(record.Decided, s.decided()) && !s.askedAgain():
		says = record.Message
	case s.recordWasTakenAway():
		result, who := s.undone()
		if result != v1alpha1.ResultRolledBack {
			return nil
		}
		says = fmt.Sprintf("The restart was rolled back %s.", who)
	default:
		return nil
	}
	return &hold{reason: ReasonRolledBack, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("%s It is left alone until its template changes. To have it restarted now, run: %s", says, retryCure(s.workload))}
}

// recordWasTakenAway reports whether the workload was restarted for its very cause, as this process or
// the namespace's report remembers, and does not say so itself.
func (s *situation) recordWasTakenAway() bool {
	cause := s.cause()
	if s.saysItWasTried(cause) {
		return false
	}
	return s.startedFor(cause) || s.reportedFor(cause)
}

// saysItWasTried reports whether the workload itself tells of a restart for the cause.
func (s *situation) saysItWasTried(cause inventory.Cause) bool {
	record := s.workload.Record
	return s.left(s.workload.Object.Template.Annotations[v1alpha1.RestartCauseAnnotation], "", cause) ||
		record != nil && s.left(record.Cause, record.Result, cause)
}

// startedFor reports whether this process remembers a restart of the workload for the cause.
func (s *situation) startedFor(cause inventory.Cause) bool {
	started := s.pass.started(s.workload.Object.UID).Cause
	if record := s.workload.Record; record != nil && record.Cause == started {
		return s.left(started, record.Result, cause)
	}
	return s.left(started, "", cause)
}

// reportedFor reports whether the namespace's report remembers a restart of the workload for the cause.
func (s *situation) reportedFor(cause inventory.Cause) bool {
	report := s.pass.reported(s.namespace.Name)
	if report == nil {
		return false
	}
	for i := range report.Recent {
		row := &report.Recent[i]
		if record := s.workload.Record; record != nil && row.Cause != record.Cause && !row.StartTime.After(record.Start) {
			continue // the workload tells of a later one
		}
		if tellsOf(row, s.workload) && s.left(row.Cause, row.Result, cause) {
			return true
		}
	}
	return false
}

// begunBy names who wrote the template last, where that is known.
func begunBy(writer inventory.Writer) string {
	if writer.Manager == "" {
		return ""
	}
	return fmt.Sprintf(", begun by field manager %q at %s,", writer.Manager, moment(writer.Time))
}

// left reports whether a restart was made for the cause, and left the Pods that it is about. One that succeeded
// left none: an older Pod of it that has fallen out of the mesh since was in it then.
func (s *situation) left(token string, result v1alpha1.RestartResult, cause inventory.Cause) bool {
	tried, err := inventory.ParseCause(token)
	if err != nil {
		return false
	}
	if s.workload.Record == nil && cause.Retry == "" {
		tried.Retry = "" // what was mended before it stood in the record, which is gone
	}
	if result == v1alpha1.ResultSucceeded {
		return tried == cause
	}
	return tried.Covers(cause)
}
