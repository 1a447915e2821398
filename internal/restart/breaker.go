package restart

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// When breakers open by themselves, and how often they are probed.
const (
	defaultStopAfter = 3
	// namespaceStopAfter is how many failed workloads stop a namespace, whatever stops its policy.
	namespaceStopAfter = 2
	defaultCoolDown    = time.Hour
	// maxProbes is how many probes may fail before somebody must say so.
	maxProbes = 3
)

// breaker stops all restarts in a scope when too many of them have failed. It is a function of the ledger, made anew
// in every pass: failures that still hold open it, and a successful probe after them closes it.
type breaker struct {
	// name of the scope in words, and what to type to close the breaker.
	name, cure string
	reason     Reason
	limit      int
	coolDown   time.Duration
	// shared says that it stops other namespaces as well as those in which something has failed.
	shared bool

	failures []failure
	// lastProbe is when the newest successful probe ended.
	lastProbe time.Time
	// activeProbe is the workload that is restarted alone; nil where none is. inFlight counts all that is restarted.
	activeProbe *inventory.Workload
	inFlight    int

	// The rest is found by evaluate.
	open         bool
	since        time.Time
	retry        time.Time
	probesFailed int
}

// failure is a restart that counts for a breaker; probe is which of its probes it was, 0 for none.
type failure struct {
	workload *inventory.Workload
	end      time.Time
	probe    int
}

// evaluate finds out what the failures come to.
func (b *breaker) evaluate() {
	b.failures = slices.DeleteFunc(b.failures, func(f failure) bool { return !f.end.After(b.lastProbe) })
	slices.SortFunc(b.failures, func(x, y failure) int {
		return cmp.Or(x.end.Compare(y.end), strings.Compare(x.workload.Key.String(), y.workload.Key.String()))
	})
	if b.shared {
		b.failures = newestOfEachNamespace(b.failures)
	}
	if len(b.failures) < b.limit {
		return
	}
	b.open, b.since = true, b.failures[b.limit-1].end
	for _, f := range b.failures {
		b.probesFailed = max(b.probesFailed, f.probe)
	}
	b.retry = b.failures[len(b.failures)-1].end.Add(b.coolDown << min(b.probesFailed, maxProbes))
}

// newestOfEachNamespace leaves of the failures in one namespace as many as stop that namespace: it stops alone then,
// and whatever else fails there is no reason to stop the others.
func newestOfEachNamespace(failures []failure) []failure {
	counted := map[string]int{}
	var newest []failure
	for _, f := range slices.Backward(failures) {
		if counted[f.workload.Key.Namespace] < namespaceStopAfter {
			counted[f.workload.Key.Namespace]++
			newest = append(newest, f)
		}
	}
	slices.Reverse(newest)
	return newest
}

func (b *breaker) needsAdmin() bool { return b.open && b.probesFailed >= maxProbes }

// holds is the hold of every workload in the scope while no probe may start; nil where one may, or the breaker is closed.
func (b *breaker) holds(now time.Time) *hold {
	if !b.open {
		return nil
	}
	stopped := fmt.Sprintf("Nothing more is restarted %s: %s.", b.name, b.failuresInWords())
	switch {
	case b.activeProbe != nil:
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("%s %s is restarted alone, as a probe.", stopped, b.activeProbe.Key)}
	case b.needsAdmin():
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("%s Each of %d probes failed as well. Fix what is wrong and run: %s", stopped, b.probesFailed, b.cure)}
	case b.retry.After(now):
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByTime, until: b.retry,
			message: fmt.Sprintf("%s At %s one is restarted as a probe. To go on before that, fix what is wrong and run: %s", stopped,
				moment(b.retry), b.cure)}
	default:
		return nil
	}
}

// holdsOthers is the hold of every workload that is not the probe, where one is due or in flight: it goes alone.
func (b *breaker) holdsOthers() *hold {
	switch {
	case !b.open || b.activeProbe == nil && b.inFlight == 0:
		return nil
	case b.activeProbe == nil:
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("Nothing more is restarted %s: %s. One is restarted as a probe when those in flight have ended.", b.name,
				b.failuresInWords())}
	default:
		return b.holds(time.Time{})
	}
}

// failuresInWords names what has failed, the newest first.
func (b *breaker) failuresInWords() string {
	var names []string
	for _, f := range slices.Backward(b.failures) {
		names = append(names, f.workload.Key.String())
	}
	if len(names) == 1 {
		return fmt.Sprintf("the restart of 1 workload has failed (%s)", names[0])
	}
	return fmt.Sprintf("the restarts of %d workloads have failed (%s)", len(names), firstNames(names))
}

// firstNames lists some names, and says where there are more.
func firstNames(names []string) string {
	const listed = 3
	text := strings.Join(names[:min(len(names), listed)], ", ")
	if len(names) > listed {
		text += " and others"
	}
	return text
}

// start counts a restart that starts now, and gives the number of the probe that it is; 0 for none.
func (b *breaker) start(workload *inventory.Workload) int {
	b.inFlight++
	if !b.open {
		return 0
	}
	b.activeProbe = workload
	return b.probesFailed + 1
}

// countInFlight counts a restart that is in flight, and as which probe.
func (b *breaker) countInFlight(workload *inventory.Workload, probe int) {
	b.inFlight++
	if probe > 0 {
		b.activeProbe = workload
	}
}

// status is the breaker as a status shows it; nil where it is closed.
func (b *breaker) status() *v1alpha1.BreakerStatus {
	if !b.open {
		return nil
	}
	status := &v1alpha1.BreakerStatus{
		State:           v1alpha1.BreakerOpen,
		Since:           inSeconds(b.since),
		ProbesFailed:    new(int32(min(b.probesFailed, 1000))),
		FailedWorkloads: new(int32(len(b.failures))),
	}
	if b.activeProbe != nil {
		status.State = v1alpha1.BreakerProbing
	} else if !b.needsAdmin() {
		status.RetryTime = inSeconds(b.retry)
	}
	return status
}

func inSeconds(at time.Time) *metav1.Time {
	return new(metav1.NewTime(at.UTC().Truncate(time.Second)))
}
