package builder

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// NamespaceBuilder builds a Namespace.
type NamespaceBuilder struct{ namespace *corev1.Namespace }

// Namespace has no labels.
func Namespace(name string) *NamespaceBuilder {
	namespace := &corev1.Namespace{ObjectMeta: named("namespace", "", name)}
	namespace.Generation = 0
	return &NamespaceBuilder{namespace}
}

// Labelled adds labels: key, value, key, value.
func (b *NamespaceBuilder) Labelled(pairs ...string) *NamespaceBuilder {
	b.namespace.Labels = with(b.namespace.Labels, pairs)
	return b
}

// Annotated adds annotations: key, value, key, value.
func (b *NamespaceBuilder) Annotated(pairs ...string) *NamespaceBuilder {
	b.namespace.Annotations = with(b.namespace.Annotations, pairs)
	return b
}

// CreatedAt says when it was created.
func (b *NamespaceBuilder) CreatedAt(at time.Time) *NamespaceBuilder {
	b.namespace.CreationTimestamp = metav1.NewTime(at)
	return b
}

// Terminating gives it a deletion time.
func (b *NamespaceBuilder) Terminating(at time.Time) *NamespaceBuilder {
	b.namespace.DeletionTimestamp = new(metav1.NewTime(at))
	return b
}

// Build is the Namespace.
func (b *NamespaceBuilder) Build() *corev1.Namespace { return b.namespace }

// Node takes new Pods, or is cordoned.
func Node(name string, cordoned bool) *corev1.Node {
	node := &corev1.Node{ObjectMeta: named("node", "", name), Spec: corev1.NodeSpec{Unschedulable: cordoned}}
	node.Generation = 0
	return node
}

// BudgetBuilder builds a PodDisruptionBudget.
type BudgetBuilder struct {
	budget *policyv1.PodDisruptionBudget
}

// DisruptionBudget covers the Pods with the label app=name and allows nothing.
func DisruptionBudget(namespace, name string) *BudgetBuilder {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: named("budget", namespace, name)}
	budget.Spec.Selector = selecting(name)
	budget.Status.ObservedGeneration = budget.Generation
	return &BudgetBuilder{budget}
}

// Covering selects Pods by labels instead: key, value, key, value. None selects every Pod.
func (b *BudgetBuilder) Covering(pairs ...string) *BudgetBuilder {
	b.budget.Spec.Selector = &metav1.LabelSelector{MatchLabels: with(nil, pairs)}
	return b
}

// Healthy says how many Pods are, how many must be, and how many there are at most.
func (b *BudgetBuilder) Healthy(healthy, desired, expected int32) *BudgetBuilder {
	b.budget.Status.CurrentHealthy, b.budget.Status.DesiredHealthy, b.budget.Status.ExpectedPods = healthy, desired, expected
	b.budget.Status.DisruptionsAllowed = max(healthy-desired, 0)
	return b
}

// NotSeen leaves the disruption controller behind the budget's newest change.
func (b *BudgetBuilder) NotSeen() *BudgetBuilder {
	b.budget.Status = policyv1.PodDisruptionBudgetStatus{}
	return b
}

// Build is the PodDisruptionBudget.
func (b *BudgetBuilder) Build() *policyv1.PodDisruptionBudget { return b.budget }

// PolicyBuilder builds a MeshPolicy.
type PolicyBuilder struct{ policy *v1alpha1.MeshPolicy }

// Enforcing governs every namespace and restarts what a restart helps, within the default budgets.
func Enforcing(name string) *PolicyBuilder {
	policy := &v1alpha1.MeshPolicy{ObjectMeta: named("policy", "", name)}
	policy.Spec.Mode = v1alpha1.ModeEnforce
	policy.Spec.NamespaceSelector = &v1alpha1.LabelSelector{}
	return &PolicyBuilder{policy}
}

// Reporting governs every namespace and restarts nothing.
func Reporting(name string) *PolicyBuilder {
	built := Enforcing(name)
	built.policy.Spec.Mode = v1alpha1.ModeReport
	return built
}

// Priority sets its rank.
func (b *PolicyBuilder) Priority(priority int32) *PolicyBuilder {
	b.policy.Spec.Priority = &priority
	return b
}

// Over governs the namespaces with the labels: key, value, key, value.
func (b *PolicyBuilder) Over(pairs ...string) *PolicyBuilder {
	b.policy.Spec.NamespaceSelector = matching(pairs)
	return b
}

// Selecting governs the workloads whose templates have the labels: key, value, key, value.
func (b *PolicyBuilder) Selecting(pairs ...string) *PolicyBuilder {
	b.policy.Spec.WorkloadSelector = matching(pairs)
	return b
}

func matching(pairs []string) *v1alpha1.LabelSelector {
	selector := &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{}}
	for key, value := range with(nil, pairs) {
		selector.MatchLabels[key] = v1alpha1.LabelValue(value)
	}
	return selector
}

// Accepting accepts risks.
func (b *PolicyBuilder) Accepting(risks ...v1alpha1.Risk) *PolicyBuilder {
	b.policy.Spec.Accept = risks
	return b
}

// Remediating acts on the findings.
func (b *PolicyBuilder) Remediating(findings ...v1alpha1.Remediation) *PolicyBuilder {
	b.policy.Spec.Remediate = findings
	return b
}

// Settling waits so many seconds after a change.
func (b *PolicyBuilder) Settling(seconds int32) *PolicyBuilder {
	b.policy.Spec.SettleSeconds = &seconds
	return b
}

// ProgressTimeout gives a restart up after so many seconds.
func (b *PolicyBuilder) ProgressTimeout(seconds int32) *PolicyBuilder {
	b.failure().ProgressTimeoutSeconds = &seconds
	return b
}

// StopAfter stops the policy after so many failed workloads.
func (b *PolicyBuilder) StopAfter(workloads int32) *PolicyBuilder {
	b.failure().StopAfter = &workloads
	return b
}

// CoolDown has a stopped policy try one workload after so many seconds.
func (b *PolicyBuilder) CoolDown(seconds int32) *PolicyBuilder {
	b.failure().CoolDownSeconds = &seconds
	return b
}

func (b *PolicyBuilder) failure() *v1alpha1.FailurePolicy {
	if b.policy.Spec.Failure == nil {
		b.policy.Spec.Failure = &v1alpha1.FailurePolicy{}
	}
	return b.policy.Spec.Failure
}

// Budget adds a budget; workloads and pods are numbers or percentages, nil where they are unset.
func (b *PolicyBuilder) Budget(scope v1alpha1.BudgetScope, workloads, pods any) *PolicyBuilder {
	budget := v1alpha1.Budget{Scope: scope}
	if workloads != nil {
		budget.Workloads = amount(workloads)
	}
	if pods != nil {
		budget.Pods = amount(pods)
	}
	b.policy.Spec.Budgets = append(b.policy.Spec.Budgets, budget)
	return b
}

// Window adds a window of so many minutes; an empty zone is UTC.
func (b *PolicyBuilder) Window(action v1alpha1.WindowAction, schedule string, minutes int32, zone string) *PolicyBuilder {
	b.policy.Spec.Windows = append(b.policy.Spec.Windows,
		v1alpha1.Window{Action: action, Schedule: schedule, DurationMinutes: minutes, TimeZone: zone})
	return b
}

// Soaking waits so many seconds after the first workload of a namespace.
func (b *PolicyBuilder) Soaking(seconds int32) *PolicyBuilder {
	b.policy.Spec.SoakSeconds = &seconds
	return b
}

// Unbounded sets budgets that bound nothing.
func (b *PolicyBuilder) Unbounded() *PolicyBuilder {
	return b.Budget(v1alpha1.BudgetScopePolicy, fmt.Sprint(100000), nil)
}

// Build is the MeshPolicy.
func (b *PolicyBuilder) Build() *v1alpha1.MeshPolicy { return b.policy }

// With changes what no other method does.
func (b *BudgetBuilder) With(change func(*policyv1.PodDisruptionBudget)) *BudgetBuilder {
	change(b.budget)
	return b
}
