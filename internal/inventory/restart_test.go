package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

// full is a Restart of which everything is set.
func full() *inventory.Restart {
	return &inventory.Restart{
		Namespace: "shop", Name: "rollout-cart-0123456789", UID: "restart", ResourceVersion: "7",
		Workload:    mesh.Key{Group: "argoproj.io", Kind: "Rollout", Namespace: "shop", Name: "cart"},
		WorkloadUID: "cart", Generation: 3, Policy: "mesh",
		Cause:     inventory.Cause{Finding: v1alpha1.FindingStale, Revision: "canary", Newest: noon.Unix()},
		Method:    v1alpha1.MethodRestartAt,
		RestartAt: noon.Add(time.Second), InputsHash: "1-abc", Replicas: 5, Ready: 4, AtOnce: 3, Attempt: 2, Excused: 1,
		Probes:   inventory.Probes{Policy: 3, Namespace: 1},
		Requests: v1alpha1.RetryRequests{Workload: "w", Namespace: "n", Policy: "p"},
		Start:    noon.Add(time.Minute),
		Result:   v1alpha1.ResultIneffective, End: noon.Add(time.Hour), Message: "It has ended.", Excuse: v1alpha1.ExcuseInjectorSilent,
		Evicting: []types.UID{"a", "b"},
	}
}

// created is the MeshRestart as the API server has it.
func created(r *inventory.Restart) *v1alpha1.MeshRestart {
	object := r.MeshRestart()
	object.UID, object.ResourceVersion, object.CreationTimestamp = r.UID, r.ResourceVersion, metav1.NewTime(r.Start)
	return object
}

// What is written of a restart is what is read of it.
func TestRestartIsReadAsItWasWritten(t *testing.T) {
	for name, change := range map[string]func(*inventory.Restart){
		"everything is set":      func(*inventory.Restart) {},
		"it goes on":             func(r *inventory.Restart) { r.Result, r.End, r.Message, r.Excuse = "", time.Time{}, "", "" },
		"it sets no restartAt":   func(r *inventory.Restart) { r.Method, r.RestartAt = v1alpha1.MethodRolloutRestart, time.Time{} },
		"it tries no breaker":    func(r *inventory.Restart) { r.Probes = inventory.Probes{} },
		"it tries the policy's":  func(r *inventory.Restart) { r.Probes.Namespace = 0 },
		"nothing was requested":  func(r *inventory.Restart) { r.Requests = v1alpha1.RetryRequests{} },
		"no Pod was asked for":   func(r *inventory.Restart) { r.Replicas, r.Ready = 0, 0 },
		"no sidecar is expected": func(r *inventory.Restart) { r.Cause.Finding, r.Cause.Revision = v1alpha1.FindingLeftover, "" },
	} {
		t.Run(name, func(t *testing.T) {
			want := full()
			change(want)
			if diff := cmp.Diff(want, inventory.FromMeshRestart(created(want))); diff != "" {
				t.Errorf("read (-written +read):\n%s", diff)
			}
		})
	}
}

// The two times of an end are one; where somebody has written the condition alone, that one counts.
func TestEndOfARestartIsReadFromItsConditionAsWell(t *testing.T) {
	object := created(full())
	object.Status.EndTime = nil
	if got := inventory.FromMeshRestart(object); !got.End.Equal(noon.Add(time.Hour)) || got.Result != v1alpha1.ResultIneffective {
		t.Errorf("%s at %s", got.Result, got.End)
	}
}

// A MeshRestart without numbers is one of a version that knew others: it counts all the same.
func TestRestartWithoutNumbersIsRead(t *testing.T) {
	object := created(full())
	object.Spec.Replicas, object.Spec.ReadyReplicas, object.Spec.Workload.Generation = nil, nil, nil
	if got := inventory.FromMeshRestart(object); got.Replicas != 0 || got.Ready != 0 || got.Generation != 0 || got.Policy != "mesh" {
		t.Errorf("it is %+v", got)
	}
}

func TestAnEndedRestartEvictsNothingMore(t *testing.T) {
	going := full()
	going.Result, going.End = "", time.Time{}
	ended := going.Ended(v1alpha1.ResultSucceeded, "Done.", noon.Add(1500*time.Millisecond))
	if ended.InFlight() || len(ended.Evicting) > 0 || ended.Message != "Done." || !ended.End.Equal(noon.Add(time.Second)) {
		t.Errorf("it is %+v", ended)
	}
	if !going.InFlight() || len(going.Evicting) != 2 {
		t.Errorf("the one that goes on was changed: %+v", going)
	}
}

// Whether a restart has begun is told by its workload.
func TestRestartHasTouchedItsWorkload(t *testing.T) {
	cart := func(name string) *inventory.Object {
		return inventory.FromDeployment(builder.Deployment("shop", "cart").TemplateAnnotated(v1alpha1.RestartedByAnnotation, name).Build())
	}
	rollout := func(at time.Time) *inventory.Object {
		return inventory.FromRollout(builder.Rollout("shop", "cart").RestartAt(at).Build())
	}
	rolloutRestart := &inventory.Restart{Name: "r", Method: v1alpha1.MethodRolloutRestart}
	restartAt := &inventory.Restart{Name: "r", Method: v1alpha1.MethodRestartAt, RestartAt: noon}
	for name, test := range map[string]struct {
		restart *inventory.Restart
		object  *inventory.Object
		want    bool
	}{
		"the template names it":             {restart: rolloutRestart, object: cart("r"), want: true},
		"the template names another":        {restart: rolloutRestart, object: cart("other")},
		"its time is set":                   {restart: restartAt, object: rollout(noon), want: true},
		"a later time is set":               {restart: restartAt, object: rollout(noon.Add(time.Hour)), want: true},
		"an earlier time is set":            {restart: restartAt, object: rollout(noon.Add(-time.Second))},
		"no time is set":                    {restart: restartAt, object: inventory.FromRollout(builder.Rollout("shop", "cart").Build())},
		"evictions write nothing":           {restart: &inventory.Restart{Method: v1alpha1.MethodEviction}, object: cart("other"), want: true},
		"a method that is not known counts": {restart: &inventory.Restart{Method: "Later"}, object: cart("other"), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.restart.HasTouched(test.object); got != test.want {
				t.Errorf("it has touched it: %t", got)
			}
		})
	}
}

// of is a restart of the Deployment cart by its name.
func of(name, version string, changes ...func(*inventory.Restart)) *inventory.Restart {
	r := &inventory.Restart{
		Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: version, WorkloadUID: "deployment-shop-cart",
		Method: v1alpha1.MethodRolloutRestart, Attempt: 1, Start: noon,
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

func names(restarts []*inventory.Restart) []string {
	var names []string
	for _, r := range restarts {
		names = append(names, r.Name)
	}
	return names
}

// Own writes lie over what the informer tells, and what is pending counts until it is known.
func TestRestartsAreKept(t *testing.T) {
	attempt := func(n int) func(*inventory.Restart) { return func(r *inventory.Restart) { r.Attempt = n } }
	failed := func(r *inventory.Restart) { *r = *r.Ended(v1alpha1.ResultFailed, "", noon) }
	for name, test := range map[string]struct {
		events func(*inventory.Inventory)
		// want are the names of the workload's restarts, inFlight the one of them that goes on.
		want     []string
		inFlight string
	}{
		"one that is pending": {
			events: func(i *inventory.Inventory) { i.AddPendingRestart(of("a", "")) }, want: []string{"a"}, inFlight: "a",
		},
		"one that was not created after all": {
			events: func(i *inventory.Inventory) { i.AddPendingRestart(of("a", "")); i.DropPendingRestart(of("a", "")) },
		},
		"one that was created although there was no answer": {
			events: func(i *inventory.Inventory) {
				i.AddPendingRestart(of("a", ""))
				i.SetRestart(of("a", "5"))
				i.DropPendingRestart(of("a", ""))
			}, want: []string{"a"}, inFlight: "a",
		},
		"one that is pending and was there": {
			events: func(i *inventory.Inventory) { i.SetRestart(of("a", "5", failed)); i.AddPendingRestart(of("a", "")) }, want: []string{"a"},
		},
		"an older event comes after our own write's answer": {
			events: func(i *inventory.Inventory) { i.SetRestart(of("a", "7", failed)); i.SetRestart(of("a", "5")) }, want: []string{"a"},
		},
		"one that this process has deleted is told of late": {
			events: func(i *inventory.Inventory) {
				i.SetRestart(of("a", "5"))
				i.RestartDeleted("shop", "a", "uid-a")
				i.SetRestart(of("a", "6"))
			},
		},
		"its name is used again": {
			events: func(i *inventory.Inventory) {
				i.SetRestart(of("a", "5"))
				i.RestartDeleted("shop", "a", "uid-a")
				i.SetRestart(of("a", "9", func(r *inventory.Restart) { r.UID = "another" }))
				i.DeleteRestart("shop", "a", "uid-a")
			}, want: []string{"a"}, inFlight: "a",
		},
		"the highest attempt comes first": {
			events: func(i *inventory.Inventory) {
				i.SetRestart(of("a", "5", failed))
				i.SetRestart(of("b", "6", attempt(2)))
			}, want: []string{"b", "a"}, inFlight: "b",
		},
		"the one that the template names is the one that goes on": {
			events:   func(i *inventory.Inventory) { i.SetRestart(of("named", "5")); i.SetRestart(of("b", "6", attempt(2))) },
			want:     []string{"b", "named"},
			inFlight: "named",
		},
		"one of another workload of this name": {
			events: func(i *inventory.Inventory) {
				i.SetRestart(of("a", "5", func(r *inventory.Restart) { r.WorkloadUID = "another" }))
			},
		},
		"one of another namespace": {
			events: func(i *inventory.Inventory) {
				i.SetRestart(of("a", "5", func(r *inventory.Restart) { r.Namespace = "bank" }))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := shop()
			i.SetObject(
				inventory.FromDeployment(builder.Deployment("shop", "cart").TemplateAnnotated(v1alpha1.RestartedByAnnotation, "named").Build()),
			)
			test.events(i)
			workload := theWorkload(t, i)
			if diff := cmp.Diff(test.want, names(workload.Restarts)); diff != "" {
				t.Errorf("restarts (-want +got):\n%s", diff)
			}
			got := ""
			if workload.InFlight != nil {
				got = workload.InFlight.Name
			}
			if got != test.inFlight {
				t.Errorf("in flight is %q, want %q", got, test.inFlight)
			}
		})
	}
}

// What a restart came to is what the last of those says that was not interrupted.
func TestOutcomeIsOfTheLastThatWasNotInterrupted(t *testing.T) {
	i := shop()
	i.SetRestart(of("a", "5").Ended(v1alpha1.ResultFailed, "", noon))
	i.SetRestart(of("b", "6", func(r *inventory.Restart) { r.Attempt = 2 }).Ended(v1alpha1.ResultInterrupted, "", noon))
	i.SetRestart(of("c", "7", func(r *inventory.Restart) { r.Attempt = 3 }))
	workload := theWorkload(t, i)
	if workload.InFlight.Name != "c" || workload.Last.Name != "b" || workload.Outcome.Name != "a" || workload.Newest().Name != "c" ||
		!workload.Open() {
		t.Errorf("in flight %s, last %s, outcome %s", workload.InFlight.Name, workload.Last.Name, workload.Outcome.Name)
	}
}

// One whose workload is not known is an orphan until it has ended, or its workload comes.
func TestOrphans(t *testing.T) {
	i := inventory.New()
	i.SetRestart(of("a", "5"))
	i.SetRestart(of("b", "6").Ended(v1alpha1.ResultFailed, "", noon))
	i.SetNamespace(builder.Namespace("shop").CreatedAt(noon).Build(), noon)
	if diff := cmp.Diff([]string{"a"}, names(i.Snapshot().Namespaces[0].Orphans)); diff != "" {
		t.Errorf("orphans (-want +got):\n%s", diff)
	}
	i.SetObject(inventory.FromDeployment(builder.Deployment("shop", "cart").Build()))
	namespace := i.Snapshot().Namespaces[0]
	if diff := cmp.Diff([]string(nil), names(namespace.Orphans)); diff != "" {
		t.Errorf("orphans of a workload that has come (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names(namespace.Restarts)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
	i.DeleteObject(inventory.FromDeployment(builder.Deployment("shop", "cart").Build()))
	if diff := cmp.Diff([]string{"a"}, names(i.Snapshot().Namespaces[0].Orphans)); diff != "" {
		t.Errorf("orphans of a workload that has gone (-want +got):\n%s", diff)
	}
}
