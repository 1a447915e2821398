package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/builder"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestStrategyIsWhatTheKindsControllerMakesOfIt(t *testing.T) {
	rolling := func(unavailable, surge int) inventory.Strategy {
		return inventory.Strategy{Type: inventory.StrategyRolling, MaxUnavailable: unavailable, MaxSurge: surge}
	}
	for name, test := range map[string]struct {
		object *inventory.Object
		want   inventory.Strategy
	}{
		"a Deployment's surge is rounded up and what may be unavailable down": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(10).Build()), rolling(2, 3)},
		"one Pod of a Deployment is replaced by surge": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(1).Build()), rolling(0, 1)},
		"a Deployment may be given numbers": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(3).Unavailable(0).Surge(1).Build()), rolling(0, 1)},
		"a Deployment for which both come to nothing has one unavailable": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(5).Unavailable("10%").Surge(0).Build()), rolling(1, 0)},
		"no more are unavailable than there are": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(2).Unavailable(5).Surge(0).Build()), rolling(2, 0)},
		"no more are added than there are": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(3).Unavailable(0).Surge(200).Build()), rolling(0, 3)},
		"Recreate takes down all": {
			inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(3).Recreate().Build()),
			inventory.Strategy{Type: inventory.StrategyRecreate, MaxUnavailable: 3}},
		"a StatefulSet takes one at a time": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(3).Build()), rolling(1, 0)},
		"a StatefulSet may be allowed more": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(10).Unavailable("25%").Build()), rolling(2, 0)},
		"a StatefulSet takes one where its percentage comes to less": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(3).Unavailable("25%").Build()), rolling(1, 0)},
		"a StatefulSet takes no more than there are": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(3).Unavailable(200).Build()), rolling(3, 0)},
		"a StatefulSet stops at its partition": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(3).Partition(2).Build()),
			inventory.Strategy{Type: inventory.StrategyRolling, MaxUnavailable: 1, Partition: 2}},
		"OnDelete replaces nothing in a StatefulSet": {
			inventory.FromStatefulSet(builder.StatefulSet("shop", "db").OnDelete().Build()), inventory.Strategy{}},
		"a DaemonSet takes one node at a time": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").RolledOut(5).Build()), rolling(1, 0)},
		"a DaemonSet's percentage is of its nodes and rounded up": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").Unavailable("25%").RolledOut(5).Build()), rolling(2, 0)},
		"a DaemonSet may surge": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").Unavailable(0).Surge("10%").RolledOut(5).Build()), rolling(0, 1)},
		"a DaemonSet takes no more than its nodes": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").Unavailable(200).RolledOut(5).Build()), rolling(5, 0)},
		"a DaemonSet adds no more than one for each node": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").Unavailable(0).Surge(200).RolledOut(5).Build()), rolling(0, 5)},
		"OnDelete replaces nothing in a DaemonSet": {
			inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(5).Build()), inventory.Strategy{}},
		"a ReplicaSet replaces nothing": {
			inventory.FromReplicaSet(builder.ReplicaSet("shop", "cart").Replicas(3).Build()), inventory.Strategy{}},
		"a Job replaces nothing":     {inventory.FromJob(builder.Job("shop", "import").Build()), inventory.Strategy{}},
		"a CronJob replaces nothing": {inventory.FromCronJob(builder.CronJob("shop", "import").Build()), inventory.Strategy{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.object.Strategy); diff != "" {
				t.Errorf("strategy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestObjectKeepsWhatIsJudged(t *testing.T) {
	owner := builder.ControlledByOther("acme.io/v1", "Shop", "main", "shop-1")
	deployment := builder.Deployment("shop", "cart").Replicas(4).UID("u1").Annotated("a", "1").Labelled("version", "v1").TemplateAnnotated("b", "2").
		CreatedAt(noon).RolledOut().With(func(d *appsv1.Deployment) {
		d.ResourceVersion = "77"
		d.Generation = 3
		d.OwnerReferences = append(d.OwnerReferences, owner)
		d.Spec.Paused = true
		d.Spec.MinReadySeconds = 5
		d.Status.AvailableReplicas = 2
		d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
	}).Build()
	got := inventory.FromDeployment(deployment)
	want := &inventory.Object{
		Meta:  mesh.Meta{Namespace: "shop", Name: "cart", UID: "u1", ResourceVersion: "77"},
		Group: "apps", Kind: "Deployment", Owner: mesh.Owner{Group: "acme.io", Kind: "Shop", Name: "main", UID: "shop-1"},
		Annotations: map[string]string{"a": "1"}, Template: &deployment.Spec.Template, TemplateChanged: noon,
		Generation: 3, ObservedGeneration: 1, Replicas: 4, Current: 4, Updated: 4, Available: 2,
		Strategy: inventory.Strategy{Type: inventory.StrategyRolling, MaxUnavailable: 1, MaxSurge: 1},
		Paused:   true, Stuck: true, MinReadySeconds: 5,
	}
	want.TemplateHash = got.TemplateHash // see TestTemplateHash
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
	injection := mesh.Template{Labels: map[string]string{"app": "cart", "version": "v1"}, Annotations: map[string]string{"b": "2"},
		Spec: &deployment.Spec.Template.Spec, Kind: "Deployment"}
	if diff := cmp.Diff(injection, got.Injection()); diff != "" {
		t.Errorf("what injection looks at (-want +got):\n%s", diff)
	}
	if got.Key().String() != "Deployment shop/cart" {
		t.Errorf("key %s", got.Key())
	}
}

func TestTemplateHash(t *testing.T) {
	hash := func(b *builder.Workload[*appsv1.Deployment]) string {
		return inventory.FromDeployment(b.Build()).TemplateHash
	}
	first := hash(builder.Deployment("shop", "cart"))
	if hash(builder.Deployment("shop", "cart").Replicas(5).Annotated("a", "1").TemplateAnnotated("fullmesh.dev/restart-cause", "one")) != first {
		t.Error("it changes with what is not the owner's template")
	}
	if hash(builder.Deployment("shop", "cart").TemplateAnnotated("a", "1")) == first {
		t.Error("it does not change with the template")
	}
}

func TestStatefulSetKeepsTheNamesOfItsClaims(t *testing.T) {
	set := builder.StatefulSet("shop", "db").With(func(s *appsv1.StatefulSet) {
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}, {ObjectMeta: metav1.ObjectMeta{Name: "log"}}}
	}).Build()
	if diff := cmp.Diff([]string{"data", "log"}, inventory.FromStatefulSet(set).Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestAskingForNoNumberOfPodsAsksForOne(t *testing.T) {
	set := builder.StatefulSet("shop", "db").With(func(s *appsv1.StatefulSet) { s.Spec.Replicas = nil }).Build()
	if got := inventory.FromStatefulSet(set).Replicas; got != 1 {
		t.Errorf("%d replicas", got)
	}
}

func TestRollingOut(t *testing.T) {
	deployment := func(change func(*appsv1.Deployment)) *inventory.Object {
		return inventory.FromDeployment(builder.Deployment("shop", "cart").Replicas(4).RolledOut().With(change).Build())
	}
	set := func(partition int32, change func(*appsv1.StatefulSet)) *inventory.Object {
		return inventory.FromStatefulSet(builder.StatefulSet("shop", "db").Replicas(3).Partition(partition).RolledOut().With(change).Build())
	}
	daemon := func(change func(*appsv1.DaemonSet)) *inventory.Object {
		return inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").RolledOut(3).With(change).Build())
	}
	for name, test := range map[string]struct {
		object *inventory.Object
		want   bool
	}{
		"a Deployment that is done":                          {deployment(func(*appsv1.Deployment) {}), false},
		"a Deployment whose change has not been seen":        {deployment(func(d *appsv1.Deployment) { d.Generation = 2 }), true},
		"a Deployment that has not updated every Pod":        {deployment(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 3 }), true},
		"a Deployment whose old Pods have not gone":          {deployment(func(d *appsv1.Deployment) { d.Status.Replicas = 5 }), true},
		"a Deployment whose Pods are updated, not available": {deployment(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 0 }), false},
		"a Deployment that is scaled down to nothing":        {deployment(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32) }), false},
		"a StatefulSet that is done":                         {set(0, func(*appsv1.StatefulSet) {}), false},
		"a StatefulSet in the middle":                        {set(0, func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), true},
		"a StatefulSet that is done down to its partition":   {set(2, func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), false},
		"a StatefulSet above its partition":                  {set(1, func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 }), true},
		"a DaemonSet that is done":                           {daemon(func(*appsv1.DaemonSet) {}), false},
		"a DaemonSet with an old Pod on a node":              {daemon(func(d *appsv1.DaemonSet) { d.Status.UpdatedNumberScheduled = 2 }), true},
		"a DaemonSet that updates on deletion": {inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3).
			With(func(d *appsv1.DaemonSet) { d.Status.UpdatedNumberScheduled = 0 }).Build()), false},
		"a DaemonSet that updates on deletion and has not been seen": {inventory.FromDaemonSet(builder.DaemonSet("shop", "agent").OnDelete().RolledOut(3).
			With(func(d *appsv1.DaemonSet) { d.Generation = 2 }).Build()), true},
		"a ReplicaSet": {inventory.FromReplicaSet(builder.ReplicaSet("shop", "cart").RolledOut().Build()), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.object.RollingOut(); got != test.want {
				t.Errorf("rolling out: %t, want %t", got, test.want)
			}
		})
	}
}

func TestPatienceIsWhatThePodMayTakeByItsOwnAccount(t *testing.T) {
	probe := func(delay, period, failures int32) *corev1.Probe {
		return &corev1.Probe{InitialDelaySeconds: delay, PeriodSeconds: period, FailureThreshold: failures}
	}
	for name, test := range map[string]struct {
		change func(*appsv1.Deployment)
		want   time.Duration
	}{
		"the default grace period of the Pod before it": {func(*appsv1.Deployment) {}, 30 * time.Second},
		"its own grace period": {func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(300))
		}, 300 * time.Second},
		"no grace period": {func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(0))
		}, 0},
		"its startup probe": {func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].StartupProbe = probe(5, 10, 30)
		}, 335 * time.Second},
		"the longest startup probe of several": {func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = []corev1.Container{{StartupProbe: probe(0, 1, 10)}, {StartupProbe: probe(0, 10, 10)}, {}}
		}, 130 * time.Second},
		"its minReadySeconds": {func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 15 }, 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			object := inventory.FromDeployment(builder.Deployment("shop", "cart").With(test.change).Build())
			if got := object.Patience(); got != test.want {
				t.Errorf("patience %s, want %s", got, test.want)
			}
		})
	}
}

func TestTemplateChangedIsReadFromTheWriters(t *testing.T) {
	wrote := func(after time.Duration, subresource, fields string) metav1.ManagedFieldsEntry {
		entry := metav1.ManagedFieldsEntry{Manager: "someone", Subresource: subresource, Time: new(metav1.NewTime(noon.Add(after)))}
		entry.FieldsV1 = &metav1.FieldsV1{}
		entry.FieldsV1.SetRawString(fields)
		return entry
	}
	fullmesh := func(entry metav1.ManagedFieldsEntry) metav1.ManagedFieldsEntry {
		entry.Manager = v1alpha1.FieldManager
		return entry
	}
	const template, replicas, status = `{"f:spec":{"f:template":{"f:spec":{}}}}`, `{"f:spec":{"f:replicas":{}}}`, `{"f:status":{"f:template":{}}}`
	for name, test := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		want   time.Time
	}{
		"nobody says: when it was created":                       {nil, noon},
		"the one who wrote the template":                         {[]metav1.ManagedFieldsEntry{wrote(time.Hour, "", template)}, noon.Add(time.Hour)},
		"the last who wrote the template":                        {[]metav1.ManagedFieldsEntry{wrote(2*time.Hour, "", template), wrote(time.Hour, "", template)}, noon.Add(2 * time.Hour)},
		"not who wrote something else":                           {[]metav1.ManagedFieldsEntry{wrote(time.Hour, "", replicas)}, noon},
		"not Fullmesh, whose outcomes are written by it as well": {[]metav1.ManagedFieldsEntry{fullmesh(wrote(time.Hour, "", template))}, noon},
		"not who wrote the status":                               {[]metav1.ManagedFieldsEntry{wrote(time.Hour, "status", status)}, noon},
		"not before it was created":                              {[]metav1.ManagedFieldsEntry{wrote(-time.Hour, "", template)}, noon},
		"not where the writer has no time":                       {[]metav1.ManagedFieldsEntry{{Manager: "someone", FieldsV1: wrote(0, "", template).FieldsV1}}, noon},
		"not where the writer owns nothing":                      {[]metav1.ManagedFieldsEntry{{Manager: "someone", Time: new(metav1.NewTime(noon.Add(time.Hour)))}}, noon},
	} {
		t.Run(name, func(t *testing.T) {
			deployment := builder.Deployment("shop", "cart").CreatedAt(noon).Build()
			deployment.ManagedFields = test.fields
			if got := inventory.FromDeployment(deployment).TemplateChanged; !got.Equal(test.want) {
				t.Errorf("changed at %s, want %s", got, test.want)
			}
		})
	}
}

func TestOptOutOfTheObjectCountsBeforeThatOfItsTemplate(t *testing.T) {
	const key = v1alpha1.RestartAnnotation
	for name, test := range map[string]struct {
		object *appsv1.Deployment
		want   string
	}{
		"neither":              {builder.Deployment("shop", "cart").Build(), ""},
		"the object's own":     {builder.Deployment("shop", "cart").Annotated(key, "disabled").TemplateAnnotated(key, "other").Build(), "disabled"},
		"that of its template": {builder.Deployment("shop", "cart").TemplateAnnotated(key, "disabled").Build(), "disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := inventory.FromDeployment(test.object).OptOut(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestNewerComparesResourceVersionsAsNumbers(t *testing.T) {
	for _, test := range []struct {
		version, than string
		want          bool
	}{
		{"10", "9", true}, {"9", "10", false}, {"9", "9", false},
		{"", "9", false}, {"9", "", false}, {"x", "9", false},
	} {
		if got := inventory.Newer(test.version, test.than); got != test.want {
			t.Errorf("%q newer than %q: %t", test.version, test.than, got)
		}
	}
}

func TestWhyNoPodIsCreatedIsKept(t *testing.T) {
	const why = `pods "cart-1-x" is forbidden: exceeded quota`
	for name, kept := range map[string]func(status corev1.ConditionStatus) *inventory.Object{
		"Deployment": func(status corev1.ConditionStatus) *inventory.Object {
			return inventory.FromDeployment(builder.Deployment("shop", "cart").With(func(d *appsv1.Deployment) {
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: status, Message: why}, {Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}
			}).Build())
		},
		"ReplicaSet": func(status corev1.ConditionStatus) *inventory.Object {
			return inventory.FromReplicaSet(builder.ReplicaSet("shop", "cart").With(func(r *appsv1.ReplicaSet) {
				r.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: status, Message: why}}
			}).Build())
		},
		"Argo Rollout": func(status corev1.ConditionStatus) *inventory.Object {
			conditions := []any{map[string]any{"type": "ReplicaFailure", "status": string(status), "message": why}, map[string]any{"type": "Available", "status": "True"}}
			return inventory.FromRollout(builder.Rollout("shop", "cart").Set(conditions, "status", "conditions").Build())
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kept(corev1.ConditionTrue).ReplicaFailure; got != why {
				t.Errorf("while it is so: %q", got)
			}
			if got := kept(corev1.ConditionFalse).ReplicaFailure; got != "" {
				t.Errorf("when it is over: %q", got)
			}
		})
	}
}
