package restart

import (
	"errors"
	"slices"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Which restarts are Fullmesh's own is not asked of the workloads alone: their owners may write anything
// there, and would hold places in the budgets of everybody. What the report of the namespace says nobody else
// writes, and what this process has begun it knows.

// Restarted is a workload of which Fullmesh is known to have made the restart that it tells of.
type Restarted struct {
	*inventory.Workload
	// Policy under which the restart was begun, by its name; empty where that is not known.
	Policy string
}

// findRestarted finds those of the recorded workloads that Fullmesh has restarted, and those of which it is
// believed: whoever led before may have begun it and not have reported it any more. What is found in flight when
// this process takes over is believed until it ends, and anything else for a while.
func (n *NamespacePlan) findRestarted(in *Input, timeout time.Duration) {
	for _, workload := range n.Recorded {
		if known, told := n.isKnown(in, workload); known {
			n.Restarted = append(n.Restarted, Restarted{workload, n.policyOf(in, workload)})
		} else if !told && (n.reportIsFull(in) || n.isBelieved(in, workload, workload.Record.Start, timeout)) {
			n.believed = append(n.believed, workload)
		}
	}
}

// counts reports whether what a workload tells of its last restart counts against the budgets.
func (n *NamespacePlan) counts(workload *inventory.Workload) bool {
	return slices.Contains(n.believed, workload) || slices.ContainsFunc(n.Restarted, func(r Restarted) bool { return r.Workload == workload })
}

// begunUnder is the name of the policy under which the restart of a workload was begun; empty where that is not
// known.
func (n *NamespacePlan) begunUnder(workload *inventory.Workload) string {
	for _, restarted := range n.Restarted {
		if restarted.Workload == workload {
			return restarted.Policy
		}
	}
	return ""
}

// isKnown reports whether Fullmesh is known to have made the restart of which a workload tells; told says that
// the report tells of it. One that has ended by the report is in flight no more, whatever the workload says.
func (n *NamespacePlan) isKnown(in *Input, workload *inventory.Workload) (known, told bool) {
	record := workload.Record
	if in.TookOver.IsZero() {
		return true, false
	}
	if row := n.rowOf(in, record); row != nil {
		return row.Result == "" || !record.InFlight(), true
	}
	_, begun := in.began(workload)
	return begun, false
}

// policyOf is the name of the policy under which Fullmesh began the restart of which a workload tells.
func (n *NamespacePlan) policyOf(in *Input, workload *inventory.Workload) string {
	if start, begun := in.began(workload); begun {
		return start.Policy
	}
	if row := n.rowOf(in, workload.Record); row != nil {
		return row.Policy
	}
	return ""
}

// rowOf is what the report tells of a restart; nil where it does not.
func (n *NamespacePlan) rowOf(in *Input, record *inventory.Record) *v1alpha1.RecentRestart {
	return n.row(in, func(row *v1alpha1.RecentRestart) bool {
		return row.Cause == record.Cause && row.StartTime.Unix() == record.Start.Unix()
	})
}

// row is the first row of the report that is asked for; nil where there is none.
func (n *NamespacePlan) row(in *Input, is func(*v1alpha1.RecentRestart) bool) *v1alpha1.RecentRestart {
	report := in.reported(n.Name)
	if report == nil {
		return nil
	}
	for i := range report.Recent {
		if row := &report.Recent[i]; is(row) {
			return row
		}
	}
	return nil
}

// tellsOf reports whether a row of the report of a workload's namespace is about that workload.
func tellsOf(row *v1alpha1.RecentRestart, workload *inventory.Workload) bool {
	return workload.Key == mesh.Key{Group: row.Group, Kind: row.Kind, Namespace: workload.Key.Namespace, Name: row.Name}
}

// reportIsFull reports whether the report is full of restarts that have not ended, and cannot tell of others.
func (n *NamespacePlan) reportIsFull(in *Input) bool {
	report := in.reported(n.Name)
	return report != nil && len(report.Recent) == v1alpha1.MaxRecentRestarts &&
		!slices.ContainsFunc(report.Recent, func(row v1alpha1.RecentRestart) bool { return row.Result != "" })
}

// isBelieved reports whether whoever led before may have begun a restart at start.
func (n *NamespacePlan) isBelieved(in *Input, workload *inventory.Workload, start time.Time, timeout time.Duration) bool {
	if record := workload.Record; record != nil && in.Found != nil && in.Found(workload.Object.UID) == record.Cause {
		return true
	}
	until := in.TookOver.Add(timeout + workload.Object.Patience())
	if !in.Now.Before(until) || start.After(in.TookOver.Add(longestSkew)) {
		return false
	}
	n.looks = append(n.looks, until)
	return true
}

// takeUntold has a restart by Fullmesh count against the budgets that goes on while its workload does not tell of it
// any more: somebody has taken the record away, or has written that it had ended. It does so while further Pods become
// ready, and for no longer than they may take, each by itself.
func (n *NamespacePlan) takeUntold(s *situation, timeout time.Duration) {
	workload, object := s.workload, s.workload.Object
	if object == nil || !looksRestarted(workload) {
		return
	}
	start, by := n.untold(&s.pass.Input, workload)
	patience := timeout + object.Patience()
	moved := max(start.At.Unix(), workload.NewestReady, workload.NewestMeshedReady)
	until := earlier(time.Unix(moved, 0).Add(patience), start.At.Add(time.Duration(workload.Pods.MeshedReady+1)*patience))
	if start.Cause == "" || !until.After(s.pass.Now) {
		return
	}
	s.untold, s.begunUnder = true, s.pass.ledger.former(n.Policy, start.Policy)
	n.take(s, by)
	n.Untold = append(n.Untold, workload)
	n.looks = append(n.looks, until)
}

// untold is the restart of a workload that has not ended, as this process or the namespace's report remembers it,
// and of which the workload tells nothing, or something else. A rollout restart ends with its template.
func (n *NamespacePlan) untold(in *Input, workload *inventory.Workload) (Start, v1alpha1.RestartMethod) {
	stands := workload.Object.Template.Annotations[v1alpha1.RestartCauseAnnotation]
	if start := in.started(workload.Object.UID); !start.Ended && start.Cause != "" && start.Cause == stands {
		return start, v1alpha1.MethodRolloutRestart
	}
	row := n.row(in, func(row *v1alpha1.RecentRestart) bool {
		cause, err := inventory.ParseCause(row.Cause)
		return row.Result == "" && err == nil && cause.UID == workload.Object.UID && (row.Method != v1alpha1.MethodRolloutRestart || row.Cause == stands)
	})
	if row == nil || workload.Record != nil && !workload.Record.Start.Before(row.StartTime.Time) {
		return Start{}, ""
	}
	return Start{Cause: row.Cause, At: row.StartTime.Time, Policy: row.Policy}, row.Method
}

// looksRestarted reports whether Pods of a workload are being replaced, as far as can be seen.
func looksRestarted(workload *inventory.Workload) bool {
	object := workload.Object
	return object.RollingOut() || !object.RestartAt.Equal(object.RestartedAt) || workload.Pods.Ready < max(workload.Pods.Running, object.Replicas)
}

// mayBeInFlight is until when a workload counts as being restarted whose record a newer version wrote: for as
// long as its Pods may take, each by itself, where it looks as if they were being replaced. It is zero for any
// other record that cannot be read: that is of somebody else.
func (n *NamespacePlan) mayBeInFlight(in *Input, workload *inventory.Workload, timeout time.Duration) time.Time {
	object := workload.Object
	newer, isNewer := errors.AsType[*inventory.NewerRecordError](workload.RecordError)
	if !isNewer || !looksRestarted(workload) {
		return time.Time{}
	}
	start := newer.Start
	row := n.row(in, func(row *v1alpha1.RecentRestart) bool {
		return row.Result == "" && tellsOf(row, workload)
	})
	switch {
	case row != nil:
		start = row.StartTime.Time
	case !in.TookOver.IsZero() && !n.isBelieved(in, workload, start, timeout), start.After(in.Now.Add(longestSkew)):
		return time.Time{}
	case start.IsZero() && !in.TookOver.IsZero():
		start = in.TookOver
	case object.TemplateChanged.After(start):
		start = object.TemplateChanged
	}
	return start.Add(time.Duration(workload.Pods.MeshedReady+1) * (timeout + object.Patience()))
}
