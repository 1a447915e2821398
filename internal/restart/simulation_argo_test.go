package restart_test

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// argo is what Argo's controller keeps of a Rollout in its status.
type argo struct {
	// stable is the revision that serves.
	stable int
	// restartedAt is the restart that it is done with, and looksAgain when it looks at one again.
	restartedAt, looksAgain time.Time
	// waits: an update waits at its first step, and given up: it goes back to the stable revision.
	waits, givenUp bool
}

// addRollout adds an Argo Rollout as add does the other kinds.
func addRollout(s *simulation, b *builder.RolloutBuilder) *app {
	object := b.CreatedAt(yesterday).Build()
	a := &app{object: object, revision: 1, startup: stepTime, argo: &argo{stable: 1}}
	a.template = inventory.FromRollout(object).Template
	s.enter(a)
	return a
}

// rollout is the object as it is now.
func (a *app) rollout() *unstructured.Unstructured {
	object := a.object.(*unstructured.Unstructured)
	template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(a.template)
	if err != nil {
		panic(err)
	}
	if err := unstructured.SetNestedMap(object.Object, template, "spec", "template"); err != nil {
		panic(err)
	}
	return object
}

func (a *app) set(value any, path ...string) {
	if err := unstructured.SetNestedField(a.object.(*unstructured.Unstructured).Object, value, path...); err != nil {
		panic(err)
	}
}

// setRestartAt asks for a restart, as spec.restartAt does; the zero time asks for none.
func (a *app) setRestartAt(at time.Time) {
	if at.IsZero() {
		unstructured.RemoveNestedField(a.object.(*unstructured.Unstructured).Object, "spec", "restartAt")
		return
	}
	a.set(at.UTC().Format(time.RFC3339), "spec", "restartAt")
}

// mayRestartAt fails the test where a restart of a Rollout would replace nothing, take back one that its
// owner has asked for, or begin while something else goes on.
func (s *simulation) mayRestartAt(a *app, verdict *restart.Verdict, never func(string, ...any)) {
	object := a.cut() // of the generation that was decided upon
	newest := time.Unix(verdict.Workload.NewestToReplace, 0)
	switch {
	case verdict.Method != v1alpha1.MethodRestartAt:
		never("it is an Argo Rollout, and the method is %s", verdict.Method)
	case !verdict.Restart.RestartAt.After(newest):
		never("restartAt is %s, and its newest Pod was created at %s", verdict.Restart.RestartAt, newest)
	case !verdict.Restart.RestartAt.After(object.RestartAt):
		never("restartAt was %s already and becomes %s", object.RestartAt, verdict.Restart.RestartAt)
	case object.RestartAt.After(s.now):
		never("its owner has asked for a restart at %s", object.RestartAt)
	case verdict.Workload.Object.Updating:
		never("it is being updated")
	}
}

// runRollout is how Argo's controller goes: a restart evicts in place, as long as enough are there, and a
// change of the template drops it and begins an update beside the old Pods.
func (s *simulation) runRollout(a *app) {
	object, argo := a.cut(), a.argo
	if argo.stable != a.revision && a.count(a.updated) == 0 {
		argo.restartedAt = object.RestartAt
	}
	if !object.RestartAt.Equal(argo.restartedAt) && s.now.After(object.RestartAt) && !s.now.Before(argo.looksAgain) {
		s.restartPods(a, object)
	}
	update := inventory.Strategy{Type: inventory.StrategyRolling, MaxSurge: 1}
	switch {
	case argo.waits && argo.stable != a.revision:
		s.fillUp(a)
	case argo.givenUp && argo.stable != a.revision:
		for _, p := range a.pods {
			if a.updated(p) {
				a.remove(s, p)
			}
		}
		s.fillUp(a)
	default:
		s.replaceBeside(a, update)
	}
	if a.count(a.outdated) == 0 && a.count(func(p *pod) bool { return a.updated(p) && ready(p) }) == a.replicas() {
		argo.stable = a.revision
	}
}

// fillUp makes the Pods that the stable revision lacks.
func (s *simulation) fillUp(a *app) {
	for a.count(running) < a.replicas() {
		p := s.newPod(a, len(a.pods), s.now)
		if p == nil {
			return
		}
		p.revision = a.argo.stable
		s.tellPod(a, p)
	}
}

// restartPods evicts the Pods that were created before restartAt (rollout/restart.go).
func (s *simulation) restartPods(a *app, object *inventory.Object) {
	atOnce := object.Strategy.MaxUnavailable
	may := a.count(ready) - (max(a.replicas(), a.count(running)) - atOnce)
	left := 0
	for _, p := range slices.SortedFunc(slices.Values(a.pods), func(x, y *pod) int { return cmp.Compare(x.name, y.name) }) {
		if !p.created.Before(object.RestartAt) {
			continue
		}
		left++
		if may <= 0 || p.going {
			continue
		}
		if !s.mayEvict(a) {
			s.say("a disruption budget refuses the eviction of a Pod of %s", a)
			continue
		}
		a.remove(s, p)
		may--
		left--
	}
	if left == 0 {
		a.argo.restartedAt = object.RestartAt
		return
	}
	a.argo.looksAgain = s.now.Add(3 * stepTime)
}

// mayEvict asks the disruption budgets, as the API server does for an eviction.
func (s *simulation) mayEvict(a *app) bool {
	var covering []*policyv1.PodDisruptionBudget
	for _, budget := range s.budgets {
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && budget.Namespace == a.object.GetNamespace() && selector.Matches(labels.Set(a.template.Labels)) {
			covering = append(covering, budget)
		}
	}
	for _, budget := range covering {
		if budget.Status.DisruptionsAllowed <= 0 || len(covering) > 1 {
			return false
		}
		budget.Status.DisruptionsAllowed--
	}
	return true
}

// reportRollout writes the status.
func (a *app) reportRollout(updated, all, available int32) {
	for field, value := range map[string]any{
		"observedGeneration": strconv.FormatInt(a.object.GetGeneration(), 10),
		"replicas":           int64(all),
		"updatedReplicas":    int64(updated),
		"availableReplicas":  int64(available),
		"currentPodHash":     strconv.Itoa(a.revision),
		"stableRS":           strconv.Itoa(a.argo.stable),
		"abort":              a.argo.givenUp && a.argo.stable != a.revision,
	} {
		a.set(value, "status", field)
	}
	if !a.argo.restartedAt.IsZero() {
		a.set(a.argo.restartedAt.UTC().Format(time.RFC3339), "status", "restartedAt")
	}
}
