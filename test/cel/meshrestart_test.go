// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cel

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

const restarts = "restarts"

func testRestarts(t *testing.T, c client.Client) {
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: restarts}}); err != nil {
		t.Fatal(err)
	}
	t.Run("refused", func(t *testing.T) { testRefusedRestarts(t, client.NewDryRunClient(c)) })
	t.Run("accepted", func(t *testing.T) { testAcceptedRestarts(t, client.NewDryRunClient(c)) })
	t.Run("the spec never changes", func(t *testing.T) { testImmutableRestart(t, c) })
	t.Run("status", func(t *testing.T) { testRestartStatus(t, c) })
	t.Run("results", func(t *testing.T) { testRestartResults(t, c) })
}

var noon = metav1.NewTime(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))

// meshRestart has every field of its spec set that goes with the method.
func meshRestart(name string) *v1alpha1.MeshRestart {
	return &v1alpha1.MeshRestart{
		ObjectMeta: metav1.ObjectMeta{Namespace: restarts, Name: name},
		Spec: v1alpha1.MeshRestartSpec{
			Workload: v1alpha1.RestartedWorkload{
				WorkloadReference: v1alpha1.WorkloadReference{Group: "apps", Kind: "Deployment", Name: "cart"},
				UID:               "0b4e7c1c-6f5d-4a57-8f0b-7d1f2a3b4c5d",
				Generation:        new(int64(7)),
			},
			Policy:        "production",
			Cause:         v1alpha1.RestartCause{Finding: v1alpha1.FindingMissing, Revision: "default", NewestPodTime: noon},
			Method:        v1alpha1.MethodRolloutRestart,
			InputsHash:    "1/abc",
			Replicas:      new(int32(3)),
			ReadyReplicas: new(int32(3)),
			Attempt:       2,
			Excused:       new(int32(1)),
			Probes:        []v1alpha1.BreakerProbe{{Scope: v1alpha1.BreakerScopePolicy, Number: 2}},
			Requests:      &v1alpha1.RetryRequests{Workload: "a", Namespace: "b", Policy: "c"},
		},
	}
}

func testRefusedRestarts(t *testing.T, dryRun client.Client) {
	for _, test := range []struct {
		name       string
		mutate     func(*v1alpha1.MeshRestart)
		wantErrors []string
	}{{
		name:       "a name of 64 characters",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Name = strings.Repeat("a", v1alpha1.MaxRestartName+1) },
		wantErrors: []string{"the name of a MeshRestart has at most 63 characters"},
	}, {
		name:       "no spec",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec = v1alpha1.MeshRestartSpec{} },
		wantErrors: []string{"spec: Required value"},
	}, {
		name:       "no workload",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Workload = v1alpha1.RestartedWorkload{} },
		wantErrors: []string{"spec.workload: Required value"},
	}, {
		name:       "a workload without a UID",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Workload.UID = "" },
		wantErrors: []string{"spec.workload.uid: Required value"},
	}, {
		name:       "too long a UID",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Workload.UID = strings.Repeat("a", 129) },
		wantErrors: []string{"spec.workload.uid", "may not be more than 128"},
	}, {
		name:       "a workload without a generation",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Workload.Generation = nil },
		wantErrors: []string{"spec.workload.generation: Required value"},
	}, {
		name:       "a negative generation",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Workload.Generation = new(int64(-1)) },
		wantErrors: []string{"spec.workload.generation", "greater than or equal to 0"},
	}, {
		name:       "no policy",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Policy = "" },
		wantErrors: []string{"spec.policy: Required value"},
	}, {
		name:       "no cause",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Cause = v1alpha1.RestartCause{} },
		wantErrors: []string{"spec.cause: Required value"},
	}, {
		name:       "a cause without the time of its Pods",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Cause.NewestPodTime = metav1.Time{} },
		wantErrors: []string{"spec.cause.newestPodTime: Required value"},
	}, {
		name:       "a finding that no restart helps against",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Cause.Finding = v1alpha1.FindingMeshed },
		wantErrors: []string{"spec.cause.finding", "a restart helps against Missing, Stale and Leftover only"},
	}, {
		name:       "an unknown finding",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Cause.Finding = "Absent" },
		wantErrors: []string{"spec.cause.finding", `"Absent"`},
	}, {
		name:       "an unknown method",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Method = "Deletion" },
		wantErrors: []string{"spec.method", `"Deletion"`},
	}, {
		name:       "the method RestartAt without a time",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Method = v1alpha1.MethodRestartAt },
		wantErrors: []string{"restartAt belongs to the method RestartAt, and to no other"},
	}, {
		name:       "a time with another method",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.RestartAt = &noon },
		wantErrors: []string{"restartAt belongs to the method RestartAt, and to no other"},
	}, {
		name:       "no hash",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.InputsHash = "" },
		wantErrors: []string{"spec.inputsHash: Required value"},
	}, {
		name:       "too long a hash",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.InputsHash = strings.Repeat("a", 129) },
		wantErrors: []string{"spec.inputsHash", "may not be more than 128"},
	}, {
		name:       "no count of Pods",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Replicas, r.Spec.ReadyReplicas = nil, nil },
		wantErrors: []string{"spec.replicas: Required value", "spec.readyReplicas: Required value"},
	}, {
		name:       "negative counts of Pods",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Replicas, r.Spec.ReadyReplicas = new(int32(-1)), new(int32(-1)) },
		wantErrors: []string{"spec.replicas: Invalid", "spec.readyReplicas: Invalid"},
	}, {
		name:       "no attempt",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Attempt = 0 },
		wantErrors: []string{"spec.attempt: Required value"},
	}, {
		name:       "negative attempts",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Attempt, r.Spec.Excused = -1, new(int32(-1)) },
		wantErrors: []string{"spec.attempt: Invalid", "spec.excused: Invalid"},
	}, {
		name: "two probes of one breaker",
		mutate: func(r *v1alpha1.MeshRestart) {
			r.Spec.Probes = append(r.Spec.Probes, v1alpha1.BreakerProbe{Scope: v1alpha1.BreakerScopePolicy, Number: 3})
		},
		wantErrors: []string{"spec.probes[1]", "Duplicate value"},
	}, {
		name:       "a probe of an unknown breaker",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Probes[0].Scope = "Injector" },
		wantErrors: []string{"spec.probes[0].scope", `"Injector"`},
	}, {
		name:       "a probe without a number",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Probes[0].Number = 0 },
		wantErrors: []string{"spec.probes[0].number: Required value"},
	}, {
		name:       "a probe before the first",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Probes[0].Number = -1 },
		wantErrors: []string{"spec.probes[0].number", "greater than or equal to 1"},
	}, {
		name:       "more probes than anybody counts",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Probes[0].Number = 1001 },
		wantErrors: []string{"spec.probes[0].number", "less than or equal to 1000"},
	}, {
		name:       "too long a request",
		mutate:     func(r *v1alpha1.MeshRestart) { r.Spec.Requests.Namespace = strings.Repeat("a", 65) },
		wantErrors: []string{"spec.requests.namespace", "may not be more than 64"},
	}} {
		t.Run(test.name, func(t *testing.T) {
			wrong := meshRestart("wrong")
			test.mutate(wrong)
			checkRefused(t, dryRun.Create(t.Context(), wrong), test.wantErrors...)
		})
	}
}

func testAcceptedRestarts(t *testing.T, dryRun client.Client) {
	for name, mutate := range map[string]func(*v1alpha1.MeshRestart){
		"every field":             func(*v1alpha1.MeshRestart) {},
		"a name of 63 characters": func(r *v1alpha1.MeshRestart) { r.Name = strings.Repeat("a", v1alpha1.MaxRestartName) },
		"the method RestartAt": func(r *v1alpha1.MeshRestart) {
			r.Spec.Workload.Group, r.Spec.Workload.Kind = "argoproj.io", "Rollout"
			r.Spec.Method, r.Spec.RestartAt = v1alpha1.MethodRestartAt, &noon
		},
		"a sidecar that is left over": func(r *v1alpha1.MeshRestart) {
			r.Spec.Cause.Finding, r.Spec.Cause.Revision = v1alpha1.FindingLeftover, ""
		},
		"a ReplicaSet of which no Pod is ready": func(r *v1alpha1.MeshRestart) {
			r.Spec.Workload.Kind, r.Spec.Workload.Generation = "ReplicaSet", new(int64(0))
			r.Spec.Method, r.Spec.ReadyReplicas = v1alpha1.MethodEviction, new(int32(0))
		},
		"the first one, which nothing asked for": func(r *v1alpha1.MeshRestart) {
			r.Spec.Attempt, r.Spec.Excused, r.Spec.Probes, r.Spec.Requests = 1, nil, nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			restart := meshRestart("right")
			mutate(restart)
			if err := dryRun.Create(t.Context(), restart); err != nil {
				t.Error(err)
			}
		})
	}
}

func testImmutableRestart(t *testing.T, c client.Client) {
	made := create(t, c, "made")
	for name, mutate := range map[string]func(*v1alpha1.MeshRestartSpec){
		"another workload":    func(s *v1alpha1.MeshRestartSpec) { s.Workload.UID = "another" },
		"another generation":  func(s *v1alpha1.MeshRestartSpec) { s.Workload.Generation = new(int64(8)) },
		"another policy":      func(s *v1alpha1.MeshRestartSpec) { s.Policy = "another" },
		"another cause":       func(s *v1alpha1.MeshRestartSpec) { s.Cause.Revision = "canary" },
		"another method":      func(s *v1alpha1.MeshRestartSpec) { s.Method = v1alpha1.MethodEviction },
		"a hash that changed": func(s *v1alpha1.MeshRestartSpec) { s.InputsHash = "1/def" },
		"a probe no more":     func(s *v1alpha1.MeshRestartSpec) { s.Probes = nil },
		"a request more":      func(s *v1alpha1.MeshRestartSpec) { s.Requests.Workload = "another" },
		"an excuse no more":   func(s *v1alpha1.MeshRestartSpec) { s.Excused = new(int32(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := made.DeepCopy()
			mutate(&wrong.Spec)
			checkRefused(t, c.Update(t.Context(), wrong), "what a MeshRestart says of a restart never changes")
		})
	}
	t.Run("nothing changes", func(t *testing.T) {
		if err := c.Update(t.Context(), made.DeepCopy()); err != nil {
			t.Error(err)
		}
	})
}

func testRestartStatus(t *testing.T, c client.Client) {
	made := create(t, c, "ends")
	dryRun := client.NewDryRunClient(c)
	for _, test := range []struct {
		name       string
		mutate     func(*v1alpha1.MeshRestartStatus)
		wantErrors []string
	}{{
		name:       "an unknown result",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Conditions[0].Reason = "RolledBack" },
		wantErrors: []string{"Finished is True, and its reason is"},
	}, {
		name:       "Finished, which is False",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Conditions[0].Status = metav1.ConditionFalse },
		wantErrors: []string{"Finished is True, and its reason is"},
	}, {
		name:       "an end without a time",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.EndTime = nil },
		wantErrors: []string{"endTime is set when the restart has ended, and only then"},
	}, {
		name:       "a time without an end",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Conditions = nil },
		wantErrors: []string{"endTime is set when the restart has ended, and only then"},
	}, {
		name:       "65 Pods evicted",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Evicting = pods(v1alpha1.MaxEvicting + 1) },
		wantErrors: []string{"status.evicting", "must have at most 64 items"},
	}, {
		name:       "a Pod evicted twice",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Evicting = []string{"one", "one"} },
		wantErrors: []string{"status.evicting[1]", "Duplicate value"},
	}, {
		name:       "a Pod without a UID evicted",
		mutate:     func(s *v1alpha1.MeshRestartStatus) { s.Evicting = []string{""} },
		wantErrors: []string{"status.evicting[0]", "at least 1"},
	}, {
		name: "nine conditions",
		mutate: func(s *v1alpha1.MeshRestartStatus) {
			for i := range 8 {
				condition := s.Conditions[0]
				condition.Type = fmt.Sprintf("Other%d", i)
				s.Conditions = append(s.Conditions, condition)
			}
		},
		wantErrors: []string{"status.conditions", "must have at most 8 items"},
	}} {
		t.Run(test.name+" is refused", func(t *testing.T) {
			wrong := made.DeepCopy()
			wrong.Status = ended(v1alpha1.ResultSucceeded)
			test.mutate(&wrong.Status)
			checkRefused(t, dryRun.Status().Update(t.Context(), wrong), test.wantErrors...)
		})
	}
	t.Run("the longest round of evictions is accepted", func(t *testing.T) {
		made.Status = v1alpha1.MeshRestartStatus{Evicting: pods(v1alpha1.MaxEvicting)}
		if err := dryRun.Status().Update(t.Context(), made); err != nil {
			t.Error(err)
		}
	})
}

// testRestartResults tries each change from one result to another.
func testRestartResults(t *testing.T, c client.Client) {
	results := []v1alpha1.RestartResult{
		v1alpha1.ResultSucceeded, v1alpha1.ResultFailed, v1alpha1.ResultIneffective, v1alpha1.ResultReverted, v1alpha1.ResultInterrupted,
	}
	const fixed = "a result never changes, but for Failed, which may become Succeeded"
	dryRun := client.NewDryRunClient(c)
	for _, from := range results {
		finished := create(t, c, "was-"+strings.ToLower(string(from)))
		finished.Status = ended(from)
		if err := c.Status().Update(t.Context(), finished); err != nil {
			t.Fatalf("A restart that ends with %s is refused: %v", from, err)
		}
		for _, to := range results {
			t.Run(fmt.Sprintf("from %s to %s", from, to), func(t *testing.T) {
				changed := finished.DeepCopy()
				changed.Status = ended(to)
				changed.Status.EndTime = &metav1.Time{Time: noon.Add(time.Hour)}
				err := dryRun.Status().Update(t.Context(), changed)
				if from == to || from == v1alpha1.ResultFailed && to == v1alpha1.ResultSucceeded {
					if err != nil {
						t.Error(err)
					}
					return
				}
				checkRefused(t, err, fixed)
			})
		}
		for name, status := range map[string]v1alpha1.MeshRestartStatus{
			"no condition":      {Evicting: []string{"one"}},
			"no status":         {},
			"another condition": {Conditions: []metav1.Condition{{Type: "Other", Status: metav1.ConditionTrue, Reason: "Other", LastTransitionTime: noon}}},
		} {
			t.Run(fmt.Sprintf("from %s to %s", from, name), func(t *testing.T) {
				changed := finished.DeepCopy()
				changed.Status = status
				checkRefused(t, dryRun.Status().Update(t.Context(), changed), fixed)
			})
		}
	}
}

func create(t *testing.T, c client.Client, name string) *v1alpha1.MeshRestart {
	t.Helper()
	restart := meshRestart(name)
	if err := c.Create(t.Context(), restart); err != nil {
		t.Fatal(err)
	}
	return restart
}

func ended(result v1alpha1.RestartResult) v1alpha1.MeshRestartStatus {
	return v1alpha1.MeshRestartStatus{
		EndTime: &noon,
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionFinished, Status: metav1.ConditionTrue, Reason: string(result),
			Message: "It has ended.", LastTransitionTime: noon,
		}},
	}
}

// pods are UIDs of Pods.
func pods(count int) []string {
	uids := make([]string, count)
	for i := range uids {
		uids[i] = fmt.Sprintf("0b4e7c1c-6f5d-4a57-8f0b-%012d", i)
	}
	return uids
}
