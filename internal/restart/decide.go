package restart

import (
	"fmt"
	"slices"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// pass is the input of one decision, and what is found out on the way.
type pass struct {
	Input
	windows  map[*Policy]Stretch
	gates    map[*Policy]*Gate
	missed   *missedInjections
	breakers *breakers
	budgets  *accounts
	// governed are the namespaces of each policy.
	governed map[*Policy][]*inventory.Namespace
	canaries canaries
	// verdicts are those given so far, by workload; waiting are the workloads that only pacing can hold.
	verdicts map[*inventory.Workload]*Verdict
	callers  map[callersOf]*callers
	// recorder writes down what is asked; nil where nobody wants to know.
	recorder *recorder
}

func newPass(in *Input, recorder *recorder) *pass {
	return &pass{
		Input: *in, recorder: recorder,
		windows:  map[*Policy]Stretch{},
		gates:    map[*Policy]*Gate{},
		missed:   missedInjectionsIn(in),
		breakers: newBreakers(),
		budgets:  newAccounts(),
		governed: map[*Policy][]*inventory.Namespace{},
		canaries: canaries{},
		verdicts: map[*inventory.Workload]*Verdict{},
		callers:  map[callersOf]*callers{},
	}
}

// Decide says of every workload that is not complete what is done about it, and why.
func Decide(in Input) *Plan { return newPass(&in, nil).decide() }

func (p *pass) decide() *Plan {
	plan := &Plan{Policies: map[*Policy]*PolicyPlan{}}
	p.govern(plan)
	var candidates []queued
	for _, namespace := range plan.Namespaces { // when all that percentages are taken of is known
		candidates = append(candidates, p.judgeRestarts(plan, namespace)...)
	}
	p.breakers.evaluate()
	for policy := range p.governed {
		p.gates[policy] = p.gate(policy)
	}
	for _, namespace := range plan.Namespaces {
		namespace.slowDownEvictions(p.budgets)
	}
	queue := newFairQueue(p.judgeCandidates(candidates), p.budgets)
	for next := queue.next(); next != nil; next = queue.next() {
		p.add(next.plan, next.decideInTurn())
	}
	p.complete(plan)
	return plan
}

// govern finds the policy of each namespace.
func (p *pass) govern(plan *Plan) {
	ranked := Rank(p.Policies)
	for _, policy := range ranked {
		p.windows[policy] = policy.windows.stretchAt(p.Now)
		plan.wakeAt(p.windows[policy].Ends, p.Now)
	}
	for _, namespace := range p.Snapshot.Namespaces {
		policy := Governing(ranked, p.IsSystem(namespace.Name), namespace)
		if policy != nil {
			p.governed[policy] = append(p.governed[policy], namespace)
			p.budgets.open(policy, namespace)
			p.breakers.add(policy, namespace)
		} else if !slices.ContainsFunc(namespace.Restarts, mayCount) {
			continue
		}
		plan.Namespaces = append(plan.Namespaces, &NamespacePlan{Namespace: namespace, Policy: policy})
	}
}

// mayCount reports whether a restart may count against budgets, whoever governs its namespace.
func mayCount(r *inventory.Restart) bool { return r.InFlight() || r.Failed() }

// judgeRestarts gives the verdicts on restarts that are in flight or have just ended, and counts them and those
// that have failed. The other workloads are the candidates.
func (p *pass) judgeRestarts(plan *Plan, n *NamespacePlan) []queued {
	timeout := defaultProgressTimeout
	if n.Policy != nil {
		timeout = n.Policy.progressTimeout
	}
	for _, orphan := range n.Orphans {
		p.budgets.reserve(n, nil, orphan, 1)
		n.Recheck = append(n.Recheck, orphan)
	}
	var candidates []queued
	podLimit := p.budgets.podLimit(n.Policy, n.Name)
	for _, workload := range n.Open {
		c := &Candidate{pass: p, namespace: n.Namespace, policy: n.Policy, workload: workload, podLimit: podLimit}
		for _, stray := range workload.Strays {
			p.budgets.reserve(n, workload, stray, c.atOnceBy(stray))
			n.Recheck = append(n.Recheck, stray)
		}
		if r := workload.InFlight; r != nil {
			p.budgets.reserve(n, workload, r, c.atOnceBy(r))
			p.breakers.countInFlight(c, r)
			p.add(n, inFlight(c, r, timeout))
			continue
		}
		if verdict, late := completedLate(c); late {
			p.add(n, verdict)
			continue
		}
		if last := workload.Outcome; last.Failed() {
			if frees := freesItsPlace(workload, last, timeout); frees.After(p.Now) {
				p.budgets.reserve(n, workload, last, c.atOnceBy(last))
				c.reserved = last
				plan.wakeAt(frees, p.Now)
			}
		}
		p.breakers.countFailure(c)
		candidates = append(candidates, queued{candidate: c, plan: n})
	}
	return candidates
}

// add gives a verdict.
func (p *pass) add(n *NamespacePlan, verdict Verdict) {
	n.Verdicts = append(n.Verdicts, verdict)
	p.verdicts[verdict.Workload] = &verdict
}

// slowDownEvictions has one Pod of each workload evicted at a time while more may be down than the budgets allow:
// workloads were scaled up, or strategies or the policy edited, since their restarts began.
func (n *NamespacePlan) slowDownEvictions(budgets *accounts) {
	if n.Policy == nil || !budgets.isOverdrawn(n.Policy, n.Name) {
		return
	}
	for i := range n.Verdicts {
		if verdict := &n.Verdicts[i]; len(verdict.Evict) > 1 {
			verdict.Evict = verdict.Evict[:1]
			verdict.Restart = evictingPods(verdict.Restart, verdict.Evict)
		}
	}
}

// judgeCandidates gives the verdicts that do not depend on what else is restarted, and returns the candidates for
// which it does. Workloads that would refuse plain traffic come last: what becomes of their callers is known then.
func (p *pass) judgeCandidates(candidates []queued) []queued {
	var first, strict, open []queued
	for _, q := range candidates {
		switch c := q.candidate; {
		case c.policy == nil:
		case c.wouldRefusePlainTraffic().Strict:
			strict = append(strict, q)
		default:
			first = append(first, q)
		}
	}
	for _, q := range slices.Concat(first, strict) {
		switch h := q.candidate.hold(); {
		case h != nil:
			p.add(q.plan, q.candidate.held(h))
		case !q.candidate.workload.Complete():
			open = append(open, q)
		}
	}
	return open
}

// hold is what holds the candidate whatever else is restarted; nil where nothing does.
func (c *Candidate) hold() *hold {
	if c.workload.Complete() {
		return whenComplete.run(c)
	}
	return c.holdBeforePacing()
}

// decideInTurn gives the verdict on a workload that only the others can hold.
func (q *queued) decideInTurn() Verdict {
	c, p := q.candidate, q.candidate.pass
	if c.reserved != nil { // it does not wait for itself
		p.budgets.giveBack(q.plan, c.workload, c.reserved, c.atOnceBy(c.reserved))
	}
	if h := pacing.run(c); h != nil {
		if c.reserved != nil {
			p.budgets.reserve(q.plan, c.workload, c.reserved, c.atOnceBy(c.reserved))
		}
		return c.held(h)
	}
	r := c.newRestart()
	p.budgets.reserve(q.plan, c.workload, r, r.AtOnce)
	c.canary().start(c.workload)
	r.Probes = p.breakers.start(c)
	verdict := Verdict{
		Workload: c.workload,
		Action:   v1alpha1.ActionRestart,
		Reason:   ReasonRestartDue,
		Message:  fmt.Sprintf("%s A restart is due (%s).", c.workload.Message, c.methodInWords()),
		Method:   r.Method,
		Step:     StepRestart,
		Restart:  r,
		CheckKey: c.checkKey(),
	}
	if _, known := c.answer(); !known && p.Answers != nil {
		verdict.Step = StepCheck
	}
	return verdict
}

// complete adds what is said about policies and namespaces as a whole, and when time alone may change the plan.
func (p *pass) complete(plan *Plan) {
	for policy := range p.governed {
		plan.Policies[policy] = &PolicyPlan{Gate: p.gates[policy], Breaker: p.breakers.policies[policy].status()}
	}
	for _, n := range plan.Namespaces {
		if n.Policy != nil {
			n.Breaker = p.breakers.namespaces[n.Name].status()
		}
		n.Surplus = surplus(n.Namespace)
		n.sortVerdicts()
		for i := range n.Verdicts {
			// What a check is asked about is decided again when it is answered.
			if n.Verdicts[i].Step != StepCheck {
				plan.wakeAt(n.Verdicts[i].Until, p.Now)
			}
		}
	}
}

// earlier is the earlier of two times of which each may be zero for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// moment formats a time for messages.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// seconds formats a duration for messages.
func seconds(d time.Duration) string { return d.Round(time.Second).String() }
