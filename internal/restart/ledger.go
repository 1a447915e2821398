package restart

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// The ledger is all MeshRestarts together: what Fullmesh has begun. Only the operator writes it, before it touches a
// workload, and what is decided reads it and nothing else about restarts.

// historyKept is how many MeshRestarts that have ended stay per namespace.
const historyKept = 10

// intentLasts is how long a MeshRestart may be about to touch its workload. The process that created it does so
// within a quarter of that, so nothing is on its way any more.
const intentLasts = 2 * time.Minute

// NameOf is the name of a workload's MeshRestart. It is made of the attempt alone: creating one is refused by the
// API server where another process has made the same attempt.
func NameOf(workload mesh.Key, uid types.UID, attempt int) string {
	const hashed = 10
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", uid, attempt))
	name := strings.ToLower(workload.Kind) + "-" + workload.Name
	name = strings.Trim(name[:min(len(name), v1alpha1.MaxRestartName-hashed-1)], ".-")
	return name + "-" + hex.EncodeToString(sum[:])[:hashed]
}

// newRestart is the MeshRestart of a restart that starts now.
func (c *Candidate) newRestart() *inventory.Restart {
	workload, object := c.workload, c.workload.Object
	r := &inventory.Restart{
		Namespace:   object.Namespace,
		Workload:    workload.Key,
		WorkloadUID: object.UID,
		Generation:  object.Generation,
		Policy:      c.policy.Name,
		Cause:       c.cause(),
		Method:      c.method().name,
		InputsHash:  c.inputsHash(),
		Replicas:    object.Replicas,
		Ready:       workload.Pods.Ready,
		AtOnce:      c.atOnce(c.method().name),
		Attempt:     1,
		Requests:    c.requests(),
		Start:       c.pass.Now.UTC().Truncate(time.Second),
	}
	if len(workload.Restarts) > 0 {
		r.Attempt = workload.Restarts[0].Attempt + 1
	}
	// The history may be shorter than the template's memory: a name that stands there already would start nothing.
	for r.Name = NameOf(r.Workload, r.WorkloadUID, r.Attempt); r.Name == object.Template.Annotations[v1alpha1.RestartedByAnnotation]; {
		r.Attempt++
		r.Name = NameOf(r.Workload, r.WorkloadUID, r.Attempt)
	}
	if last := workload.Last; last != nil && last.Excuse != "" {
		r.Excused = last.Excused + 1
	}
	if r.Method == v1alpha1.MethodRestartAt {
		r.RestartAt = c.restartAt()
	}
	return r
}

// cause is why the workload needs a restart now.
func (c *Candidate) cause() inventory.Cause {
	return inventory.Cause{Finding: c.workload.Finding, Revision: c.workload.Expectation.Revision, Newest: c.workload.NewestToReplace}
}

// isFor reports whether a restart was made for the finding that the workload has now, or has none any more.
func (c *Candidate) isFor(r *inventory.Restart) bool {
	return c.workload.Complete() || r.Cause.Finding == c.workload.Finding && r.Cause.Revision == c.workload.Expectation.Revision
}

// inputsChanged reports whether something that decides has changed since a restart was decided on. A hash of another
// format is taken as unchanged.
func (c *Candidate) inputsChanged(r *inventory.Restart) bool {
	now := c.inputsHash()
	format, _, _ := strings.Cut(now, "-")
	return r.InputsHash != now && strings.HasPrefix(r.InputsHash, format+"-")
}

// stillHolds reports whether what a restart came to counts: nothing that decides has changed since, and nobody has
// asked for another try.
func (c *Candidate) stillHolds(r *inventory.Restart) bool {
	return !c.inputsChanged(r) && !c.retryIsRequested()
}

// hasFailed reports whether the workload's last restart that was not interrupted failed, or was without effect and
// nothing excuses that.
func hasFailed(workload *inventory.Workload) bool {
	last := workload.Outcome
	return last.Failed() || last != nil && last.Result == v1alpha1.ResultIneffective && last.Excuse == ""
}

// surplus are the MeshRestarts of a namespace that are not kept any more. What ended last is kept; as long as its
// workload exists, what keeps it from being restarted again; and the newest successful probe of each breaker, before
// which failures count for nothing.
func surplus(namespace *inventory.Namespace) []*inventory.Restart {
	needed := map[*inventory.Restart]bool{}
	for _, workload := range namespace.Workloads {
		if outcome := workload.Outcome; outcome != nil && outcome.Result != v1alpha1.ResultSucceeded {
			needed[outcome] = true
		}
	}
	var ended []*inventory.Restart
	for _, r := range namespace.Restarts {
		if !r.InFlight() {
			ended = append(ended, r)
		}
	}
	slices.SortStableFunc(ended, func(a, b *inventory.Restart) int { return b.End.Compare(a.End) })
	probed := map[string]bool{}
	for _, r := range ended {
		for scope, number := range map[string]int{"policy " + r.Policy: r.Probes.Policy, "namespace": r.Probes.Namespace} {
			if number > 0 && r.Result == v1alpha1.ResultSucceeded && !probed[scope] {
				probed[scope], needed[r] = true, true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ended[min(len(ended), historyKept):]), func(r *inventory.Restart) bool { return needed[r] })
}

// IntentIsOver reports whether a MeshRestart that has not touched its workload will not do so any more.
func IntentIsOver(r *inventory.Restart, now time.Time) bool {
	return !now.Before(r.Start.Add(intentLasts))
}

// IsVoid reports, by its workload as the API server has it (nil where it is gone), whether a restart that has not ended
// counts for nothing: there is nothing left to restart, or it has not touched the workload and will not any more.
func IsVoid(r *inventory.Restart, live *inventory.Object, now time.Time) bool {
	switch {
	case live == nil:
		return true
	case r.HasTouched(live), live.Generation > r.Generation+1: // it has begun, or was taken back
		return false
	default:
		return live.Generation == r.Generation+1 || IntentIsOver(r, now)
	}
}
