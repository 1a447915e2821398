package restart

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// What a policy says when it says nothing.
const (
	defaultSettle          = 30 * time.Second
	defaultProgressTimeout = 600 * time.Second
)

// LeastSettle is for how long a policy waits at least after what decides has changed: API servers match webhooks
// from their own, older view.
const LeastSettle = 2 * time.Second

// Policy is a MeshPolicy made ready for decisions: selectors compiled, defaults filled in.
type Policy struct {
	Name string
	Mode v1alpha1.Mode

	priority        int32
	namespaces      labels.Selector
	workloads       labels.Selector // nil: every workload
	remediate       sets.Set[v1alpha1.Finding]
	accept          sets.Set[v1alpha1.Risk]
	settle          time.Duration
	progressTimeout time.Duration
	budgets         []v1alpha1.Budget
	// invalid is why the policy cannot be used; nil where it can.
	invalid   error
	windows   windows
	soak      time.Duration
	stopAfter int
	coolDown  time.Duration

	// retryRequested is the request to try again that its annotation holds.
	retryRequested string
}

// NewPolicy makes a policy ready. The error says which field cannot be used, and how to correct it
// where the API server does not see that: schedules and time zones of windows. A policy that comes
// with such an error still governs its namespaces, so no other one restarts there what this one would
// hold; nothing is restarted under it. It is nil where a selector cannot be read.
func NewPolicy(object *v1alpha1.MeshPolicy) (*Policy, error) {
	spec := &object.Spec
	policy := &Policy{
		Name:            object.Name,
		Mode:            cmp.Or(spec.Mode, v1alpha1.ModeReport),
		namespaces:      labels.Everything(),
		remediate:       sets.New(v1alpha1.FindingMissing),
		accept:          sets.New(spec.Accept...),
		settle:          defaultSettle,
		progressTimeout: defaultProgressTimeout,
		budgets:         defaultBudgets(),
		stopAfter:       defaultStopAfter,
		coolDown:        defaultCoolDown,
		retryRequested:  requested(object.Annotations),
	}
	var err error
	if spec.NamespaceSelector != nil {
		if policy.namespaces, err = selector(spec.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("reading spec.namespaceSelector: %w", err)
		}
	}
	if spec.WorkloadSelector != nil {
		if policy.workloads, err = selector(spec.WorkloadSelector); err != nil {
			return nil, fmt.Errorf("reading spec.workloadSelector: %w", err)
		}
	}
	if spec.Priority != nil {
		policy.priority = *spec.Priority
	}
	if len(spec.Remediate) > 0 {
		policy.remediate.Clear()
		for _, finding := range spec.Remediate {
			policy.remediate.Insert(v1alpha1.Finding(finding))
		}
	}
	if spec.SettleSeconds != nil {
		policy.settle = max(time.Duration(*spec.SettleSeconds)*time.Second, LeastSettle)
	}
	if len(spec.Budgets) > 0 {
		policy.budgets = spec.Budgets
	}
	if spec.SoakSeconds != nil {
		policy.soak = time.Duration(*spec.SoakSeconds) * time.Second
	}
	policy.setFailure(spec.Failure)
	policy.windows, policy.invalid = newWindows(spec.Windows)
	return policy, policy.invalid
}

func (p *Policy) setFailure(failure *v1alpha1.FailurePolicy) {
	if failure == nil {
		return
	}
	if failure.ProgressTimeoutSeconds != nil {
		p.progressTimeout = time.Duration(*failure.ProgressTimeoutSeconds) * time.Second
	}
	if failure.StopAfter != nil {
		p.stopAfter = int(max(1, *failure.StopAfter))
	}
	if failure.CoolDownSeconds != nil {
		p.coolDown = time.Duration(max(1, *failure.CoolDownSeconds)) * time.Second
	}
}

// defaultBudgets are those of a policy that names none: five workloads and a hundred Pods in the policy, a
// twentieth of the workloads in each namespace.
func defaultBudgets() []v1alpha1.Budget {
	return []v1alpha1.Budget{
		{Scope: v1alpha1.BudgetScopePolicy, Workloads: new(intstr.FromInt32(5)), Pods: new(intstr.FromInt32(100))},
		{Scope: v1alpha1.BudgetScopeNamespace, Workloads: new(intstr.FromString("5%"))},
	}
}

func selector(from *v1alpha1.LabelSelector) (labels.Selector, error) {
	converted := &metav1.LabelSelector{}
	for key, value := range from.MatchLabels {
		metav1.AddLabelToSelector(converted, key, string(value))
	}
	for _, requirement := range from.MatchExpressions {
		values := make([]string, 0, len(requirement.Values))
		for _, value := range requirement.Values {
			values = append(values, string(value))
		}
		converted.MatchExpressions = append(converted.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: requirement.Key, Operator: requirement.Operator, Values: values})
	}
	return metav1.LabelSelectorAsSelector(converted)
}

// Selects reports whether the policy governs the workload once it governs its namespace.
func (p *Policy) Selects(workload *inventory.Workload) bool {
	return p.workloads == nil || p.workloads.Matches(labels.Set(workload.Template.Labels))
}

// accepts reports whether the administrator, or the owner for this workload alone, accepts a risk.
func (p *Policy) accepts(risk v1alpha1.Risk, workload *inventory.Workload) bool {
	return p.accept.Has(risk) || ownerAccepts(workload).Has(risk)
}

// Rank orders policies as namespaces choose among them: the highest priority first, then by name.
func Rank(policies []*Policy) []*Policy {
	return slices.SortedFunc(slices.Values(policies), func(a, b *Policy) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.Name, b.Name))
	})
}

// Governing is the policy, of those in rank order, that a namespace follows; nil where none
// selects it. System and control-plane namespaces follow one only where a label on them says so.
func Governing(ranked []*Policy, system bool, namespace *inventory.Namespace) *Policy {
	if system && namespace.Labels[v1alpha1.IncludeLabel] != "true" {
		return nil
	}
	for _, policy := range ranked {
		if policy.namespaces.Matches(labels.Set(namespace.Labels)) {
			return policy
		}
	}
	return nil
}

// SystemNamespaces are governed only where a label on them says so, in addition to those of the mesh's
// control planes and of the operator itself.
var SystemNamespaces = sets.New("kube-system", "kube-public", "kube-node-lease")
