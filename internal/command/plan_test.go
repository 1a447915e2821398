package command

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

var (
	now  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	then = now.Add(-time.Hour)
)

// inventory is a cluster as far as a plan sees it.
type picture struct{ *inventory.Inventory }

func newPicture() picture {
	p := picture{inventory.New()}
	webhooks := []*admissionregistrationv1.MutatingWebhookConfiguration{builder.Webhooks()}
	p.SetInjector(mesh.NewInjector(webhooks, []*corev1.ConfigMap{builder.InjectorSettings()}, mesh.Options{}), then)
	return p
}

// run puts a workload into the inventory with so many ready Pods in the mesh, and so many outside.
func (p picture) run(owner metav1.Object, meshed, bare int) {
	var object *inventory.Object
	switch owner := owner.(type) {
	case *appsv1.Deployment:
		object = inventory.FromDeployment(owner)
	case *appsv1.StatefulSet:
		object = inventory.FromStatefulSet(owner)
	case *appsv1.DaemonSet:
		object = inventory.FromDaemonSet(owner)
	case *batchv1.Job:
		object = inventory.FromJob(owner)
	}
	p.SetObject(object)
	controlled := owner
	if deployment, ok := owner.(*appsv1.Deployment); ok {
		replicaSet := builder.ReplicaSet(owner.GetNamespace(), owner.GetName()+"-1").OwnedBy(deployment).Build()
		p.SetLink(inventory.LinkTo(replicaSet))
		controlled = replicaSet
	}
	for i := range meshed + bare {
		pod := builder.Pod(owner.GetNamespace(), fmt.Sprintf("%s-%d", owner.GetName(), i)).OwnedBy(controlled).CreatedAt(then).Ready(then)
		for key, value := range object.Template.Labels {
			pod.Labelled(key, value)
		}
		if i < meshed {
			pod.Injected("default")
		}
		p.SetPod(mesh.CutDown(pod.Build()))
	}
}

// shops is a inventory with a namespace that needs much, one that needs nothing, and one that injection
// does not concern.
func shops() *inventory.Snapshot {
	p := newPicture()
	for name, labels := range map[string][]string{
		"shop": {"istio-injection", "enabled"}, "done": {"istio-injection", "enabled"}, "plain": nil,
		"torn": {"istio-injection", "enabled", "istio.io/rev", "canary"},
	} {
		p.SetNamespace(builder.Namespace(name).Labelled(labels...).CreatedAt(then).Build(), now)
	}
	p.run(builder.Deployment("shop", "web").Replicas(4).CreatedAt(then).RolledOut().Build(), 1, 3)
	p.run(builder.Deployment("shop", "cart").Replicas(2).CreatedAt(then).RolledOut().Build(), 2, 0)
	p.run(builder.Deployment("shop", "legacy").Replicas(2).Labelled("sidecar.istio.io/inject", "false").CreatedAt(then).RolledOut().Build(), 0, 2)
	p.run(builder.StatefulSet("shop", "db").CreatedAt(then).RolledOut().Build(), 0, 1)
	p.run(builder.DaemonSet("shop", "logs").CreatedAt(then).RolledOut(3).Build(), 0, 3)
	p.run(builder.Job("shop", "migrate").CreatedAt(then).Build(), 0, 1)
	p.run(builder.Job("shop", "migrated").CreatedAt(then).Build(), 0, 0)
	p.SetPod(mesh.CutDown(builder.Pod("shop", "debug").CreatedAt(then).Ready(then).Build()))
	p.run(builder.Deployment("done", "api").Replicas(2).CreatedAt(then).RolledOut().Build(), 2, 0)
	for _, name := range []string{"a", "b", "c", "d"} {
		p.run(builder.Deployment("torn", name).CreatedAt(then).RolledOut().Build(), 1, 0)
	}
	p.run(builder.Deployment("plain", "wiki").Replicas(2).CreatedAt(then).RolledOut().Build(), 0, 2)
	return p.Snapshot()
}

func decide(t *testing.T, snapshot *inventory.Snapshot, policy *v1alpha1.MeshPolicy) *restart.Plan {
	t.Helper()
	ready, err := restart.NewPolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	return restart.Decide(restart.Input{Now: now, Snapshot: snapshot, Policies: []*restart.Policy{ready}, Guard: restart.GuardHolds})
}

func TestPlanIsPrinted(t *testing.T) {
	enforcing := builder.Enforcing("production").Build()
	for _, test := range []struct {
		golden  string
		policy  *v1alpha1.MeshPolicy
		assumed bool
		format  format
		width   int
	}{
		{"plan.txt", enforcing, false, formatTable, 0},
		{"plan-terminal.txt", enforcing, false, formatTable, 120},
		{"plan-assumed.txt", newAssumedPolicy(), true, formatTable, 0},
		{"plan-report.txt", builder.Reporting("watch").Build(), false, formatTable, 0},
		{"plan.json", enforcing, false, formatJSON, 0},
		{"plan.yaml", enforcing, false, formatYAML, 120},
	} {
		t.Run(test.golden, func(t *testing.T) {
			document := newPlanDocument(decide(t, shops(), test.policy), test.assumed)
			var printed bytes.Buffer
			err := test.format.print(screen{&printed, test.width}, document, func(out screen) { document.print(out, false) })
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, test.golden, printed.Bytes())
		})
	}
}

func TestPlanOfNothingIsAListAndNotNull(t *testing.T) {
	var printed bytes.Buffer
	out := formatJSON
	if err := out.print(screen{Writer: &printed}, newPlanDocument(&restart.Plan{}, true), nil); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"policyAssumed\": true,\n  \"namespaces\": []\n}\n"; printed.String() != want {
		t.Errorf("It prints %q, want %q", printed.String(), want)
	}
}

func TestWhatIsSomethingToDo(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(picture)
		want bool
	}{
		{"nothing runs", func(picture) {}, false},
		{"everything is in the mesh", func(p picture) {
			p.run(builder.Deployment("shop", "web").Replicas(2).RolledOut().Build(), 2, 0)
		}, false},
		{"what is outside has opted out", func(p picture) {
			p.run(builder.Deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").RolledOut().Build(), 0, 1)
		}, false},
		{"a Job runs outside of the mesh and will end", func(p picture) {
			p.run(builder.Job("shop", "migrate").Build(), 0, 1)
		}, false},
		{"a Deployment is restarted", func(p picture) {
			p.run(builder.Deployment("shop", "web").Replicas(2).RolledOut().Build(), 0, 2)
		}, true},
		{"a StatefulSet is held", func(p picture) {
			p.run(builder.StatefulSet("shop", "db").RolledOut().Build(), 0, 1)
		}, true},
		{"the owner wants no restart", func(p picture) {
			p.run(builder.Deployment("shop", "web").Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).RolledOut().Build(), 0, 1)
		}, true},
		{"a Pod has a sidecar though none is expected", func(p picture) {
			p.run(builder.Deployment("shop", "web").Labelled("sidecar.istio.io/inject", "false").RolledOut().Build(), 1, 0)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPicture()
			p.SetNamespace(builder.Namespace("shop").Labelled("istio-injection", "enabled").CreatedAt(then).Build(), now)
			test.run(p)
			document := newPlanDocument(decide(t, p.Snapshot(), newAssumedPolicy()), true)
			if got := document.somethingToDo(); got != test.want {
				t.Errorf("There is something to do: %t, want %t\n%+v", got, test.want, document)
			}
		})
	}
}
