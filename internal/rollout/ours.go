package rollout

import (
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// isOurs reports whether Fullmesh began the restart of which a workload tells: this process did, or the
// report of the namespace tells of it as well, which nobody else writes. Its owner may write anything on a
// workload, and would hold places in the budgets of everybody. For a while after this process took over it is
// believed: whoever led before may have begun it and not have reported it any more.
func (n *NamespacePlan) isOurs(in *Input, workload *inventory.Workload, timeout time.Duration) bool {
	record := workload.Record
	if in.TookOver.IsZero() || in.started(workload.Object.UID).Cause == record.Cause || n.isReported(in, record) {
		return true
	}
	until := in.TookOver.Add(timeout + workload.Object.Patience())
	if !in.Now.Before(until) || record.Start.After(in.TookOver.Add(longestSkew)) {
		return false
	}
	n.looks = append(n.looks, until)
	return true
}

// isReported reports whether the namespace's report tells of a restart, or is full of others that have not
// ended, so that it could not.
func (n *NamespacePlan) isReported(in *Input, record *inventory.Record) bool {
	report := in.reported(n.Name)
	if report == nil {
		return false
	}
	unended := 0
	for i := range report.Recent {
		row := &report.Recent[i]
		if row.Cause == record.Cause && row.StartTime.Unix() == record.Start.Unix() {
			return true
		}
		if row.Result == "" {
			unended++
		}
	}
	return unended == v1alpha1.MaxRecentRestarts
}

// findRestarted finds those of the recorded workloads that Fullmesh has restarted.
func (n *NamespacePlan) findRestarted(in *Input, timeout time.Duration) {
	for _, workload := range n.Recorded {
		if n.isOurs(in, workload, timeout) {
			n.Restarted = append(n.Restarted, workload)
		}
	}
}
