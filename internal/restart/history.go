package restart

import (
	"fmt"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// lastRestartFailed holds for every cause of the finding under what decided then, however new the Pods are.
func lastRestartFailed(c *Candidate) *hold {
	last := c.workload.Outcome
	if !last.Failed() || !c.isFor(last) || c.inputsChanged(last) || c.evictionsHaveRecovered() {
		return nil
	}
	if c.retryIsRequested() && !c.workload.Complete() {
		return nil
	}
	return &hold{reason: ReasonRestartFailed, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("%s The workload's own controller keeps trying. Fullmesh restarts it again only after its template, the "+
			"namespace's labels or the injector has changed, or when asked: %s", last.Message, retryCure(c.workload))}
}

// restartWasIneffective holds likewise: each round's Pods are newer, so an injector that answers dry runs and not
// controllers would have the workload restarted forever.
func restartWasIneffective(c *Candidate) *hold {
	last := c.workload.Outcome
	if last == nil || last.Result != v1alpha1.ResultIneffective || last.Excuse != "" || !c.isFor(last) || !c.stillHolds(last) {
		return nil
	}
	return &hold{reason: ReasonRestartIneffective, clearsBy: v1alpha1.ClearedByAdmin, message: last.Message + notBefore(c)}
}

// restartWasReverted holds rollout restarts alone: an eviction writes nothing that could be taken back.
func restartWasReverted(c *Candidate) *hold {
	last := c.workload.Outcome
	if last == nil || last.Result != v1alpha1.ResultReverted || !c.isFor(last) || !c.stillHolds(last) ||
		c.method().name == v1alpha1.MethodEviction {
		return nil
	}
	return &hold{reason: ReasonRestartReverted, clearsBy: v1alpha1.ClearedByOwner, message: last.Message + notBefore(c)}
}

// wasAlreadyRestarted holds where a restart succeeded for the very cause. A rolling update has replaced every Pod that
// is as old; evictions have replaced those that were out then, and an older Pod may have left the mesh since.
func wasAlreadyRestarted(c *Candidate) *hold {
	last := c.workload.Outcome
	if last == nil || last.Result != v1alpha1.ResultSucceeded || !c.isFor(last) || c.retryIsRequested() {
		return nil
	}
	newest := c.workload.NewestToReplace
	if newest != last.Cause.Newest && (last.Method == v1alpha1.MethodEviction || newest > last.Cause.Newest) {
		return nil
	}
	return &hold{reason: ReasonAlreadyRestarted, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("It was restarted for this very cause at %s, and these Pods were not replaced. Find out what keeps its "+
			"controller from replacing them, or delete them. For another try run: %s", moment(last.Start), retryCure(c.workload))}
}

func notBefore(c *Candidate) string {
	return fmt.Sprintf(" It is not restarted again before its template, the namespace's labels or the injector changes. For another try "+
		"run: %s",
		retryCure(c.workload))
}

// evictionsHaveRecovered reports whether evictions that failed may go on: what they failed for is in the mesh and ready
// since.
func (c *Candidate) evictionsHaveRecovered() bool {
	last := c.workload.Outcome
	return last.Failed() && last.Method == v1alpha1.MethodEviction && c.method().name == v1alpha1.MethodEviction &&
		!isUnsettled(c.workload) && time.Unix(newestReady(c.workload, last), 0).After(last.End)
}

// leftByEviction reports whether the Pods that must be replaced are those that evictions have not come to.
func (c *Candidate) leftByEviction() bool {
	last := c.workload.Last
	return last != nil && last.Method == v1alpha1.MethodEviction && last.Result != v1alpha1.ResultSucceeded &&
		!c.workload.Complete() && c.isFor(last) && c.workload.NewestToReplace <= last.Cause.Newest
}

// wasReverted reports whether somebody took back what the last restart changed in the template, and would again.
func wasReverted(workload *inventory.Workload) bool {
	last := workload.Outcome
	return last != nil && last.Result == v1alpha1.ResultReverted && last.Method == v1alpha1.MethodRolloutRestart
}

// begunBy names who wrote the template last, where that is known.
func begunBy(writer inventory.Writer) string {
	if writer.Manager == "" {
		return ""
	}
	return fmt.Sprintf(", started by field manager %q at %s,", writer.Manager, moment(writer.Time))
}
