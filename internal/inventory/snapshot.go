package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Snapshot is the picture at one moment. It is never changed.
type Snapshot struct {
	Injector *mesh.Injector
	// InjectorChanged is when the injector became what it is, of whatever revision; ChangedFor says it of
	// one.
	InjectorChanged time.Time
	revisionChanged map[string]time.Time
	// ControlPlanes are the workloads that run the injector of each revision, by name. Of one that is
	// not here nothing is known: it is called by URL, or runs elsewhere.
	ControlPlanes map[string][]*Workload
	// Unread are the kinds of which not all objects have been taken in, with what keeps them from it;
	// empty where they are on their way.
	Unread map[string]string
	Nodes  Nodes
	// PeerAuthentications say which workloads refuse plain traffic.
	PeerAuthentications *mesh.PeerAuthentications
	// Namespaces by name.
	Namespaces []*Namespace
}

// ChangedFor is when what injects as is expected became what it is. Where nothing is to be injected, any
// change of the injector may have brought that about.
func (s *Snapshot) ChangedFor(expected mesh.Expectation) time.Time {
	if changed, known := s.revisionChanged[expected.Revision]; known && expected.Inject {
		return changed
	}
	return s.InjectorChanged
}

// Namespace is the picture of one namespace.
type Namespace struct {
	Name        string
	Labels      map[string]string
	Annotations map[string]string
	// Changed is when the labels became what they are.
	Changed     time.Time
	Terminating bool

	// Workloads by kind and name: all of them.
	Workloads []*Workload
	// Open are those of them that are not complete, and those whose restart has not ended or has
	// failed.
	Open []*Workload
	// Recorded are those of them that were restarted before, and Probed those of them that were to try a
	// breaker.
	Recorded, Probed []*Workload
	// Succeeded is, by injector revision, when the newest restart under it ended well; nil where none did.
	Succeeded map[string]time.Time
	// Tried are those of the recorded that were restarted since the injector's last change; of every
	// other one that has a ready Pod which was injected since then, Shown has the revision.
	Tried  []*Workload
	Shown  sets.Set[string]
	Totals Totals
	// Budgets are the disruption budgets, by name.
	Budgets []DisruptionBudget
	budgets budgetIndex
}

// Totals counts a namespace's running Pods and their workloads.
type Totals struct {
	// Workloads is how many workloads injection concerns, and Concerned how many Pods of them:
	// those that it expects, and those with a sidecar left over.
	Workloads, Concerned int
	// Eligible Pods are those that injection expects, without those of Jobs; Meshed are in the
	// mesh.
	Eligible, Meshed int
	// NotExpected counts the others by reason.
	NotExpected map[mesh.Reason]int
	// Sidecars is how many Pods carry one, expected or not.
	Sidecars int
	// Outside is how many Pods are in no mesh.
	Outside int
}

// DisruptionBudget is what is kept of a PodDisruptionBudget.
type DisruptionBudget struct {
	Name     string
	Selector labels.Selector
	// Allowed is how many Pods may be disrupted now; Healthy are, Desired must be and Expected
	// are at most.
	Allowed, Healthy, Desired, Expected int
	// EvictsUnready says that Pods that are not ready may always be evicted; otherwise they may only while
	// as many are healthy as must be.
	EvictsUnready bool
	// Observed says that the disruption controller has seen the budget as it is now.
	Observed bool
}

// Workload is the picture of one workload. It is never changed.
type Workload struct {
	Key mesh.Key
	// Object is nil where only the Pods are known: Pods without an owner, and those whose owner is
	// of a kind that is not read.
	Object *Object
	// Lends says that another workload, an Argo Rollout, takes its template from this one.
	Lends bool
	// Template is what injection looks at.
	Template    mesh.Template
	Expectation mesh.Expectation

	// Finding is the worst among the running Pods, with its reason and sentence.
	Finding v1alpha1.Finding
	Reason  mesh.Reason
	Message string
	// Notes are worth knowing beside it, of the template and of running Pods, by reason.
	Notes []mesh.Note

	Pods Pods
	// OldestToReplace and NewestToReplace are the creation seconds of the oldest and the newest Pod
	// that a restart would replace; 0 where there is none.
	OldestToReplace, NewestToReplace int64
	// NewestUninjected is the creation second of the newest Pod without a proxy.
	NewestUninjected int64
	// NewestMeshed is the creation second of the newest Pod in the mesh, NewestMeshedReady the second
	// in which the newest one became ready in it, and NewestReady in which the newest of all did; 0
	// where there is none.
	NewestMeshed, NewestMeshedReady, NewestReady int64
	// NewestInjected is the creation second of the newest ready Pod that is as injection would make it
	// now; 0 where there is none.
	NewestInjected int64
	// Evictable are the Pods that a restart would replace, the oldest first. They are listed while
	// Pods are being evicted.
	Evictable []*mesh.Pod
	// Failing is a Pod in the mesh that cannot become ready, and FailingOutside one that is not in the
	// mesh; nil where there is none.
	Failing, FailingOutside *FailingPod
	// Unready is a Pod that the restart in flight has brought and that is not ready, the first by name;
	// nil where there is none.
	Unready *mesh.Pod
	// Unschedulable is a Pod for which the scheduler finds no node, and OnCordonedNode one whose node
	// takes nothing new; nil where there is none.
	Unschedulable, OnCordonedNode *Stranded

	// Record is of the last restart; nil where there was none. RecordError says that there is one
	// that this version cannot read.
	Record      *Record
	RecordError error
}

// Pods counts a workload's running Pods.
type Pods struct {
	Running, Ready int
	// Meshed carry the sidecar that injection expects, of whatever revision.
	Meshed, MeshedReady int
	// ToReplace are those whose finding is the workload's, where that calls for a restart, and
	// ToReplaceReady those of them that are ready, and ToReplacePending those that are pending.
	ToReplace, ToReplaceReady, ToReplacePending int
	// Eligible are those that injection expects, without those of Jobs.
	Eligible int
	// Outside are in no mesh: they send and take plain traffic only.
	Outside int
}

// FailingPod is a Pod that cannot become ready.
type FailingPod struct {
	Name    string
	UID     types.UID
	Trouble mesh.Trouble
	// Stale says that its sidecar is not the one that injection gives now, which may be why.
	Stale bool
}

// InFlight are the causes of the restarts that are in flight, by what the workloads tell.
func (s *Snapshot) InFlight() map[types.UID]string {
	causes := map[types.UID]string{}
	for _, namespace := range s.Namespaces {
		for _, workload := range namespace.Recorded {
			if workload.Record.InFlight() {
				causes[workload.Object.UID] = workload.Record.Cause
			}
		}
	}
	return causes
}

// AnyFailing is a Pod of the workload that cannot become ready, outside of the mesh rather than in it; nil
// where none is known.
func (w *Workload) AnyFailing() *FailingPod { return cmp.Or(w.FailingOutside, w.Failing) }

// Snapshot judges what has changed and returns the picture. What has not changed since the last
// one is shared with it.
func (i *Inventory) Snapshot() *Snapshot {
	i.mu.Lock()
	defer i.mu.Unlock()
	for w := range i.unjudged {
		w.judged = i.judge(w)
	}
	clear(i.unjudged)
	snapshot := &Snapshot{
		Injector:            i.injector,
		InjectorChanged:     i.injectorChanged,
		revisionChanged:     i.revisionChanged,
		ControlPlanes:       i.controlPlanes(),
		PeerAuthentications: i.peerAuthentications(),
		Nodes:               Nodes{Known: len(i.nodes), Cordoned: i.cordoned},
		Unread:              maps.Clone(i.unread),
	}
	for _, name := range slices.Sorted(maps.Keys(i.namespaces)) {
		n := i.namespaces[name]
		if !n.known {
			continue
		}
		if n.view == nil {
			n.view = n.look(snapshot)
		}
		snapshot.Namespaces = append(snapshot.Namespaces, n.view)
	}
	return snapshot
}

func (n *namespace) look(snapshot *Snapshot) *Namespace {
	view := &Namespace{
		Name:        n.name,
		Labels:      n.labels,
		Annotations: n.annotations,
		Changed:     n.changed,
		Terminating: n.terminating,
		Totals:      Totals{NotExpected: map[mesh.Reason]int{}},
		Shown:       sets.New[string](),
		Budgets:     slices.SortedFunc(maps.Values(n.budgets), func(a, b DisruptionBudget) int { return strings.Compare(a.Name, b.Name) }),
	}
	view.budgets = indexBudgets(view.Budgets)
	view.Workloads = make([]*Workload, 0, len(n.workloads))
	for _, known := range n.workloads {
		w := known.judged
		view.Workloads = append(view.Workloads, w)
		if concerned := w.Concerned(); concerned > 0 {
			view.Totals.Workloads++
			view.Totals.Concerned += concerned
		}
		view.Totals.Eligible += w.Pods.Eligible
		if w.Pods.Eligible > 0 {
			view.Totals.Meshed += w.Pods.Meshed
		}
		if others := w.Pods.Running - w.Pods.Eligible; others > 0 && !w.Expectation.Inject {
			view.Totals.NotExpected[w.Expectation.Reason] += others
		}
		view.Totals.Sidecars += w.Pods.Meshed
		view.Totals.Outside += w.Pods.Outside
		if w.Finding == v1alpha1.FindingLeftover {
			view.Totals.Sidecars += w.Pods.ToReplace
		}
		if w.Open() {
			view.Open = append(view.Open, w)
		}
		if w.Record != nil {
			view.record(w)
		}
		switch injectorChanged := snapshot.ChangedFor(w.Expectation); {
		case w.Record != nil && !w.Record.Start.Before(injectorChanged):
			view.Tried = append(view.Tried, w)
		case w.Expectation.Inject && time.Unix(w.NewestInjected, 0).After(injectorChanged):
			view.Shown.Insert(w.Expectation.Revision)
		}
	}
	return view
}

func (n *Namespace) record(w *Workload) {
	n.Recorded = append(n.Recorded, w)
	if w.Record.Probe != (Probe{}) {
		n.Probed = append(n.Probed, w)
	}
	if w.Record.Result != v1alpha1.ResultSucceeded || w.Record.End == nil {
		return
	}
	if n.Succeeded == nil {
		n.Succeeded = map[string]time.Time{}
	}
	// A record that was read has a cause that can be.
	cause, _ := ParseCause(w.Record.Cause)
	if w.Record.End.After(n.Succeeded[cause.Revision]) {
		n.Succeeded[cause.Revision] = *w.Record.End
	}
}

// Open reports whether something is to be done or said about the workload: it is not as injection
// would make it, or a restart of it has not ended or not ended well.
func (w *Workload) Open() bool {
	return !w.Complete() || w.Record.InFlight() || w.Record.Failed() || w.RecordError != nil
}

// Concerned is how many Pods injection concerns: those that it expects, and those with a sidecar left
// over.
func (w *Workload) Concerned() int {
	if w.Finding == v1alpha1.FindingLeftover {
		return max(w.Pods.Eligible, w.Pods.ToReplace)
	}
	return w.Pods.Eligible
}

// Complete reports whether the Pods are as injection would make them.
func (w *Workload) Complete() bool {
	return w.Finding == v1alpha1.FindingMeshed || w.Finding == v1alpha1.FindingNotExpected
}

// Worse reports whether one finding is worse than another.
func Worse(finding, than v1alpha1.Finding) bool { return severity[finding] > severity[than] }

// severity orders findings; the worst among a workload's Pods is the workload's.
var severity = map[v1alpha1.Finding]int{
	v1alpha1.FindingNotExpected: 0,
	v1alpha1.FindingMeshed:      1,
	v1alpha1.FindingLeftover:    2,
	v1alpha1.FindingStale:       3,
	v1alpha1.FindingMissing:     4,
}

func (i *Inventory) judge(w *workload) *Workload {
	n := i.namespaces[w.key.Namespace]
	judged := &Workload{Key: w.key, Object: w.object, Lends: len(i.borrowers[w.key]) > 0}
	if w.object != nil {
		judged.Template = w.object.Injection()
		judged.Expectation = w.expect(i.injector, n)
		judged.Record, judged.RecordError = recordOf(w.object)
	}
	groups := slices.SortedFunc(maps.Keys(w.groups), func(a, b *group) int { return strings.Compare(a.id(), b.id()) })
	for at, g := range groups {
		by := basis{injector: i.injector, namespace: n, template: judged.Template, expectation: judged.Expectation}
		if w.object != nil {
			by.known = &w.judgements
		} else {
			by.template, by.expectation = i.expectWithoutObject(g, n)
			if at == 0 {
				judged.Template, judged.Expectation = by.template, by.expectation
			}
		}
		judged.countGroup(g, by)
	}
	if judged.Finding == "" {
		judged.Finding, judged.Reason, judged.Message = vacuous(judged.Expectation)
	}
	if record := judged.Record; record.InFlight() {
		judged.Unready = w.unready(judged)
		if record.Method == v1alpha1.MethodEviction && !judged.Complete() {
			judged.Evictable = w.evictable(judged)
		}
	}
	judged.Notes = append(judged.Notes, judged.Expectation.Notes...)
	slices.SortFunc(judged.Notes, func(a, b mesh.Note) int {
		return cmp.Or(strings.Compare(string(a.Reason), string(b.Reason)), strings.Compare(a.Message, b.Message))
	})
	judged.Notes = slices.Compact(judged.Notes)
	return judged
}

// basis is what Pods are judged by.
type basis struct {
	injector    *mesh.Injector
	namespace   *namespace
	template    mesh.Template
	expectation mesh.Expectation
	// known is what was judged by it before; nil where that is not kept.
	known *[]judgement
}

// judge says what is found of Pods that carry the same, once.
func (b *basis) judge(observed unique.Handle[mesh.Observation]) judgement {
	if b.known != nil {
		for _, known := range *b.known {
			if known.observed == observed {
				return known
			}
		}
	}
	made := judgement{
		observed:  observed,
		Judgement: mesh.Judge(b.expectation, observed.Value()),
		notes:     b.injector.NotesOn(mesh.Namespace{Name: b.namespace.name, Labels: b.namespace.labels}, b.template, b.expectation, observed.Value()),
	}
	if b.known != nil && len(*b.known) < keptJudgements {
		*b.known = append(*b.known, made)
	}
	return made
}

// vacuous is the finding of a workload without running Pods.
func vacuous(expectation mesh.Expectation) (v1alpha1.Finding, mesh.Reason, string) {
	if expectation.Inject {
		return v1alpha1.FindingMeshed, mesh.ReasonExpected, "No Pod runs; the next one is injected."
	}
	return v1alpha1.FindingNotExpected, expectation.Reason, expectation.Message
}

func (w *workload) expect(injector *mesh.Injector, n *namespace) mesh.Expectation {
	under := expectedUnder{injector: injector, uid: w.object.UID, template: w.object.TemplateHash, namespace: n.generation}
	if under != w.expectedUnder {
		w.expectation = injector.Expect(mesh.Namespace{Name: n.name, Labels: n.labels}, w.object.Injection())
		w.expectedUnder = under
		w.judgements = nil
	}
	return w.expectation
}

// expectWithoutObject judges Pods whose workload's object is not read by the ReplicaSet or Job
// above them, or else by the labels of the Pod that is first by name.
func (i *Inventory) expectWithoutObject(g *group, n *namespace) (mesh.Template, mesh.Expectation) {
	template := mesh.Template{}
	pods := g.podsByName()
	if object := i.ownerOf(g); object != nil {
		template = object.Injection()
	} else if len(pods) > 0 && pods[0].Template != nil {
		template = *pods[0].Template
	}
	if len(pods) > 0 && pods[0].Static {
		return template, mesh.Expectation{Reason: mesh.ReasonMirrorPod, Message: "The kubelet runs this Pod from a file on its node; injection does not reach it."}
	}
	return template, i.injector.Expect(mesh.Namespace{Name: n.name, Labels: n.labels}, template)
}

// countGroup adds the Pods of one immediate owner.
func (w *Workload) countGroup(g *group, by basis) {
	eligible := by.expectation.Inject && w.Key.Group != "batch"
	w.countStranded(g)
	for _, observed := range g.observations() {
		c := g.classes[observed]
		g.refresh(observed, c)
		judgement := by.judge(observed)
		w.Notes = append(w.Notes, judgement.notes...)
		w.Pods.Running += c.running
		w.Pods.Ready += c.ready
		if !observed.Value().InMesh() {
			w.Pods.Outside += c.running
		}
		if observed.Value().Proxy == mesh.ProxyNone {
			w.NewestUninjected = max(w.NewestUninjected, c.newestCreated)
		}
		w.NewestReady = max(w.NewestReady, c.newestReady)
		if eligible {
			w.Pods.Eligible += c.running
		}
		if judgement.Finding == v1alpha1.FindingMeshed || judgement.Finding == v1alpha1.FindingStale {
			w.Pods.Meshed += c.running
			w.Pods.MeshedReady += c.ready
			w.NewestMeshed = max(w.NewestMeshed, c.newestCreated)
			w.NewestMeshedReady = max(w.NewestMeshedReady, c.newestReady)
			if judgement.Finding == v1alpha1.FindingMeshed {
				w.NewestInjected = max(w.NewestInjected, c.newestServing)
			}
			if stale := judgement.Finding == v1alpha1.FindingStale; c.troubled > 0 && (w.Failing == nil || w.Failing.Stale && !stale) {
				w.Failing = g.failing(observed)
				w.Failing.Stale = stale
			}
		} else if c.troubled > 0 && w.FailingOutside == nil {
			w.FailingOutside = g.failing(observed)
		}
		w.worsen(judgement.Judgement, c)
	}
}

// evictable are the running Pods of the workload's finding, the oldest first.
func (w *workload) evictable(judged *Workload) []*mesh.Pod {
	var pods []*mesh.Pod
	for g := range w.groups {
		asJudged := map[unique.Handle[mesh.Observation]]bool{}
		for observed := range g.classes {
			asJudged[observed] = mesh.Judge(judged.Expectation, observed.Value()).Finding == judged.Finding
		}
		for _, pod := range g.pods {
			if pod.Running() && asJudged[pod.Observed] {
				pods = append(pods, pod)
			}
		}
	}
	slices.SortFunc(pods, func(a, b *mesh.Pod) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name), strings.Compare(string(a.UID), string(b.UID)))
	})
	return pods
}

// unready is, of the Pods that were created since those that the restart is to replace, the first by name
// that runs and is not ready.
func (w *workload) unready(judged *Workload) *mesh.Pod {
	cause, _ := ParseCause(judged.Record.Cause)
	var first *mesh.Pod
	for g := range w.groups {
		for _, pod := range g.pods {
			if pod.Running() && !pod.Ready() && pod.Created > cause.Newest && (first == nil || pod.Name < first.Name) {
				first = pod
			}
		}
	}
	return first
}

// worsen takes on a class's finding where it is worse than the workload's so far.
func (w *Workload) worsen(judgement mesh.Judgement, c *class) {
	if w.Finding == "" || severity[judgement.Finding] > severity[w.Finding] {
		w.Finding, w.Reason, w.Message = judgement.Finding, judgement.Reason, judgement.Message
		w.Pods.ToReplace, w.Pods.ToReplaceReady, w.Pods.ToReplacePending, w.OldestToReplace, w.NewestToReplace = 0, 0, 0, 0, 0
	}
	if judgement.Finding == w.Finding && !w.Complete() {
		w.Pods.ToReplace += c.running
		w.Pods.ToReplaceReady += c.ready
		w.Pods.ToReplacePending += c.pending
		if w.OldestToReplace == 0 || c.oldestCreated < w.OldestToReplace {
			w.OldestToReplace = c.oldestCreated
		}
		w.NewestToReplace = max(w.NewestToReplace, c.newestCreated)
	}
}

// observations are the group's in a stable order.
func (g *group) observations() []unique.Handle[mesh.Observation] {
	observations := slices.Collect(maps.Keys(g.classes))
	if len(observations) > 1 {
		slices.SortFunc(observations, func(a, b unique.Handle[mesh.Observation]) int { return mesh.CompareObservations(a.Value(), b.Value()) })
	}
	return observations
}

// failing is a Pod in trouble among those that carry the same, the first by name.
func (g *group) failing(observed unique.Handle[mesh.Observation]) *FailingPod {
	for _, pod := range g.podsByName() {
		if pod.Running() && pod.Observed == observed && pod.Trouble != nil {
			return &FailingPod{Name: pod.Name, UID: pod.UID, Trouble: *pod.Trouble}
		}
	}
	return nil
}

func (g *group) id() string {
	if g.owner.Exists() {
		return string(g.owner.UID)
	}
	for uid := range g.pods {
		return string(uid)
	}
	return ""
}
