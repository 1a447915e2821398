package chaos

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/test/operator"
)

// In the short run that is part of every test run, this seed lets each of the happenings happen.
var (
	seed      = flag.Uint64("seed", 103, "what everything random comes from")
	duration  = flag.Duration("duration", 25*time.Second, "for how long something happens all the time")
	workloads = flag.Int("workloads", 40, "how many workloads are to be brought into the mesh")
)

// shownSteps is how many of the last steps a failure shows.
const shownSteps = 25

// Whatever breaks while a cluster is brought into the mesh, nothing is restarted twice for one cause,
// no budget is broken at any moment, and in the end everything is in the mesh.
func TestFullMeshIsReachedThroughChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster, which short mode leaves out")
	}
	fmt.Printf("SEED=%d DURATION=%s WORKLOADS=%d\n", *seed, *duration, *workloads)
	var told []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("This was SEED=%d DURATION=%s WORKLOADS=%d. The last of %d steps:\n%s", *seed, *duration, *workloads,
				len(told), strings.Join(told[max(0, len(told)-shownSteps):], "\n"))
		}
	})
	w := newWorld(t, *seed, *workloads)
	defer func() {
		for _, violation := range w.witness.seen() {
			t.Error(violation)
		}
	}()
	w.begin()
	untouched := w.untouched()

	counts := map[string]int{}
	began := time.Now()
	for next := range steps(*seed) {
		if time.Since(began) > *duration {
			break
		}
		what, err := w.take(next)
		told = append(told, fmt.Sprintf("%3d  %6.1fs  %s", len(told)+1, time.Since(began).Seconds(), what))
		counts[next.happening]++
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(next.pause)
	}
	if err := w.calm(); err != nil {
		t.Fatalf("calming down: %v", err)
	}
	calmed := time.Now()
	w.awaitFullMesh()
	healed := time.Since(calmed)
	if err := w.journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}

	if outside := w.uninjected(); len(outside) > 0 {
		t.Errorf("Pods without a sidecar: %v", outside)
	}
	if unfinished := w.witness.unfinished(); len(unfinished) > 0 {
		t.Errorf("restarts that have not ended: %v", unfinished)
	}
	if now := w.untouched(); !maps.Equal(untouched, now) {
		t.Errorf("Pods of %s, which nobody may restart, are %v and were %v", strays, now, untouched)
	}
	audit, err := w.AuditOf(t.Context(), operator.User)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range w.witness.checkAudit(audit) {
		t.Error(err)
	}
	if w.witness.restarts == 0 {
		t.Error("nothing was restarted; nothing is shown")
	}
	t.Logf("SEED=%d: %d workloads, %d steps in %s: %s", *seed, len(w.fleet.workloads), len(told), time.Since(began).Round(time.Second), inWords(counts))
	t.Logf("%d restarts, at most %d of one workload; at most %d workloads and %d Pods in flight in a policy that allows %d and %d; full mesh %s after it was calm",
		w.witness.restarts, w.witness.most.restartsOfOne, w.witness.most.workloads, w.witness.most.pods, policyWorkloads, policyPods, healed.Round(time.Second))
	t.Logf("answers given in the API server's place: %v, answers lost: %d", w.network.refused, w.network.lost)
}

// begin labels every namespace and makes the policies.
func (w *world) begin() {
	for _, namespace := range w.fleet.namespaces {
		err := change(w, namespace.DeepCopy(), func(n *corev1.Namespace) { n.Labels[injectionLabel] = "enabled" })
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, policy := range w.fleet.policies {
		w.create(policy)
	}
}

func (w *world) take(next step) (string, error) {
	for _, happening := range happenings {
		if happening.name == next.happening {
			return happening.happen(w, next)
		}
	}
	panic("nothing is called " + next.happening)
}

func inWords(counts map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s ×%d", name, counts[name]))
	}
	return strings.Join(words, ", ")
}
