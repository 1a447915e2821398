package restart_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

// However everything crashes, no more workloads are hurt than it takes to see that, and those that were
// in flight then.
func TestFewAreHurtWhereEverythingCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t)
		atOnce, stopAfter := rapid.IntRange(1, 4).Draw(t, "at once"), rapid.IntRange(1, 4).Draw(t, "stop after")
		s.setPolicy(builder.Enforcing("mesh").ProgressTimeout(60).Budget(v1alpha1.BudgetScopePolicy, atOnce, nil).StopAfter(int32(stopAfter)))
		names := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "namespaces")]
		for _, name := range names {
			s.addNamespace(name)
			for n := range rapid.IntRange(1, 5).Draw(t, "workloads") {
				a := add(s, deployment(name, fmt.Sprintf("app%d", n)).Replicas(int32(rapid.IntRange(1, 3).Draw(t, "replicas"))))
				a.crashes = inMesh
			}
			s.label(name, "istio-injection", "enabled")
		}
		s.run(6 * 50) // 50 minutes, and the breaker waits for an hour
		hurt := map[string]int{}
		for _, a := range s.apps {
			if a.count(inMesh) > 0 {
				hurt[a.object.GetNamespace()]++
			}
		}
		counted := 0
		for _, hurt := range hurt {
			counted += min(hurt, 2)
		}
		if most := stopAfter - 1 + atOnce; counted > most {
			t.Fatalf(
				"%d workloads are hurt that count, where %d are to stop the policy and %d go at once:\n%s", counted, stopAfter, atOnce,
				s.transcript.String(),
			)
		}
		for name, hurt := range hurt {
			if most := 2 - 1 + atOnce; hurt > most {
				t.Fatalf("%d workloads of %s are hurt:\n%s", hurt, name, s.transcript.String())
			}
		}
	})
}
