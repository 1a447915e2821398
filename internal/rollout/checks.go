package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// situation is what the checks look at: one workload in its namespace, under the policy that
// governs it.
type situation struct {
	in        *Input
	namespace *inventory.Namespace
	policy    *Policy
	windows   Stretch
	workload  *inventory.Workload

	// decidedNow and methodNow are filled in by decided() and method().
	decidedNow string
	methodNow  *method
	// laterCloses is from when on a window that is open now will be closed for this workload.
	laterCloses time.Time
	// podLimit is how many Pods the policy's budgets let be down at once; -1 where none says so.
	podLimit int
}

// decided is the hash over what decides about this workload now.
func (s *situation) decided() string {
	if s.decidedNow == "" {
		s.decidedNow = decided(s.in.Snapshot, s.namespace, s.workload)
	}
	return s.decidedNow
}

// check answers nil where it has nothing against a restart.
type check struct {
	name string
	ask  func(*situation) *hold
}

// checks are asked in this order, and the first that speaks gives the verdict. What the owner or
// the cluster must end comes before what the policy says, so that mode Report tells the same as
// Enforce would, and what changes by itself comes last.
var checks = []check{
	{"NamespaceIsTerminating", namespaceIsTerminating},
	{"RecordIsUnknown", recordIsUnknown},
	{"LastRestartFailed", lastRestartFailed},
	{"IsNotSelected", isNotSelected},
	{"IsOptedOut", isOptedOut},
	{"AcceptsWhatIsNoRisk", acceptsWhatIsNoRisk},
	{"FirstAnnotationIsInvalid", firstAnnotationIsInvalid},
	{"FindingIsNotRemediated", findingIsNotRemediated},
	{"IsAJob", isAJob},
	{"NobodyRecreatesIt", nobodyRecreatesIt},
	{"HasNotBeenRead", hasNotBeenRead},
	{"TemplateIsUnknown", templateIsUnknown},
	{"IsScaledToZero", isScaledToZero},
	{"IsPaused", isPaused},
	{"SidecarAndAmbientAreBothAskedFor", sidecarAndAmbientAreBothAskedFor},
	{"NoPodCanBeCreated", noPodCanBeCreated},
	{"EvictionIsDisabled", evictionIsDisabled},
	{"TemplateIsLent", templateIsLent},
	{"AnotherRolloutIsGoingOn", anotherRolloutIsGoingOn},
	{"AnotherRestartIsAskedFor", anotherRestartIsAskedFor},
	{"StatefulSetWaitsForItsPods", statefulSetWaitsForItsPods},
	{"ArgoWaitsForItsPods", argoWaitsForItsPods},
	{"OwnerRolledItBack", ownerRolledItBack},
	{"CauseWasTriedAlready", causeWasTriedAlready},
	{"PolicyCannotBeUsed", policyCannotBeUsed},
	{"PolicyOnlyReports", policyOnlyReports},
	{"PictureIsOld", pictureIsOld},
	{"ClusterHasNotBeenRead", clusterHasNotBeenRead},
	{"RedButtonIsPressed", redButtonIsPressed},
	{"GuardIsNotProven", guardIsNotProven},
	{"WindowIsClosed", windowIsClosed},
	{"FirstWorkloadsFailed", firstWorkloadsFailed},
	{"BreakerIsOpen", breakerIsOpen},
	{"InjectorIsNotAtRest", injectorIsNotAtRest},
	{"IsSettling", isSettling},
	{"WouldCauseDowntime", wouldCauseDowntime},
	{"WouldRefuseItsCallers", wouldRefuseItsCallers},
	{"IsOwnedByOperator", isOwnedByOperator},
	{"DryRunCheckSaysNo", dryRunCheckSaysNo},
	{"InjectedPodsAreFailing", injectedPodsAreFailing},
	{"CapacityIsMissing", capacityIsMissing},
	{"EvictionWaitsForItsPods", evictionWaitsForItsPods},
	{"UpdateIsPending", updateIsPending},
	{"ExceedsDisruptionBudget", exceedsDisruptionBudget},
}

func namespaceIsTerminating(s *situation) *hold {
	if !s.namespace.Terminating {
		return nil
	}
	return &hold{reason: ReasonNamespaceTerminating, clearsBy: v1alpha1.ClearedByCluster,
		message: "The namespace is being deleted."}
}

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
		message: fmt.Sprintf("%s The workload's own controller goes on trying; Fullmesh restarts it again only after its template or the injector has changed, or when asked: %s", record.Message, retryCure(s.workload))}
}

func isNotSelected(s *situation) *hold {
	if s.policy.Selects(s.workload) {
		return nil
	}
	return &hold{reason: ReasonNotSelected, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("The workloadSelector of MeshPolicy %s leaves this workload out. Widen the selector, or label the workload's template.", s.policy.Name)}
}

func isOptedOut(s *situation) *hold {
	value, where := s.namespace.Annotations[v1alpha1.RestartAnnotation], "the namespace"
	if s.workload.Object != nil {
		if own := s.workload.Object.OptOut(); own != "" {
			value, where = own, "the workload or its template"
		}
	} else if own := s.workload.Template.Annotations[v1alpha1.RestartAnnotation]; own != "" {
		value, where = own, "the Pod"
	}
	switch value {
	case "":
		return nil
	case v1alpha1.RestartDisabled:
		return &hold{reason: ReasonOptedOut, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s=%s on %s asks for no restart. Restart it yourself, or remove the annotation.", v1alpha1.RestartAnnotation, value, where)}
	default:
		return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("Annotation %s on %s has the value %q, and only %q is known. Set that to be left alone, or remove the annotation.", v1alpha1.RestartAnnotation, where, value, v1alpha1.RestartDisabled)}
	}
}

// acceptsWhatIsNoRisk speaks where an owner accepts something that nobody knows: who means to accept a
// risk is not to wait for a restart that never comes, nor to believe that nothing was accepted.
func acceptsWhatIsNoRisk(s *situation) *hold {
	unknown := sets.List(ownerAccepts(s.workload).Delete(v1alpha1.Risks...).Delete(""))
	if len(unknown) == 0 {
		return nil
	}
	known := make([]string, 0, len(v1alpha1.Risks))
	for _, risk := range v1alpha1.Risks {
		known = append(known, string(risk))
	}
	return &hold{reason: ReasonInvalidAnnotation, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Annotation %s on the workload names %q, and no such risk is known. Known, and set apart by commas, are: %s.", v1alpha1.AcceptAnnotation, unknown[0], strings.Join(known, ", "))}
}

func findingIsNotRemediated(s *situation) *hold {
	if s.policy.remediate.Has(s.workload.Finding) {
		return nil
	}
	return &hold{reason: ReasonNotRemediated, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("%s Policy %s does not act on %s; restart it yourself to bring it up to date.", s.workload.Message, s.policy.Name, s.workload.Finding)}
}

func isAJob(s *situation) *hold {
	switch {
	case s.workload.Key.Group != "batch":
		return nil
	case s.workload.Key.Kind == "CronJob":
		return &hold{reason: ReasonNextRunIsInjected, clearsBy: v1alpha1.ClearedByTime,
			message: "Pods of a run that has begun stay as they are; the next run is injected."}
	default:
		return &hold{reason: ReasonNextRunIsInjected, clearsBy: v1alpha1.ClearedByTime,
			message: "A Job that has begun is not restarted; one created now is injected."}
	}
}

func nobodyRecreatesIt(s *situation) *hold {
	if s.workload.Key.Group != "" || s.workload.Key.Kind != "Pod" {
		return nil
	}
	return &hold{reason: ReasonNobodyRecreatesPod, clearsBy: v1alpha1.ClearedByOwner,
		message: "Nothing would recreate this Pod. Delete it and create it again, or let a Deployment run it."}
}

// hasNotBeenRead speaks where the Pods are known before their owner is.
func hasNotBeenRead(s *situation) *hold {
	read := s.workload.Key.Group == "apps" || s.workload.Key.Group == inventory.ArgoGroup && s.workload.Key.Kind == inventory.ArgoRollout
	if s.workload.Object != nil || !read {
		return nil
	}
	return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("%s is named as the owner of running Pods and has not been seen. Where it is gone for good, delete what it has left.", s.workload.Key)}
}

// templateIsUnknown speaks where it cannot be told what injection would do to a new Pod.
func templateIsUnknown(s *situation) *hold {
	object := s.workload.Object
	if object == nil || object.TemplateUnknown == "" {
		return nil
	}
	return &hold{reason: ReasonTemplateUnknown, clearsBy: v1alpha1.ClearedByOwner,
		message: object.TemplateUnknown + " Correct it; until then nobody can tell what its next Pod would be."}
}

func isScaledToZero(s *situation) *hold {
	object := s.workload.Object
	if object == nil || object.Replicas > 0 {
		return nil
	}
	return &hold{reason: ReasonScaledToZero, clearsBy: v1alpha1.ClearedByCluster,
		message: "It asks for no Pods; those that still run are going away, and the next ones are injected."}
}

func isPaused(s *situation) *hold {
	object := s.workload.Object
	if object == nil || !object.Paused {
		return nil
	}
	if object.IsRollout() {
		return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("The Rollout is paused, by its owner or at a step of an update. Run: kubectl argo rollouts promote %s -n %s", object.Name, object.Namespace)}
	}
	return &hold{reason: ReasonPaused, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("The Deployment is paused, so that a restart would wait. Run: kubectl rollout resume deployment/%s -n %s", s.workload.Key.Name, s.workload.Key.Namespace)}
}

func sidecarAndAmbientAreBothAskedFor(s *situation) *hold {
	const mode = "istio.io/dataplane-mode"
	pod, set := s.workload.Template.Labels[mode]
	ambient := pod == "ambient" || (s.namespace.Labels[mode] == "ambient" && (!set || pod != "none"))
	if !s.workload.Expectation.Inject || !ambient {
		return nil
	}
	return &hold{reason: ReasonMeshModeConflict, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Both a sidecar and ambient mode are asked for. Take away either the injection label or the label %s.", mode)}
}

// noPodCanBeCreated speaks where that is known without asking. What only the API server knows, a dry
// run tells.
func noPodCanBeCreated(s *situation) *hold {
	if s.workload.Expectation.Reason != mesh.ReasonAdmissionRefused {
		return nil
	}
	return &hold{reason: ReasonCreationDenied, clearsBy: v1alpha1.ClearedByOwner,
		message: "No new Pod could be created, so that a restart would only lose some. " + s.workload.Expectation.Message}
}

func anotherRolloutIsGoingOn(s *situation) *hold {
	object := s.workload.Object
	switch {
	case object == nil || !object.RollingOut(), s.ownRolloutIsToBeRepeated():
		return nil
	case object.Stuck:
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A rollout of its own%s has exceeded its progress deadline (%d of %d Pods updated). Mend or undo that one first.", begunBy(object.TemplateWriter), object.Updated, object.Replicas)}
	}
	stalls := s.rolloutStalls()
	if !stalls.IsZero() && !s.in.Now.Before(stalls) {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A rollout of its own%s does not go on: %s (%d of %d Pods updated). Mend or undo that one first.", begunBy(object.TemplateWriter), s.whyItStalls(), object.Updated, object.Replicas)}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster, until: stalls,
		message: fmt.Sprintf("A rollout that Fullmesh did not start is going on (%d of %d Pods updated); its new Pods are injected.", object.Updated, object.Replicas)}
}

// rolloutStalls is when a rollout of a StatefulSet or DaemonSet is taken to be stuck unless something moves
// until then: these have no deadline of their own. It is zero for other kinds, and where the object does not
// tell when its template was changed.
func (s *situation) rolloutStalls() time.Time {
	object, workload := s.workload.Object, s.workload
	if object.Kind != "StatefulSet" && object.Kind != "DaemonSet" || object.TemplateChanged.IsZero() {
		return time.Time{}
	}
	moved := max(object.TemplateChanged.Unix(), workload.NewestReady, workload.NewestMeshed, workload.NewestToReplace)
	return time.Unix(moved, 0).Add(s.policy.progressTimeout + object.Patience())
}

func (s *situation) whyItStalls() string {
	switch workload := s.workload; {
	case workload.Failing != nil:
		return describeInMesh(workload.Failing)
	case workload.FailingOutside != nil:
		return describe(workload.FailingOutside)
	}
	return fmt.Sprintf("no further Pod was made or became ready for %s", s.policy.progressTimeout+s.workload.Object.Patience())
}

// statefulSetWaitsForItsPods speaks where a change of the template would replace nothing: the
// controller of a StatefulSet with podManagementPolicy OrderedReady touches no Pod while another is
// not ready, and would roll out the change at a time that nobody has chosen
// (https://github.com/kubernetes/kubernetes/issues/67250).
func statefulSetWaitsForItsPods(s *situation) *hold {
	object, pods := s.workload.Object, s.workload.Pods
	if object == nil || !object.Ordered || pods.Ready >= object.Replicas {
		return nil
	}
	if s.method().name == v1alpha1.MethodEviction && onlyOutsideIsDown(s.workload) {
		return nil
	}
	if failing := s.workload.FailingOutside; failing != nil {
		return &hold{reason: ReasonRolloutStuck, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("A Pod cannot become ready (%s), and a StatefulSet with podManagementPolicy OrderedReady replaces none until it is. Mend or delete that Pod; the one that follows it is injected.", describe(failing))}
	}
	return &hold{reason: ReasonRolloutInProgress, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Only %d of %d Pods are ready, and a StatefulSet with podManagementPolicy OrderedReady replaces none until all are. Where that does not come about, delete the Pods that are not ready; those that follow are injected.", pods.Ready, object.Replicas)}
}

func causeWasTriedAlready(s *situation) *hold {
	object, record := s.workload.Object, s.workload.Record
	if object == nil {
		return nil
	}
	if record != nil && record.Decided == s.decided() && !s.askedAgain() {
		switch record.Result {
		case v1alpha1.ResultIneffective:
			return &hold{reason: ReasonRestartIneffective, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("%s It is not tried again before its template, the namespace's labels or the injector change, or run: %s", record.Message, retryCure(s.workload))}
		case v1alpha1.ResultReverted:
			if goesOnByEviction(s) {
				return nil
			}
			return &hold{reason: ReasonRestartReverted, clearsBy: v1alpha1.ClearedByOwner,
				message: fmt.Sprintf("%s Have it keep fullmesh.dev/ annotations. It is not tried again before its template, the namespace's labels or the injector change, or run: %s", record.Message, retryCure(s.workload))}
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

func policyCannotBeUsed(s *situation) *hold {
	if s.policy.invalid == nil {
		return nil
	}
	return &hold{reason: ReasonInvalidPolicy, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("Nothing is restarted under MeshPolicy %s until it is corrected: %v.", s.policy.Name, s.policy.invalid)}
}

// goesOnByEviction reports whether what the last restart was made for is not tried again but brought to
// its end: the template was changed back, evictions were interrupted, or what they had failed for is
// in the mesh and ready since.
func goesOnByEviction(s *situation) bool {
	record := s.workload.Record
	switch {
	case record == nil || s.method().name != v1alpha1.MethodEviction:
		return false
	case record.Method == v1alpha1.MethodEviction && record.Failed():
		return !isMoving(s.workload) && record.End != nil && time.Unix(s.workload.NewestMeshedReady, 0).After(*record.End)
	default:
		return record.Result == v1alpha1.ResultInterrupted || wasTakenBack(record)
	}
}

func policyOnlyReports(s *situation) *hold {
	if s.policy.Mode == v1alpha1.ModeEnforce {
		return nil
	}
	return &hold{reason: ReasonReportMode, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("%s MeshPolicy %s is in mode Report, so it is not restarted. Set mode: Enforce.", s.workload.Message, s.policy.Name)}
}

func pictureIsOld(s *situation) *hold {
	if s.in.Blind == "" {
		return nil
	}
	return &hold{reason: ReasonNotObserved, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("It is not known how things are now: %s.", s.in.Blind)}
}

func redButtonIsPressed(s *situation) *hold {
	if !s.in.Stopped {
		return nil
	}
	return &hold{reason: ReasonStopped, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Everything is stopped. Run: fullmesh stop --clear"}
}

func guardIsNotProven(s *situation) *hold {
	switch s.in.Guard {
	case GuardHolds:
		return nil
	case GuardMissing:
		return &hold{reason: ReasonGuardMissing, clearsBy: v1alpha1.ClearedByAdmin,
			message: "The admission guard does not hold the operator's account to restarts. Apply config/guard, or start the operator with --allow-unguarded."}
	default:
		return &hold{reason: ReasonGuardUnknown, clearsBy: v1alpha1.ClearedByCluster,
			message: "It has not been shown yet that the admission guard is in force; this is tried again."}
	}
}

// clusterHasNotBeenRead speaks where something may be in flight, or ask for care, of which nothing is
// known yet.
func clusterHasNotBeenRead(s *situation) *hold {
	unread := slices.Sorted(maps.Keys(s.in.Snapshot.Unread))
	if len(unread) == 0 {
		return nil
	}
	for _, kind := range unread {
		if why := s.in.Snapshot.Unread[kind]; why != "" {
			return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("Nothing is restarted before every %s has been read, and that cannot be done (%s). Apply config/rbac of this version.", kind, why)}
		}
	}
	return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Nothing is restarted before every %s has been read, which is being done.", unread[0])}
}

func isSettling(s *situation) *hold {
	last, what := s.namespace.Changed, "the namespace's labels"
	if changed := s.in.Snapshot.ChangedFor(s.workload.Expectation); changed.After(last) {
		last, what = changed, "the injector"
	}
	if object := s.workload.Object; object != nil && object.TemplateChanged.After(last) {
		last, what = object.TemplateChanged, "the template"
	}
	until := last.Add(s.policy.settle)
	if !until.After(s.in.Now) {
		return nil
	}
	return &hold{reason: ReasonSettling, clearsBy: v1alpha1.ClearedByTime, until: until,
		message: fmt.Sprintf("Waiting until %s after the last change of %s.", s.policy.settle, what)}
}

// wouldCauseDowntime speaks where a restart may take down the last Pod that is ready. Where none is
// ready, nothing is lost.
func wouldCauseDowntime(s *situation) *hold {
	object, ready := s.workload.Object, s.workload.Pods.Ready
	if s.method().name == v1alpha1.MethodEviction {
		return evictionWouldCauseDowntime(s)
	}
	if object == nil || ready == 0 || object.Strategy.MaxUnavailable < leastReady(object, ready) || s.policy.accepts(v1alpha1.RiskDowntime, s.workload) {
		return nil
	}
	why := "it may take down every Pod at once"
	switch {
	case object.Strategy.Type == inventory.StrategyRecreate:
		why = "its strategy is Recreate"
	case object.Replicas == 1:
		why = "its only Pod goes before the new one comes"
	case ready < object.Replicas:
		why = fmt.Sprintf("only %d of its %d Pods are ready, and they may go first", ready, object.Replicas)
	}
	return downtime(s, why)
}

// evictionWouldCauseDowntime speaks where the only Pod that is ready would be evicted. One that is not
// goes first, and may be ready after.
func evictionWouldCauseDowntime(s *situation) *hold {
	pods := s.workload.Pods
	if pods.Ready != 1 || pods.ToReplaceReady == 0 || pods.ToReplaceReady < pods.ToReplace || s.policy.accepts(v1alpha1.RiskDowntime, s.workload) {
		return nil
	}
	return downtime(s, "its only Pod that is ready goes before the new one comes")
}

func downtime(s *situation, why string) *hold {
	return &hold{reason: ReasonWouldCauseDowntime, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("A restart leaves no Pod ready for a moment: %s. Accept it with accept: [Downtime] in MeshPolicy %s, or for this workload alone with the annotation %s=Downtime.", why, s.policy.Name, v1alpha1.AcceptAnnotation)}
}

// leastReady is how many Pods are ready at least when a rolling update begins to take down ready
// ones. A StatefulSet goes by ordinals, whether the other Pods are ready or not; other kinds wait
// until all but as many as may be unavailable are.
func leastReady(object *inventory.Object, ready int) int {
	if object.Kind == "StatefulSet" {
		return min(object.Replicas, ready)
	}
	return object.Replicas
}

// isOwnedByOperator speaks where something controls the workload that is not Kubernetes' own. Where
// not even its object is read there is nothing on which a restart could be written down, so that it
// would be forgotten in a crash and made again: such Pods are left to their owner, whatever is accepted.
func isOwnedByOperator(s *situation) *hold {
	object := s.workload.Object
	switch {
	case object == nil || !object.Restartable():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s makes these Pods, and Fullmesh neither reads nor writes objects of that kind, so that it could not keep in mind what it has evicted. Restart it by the means of that controller, or delete the Pods without a sidecar one by one; those that follow are injected.", s.workload.Key)}
	case !object.Owner.Exists():
		return nil
	case object.IsRollout():
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("%s controls it and would undo a change of the Rollout. Restart it by the means of that controller.", object.Owner.Key(object.Namespace))}
	case s.policy.accepts(v1alpha1.RiskOwnedByOperator, s.workload):
		return nil
	default:
		return &hold{reason: ReasonOwnedByOperator, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("%s controls it and would undo a change of the template. Restart it by the means of that controller. Or have its Pods evicted one by one: accept that with accept: [OwnedByOperator] in MeshPolicy %s, or for this workload alone with the annotation %s=OwnedByOperator.", object.Owner.Key(object.Namespace), s.policy.Name, v1alpha1.AcceptAnnotation)}
	}
}

func dryRunCheckSaysNo(s *situation) *hold {
	answer, known := s.answer()
	if !known || s.promises(&answer) {
		return nil
	}
	spoken := refusal(&answer)
	if answer.Outcome == CheckAdmitted {
		spoken = s.brokenPromise(&answer)
	}
	spoken.until, spoken.checkDue = answer.Retry, !s.in.Now.Before(answer.Retry)
	return spoken
}

// promises reports whether the answer lets the restart go ahead: it shows that it would help, or it
// cannot be had and the administrator has accepted that.
func (s *situation) promises(answer *Check) bool {
	return answer.Promises(s.workload.Expectation) ||
		answer.Outcome == CheckUnsupported && s.policy.accepts(v1alpha1.RiskUnchecked, s.workload)
}

// brokenPromise: the Pod would be created, and not be as it is expected to be.
func (s *situation) brokenPromise(answer *Check) *hold {
	expected, observed := &s.workload.Expectation, &answer.Observed
	switch {
	case expected.Inject && observed.Proxy == mesh.ProxyNone && s.in.Snapshot.Injector.FailurePolicyIgnore(expected.Revision):
		return &hold{reason: ReasonInjectorSilent, clearsBy: v1alpha1.ClearedByCluster,
			message: "The injector is silent: a dry run shows that a new Pod would come up without a sidecar, and the webhook's failurePolicy is Ignore. It is asked again."}
	case expected.Inject && observed.Proxy == mesh.ProxyNone:
		return &hold{reason: ReasonWouldNotBeInjected, clearsBy: v1alpha1.ClearedByAdmin,
			message: "A dry run shows that a new Pod would come up without a sidecar, although injection is expected. Look at the injector's log and at other webhooks that change Pods."}
	case expected.Inject && observed.Revision != expected.Revision:
		return &hold{reason: ReasonOtherRevision, clearsBy: v1alpha1.ClearedByAdmin,
			message: fmt.Sprintf("A dry run shows that a new Pod would be injected by revision %q, where revision %q is expected. Find out which of the webhooks injects last.", observed.Revision, expected.Revision)}
	default:
		return &hold{reason: ReasonWouldNotHelp, clearsBy: v1alpha1.ClearedByAdmin,
			message: "A dry run shows that a new Pod would be no better: " + mesh.Judge(*expected, *observed).Message}
	}
}

// refusals are what holds a workload whose new Pod would not be created, by why. What the API
// server said follows the sentence.
var refusals = map[CheckOutcome]hold{
	CheckUnreachable: {reason: ReasonInjectorUnreachable, clearsBy: v1alpha1.ClearedByCluster,
		message: "The injector cannot be reached, so that no new Pod could be created. It is asked again."},
	CheckDeniedByInjector: {reason: ReasonInjectorDenied, clearsBy: v1alpha1.ClearedByOwner,
		message: "The injector refuses a Pod of this template. Correct the template's sidecar.istio.io and inject.istio.io annotations."},
	CheckOverQuota: {reason: ReasonQuotaExceeded, clearsBy: v1alpha1.ClearedByOwner,
		message: "A quota has no room for a Pod with its sidecar. Raise the quota; or, where it has room for one Pod in the place of another, let the rollout take one down first (maxUnavailable: 1)."},
	CheckDeniedByPodSecurity: {reason: ReasonPodSecurityDenied, clearsBy: v1alpha1.ClearedByAdmin,
		message: "The namespace's PodSecurity profile refuses the sidecar's init container. Install Istio's CNI plugin, which makes that container harmless, or enforce a wider profile."},
	CheckDeniedByPolicy: {reason: ReasonDeniedByPolicy, clearsBy: v1alpha1.ClearedByAdmin,
		message: "An admission policy or webhook refuses a new Pod. It was asked under Fullmesh's account, and may answer the workload's controller otherwise."},
	CheckNoServiceAccount: {reason: ReasonServiceAccountMissing, clearsBy: v1alpha1.ClearedByOwner,
		message: "The Pod's ServiceAccount does not exist. Create it, or name another in the template."},
	CheckDenied: {reason: ReasonCreationDenied, clearsBy: v1alpha1.ClearedByOwner,
		message: "A dry run shows that a new Pod would be refused."},
	CheckUnsupported: {reason: ReasonUnchecked, clearsBy: v1alpha1.ClearedByAdmin,
		message: "A webhook takes no part in dry runs, so that it cannot be shown that a restart would help. Declare sideEffects: None on it, or accept the risk with accept: [Unchecked]."},
	CheckNoRootCertificate: {reason: ReasonRootCertificateMissing, clearsBy: v1alpha1.ClearedByAdmin,
		message: "The namespace lacks the ConfigMap with the mesh's root certificate, so that an injected Pod would never start. See whether the mesh's discoverySelectors leave the namespace out."},
	CheckRefused: {reason: ReasonRefusedByAdmission, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Admission refuses the restart."},
	CheckFailed: {reason: ReasonCheckFailed, clearsBy: v1alpha1.ClearedByCluster,
		message: "The dry run of a new Pod had no answer; it is tried again."},
}

func refusal(answer *Check) *hold {
	spoken := refusals[answer.Outcome]
	spoken.message = strings.TrimSpace(spoken.message + " " + answer.Message)
	return &spoken
}

// answer is the dry-run check that is good for this workload now. One that said yes is good for a
// while, and never against newer evidence: a Pod that came up uninjected although it was expected.
// One that said no stands until there is another.
func (s *situation) answer() (Check, bool) {
	if s.in.Check == nil {
		return Check{}, false
	}
	answer, known := s.in.Check(s.checkKey())
	if !known {
		return Check{}, false
	}
	if s.promises(&answer) {
		silent := s.in.silences.since(s)
		known = s.in.Now.Sub(answer.Received) < checkLasts && answer.At.Unix() > silent
	}
	return answer, known
}

func (s *situation) checkKey() CheckKey {
	return CheckKey{UID: s.workload.Object.UID, Decided: s.decided()}
}

func injectedPodsAreFailing(s *situation) *hold {
	failing := s.workload.Failing
	if failing == nil || s.workload.Record.Failed() && s.askedAgain() {
		return nil
	}
	return &hold{reason: ReasonInjectedPodsFailing, clearsBy: v1alpha1.ClearedByOwner,
		message: fmt.Sprintf("Pods of this workload that are in the mesh already cannot become ready: %s. Mend that before the others follow.", describeInMesh(failing))}
}

func exceedsDisruptionBudget(s *situation) *hold {
	if s.method().name == v1alpha1.MethodEviction {
		return disruptionBudgetAllowsNone(s)
	}
	object := s.workload.Object
	if s.method().name == v1alpha1.MethodRestartAt {
		return argoMayEvictNone(s)
	}
	if object.Strategy.MaxUnavailable == 0 || s.workload.Pods.Ready == 0 {
		return nil
	}
	for _, budget := range s.disruptionBudgets() {
		switch answer := exceeds(budget, fmt.Sprintf("Its strategy may take down %d Pods at once", object.Strategy.MaxUnavailable), object.Strategy.MaxUnavailable); {
		case answer == nil:
		case answer.clearsBy == v1alpha1.ClearedByOwner:
			answer.message += " It never allows as many. Set maxUnavailable: 0 with a maxSurge, or loosen the budget."
			return answer
		default:
			return answer
		}
	}
	return nil
}

// disruptionBudgetAllowsNone speaks where an eviction would be refused. One of a Pod that is not ready
// may not be.
func disruptionBudgetAllowsNone(s *situation) *hold {
	covering := s.disruptionBudgets()
	if len(covering) > 1 {
		return &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByOwner,
			message: fmt.Sprintf("PodDisruptionBudgets %s and %s both cover it, and Kubernetes evicts no such Pod. Leave it one of them.", covering[0].Name, covering[1].Name)}
	}
	if pods := s.workload.Pods; len(covering) == 0 || pods.ToReplaceReady < pods.ToReplace {
		return nil
	}
	answer := exceeds(covering[0], "Its Pods would be evicted", 1)
	if answer != nil && answer.clearsBy == v1alpha1.ClearedByOwner {
		answer.message += " It never allows any. Loosen the budget, or have new Pods come before old ones go (maxUnavailable: 0 with a maxSurge)."
	}
	return answer
}

// exceeds is the hold of a workload that takes down more Pods at once than a disruption budget allows.
// Its owner clears it where the budget never allows as many.
func exceeds(budget *inventory.DisruptionBudget, does string, takes int) *hold {
	answer := &hold{reason: ReasonExceedsDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster}
	switch {
	case !budget.Observed:
		answer.message = fmt.Sprintf("PodDisruptionBudget %s covers it and has changed; the disruption controller has not said yet how many Pods may be down.", budget.Name)
	case budget.Allowed >= takes:
		return nil
	default:
		answer.message = fmt.Sprintf("%s and PodDisruptionBudget %s allows %d now (%d healthy, %d needed).", does, budget.Name, budget.Allowed, budget.Healthy, budget.Desired)
		if budget.Expected-budget.Desired < takes {
			answer.clearsBy = v1alpha1.ClearedByOwner
		}
	}
	return answer
}

// ownerAccepts is what the owner accepts for the workload alone.
func ownerAccepts(workload *inventory.Workload) sets.Set[v1alpha1.Risk] {
	accepted := sets.New[v1alpha1.Risk]()
	if workload.Object != nil {
		for word := range strings.SplitSeq(workload.Object.Annotations[v1alpha1.AcceptAnnotation], ",") {
			accepted.Insert(v1alpha1.Risk(strings.TrimSpace(word)))
		}
	}
	return accepted
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

// describeInMesh is describe, with the hint that helps Pods with a sidecar most often.
func describeInMesh(failing *inventory.FailingPod) string {
	text := describe(failing)
	if failing.Trouble.Reason == "CrashLoopBackOff" && failing.Trouble.Container != "istio-proxy" {
		text += " (where it needs the network at once, set holdApplicationUntilProxyStarts: true)"
	}
	return text
}

// describe names what keeps a Pod from being ready.
func describe(failing *inventory.FailingPod) string {
	trouble := failing.Trouble
	text := fmt.Sprintf("Pod %s, container %s: %s", failing.Name, trouble.Container, trouble.Reason)
	if trouble.ExitCode != 0 {
		text += fmt.Sprintf(", last exit code %d", trouble.ExitCode)
	}
	if trouble.Restarts > 0 {
		text += fmt.Sprintf(", %d restarts", trouble.Restarts)
	}
	return text
}

// seconds formats a time for messages.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
