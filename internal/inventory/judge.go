package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unique"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

func (i *Inventory) judge(w *workload) *Workload {
	n := i.namespaces[w.key.Namespace]
	judged := &Workload{Key: w.key, Object: w.object, TemplateShared: len(i.templateRefs[w.key]) > 0}
	if w.object != nil {
		judged.Template = w.object.Injection()
		judged.Expectation = w.expect(i.injector, n)
		judged.recordRestarts(n.restartsOf[w.object.UID])
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
		judged.Finding, judged.Reason, judged.Message = findingWithoutPods(judged.Expectation)
	}
	if going := judged.InFlight; going != nil {
		judged.Unready = w.unready(judged)
		if going.Method == v1alpha1.MethodEviction && !judged.Complete() {
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

// findingWithoutPods is the finding of a workload without running Pods.
func findingWithoutPods(expectation mesh.Expectation) (v1alpha1.Finding, mesh.Reason, string) {
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
		return template, mesh.Expectation{Reason: mesh.ReasonMirrorPod, Message: "The kubelet runs this Pod from a file on its node; " +
			"injection does not reach it."}
	}
	return template, i.injector.Expect(mesh.Namespace{Name: n.name, Labels: n.labels}, template)
}

// countGroup adds the Pods of one immediate owner.
func (w *Workload) countGroup(g *group, by basis) {
	eligible := by.expectation.Inject && !w.Key.Is().RunsToCompletion
	w.countUnplaced(g)
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
	var first *mesh.Pod
	for g := range w.groups {
		for _, pod := range g.pods {
			if pod.Running() && !pod.Ready() && pod.Created > judged.InFlight.Cause.Newest && (first == nil || pod.Name < first.Name) {
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
		notes: b.injector.NotesOn(mesh.Namespace{Name: b.namespace.name, Labels: b.namespace.labels}, b.template, b.expectation,
			observed.Value()),
	}
	if b.known != nil && len(*b.known) < keptJudgements {
		*b.known = append(*b.known, made)
	}
	return made
}
