package chaos

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
)

// What every policy of a fleet allows at once.
const (
	policyWorkloads    = 5
	policyPods         = 9
	namespaceWorkloads = 2
)

// teams are the policies, each over the namespaces with its name as the label team.
var teams = []string{"red", "blue"}

// strays is the namespace of what cannot come into the mesh.
const strays = "strays"

// namespaceSize is how many workloads a namespace has: one of each kind.
const namespaceSize = 14

// fleet is what a cluster consists of when nothing disturbs it.
type fleet struct {
	namespaces []*corev1.Namespace
	policies   []*v1alpha1.MeshPolicy
	workloads  []client.Object
	budgets    []*policyv1.PodDisruptionBudget
	// untouchable are what nobody may restart, whatever happens.
	untouchable []client.Object
}

// kinds are the workloads of a namespace, in turn. They differ in what their own controllers, and
// the disruption budgets, let a restart do.
var kinds = [namespaceSize]func(f *fleet, namespace, name string) client.Object{
	func(_ *fleet, namespace, name string) client.Object {
		return builder.Deployment(namespace, name).Replicas(2).Surge(1).Unavailable(0).Build()
	},
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, name, 2, name)
		return builder.Deployment(namespace, name).Replicas(3).Surge(1).Unavailable(1).TemplateAnnotated(cluster.ReadyAfter, "1s").Build()
	},
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, name, 1, name)
		return builder.StatefulSet(namespace, name).Replicas(2).TemplateAnnotated(cluster.ReadyAfter, "1s").Build()
	},
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, name, 4, name)
		return builder.Deployment(namespace, name).Replicas(4).Surge(2).Unavailable(0).TemplateAnnotated(cluster.ReadyAfter, "1s").Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.Deployment(namespace, name).Replicas(2).Recreate().Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.Deployment(namespace, name).Replicas(1).Surge(1).Unavailable(0).Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		set := builder.StatefulSet(namespace, name).Replicas(3).TemplateAnnotated(cluster.ReadyAfter, "500ms").Build()
		set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		return set
	},
	// The next two share a budget.
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, "pair", 3, "pair")
		return builder.Deployment(namespace, name).Replicas(2).Surge(1).Unavailable(1).Labelled("shared", "pair").Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.StatefulSet(namespace, name).Replicas(2).Labelled("shared", "pair").Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.DaemonSet(namespace, name).Build()
	},
	// A changed template moves these not, or not all of it.
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, name, 2, name)
		return builder.StatefulSet(namespace, name).Replicas(3).OnDelete().Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.StatefulSet(namespace, name).Replicas(3).Partition(2).Build()
	},
	func(_ *fleet, namespace, name string) client.Object {
		return builder.ReplicaSet(namespace, name).Replicas(2).Build()
	},
	// And this one's strategy takes more than its disruption budget allows.
	func(f *fleet, namespace, name string) client.Object {
		f.cover(namespace, name, 3, name)
		return builder.Deployment(namespace, name).Replicas(4).Surge(0).Unavailable(2).TemplateAnnotated(cluster.ReadyAfter, "500ms").Build()
	},
}

// newFleet makes so many workloads that Fullmesh can bring into the mesh, and some that it cannot.
func newFleet(size int) *fleet {
	f := &fleet{}
	for _, team := range teams {
		f.policies = append(f.policies, builder.Enforcing(team).Over("team", team).Settling(2).Accepting(v1alpha1.RiskDowntime).
			Budget(v1alpha1.BudgetScopePolicy, policyWorkloads, policyPods).
			Budget(v1alpha1.BudgetScopeNamespace, namespaceWorkloads, nil).Build())
	}
	for i := range size {
		if i%namespaceSize == 0 {
			f.addNamespace(fmt.Sprintf("shop-%02d", i/namespaceSize))
		}
		namespace := f.namespaces[len(f.namespaces)-1].Name
		f.workloads = append(f.workloads, kinds[i%namespaceSize](f, namespace, fmt.Sprintf("app-%d", i%namespaceSize)))
	}
	f.addNamespace(strays)
	f.untouchable = []client.Object{
		builder.Job(strays, "import").Build(),
		builder.Pod(strays, "alone").Build(),
		builder.Deployment(strays, "legacy").Replicas(2).Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build(),
	}
	return f
}

func (f *fleet) addNamespace(name string) {
	team := teams[len(f.namespaces)%len(teams)]
	f.namespaces = append(f.namespaces, builder.Namespace(name).Labelled("team", team).Build())
}

// cover adds a disruption budget over the Pods with the label app=covered, or shared=covered, that
// needs so many of them.
func (f *fleet) cover(namespace, name string, needed int32, covered string) {
	label := "app"
	if covered == "pair" {
		label = "shared"
	}
	f.budgets = append(f.budgets, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(needed)),
			Selector:     &metav1.LabelSelector{MatchLabels: map[string]string{label: covered}},
		},
	})
}
