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

// When breakers open by themselves, and how often they are tried.
const (
	defaultStopAfter = 3
	// namespaceStopAfter is how many failed workloads stop a namespace, whatever stops its policy.
	namespaceStopAfter = 2
	// injectorStopAfter is how many workloads, one after the other and none that came well between them,
	// must have been restarted in vain before nothing more is restarted under a revision.
	injectorStopAfter = 3
	defaultCoolDown   = time.Hour
	// probesAtMost is how many probes may fail before somebody must say so.
	probesAtMost = 3
)

// breaker stops all restarts in a scope when too many of them have failed. What has failed is read from
// the records on the workloads, in every pass anew; nothing else can open it or close it, but for a
// probe that went well (cleared), which is remembered in the status as well.
type breaker struct {
	// name of the scope in words, and what to type to close the breaker.
	name, cure string
	reason     Reason
	// what has come to these workloads.
	what     string
	limit    int
	coolDown time.Duration
	// shared says that it stops other namespaces as well as those in which something has failed.
	shared bool
	// before is what the status says.
	before *v1alpha1.BreakerStatus
	// asked is when the last request for another try was taken in: what was before it is over.
	asked int64

	failures []failedRestart
	cleared  time.Time
	probe    *inventory.Workload
	inFlight int

	// The rest is found by settle.
	open         bool
	since        time.Time
	last         time.Time
	retry        time.Time
	probesFailed int
}

// failedRestart is a restart that counts for a breaker.
type failedRestart struct {
	workload *inventory.Workload
	end      time.Time
	probe    int
}

// settle finds out what the failures come to.
func (b *breaker) settle(now time.Time) {
	if b.before != nil && b.before.ClearedTime != nil {
		b.clear(b.before.ClearedTime.Time, now)
	}
	b.failures = slices.DeleteFunc(b.failures, func(f failedRestart) bool { return !f.end.After(b.cleared) })
	slices.SortFunc(b.failures, func(x, y failedRestart) int {
		return cmp.Or(x.end.Compare(y.end), strings.Compare(x.workload.Key.String(), y.workload.Key.String()))
	})
	if b.shared {
		b.failures = newestOfEach(b.failures)
	}
	if len(b.failures) < b.limit {
		return
	}
	b.open, b.since = true, b.failures[b.limit-1].end
	for _, f := range b.failures {
		b.probesFailed = max(b.probesFailed, b.probesWith(f))
	}
	b.last = b.failures[len(b.failures)-1].end
	b.remember(now)
	b.retry = b.last.Add(b.coolDown << min(b.probesFailed, probesAtMost))
}

// newestOfEach leaves of the failures in one namespace as many as stop that namespace: it stops alone then,
// and whatever else fails there, or is written there, is no reason to stop the others.
func newestOfEach(failures []failedRestart) []failedRestart {
	counted := map[string]int{}
	var newest []failedRestart
	for _, f := range slices.Backward(failures) {
		if counted[f.workload.Key.Namespace] < namespaceStopAfter {
			counted[f.workload.Key.Namespace]++
			newest = append(newest, f)
		}
	}
	slices.Reverse(newest)
	return newest
}

// remember takes over from the status what the records no longer tell: since when the breaker is open,
// and probes that failed and whose workloads have gone.
func (b *breaker) remember(now time.Time) {
	was := b.before
	if was == nil || was.State == v1alpha1.BreakerClosed || was.Since == nil || was.Since.Unix() < b.asked || was.Since.After(now.Add(longestSkew)) {
		return
	}
	b.since = was.Since.Time
	if was.ProbesFailed == nil || int(*was.ProbesFailed) <= b.probesFailed {
		return
	}
	b.probesFailed = int(*was.ProbesFailed)
	if was.LastFailureTime != nil && was.LastFailureTime.After(b.last) && !was.LastFailureTime.After(now.Add(longestSkew)) {
		b.last = was.LastFailureTime.Time
	}
}

// clear lets failures up to a time count for nothing. A time to come is somebody's invention.
func (b *breaker) clear(at, now time.Time) {
	if at.After(b.cleared) && !at.After(now.Add(longestSkew)) {
		b.cleared = at
	}
}

// probesWith is how many probes have failed with this one, 0 where it was none. Whoever may write on a
// workload may write a number there, so where others depend on it the status is believed.
func (b *breaker) probesWith(f failedRestart) int {
	switch {
	case !b.shared || f.probe == 0:
		return f.probe
	case !tries(b.before, f.workload):
		return 0
	case b.before.ProbesFailed == nil:
		return 1
	default:
		return int(*b.before.ProbesFailed) + 1
	}
}

// tries reports whether a workload is the probe by what the status of a breaker says.
func tries(status *v1alpha1.BreakerStatus, workload *inventory.Workload) bool {
	return status != nil && status.State == v1alpha1.BreakerProbing && status.Probe == workload.Key.String()
}

// isProbe reports whether a restart in flight is the probe that it says it is: by what the status of the
// breaker says, or because this process has begun it.
func (s *situation) isProbe(status *v1alpha1.BreakerStatus, number int) bool {
	_, begun := s.pass.began(s.workload)
	return number > 0 && (begun || tries(status, s.workload))
}

func (b *breaker) needsAdmin() bool { return b.open && b.probesFailed >= probesAtMost }

// holds speaks where the breaker is open and no probe may start now.
func (b *breaker) holds(now time.Time) *hold {
	if !b.open {
		return nil
	}
	stopped := fmt.Sprintf("Nothing more is restarted %s: %s.", b.name, b.named())
	switch {
	case b.probe != nil:
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("%s %s is restarted alone, to see whether it goes well now.", stopped, b.probe.Key)}
	case b.needsAdmin():
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("%s Each of %d more that were tried alone failed as well. Mend what is wrong and run: %s", stopped, b.probesFailed, b.cure)}
	case b.retry.After(now):
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByTime, until: b.retry,
			message: fmt.Sprintf("%s At %s one more is tried alone. To go on before that, mend what is wrong and run: %s", stopped, moment(b.retry), b.cure)}
	default:
		return nil
	}
}

// holdsBeside speaks where a probe is due, and this would not be one: it goes alone.
func (b *breaker) holdsBeside() *hold {
	switch {
	case !b.open || b.probe == nil && b.inFlight == 0:
		return nil
	case b.probe == nil:
		return &hold{reason: b.reason, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("Nothing more is restarted %s: %s. One more is tried alone when those in flight have ended.", b.name, b.named())}
	default:
		return b.holds(time.Time{})
	}
}

// named names what has failed, the newest first.
func (b *breaker) named() string {
	names := b.failedKeys(3)
	more := ""
	if len(b.failures) > len(names) {
		more = " and others"
	}
	return fmt.Sprintf("the restarts of %d workloads %s (%s%s)", len(b.failures), b.what, strings.Join(names, ", "), more)
}

func (b *breaker) failedKeys(most int) []string {
	var names []string
	for _, f := range slices.Backward(b.failures) {
		if len(names) < most {
			names = append(names, f.workload.Key.String())
		}
	}
	return names
}

// begin counts a restart that begins now, and gives the number of the probe that it is; 0 for none.
func (b *breaker) begin(workload *inventory.Workload) int {
	b.inFlight++
	if !b.open {
		return 0
	}
	b.probe = workload
	return b.probesFailed + 1
}

// status is the breaker as the status shows it; nil where there is nothing to say.
func (b *breaker) status() *v1alpha1.BreakerStatus {
	status := &v1alpha1.BreakerStatus{State: v1alpha1.BreakerClosed}
	if !b.cleared.IsZero() {
		status.ClearedTime = inSeconds(b.cleared)
	}
	if b.open {
		status.State = v1alpha1.BreakerOpen
		if b.probe != nil {
			status.State, status.Probe = v1alpha1.BreakerProbing, b.probe.Key.String()
		} else if !b.needsAdmin() {
			status.RetryTime = inSeconds(b.retry)
		}
		status.Since = inSeconds(b.since)
		status.LastFailureTime = inSeconds(b.last)
		status.ProbesFailed = new(int32(min(b.probesFailed, 1000)))
		status.FailedWorkloads = new(int32(len(b.failures)))
		status.Failed = b.failedKeys(v1alpha1.MaxBreakerFailures)
	}
	if status.State == v1alpha1.BreakerClosed && status.ClearedTime == nil {
		return nil
	}
	return status
}

func inSeconds(at time.Time) *metav1.Time {
	return new(metav1.NewTime(at.UTC().Truncate(time.Second)))
}

// breakers are those of all scopes, in one pass.
type breakers struct {
	policies   map[*Policy]*breaker
	namespaces map[string]*breaker
	// injectors by policy and revision: what has failed is the same for all policies, how long it is
	// waited is not.
	injectors map[*Policy]map[string]*breaker
	// within are those of injectors in one namespace, by its name and revision: what is in vain there stops it, however
	// often.
	within map[string]map[string]*breaker
	// vain are restarts that brought no sidecar, and well the newest that did, by revision.
	vain map[string][]failedRestart
	well map[string]time.Time
	// tried are the probes that ended well, by revision.
	tried map[string][]failedRestart
	// flying and probing are what is in flight, and the probe among it, by revision.
	flying  map[string]int
	probing map[string]*inventory.Workload
}

func newBreakers() *breakers {
	return &breakers{
		policies: map[*Policy]*breaker{}, namespaces: map[string]*breaker{}, injectors: map[*Policy]map[string]*breaker{}, within: map[string]map[string]*breaker{},
		vain: map[string][]failedRestart{}, well: map[string]time.Time{}, tried: map[string][]failedRestart{}, flying: map[string]int{}, probing: map[string]*inventory.Workload{},
	}
}

// watch makes the breakers of a namespace and its policy, and takes in the restarts that ended long ago.
func (b *breakers) watch(p *pass, policy *Policy, namespace *inventory.Namespace) {
	if b.policies[policy] == nil {
		b.policies[policy] = &breaker{
			name: "under MeshPolicy " + policy.Name, reason: ReasonBreakerOpen, what: "have failed", limit: policy.stopAfter, coolDown: policy.coolDown, shared: true, before: policy.breaker, asked: servedAt(policy.retryServed),
			cure: RetryCommand("meshpolicy", policy.Name, ""),
		}
	}
	own := &breaker{
		name: "in this namespace", reason: ReasonNamespaceBreakerOpen, what: "have failed", limit: namespaceStopAfter, coolDown: policy.coolDown,
		cure: RetryCommand("namespace", namespace.Name, ""),
	}
	if report := p.reported(namespace.Name); report != nil {
		own.before, own.asked = report.Breaker, max(servedAt(policy.retryServed), servedAt(report.RetryServed))
	}
	b.namespaces[namespace.Name] = own
	for _, workload := range namespace.Probed {
		if workload.Record.Result == v1alpha1.ResultSucceeded {
			b.cameWell(&situation{pass: p, policy: policy, namespace: namespace, workload: workload}, workload.Record)
		}
	}
}

// wentWell takes in the restarts by Fullmesh that ended well: they show that an injector works.
func (b *breakers) wentWell(restarted []Restarted, now time.Time) {
	for _, workload := range restarted {
		record := workload.Record
		if record.Result != v1alpha1.ResultSucceeded || record.End == nil || record.End.After(now.Add(longestSkew)) {
			continue
		}
		if cause, _ := inventory.ParseCause(record.Cause); record.End.After(b.well[cause.Revision]) {
			b.well[cause.Revision] = *record.End
		}
	}
}

// cameWell takes in a restart that ended well: where it was a probe, what had failed before counts for
// nothing.
func (b *breakers) cameWell(s *situation, record *inventory.Record) {
	if record.End == nil {
		return
	}
	if record.Probe.Policy > 0 && tries(s.policy.breaker, s.workload) && s.policy.Selects(s.workload) {
		b.policies[s.policy].clear(*record.End, s.pass.Now)
	}
	if record.Probe.Injector > 0 {
		cause, _ := inventory.ParseCause(record.Cause)
		b.tried[cause.Revision] = append(b.tried[cause.Revision], failedRestart{s.workload, *record.End, record.Probe.Injector})
	}
	if record.Probe.Namespace > 0 {
		b.namespaces[s.namespace.Name].clear(*record.End, s.pass.Now)
	}
}

// count takes in a restart that is in flight, has just ended or has not ended well. One that is not known to be
// Fullmesh's own, nor counted before, counts in its namespace alone: its owner may have written it.
func (b *breakers) count(s *situation, record *inventory.Record, ours bool) {
	if s.policy == nil || record == nil {
		return
	}
	policy, namespace := b.policies[s.policy], b.namespaces[s.namespace.Name]
	cause, _ := inventory.ParseCause(record.Cause)
	switch {
	case record.InFlight():
		policy.fly(s.workload, s.isProbe(policy.before, record.Probe.Policy))
		namespace.fly(s.workload, record.Probe.Namespace > 0)
		b.inNamespace(s, cause.Revision).fly(s.workload, record.Probe.Injector > 0)
		b.flying[cause.Revision]++
		if s.isProbe(s.policy.injectors[cause.Revision], record.Probe.Injector) {
			b.probing[cause.Revision] = s.workload
		}
	case record.Result == v1alpha1.ResultSucceeded:
		b.cameWell(s, record)
	case record.End == nil || record.End.After(s.pass.Now.Add(longestSkew)) || s.askedAgain():
	case record.Failed() && record.Decided == s.decided() && s.policy.Selects(s.workload):
		stopsAlone := record.Probe.Policy == 0 && record.Probe.Namespace > 0 // a namespace that is tried again
		if !stopsAlone && (ours || hasCounted(policy.before, s.workload)) {
			policy.failures = append(policy.failures, failedRestart{s.workload, *record.End, record.Probe.Policy})
		}
		namespace.failures = append(namespace.failures, failedRestart{s.workload, *record.End, record.Probe.Namespace})
	case record.Result == v1alpha1.ResultIneffective && s.wasInVain(record):
		inVain, within := failedRestart{s.workload, *record.End, record.Probe.Injector}, b.inNamespace(s, cause.Revision)
		if ours || hasCounted(s.policy.injectors[cause.Revision], s.workload) {
			b.vain[cause.Revision] = append(b.vain[cause.Revision], inVain)
		}
		within.failures = append(within.failures, inVain)
	}
}

// hasCounted reports whether the status of a breaker names a workload among those that have failed.
func hasCounted(before *v1alpha1.BreakerStatus, workload *inventory.Workload) bool {
	return before != nil && slices.Contains(before.Failed, workload.Key.String())
}

func (b *breaker) fly(workload *inventory.Workload, isProbe bool) {
	b.inFlight++
	if isProbe {
		b.probe = workload
	}
}

// wasInVain reports whether a restart that brought no sidecar is held against the injector: it was made
// when all had known of the last change for a while, and nothing has changed since. Where the workload is
// excused, what decided is left out.
func (s *situation) wasInVain(record *inventory.Record) bool {
	return (record.Decided == "" || record.Decided == s.decided()) &&
		!record.Start.Before(s.namespace.Changed.Add(graceAfterChange)) &&
		!record.Start.Before(s.pass.Snapshot.ChangedFor(s.workload.Expectation).Add(graceAfterChange))
}

// settle finds out which breakers are open.
func (b *breakers) settle(now time.Time) {
	for policy, own := range b.policies {
		own.settle(now)
		b.injectors[policy] = map[string]*breaker{}
		for revision := range b.vain {
			injector := b.injector(policy, revision, now)
			injector.settle(now)
			b.injectors[policy][revision] = injector
		}
	}
	for _, own := range b.namespaces {
		own.settle(now)
	}
	for _, injectors := range b.within {
		for _, own := range injectors {
			own.settle(now)
		}
	}
}

// injector is the breaker of a revision. Any restart that came well keeps it from opening, and only the
// one that it was tried by closes it.
func (b *breakers) injector(policy *Policy, revision string, now time.Time) *breaker {
	own := &breaker{
		name: fmt.Sprintf("under injector revision %q", revision), reason: ReasonInjectorBreakerOpen, what: "brought no sidecar, one after the other",
		limit: injectorStopAfter, coolDown: policy.coolDown, shared: true, before: policy.injectors[revision], asked: servedAt(policy.retryServed),
		failures: slices.Clone(b.vain[revision]), inFlight: b.flying[revision], probe: b.probing[revision],
		cure: RetryCommand("meshpolicy", policy.Name, ""),
	}
	if own.before == nil {
		own.clear(b.well[revision], now)
	}
	for _, probe := range b.tried[revision] {
		if tries(own.before, probe.workload) {
			own.clear(probe.end, now)
		}
	}
	return own
}

// inNamespace is the breaker of an injector revision in the namespace of a workload.
func (b *breakers) inNamespace(s *situation, revision string) *breaker {
	injectors := b.within[s.namespace.Name]
	if injectors == nil {
		injectors = map[string]*breaker{}
		b.within[s.namespace.Name] = injectors
	}
	if injectors[revision] == nil {
		injectors[revision] = &breaker{
			name: fmt.Sprintf("under injector revision %q in this namespace", revision), reason: ReasonInjectorBreakerOpen, what: "brought no sidecar, one after the other",
			limit: injectorStopAfter, coolDown: s.policy.coolDown, cure: b.namespaces[s.namespace.Name].cure,
		}
		injectors[revision].clear(s.namespace.Succeeded[revision], s.pass.Now)
	}
	return injectors[revision]
}

// of are the breakers that a workload's restart depends on.
func (b *breakers) of(s *situation) []*breaker {
	all := []*breaker{b.policies[s.policy], b.namespaces[s.namespace.Name]}
	revision := s.workload.Expectation.Revision
	for _, injector := range []*breaker{b.injectors[s.policy][revision], b.within[s.namespace.Name][revision]} {
		if injector != nil {
			all = append(all, injector)
		}
	}
	return all
}

// tryOne reports whether one workload is to be tried under an open breaker, or under one that stops other
// namespaces as well.
func (b *breakers) tryOne(s *situation, shared bool) bool {
	return slices.ContainsFunc(b.of(s), func(own *breaker) bool { return own.open && (own.shared || !shared) })
}

// failedIn is how many restarts have failed, or were in vain, in the namespace of a workload.
func (b *breakers) failedIn(s *situation) int {
	failed := len(b.namespaces[s.namespace.Name].failures)
	if within := b.within[s.namespace.Name][s.workload.Expectation.Revision]; within != nil {
		failed += len(within.failures)
	}
	return failed
}

// begin counts a restart that begins now, and says which breakers it tries.
func (b *breakers) begin(s *situation) inventory.Probe {
	probe := inventory.Probe{
		Policy:    b.policies[s.policy].begin(s.workload),
		Namespace: b.namespaces[s.namespace.Name].begin(s.workload),
	}
	revision := s.workload.Expectation.Revision
	if within := b.within[s.namespace.Name][revision]; within != nil {
		probe.Injector = within.begin(s.workload)
	}
	for policy, injectors := range b.injectors {
		if injector := injectors[revision]; injector != nil {
			number := injector.begin(s.workload)
			if policy == s.policy {
				probe.Injector = max(probe.Injector, number)
			}
		}
	}
	return probe
}

// breakerIsOpen speaks where so many restarts have failed that nothing more is started.
func breakerIsOpen(s *situation) *hold {
	for _, breaker := range s.pass.breakers.of(s) {
		if spoken := breaker.holds(s.pass.Now); spoken != nil {
			return spoken
		}
	}
	return nil
}

// isNotTheProbe speaks where one workload is to be restarted alone, and this is another one.
func isNotTheProbe(s *situation) *hold {
	for _, breaker := range s.pass.breakers.of(s) {
		if spoken := breaker.holdsBeside(); spoken != nil {
			return spoken
		}
	}
	return nil
}
