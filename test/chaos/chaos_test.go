package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
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
	if unfinished := w.witness.inFlight(); len(unfinished) > 0 {
		t.Errorf("restarts that have not ended: %v", unfinished)
	}
	if now := w.untouched(); !maps.Equal(untouched, now) {
		t.Errorf("Pods of %s, which nobody may restart, are %v and were %v", strays, now, untouched)
	}
	audit, err := w.AuditOf(t.Context(), operator.User)
	if err != nil {
		t.Fatal(err)
	}
	restarts := restartsByCause(audit)
	for cause, times := range restarts {
		if times > 1 {
			t.Errorf("by the audit log, the cause %s led to %d restarts", cause, times)
		}
	}
	if err := w.witness.checkEvictions(audit); err != nil {
		t.Error(err)
	}
	if len(restarts) == 0 || w.witness.restarts == 0 {
		t.Error("nothing was restarted; nothing is shown")
	}
	t.Logf("SEED=%d: %d workloads, %d steps in %s: %s", *seed, len(w.fleet.workloads), len(told), time.Since(began).Round(time.Second), inWords(counts))
	t.Logf("%d restarts (%d by the audit log), at most %d of one workload; at most %d workloads and %d Pods in flight in a policy that allows %d and %d; full mesh %s after it was calm",
		w.witness.restarts, len(restarts), w.witness.most.restartsOfOne, w.witness.most.workloads, w.witness.most.pods, policyWorkloads, policyPods, healed.Round(time.Second))
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

// restartsByCause counts, for each cause, the restarts that the API server admitted. Evictions that go on
// are no further one; the witness knows whether they were interrupted.
func restartsByCause(audit []cluster.AuditEvent) map[string]int {
	restarts := map[string]int{}
	for i := range audit {
		event := &audit[i]
		if event.Verb != "patch" || event.DryRun || event.Code != 200 {
			continue
		}
		begun := begunBy(event.Object)
		if begun != nil && (begun.Method != v1alpha1.MethodEviction || restarts[begun.Cause] == 0) {
			restarts[begun.Cause]++
		}
	}
	return restarts
}

func inWords(counts map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s ×%d", name, counts[name]))
	}
	return strings.Join(words, ", ")
}

// begunBy is the record of the restart that a JSON patch begins; nil for every other patch.
func begunBy(patch []byte) *record {
	var operations []struct {
		Op, Path string
		Value    any
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		return nil
	}
	for _, operation := range operations {
		text, is := operation.Value.(string)
		if !is || operation.Op == "test" || operation.Path != recordPath {
			continue
		}
		var written record
		if err := json.Unmarshal([]byte(text), &written); err == nil && written.inFlight() {
			return &written
		}
	}
	return nil
}

var recordPath = "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.LastRestartAnnotation, "/", "~1")
