package restart

import (
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// A Pod that comes up uninjected within countsEverywhereFor after its workload was restarted counts in other namespaces
// as well, and a while longer where the Pod before it takes its time to go. Later ones stop their own namespace alone:
// everybody may delete Pods, and what a tenant does every second must not keep everybody else's dry-run checks from
// being good. Other namespaces lose little by it: whatever is restarted there counts for them in its turn.
const (
	countsEverywhereFor  = time.Minute
	countsEverywhereMost = 5 * time.Minute
)

// missedInjections are Pods that came up without a sidecar although their namespace, their template and the
// injector had asked for one for a while: a dry-run check that is older proves nothing. Times are in
// seconds since 1970.
type missedInjections struct {
	// everywhere is, by revision, the newest of those that count in every namespace: of workloads that Fullmesh has
	// restarted, after a dry run showed that they would be injected.
	everywhere map[string]int64
	// perNamespace is the newest of all of one namespace.
	perNamespace map[injection]int64
}

// injection is by one revision, in one namespace.
type injection struct{ namespace, revision string }

// missedInjectionsIn finds those of a snapshot.
func missedInjectionsIn(in *Input) *missedInjections {
	missed := &missedInjections{everywhere: map[string]int64{}, perNamespace: map[injection]int64{}}
	for _, namespace := range in.Snapshot.Namespaces {
		for _, workload := range namespace.Open {
			if !wasMissed(in.Snapshot, namespace, workload) {
				continue
			}
			revision, newest := workload.Expectation.Revision, workload.NewestToReplace
			own := injection{namespace.Name, revision}
			missed.perNamespace[own] = max(missed.perNamespace[own], newest)
			if until := countsEverywhereUntil(workload); until > 0 {
				missed.everywhere[revision] = max(missed.everywhere[revision], min(newest, until))
			}
		}
	}
	return missed
}

func wasMissed(snapshot *inventory.Snapshot, namespace *inventory.Namespace, workload *inventory.Workload) bool {
	if workload.Finding != v1alpha1.FindingMissing || workload.Object == nil {
		return false
	}
	created := time.Unix(workload.NewestToReplace, 0)
	return created.After(namespace.Changed.Add(graceAfterChange)) &&
		created.After(snapshot.ChangedFor(workload.Expectation).Add(graceAfterChange)) &&
		created.After(workload.Object.TemplateChanged)
}

// countsEverywhereUntil is up to when Pods of a workload count in other namespaces; 0 where none does.
func countsEverywhereUntil(workload *inventory.Workload) int64 {
	r := workload.Newest()
	if r == nil || workload.NewestToReplace < r.Start.Unix() {
		return 0
	}
	return r.Start.Add(min(countsEverywhereFor+workload.Object.Patience(), countsEverywhereMost)).Unix()
}

// newest is when the newest Pod came up uninjected that counts for a workload.
func (m *missedInjections) newest(c *Candidate) int64 {
	revision := c.workload.Expectation.Revision
	return max(m.everywhere[revision], m.perNamespace[injection{c.namespace.Name, revision}])
}
