package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Snapshot is the inventory at one moment. It is never changed.
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

// Namespace is the view of one namespace.
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
	// Restarts are what the ledger says of the namespace, the newest first. Orphans are those of them that have
	// not ended and whose workload is not known.
	Restarts, Orphans []*Restart
	// Tried are the workloads that were restarted since the injector's last change; of every
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

// Workload is the view of one workload. It is never changed.
type Workload struct {
	Key mesh.Key
	// Object is nil where only the Pods are known: Pods without an owner, and those whose owner is
	// of a kind that is not read.
	Object *Object
	// TemplateShared says that another workload, an Argo Rollout, takes its template from this one.
	TemplateShared bool
	// Template is what injection looks at.
	Template    mesh.Template
	Expectation mesh.Expectation

	// Finding is the worst among the running Pods, with its reason and sentence.
	Finding v1alpha1.Finding
	Reason  mesh.Reason
	Message string
	// Notes are worth knowing in addition, of the template and of running Pods, by reason.
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
	Unschedulable, OnCordonedNode *Unplaced

	// Restarts are what the ledger says of the workload, the newest first.
	Restarts []*Restart
	// InFlight is the restart that has not ended, the one that has begun where there are several; nil where there
	// is none. Strays are the others that have not ended.
	InFlight *Restart
	Strays   []*Restart
	// Last is the newest that has ended, and Outcome the newest of those that were not interrupted; nil where
	// there is none.
	Last, Outcome *Restart
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

// AnyFailing is a Pod of the workload that cannot become ready, outside of the mesh rather than in it; nil
// where none is known.
func (w *Workload) AnyFailing() *FailingPod { return cmp.Or(w.FailingOutside, w.Failing) }

// Snapshot judges what has changed and returns a snapshot. What has not changed since the last
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
		switch injectorChanged := snapshot.ChangedFor(w.Expectation); {
		case w.Newest() != nil && !w.Newest().Start.Before(injectorChanged):
			view.Tried = append(view.Tried, w)
		case w.Expectation.Inject && time.Unix(w.NewestInjected, 0).After(injectorChanged):
			view.Shown.Insert(w.Expectation.Revision)
		}
	}
	n.listRestarts(view)
	return view
}

func (n *namespace) listRestarts(view *Namespace) {
	known := map[types.UID]bool{}
	for _, w := range view.Workloads {
		if w.Object != nil {
			known[w.Object.UID] = true
		}
	}
	view.Restarts = slices.SortedFunc(maps.Values(n.restarts), compareRestarts)
	for _, r := range view.Restarts {
		if r.InFlight() && !known[r.WorkloadUID] {
			view.Orphans = append(view.Orphans, r)
		}
	}
}

// Open reports whether something is to be done or said about the workload: it is not as injection
// would make it, or a restart of it has not ended or not ended well.
func (w *Workload) Open() bool {
	return !w.Complete() || w.InFlight != nil || w.Outcome.Failed()
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
