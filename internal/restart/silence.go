package restart

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Start is a restart that this process has begun.
type Start struct {
	Cause string
	At    time.Time
	// Replicas is how many Pods it asked for then.
	Replicas int
	// Policy under which it was begun, by its name.
	Policy string
	// Ended says that this process has written down how it ended.
	Ended bool
}

// A Pod that comes up within heardFor after its workload was restarted is heard of in other namespaces,
// and a while later where the Pod before it takes its time to go. Later ones stop their own namespace
// alone: everybody may delete Pods, and what a tenant does every second must not keep everybody else's
// dry-run checks from being good for ever. Other namespaces lose little by it, for whatever is restarted
// there is heard of in its turn.
const (
	heardFor       = time.Minute
	heardForLonger = 5 * time.Minute
)

// silences are Pods that came up without a sidecar although their namespace, their template and the
// injector had asked for one for a while: a dry-run check that is older proves nothing. Times are in
// seconds since 1970.
type silences struct {
	// everywhere is, by revision, the newest of those that count in every namespace: of workloads that
	// this process has restarted, and so had shown by a dry run that they would be injected.
	everywhere map[string]int64
	// within is the newest of all of one namespace.
	within map[injection]int64
}

// injection is by one revision, in one namespace.
type injection struct{ namespace, revision string }

// listen finds the silences of a picture.
func listen(in *Input) *silences {
	heard := &silences{everywhere: map[string]int64{}, within: map[injection]int64{}}
	for _, namespace := range in.Snapshot.Namespaces {
		for _, workload := range namespace.Open {
			if !cameUpSilently(in.Snapshot, namespace, workload) {
				continue
			}
			revision, newest := workload.Expectation.Revision, workload.NewestToReplace
			own := injection{namespace.Name, revision}
			heard.within[own] = max(heard.within[own], newest)
			if until := in.heardUntil(workload); until > 0 {
				heard.everywhere[revision] = max(heard.everywhere[revision], min(newest, until))
			}
		}
	}
	return heard
}

func cameUpSilently(snapshot *inventory.Snapshot, namespace *inventory.Namespace, workload *inventory.Workload) bool {
	if workload.Finding != v1alpha1.FindingMissing || workload.Object == nil {
		return false
	}
	created := time.Unix(workload.NewestToReplace, 0)
	return created.After(namespace.Changed.Add(graceAfterChange)) &&
		created.After(snapshot.ChangedFor(workload.Expectation).Add(graceAfterChange)) &&
		created.After(workload.Object.TemplateChanged)
}

// heardUntil is up to when Pods of a workload are heard of in other namespaces; 0 where none is.
func (in *Input) heardUntil(workload *inventory.Workload) int64 {
	start := in.started(workload.Object.UID)
	if start.At.IsZero() || workload.NewestToReplace < start.At.Unix() {
		return 0
	}
	return start.At.Add(min(heardFor+workload.Object.Patience(), heardForLonger)).Unix()
}

// since is when the newest Pod came up silently that counts for a workload.
func (h *silences) since(s *situation) int64 {
	revision := s.workload.Expectation.Revision
	return max(h.everywhere[revision], h.within[injection{s.namespace.Name, revision}])
}

// began is the restart of which a workload tells, where this process began it. Its owner may write the same cause
// with another time.
func (in *Input) began(workload *inventory.Workload) (Start, bool) {
	start, record := in.started(workload.Object.UID), workload.Record
	return start, start.Cause == record.Cause && start.At.Unix() == record.Start.Unix()
}

// started is the restart of a workload that this process began last; its zero value where it began none.
func (in *Input) started(uid types.UID) Start {
	if in.Started == nil {
		return Start{}
	}
	return in.Started(uid)
}
