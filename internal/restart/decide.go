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
	checks   []check
	silences *silences
	breakers *breakers
	ledger   *ledger
	// governed are the namespaces of each policy.
	governed map[*Policy][]*inventory.Namespace
	// callers are counted when a check asks for them.
	callers map[callersOf]*callers
	trials  trials
	// recorder writes down what is asked; nil where nobody wants to know.
	recorder *recorder
}

func newPass(in *Input, recorder *recorder) *pass {
	frozen := *in
	if in.Check != nil {
		frozen.Check = frozenAnswers(in.Check)
	}
	return &pass{
		Input: frozen, checks: checks(), recorder: recorder,
		silences: listen(in), breakers: newBreakers(), ledger: newLedger(),
		governed: map[*Policy][]*inventory.Namespace{}, callers: map[callersOf]*callers{}, trials: trials{},
	}
}

// frozenAnswers looks up each dry-run answer once: one that arrives during a pass belongs to the next. Read
// again, an answer that was missing and is no would be taken for yes.
func frozenAnswers(look func(CheckKey) (Check, bool)) func(CheckKey) (Check, bool) {
	type answer struct {
		check Check
		known bool
	}
	answers := map[CheckKey]answer{}
	return func(key CheckKey) (Check, bool) {
		frozen, looked := answers[key]
		if !looked {
			frozen.check, frozen.known = look(key)
			answers[key] = frozen
		}
		return frozen.check, frozen.known
	}
}

// candidate is a workload that no check has anything against.
type candidate struct {
	situation *situation
	plan      *NamespacePlan
}

// Decide says of every workload that is not complete what is done about it, and why.
func Decide(in Input) *Plan { return newPass(&in, nil).decide() }

func (p *pass) decide() *Plan {
	ranked := Rank(p.Policies)
	plan := &Plan{Windows: map[*Policy]Stretch{}}
	for _, policy := range ranked {
		plan.Windows[policy] = policy.windows.stretchAt(p.Now)
		plan.lookAgain(plan.Windows[policy].Ends, p.Now)
	}
	var candidates []candidate
	for _, namespace := range p.Snapshot.Namespaces {
		policy := Governing(ranked, p.IsSystem(namespace.Name), namespace)
		if policy != nil {
			p.governed[policy] = append(p.governed[policy], namespace)
			p.ledger.open(policy, namespace)
			p.breakers.watch(p, policy, namespace)
		} else if !slices.ContainsFunc(namespace.Open, mayCount) {
			continue
		}
		decision := &NamespacePlan{Namespace: namespace, Policy: policy}
		plan.Namespaces = append(plan.Namespaces, decision)
	}
	for _, decision := range plan.Namespaces { // when all that percentages are taken of is known
		decision.judgeRestarts(p, plan.Windows[decision.Policy])
	}
	plan.Namespaces = slices.DeleteFunc(plan.Namespaces, func(n *NamespacePlan) bool {
		return n.Policy == nil && !n.Counts && len(n.Verdicts) == 0
	})
	for _, decision := range plan.Namespaces {
		decision.slowDown(p.ledger)
	}
	p.breakers.settle(p.Now)
	for _, namespace := range plan.Namespaces {
		candidates = append(candidates, namespace.judge()...)
	}
	turns := newTurns(candidates, p.ledger)
	for next, waits := turns.next(); waits; next, waits = turns.next() {
		next.plan.Verdicts = append(next.plan.Verdicts, next.decide())
	}
	for _, namespace := range plan.Namespaces {
		namespace.sortVerdicts()
		for i := range namespace.Verdicts {
			// What a check is asked about is decided again when it is answered.
			if namespace.Verdicts[i].Step != StepCheck {
				plan.lookAgain(namespace.Verdicts[i].Until, p.Now)
			}
		}
		for _, at := range namespace.looks {
			plan.lookAgain(at, p.Now)
		}
	}
	plan.standings(p)
	return plan
}

// judgeRestarts gives the verdicts on restarts that go on or have just ended, and counts them and those
// that have failed. The other workloads are left for judge.
func (n *NamespacePlan) judgeRestarts(p *pass, windows Stretch) {
	in, timeout := &p.Input, defaultProgressTimeout
	if n.Policy != nil {
		timeout = n.Policy.progressTimeout
	}
	n.findRestarted(in, timeout)
	p.breakers.wentWell(n.Restarted, in.Now)
	podLimit := p.ledger.podLimit(n.Policy, n.Name)
	for _, workload := range n.Open {
		s := &situation{pass: p, namespace: n.Namespace, policy: n.Policy, windows: windows, workload: workload, podLimit: podLimit}
		if mayCount(workload) {
			s.begunUnder = p.ledger.former(n.Policy, n.begunUnder(workload))
		}
		ours := workload.Record != nil && n.counts(workload)
		if workload.Record.InFlight() {
			verdict := inFlight(s, timeout)
			if !ours {
				n.takeUntold(s, timeout)
			} else if n.countsAsInFlight(in, &verdict, timeout) {
				n.take(s, workload.Record.Method)
			}
			if verdict.Step == StepFinish {
				p.breakers.count(s, &verdict.Record, ours)
			} else if ours {
				p.breakers.count(s, workload.Record, ours)
			}
			n.Verdicts = append(n.Verdicts, verdict)
			continue
		}
		if verdict, late := completedLate(s); late {
			n.Verdicts = append(n.Verdicts, verdict)
			continue
		}
		if until := n.mayBeInFlight(in, workload, timeout); until.After(in.Now) {
			n.take(s, v1alpha1.MethodRolloutRestart)
			n.looks = append(n.looks, until)
		} else if ours && workload.Record.Failed() && n.keepsItsPlace(in, workload, workload.Record, timeout) {
			n.take(s, workload.Record.Method)
		} else {
			n.takeUntold(s, timeout)
		}
		p.breakers.count(s, workload.Record, ours)
		n.rest = append(n.rest, s)
	}
}

// take has a restart count against the budgets.
func (n *NamespacePlan) take(s *situation, by v1alpha1.RestartMethod) {
	s.place = by
	s.pass.ledger.take(s, by)
	n.Counts = true
}

// countsAsInFlight reports whether a restart takes its place in the budgets, by the verdict on it. By what is
// written down no more than they allow may be in flight at any moment, so that one whose end could not be
// written goes on counting. Where somebody refuses that, it would do so for ever.
func (n *NamespacePlan) countsAsInFlight(in *Input, verdict *Verdict, timeout time.Duration) bool {
	workload := verdict.Workload
	switch {
	case verdict.Step != StepFinish:
		return true
	case in.Unwritten != nil && in.Unwritten(workload.Object.UID):
		verdict.Message += " It counts as in flight until that can be written down."
		return true
	default:
		return verdict.Record.Failed() && n.keepsItsPlace(in, workload, &verdict.Record, timeout)
	}
}

// slowDown has one Pod of each workload evicted at a time while more may be down than the budgets allow: workloads
// were scaled up, or strategies or the policy edited, since their restarts began.
func (n *NamespacePlan) slowDown(ledger *ledger) {
	if n.Policy == nil || !ledger.isOverdrawn(n.Policy, n.Name) {
		return
	}
	for i := range n.Verdicts {
		if verdict := &n.Verdicts[i]; len(verdict.Evict) > 1 {
			verdict.Evict = verdict.Evict[:1]
		}
	}
}

// judge gives the verdicts that do not depend on what else is restarted, and returns the workloads
// on which it does.
func (n *NamespacePlan) judge() []candidate {
	if n.Policy == nil {
		return nil
	}
	var candidates []candidate
	for _, s := range n.rest {
		asked := slices.Values(s.pass.checks)
		if s.workload.Complete() {
			asked = s.pass.checksAlso(whenComplete)
		}
		spoken := firstOf(asked, s)
		n.looks = append(n.looks, s.look)
		if spoken != nil {
			n.Verdicts = append(n.Verdicts, s.held(spoken))
		} else if !s.workload.Complete() {
			candidates = append(candidates, candidate{situation: s, plan: n})
		}
	}
	return candidates
}

// keepsItsPlace reports whether a restart that has failed still counts against the budgets. One that would
// do so for longer than any that ends now was not written down by Fullmesh.
func (n *NamespacePlan) keepsItsPlace(in *Input, workload *inventory.Workload, record *inventory.Record, timeout time.Duration) bool {
	frees := freesItsPlace(workload, record, timeout)
	keeps := frees.After(in.Now) && !frees.After(in.Now.Add(longestSkew+timeout+workload.Object.Patience()))
	if keeps {
		n.looks = append(n.looks, frees)
	}
	return keeps
}

// decide gives the verdict on a workload that only the others can hold.
func (c *candidate) decide() Verdict {
	s, ledger := c.situation, c.situation.pass.ledger
	ledger.giveBack(s)
	if spoken := firstOf(slices.Values(checksBesideOthers), s); spoken != nil {
		if s.place != "" {
			ledger.take(s, s.place)
		}
		return s.held(spoken)
	}
	method := s.method()
	s.begunUnder = nil
	ledger.take(s, method.name)
	s.trial().begin(s.workload)
	verdict := Verdict{
		Workload: s.workload,
		Action:   v1alpha1.ActionRestart,
		Reason:   ReasonRestartDue,
		Message:  fmt.Sprintf("%s A restart is due (%s).", s.workload.Message, s.methodInWords()),
		Method:   method.name,
		Step:     StepRestart,
		Record:   s.newRecord(method.name),
		CheckKey: s.checkKey(),
	}
	verdict.Record.Probe = s.pass.breakers.begin(s)
	if method.name == v1alpha1.MethodRestartAt {
		verdict.RestartAt = s.restartAt()
	}
	if _, known := s.answer(); !known && s.pass.Check != nil {
		verdict.Step = StepCheck
	}
	return verdict
}

// earlier is the earlier of two times of which each may be zero for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// mayCount reports whether a restart of the workload may count against budgets, whoever governs its namespace.
func mayCount(workload *inventory.Workload) bool {
	return workload.Record.InFlight() || workload.Record.Failed()
}
