package restart

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// usage is what restarts take up at once.
type usage struct {
	workloads, pods int
	// failed are those of the workloads whose restart has failed.
	failed []string
}

func (u *usage) add(r *inventory.Restart, pods int) {
	u.workloads++
	u.pods += pods
	if r.Failed() {
		u.failed = append(u.failed, r.Workload.String())
	}
}

func (u *usage) remove(r *inventory.Restart, pods int) {
	u.workloads--
	u.pods -= pods
	u.failed = slices.DeleteFunc(u.failed, func(key string) bool { return key == r.Workload.String() })
}

// exhausted is the hold of a workload for which the restarts in flight leave no room. It ends by itself: one
// that has failed gives up its place in time.
func (u *usage) exhausted(scope v1alpha1.BudgetScope, allows string) *hold {
	h := &hold{reason: ReasonBudgetExhausted, clearsBy: v1alpha1.ClearedByCluster,
		message: fmt.Sprintf("Waiting: the %s's budget (%s) is used by %s in progress (%s).", strings.ToLower(string(scope)), allows,
			count(u.workloads, "restart"), count(u.pods, "Pod"))}
	if len(u.failed) > 0 {
		h.message += fmt.Sprintf(" These have failed and still count, until as many of their Pods are ready as before or nothing has moved "+
			"for a while: %s.", firstNames(u.failed))
	}
	return h
}

// count is a number of things in words.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
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

// accounts keep, over one pass, what every policy and namespace has in flight against what its budgets allow.
type accounts struct {
	policies   map[*Policy]*account
	namespaces map[string]*account
	// inFlight are the workloads that are being restarted, by namespace.
	inFlight map[string][]*inventory.Workload
}

type account struct {
	used usage
	base base
	// waiting is the namespace whose workload was the first to find no room. Those that do not have fewer
	// in flight wait for it, however few Pods theirs take: it would come next when they are done.
	waiting string
}

func newAccounts() *accounts {
	return &accounts{policies: map[*Policy]*account{}, namespaces: map[string]*account{}, inFlight: map[string][]*inventory.Workload{}}
}

// open makes the accounts of a namespace and its policy.
func (a *accounts) open(policy *Policy, namespace *inventory.Namespace) {
	own := baseOf(policy, namespace)
	a.namespaces[namespace.Name] = &account{base: own}
	if a.policies[policy] == nil {
		a.policies[policy] = &account{}
	}
	a.policies[policy].base.workloads += own.workloads
	a.policies[policy].base.pods += own.pods
}

// reserve counts a restart that takes so many Pods at once. The workload is nil where it is not known.
func (a *accounts) reserve(n *NamespacePlan, workload *inventory.Workload, r *inventory.Restart, pods int) {
	if workload != nil {
		a.inFlight[n.Name] = append(a.inFlight[n.Name], workload)
	}
	for _, account := range a.chargedFor(n, r) {
		account.used.add(r, pods)
	}
}

// giveBack takes out what reserve counted.
func (a *accounts) giveBack(n *NamespacePlan, workload *inventory.Workload, r *inventory.Restart, pods int) {
	a.inFlight[n.Name] = slices.DeleteFunc(a.inFlight[n.Name], func(other *inventory.Workload) bool { return other == workload })
	for _, account := range a.chargedFor(n, r) {
		account.used.remove(r, pods)
	}
}

// chargedFor are the accounts that a restart counts against: of the policy that governs its namespace now, of the
// namespace under it, and of the policy that has begun it while that one still governs others. One that is edited
// has no more room than before.
func (a *accounts) chargedFor(n *NamespacePlan, r *inventory.Restart) []*account {
	var charged []*account
	if n.Policy != nil {
		charged = append(charged, a.policies[n.Policy], a.namespaces[n.Name])
	}
	for policy, account := range a.policies {
		if policy.Name == r.Policy && policy != n.Policy {
			charged = append(charged, account)
		}
	}
	return charged
}

// podLimit is how many Pods of a namespace the tightest budget lets be down or on top at once; -1 where
// none says so.
func (a *accounts) podLimit(policy *Policy, namespace string) int {
	limit := -1
	if policy == nil {
		return limit
	}
	for i := range policy.budgets {
		budget := &policy.budgets[i]
		account := a.account(policy, namespace, budget.Scope)
		allowed := resolve(budget.Pods, account.base.pods)
		if allowed >= 0 && (limit < 0 || allowed < limit) {
			limit = allowed
		}
	}
	return limit
}

// isOverdrawn reports whether what is in flight takes more Pods than a budget allows.
func (a *accounts) isOverdrawn(policy *Policy, namespace string) bool {
	return slices.ContainsFunc(policy.budgets, func(budget v1alpha1.Budget) bool {
		account := a.account(policy, namespace, budget.Scope)
		pods := resolve(budget.Pods, account.base.pods)
		return pods >= 0 && account.used.pods > pods
	})
}

func (a *accounts) account(policy *Policy, namespace string, scope v1alpha1.BudgetScope) *account {
	if scope == v1alpha1.BudgetScopeNamespace {
		return a.namespaces[namespace]
	}
	return a.policies[policy]
}

// leavesNoRoom holds where a budget does not allow one more now.
func leavesNoRoom(c *Candidate) *hold {
	budgets, cost := c.pass.budgets, c.atOnce(c.method().name)
	namespace, policy := budgets.namespaces[c.namespace.Name], budgets.policies[c.policy]
	if full := namespace.isFull(c, v1alpha1.BudgetScopeNamespace, cost); full != nil {
		return full
	}
	if full := policy.isFull(c, v1alpha1.BudgetScopePolicy, cost); full != nil {
		policy.waiting = cmp.Or(policy.waiting, c.namespace.Name)
		return full
	}
	if first := budgets.namespaces[policy.waiting]; first != nil && first != namespace && first.used.workloads <= namespace.used.workloads {
		return &hold{reason: ReasonBudgetExhausted, clearsBy: v1alpha1.ClearedByCluster,
			message: fmt.Sprintf("Waiting: a workload of namespace %s comes next, and needs more room in the policy's budget.", policy.waiting)}
	}
	return nil
}

// neverFitsABudget holds where a budget does not allow the workload at all.
func neverFitsABudget(c *Candidate) *hold {
	method := c.method().name
	if method == "" {
		return nil
	}
	cost := c.atOnce(method)
	for i := range c.policy.budgets {
		budget := &c.policy.budgets[i]
		account := c.pass.budgets.account(c.policy, c.namespace.Name, budget.Scope)
		pods := resolve(budget.Pods, account.base.pods)
		switch {
		case resolve(budget.Workloads, account.base.workloads) == 0:
			return &hold{reason: ReasonExceedsBudget, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("A budget of MeshPolicy %s (scope %s, workloads: %s) allows no restart at all. Raise it.", c.policy.Name,
					budget.Scope, budget.Workloads)}
		case pods >= 0 && cost > pods && !c.mayYetBeEvicted():
			return &hold{reason: ReasonExceedsBudget, clearsBy: v1alpha1.ClearedByAdmin,
				message: fmt.Sprintf("Its strategy takes %d Pods at once, and a budget of MeshPolicy %s (scope %s, pods: %s) never allows more "+
					"than %d. Raise that, or lower the workload's maxSurge and maxUnavailable.", cost, c.policy.Name, budget.Scope, budget.Pods, pods)}
		}
	}
	return nil
}

// mayYetBeEvicted reports whether a disruption budget that has changed may have the workload evicted, a few Pods
// at once, when it is known what it allows.
func (c *Candidate) mayYetBeEvicted() bool {
	return c.method().name == v1alpha1.MethodRolloutRestart && !c.pass.EvictionDisabled &&
		c.workload.Pods.Ready > 0 && c.workload.Object.Strategy.MaxUnavailable > 0 &&
		slices.ContainsFunc(c.disruptionBudgets(), func(budget *inventory.DisruptionBudget) bool { return !budget.Observed })
}

// isFull holds where what is in flight leaves no room now.
func (a *account) isFull(c *Candidate, scope v1alpha1.BudgetScope, cost int) *hold {
	for i := range c.policy.budgets {
		budget := &c.policy.budgets[i]
		if budget.Scope != scope {
			continue
		}
		workloads, pods := resolve(budget.Workloads, a.base.workloads), resolve(budget.Pods, a.base.pods)
		switch {
		case workloads > 0 && a.used.workloads >= workloads:
			return a.used.exhausted(scope, count(workloads, "workload"))
		case pods >= 0 && a.used.pods+cost > pods:
			return a.used.exhausted(scope, fmt.Sprintf("%s, and this takes %d at once", count(pods, "Pod"), cost))
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
