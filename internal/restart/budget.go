package restart

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// usage is what restarts take up at once.
type usage struct {
	workloads, pods int
	// failed are those of the workloads whose restart has failed.
	failed []string
}

func (u *usage) add(workload *inventory.Workload, pods int) {
	u.workloads++
	u.pods += pods
	if workload.Record.Failed() {
		u.failed = append(u.failed, workload.Key.String())
	}
}

func (u *usage) remove(failed string, pods int) {
	u.workloads--
	u.pods -= pods
	u.failed = slices.DeleteFunc(u.failed, func(key string) bool { return key == failed })
}

// noRoom is the hold of a workload for which the restarts in flight leave no room. It ends by itself: one
// that has failed gives up its place in time.
func (u *usage) noRoom(budget string) *hold {
	answer := &hold{reason: ReasonBudgetUsedUp, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Waiting for its turn: the restarts in flight (workloads: %d, Pods: %d) leave no room in the budget of %s.", u.workloads, u.pods, budget)}
	if len(u.failed) > 0 {
		answer.message += fmt.Sprintf(" These have failed and still count, until as many of their Pods are ready as before or nothing has moved for a while: %s.", strings.Join(u.failed[:min(len(u.failed), 3)], ", "))
	}
	return answer
}

// base is what percentages are taken of: the governed workloads that injection concerns, and their
// Pods.
type base struct{ workloads, pods int }

func baseOf(policy *Policy, namespace *inventory.Namespace) base {
	if policy.workloads == nil {
		return base{workloads: namespace.Totals.Workloads, pods: namespace.Totals.Concerned}
	}
	var sum base
	for _, workload := range namespace.Workloads {
		if concerned := workload.Concerned(); concerned > 0 && policy.Selects(workload) {
			sum.workloads++
			sum.pods += concerned
		}
	}
	return sum
}

// ledger keeps, over one pass, what every policy and namespace has in flight against what its
// budgets allow.
type ledger struct {
	policies   map[*Policy]*account
	namespaces map[string]*account
	// inFlight are the workloads in flight, by namespace.
	inFlight map[string][]*inventory.Workload
}

type account struct {
	used usage
	base base
	// waiting is the namespace whose workload was the first to find no room. Those that do not have fewer
	// in flight wait for it, however few Pods theirs take: it would have its turn when they are done.
	waiting string
}

func newLedger() *ledger {
	return &ledger{policies: map[*Policy]*account{}, namespaces: map[string]*account{}, inFlight: map[string][]*inventory.Workload{}}
}

// open makes the accounts of a namespace and its policy.
func (l *ledger) open(policy *Policy, namespace *inventory.Namespace) {
	own := baseOf(policy, namespace)
	l.namespaces[namespace.Name] = &account{base: own}
	if l.policies[policy] == nil {
		l.policies[policy] = &account{}
	}
	l.policies[policy].base.workloads += own.workloads
	l.policies[policy].base.pods += own.pods
}

// take counts a workload that is in flight or begins to be.
func (l *ledger) take(s *situation, by v1alpha1.RestartMethod) {
	l.inFlight[s.namespace.Name] = append(l.inFlight[s.namespace.Name], s.workload)
	pods := s.atOnce(by)
	for _, account := range l.accounts(s) {
		account.used.add(s.workload, pods)
	}
}

// accounts are those that a restart counts against: of the policy that governs its namespace now, of the
// namespace under it, and of the policy that has begun it. One that is edited has no more room than before.
func (l *ledger) accounts(s *situation) []*account {
	var accounts []*account
	if s.policy != nil {
		accounts = append(accounts, l.policies[s.policy], l.namespaces[s.namespace.Name])
	}
	if s.begunUnder != nil {
		accounts = append(accounts, l.policies[s.begunUnder])
	}
	return accounts
}

// former is the policy of a name, where that is another one than governs now and restarts something.
func (l *ledger) former(governs *Policy, name string) *Policy {
	for policy := range l.policies {
		if policy.Name == name && policy != governs {
			return policy
		}
	}
	return nil
}

// giveBack takes out a workload whose failed restart has kept its place: it does not wait for itself.
func (l *ledger) giveBack(s *situation) {
	if s.place == "" {
		return
	}
	inFlight := l.inFlight[s.namespace.Name]
	l.inFlight[s.namespace.Name] = slices.DeleteFunc(inFlight, func(other *inventory.Workload) bool { return other == s.workload })
	key, pods := s.workload.Key.String(), s.atOnce(s.place)
	for _, account := range l.accounts(s) {
		account.used.remove(key, pods)
	}
}

// podLimit is how many Pods of a namespace the tightest budget lets be down or on top at once; -1 where
// none says so.
func (l *ledger) podLimit(policy *Policy, namespace string) int {
	limit := -1
	if policy == nil {
		return limit
	}
	for i := range policy.budgets {
		budget := &policy.budgets[i]
		account := l.account(policy, namespace, budget.Scope)
		allowed := resolve(budget.Pods, account.base.pods)
		if allowed >= 0 && (limit < 0 || allowed < limit) {
			limit = allowed
		}
	}
	return limit
}

// isOverdrawn reports whether what is in flight takes more Pods than a budget allows.
func (l *ledger) isOverdrawn(policy *Policy, namespace string) bool {
	return slices.ContainsFunc(policy.budgets, func(budget v1alpha1.Budget) bool {
		account := l.account(policy, namespace, budget.Scope)
		pods := resolve(budget.Pods, account.base.pods)
		return pods >= 0 && account.used.pods > pods
	})
}

func (l *ledger) account(policy *Policy, namespace string, scope v1alpha1.BudgetScope) *account {
	if scope == v1alpha1.BudgetScopeNamespace {
		return l.namespaces[namespace]
	}
	return l.policies[policy]
}

// sharesDisruptionBudget speaks where a workload that is in flight counts against the same
// PodDisruptionBudget: rolling updates do not ask them.
func sharesDisruptionBudget(s *situation) *hold {
	for _, budget := range s.disruptionBudgets() {
		for _, other := range s.pass.ledger.inFlight[s.namespace.Name] {
			if budget.Selector.Matches(labels.Set(other.Template.Labels)) {
				return &hold{reason: ReasonSharesDisruptionBudget, clearsBy: v1alpha1.ClearedByCluster,
					message: fmt.Sprintf("PodDisruptionBudget %s covers another workload that is being restarted; one follows the other.", budget.Name)}
			}
		}
	}
	return nil
}

// leavesNoRoom speaks where a budget does not allow one more now.
func leavesNoRoom(s *situation) *hold {
	l, cost := s.pass.ledger, s.atOnce(s.method().name)
	namespace, policy := l.namespaces[s.namespace.Name], l.policies[s.policy]
	if full := namespace.isFull(s, v1alpha1.BudgetScopeNamespace, cost); full != nil {
		return full
	}
	if full := policy.isFull(s, v1alpha1.BudgetScopePolicy, cost); full != nil {
		policy.waiting = cmp.Or(policy.waiting, s.namespace.Name)
		return full
	}
	if first := l.namespaces[policy.waiting]; first != nil && first != namespace && first.used.workloads <= namespace.used.workloads {
		return &hold{reason: ReasonBudgetUsedUp, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("Waiting for its turn: a workload of namespace %s is next, and waits for more room in the budget of scope %s.", policy.waiting, v1alpha1.BudgetScopePolicy)}
	}
	return nil
}

// neverFitsABudget speaks where a budget does not allow the workload at all.
func neverFitsABudget(s *situation) *hold {
	method := s.method().name
	if method == "" {
		return nil
	}
	cost := s.atOnce(method)
	for i := range s.policy.budgets {
		budget := &s.policy.budgets[i]
		account := s.pass.ledger.account(s.policy, s.namespace.Name, budget.Scope)
		pods := resolve(budget.Pods, account.base.pods)
		switch {
		case resolve(budget.Workloads, account.base.workloads) == 0:
			return &hold{reason: ReasonExceedsBudget, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("A budget of MeshPolicy %s (scope %s, workloads: %s) allows no restart at all. Raise it.", s.policy.Name, budget.Scope, budget.Workloads)}
		case pods >= 0 && cost > pods && !s.mayYetBeEvicted():
			return &hold{reason: ReasonExceedsBudget, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("Its strategy takes %d Pods at once, and a budget of MeshPolicy %s (scope %s, pods: %s) never allows more than %d. Raise that, or lower the workload's maxSurge and maxUnavailable.", cost, s.policy.Name, budget.Scope, budget.Pods, pods)}
		}
	}
	return nil
}

// mayYetBeEvicted reports whether a disruption budget that has changed may have the workload evicted, a few Pods
// at once, when it is known what it allows.
func (s *situation) mayYetBeEvicted() bool {
	return s.method().name == v1alpha1.MethodRolloutRestart && !s.pass.EvictionDisabled &&
		s.workload.Pods.Ready > 0 && s.workload.Object.Strategy.MaxUnavailable > 0 &&
		slices.ContainsFunc(s.disruptionBudgets(), func(budget *inventory.DisruptionBudget) bool { return !budget.Observed })
}

// isFull speaks where what is in flight leaves no room now.
func (a *account) isFull(s *situation, scope v1alpha1.BudgetScope, cost int) *hold {
	for i := range s.policy.budgets {
		budget := &s.policy.budgets[i]
		if budget.Scope != scope {
			continue
		}
		workloads, pods := resolve(budget.Workloads, a.base.workloads), resolve(budget.Pods, a.base.pods)
		switch {
		case workloads > 0 && a.used.workloads >= workloads:
			return a.used.noRoom(fmt.Sprintf("scope %s (workloads: %d)", scope, workloads))
		case pods >= 0 && a.used.pods+cost > pods:
			return a.used.noRoom(fmt.Sprintf("scope %s (pods: %d) for what it takes at once (Pods: %d)", scope, pods, cost))
		}
	}
	return nil
}

// resolve is the limit that a budget sets, -1 where it sets none. What cannot be read allows
// nothing.
func resolve(limit *intstr.IntOrString, of int) int {
	if limit == nil {
		return -1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(limit, of, true)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// SystemNamespaces are governed only where a label on them says so, beside those of the mesh's
// control planes and of the operator itself.
var SystemNamespaces = sets.New("kube-system", "kube-public", "kube-node-lease")
