package rollout

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// Guard says whether the API server holds the operator's account to restarts.
type Guard uint8

// The states.
const (
	GuardUnknown Guard = iota
	GuardMissing
	GuardHolds
)

// Input is everything that a decision depends on.
type Input struct {
	Now      time.Time
	Snapshot *inventory.Snapshot
	Policies []*Policy
	// System are namespaces that are governed only where a label on them says so, beside those of the
	// mesh's control planes.
	System sets.Set[string]
	// Blind says what of the picture is no longer kept up to date; empty where all of it is.
	Blind string
	// Stopped says that the red button is pressed.
	Stopped bool
	Guard   Guard
	// Check looks up the answer of a dry-run check. Where it is nil, no check is asked for and every
	// one is taken to say yes.
	Check func(CheckKey) (Check, bool)

	// Started is when and for which cause a workload was restarted last, as far as this process
	// remembers; the zero value where it was not. It backs up what is written on the workload, which others may take
	// away. May be nil.
	Started func(types.UID) Start
	// TookOver is when this process began to decide. Zero, all restarts are taken to be Fullmesh's own.
	TookOver time.Time
	// Found is the cause of the restart that was in flight when this process began to decide; empty where
	// none was. May be nil.
	Found func(types.UID) string
	// Reported is what the MeshReport of a namespace says; nil where there is none. May be nil.
	Reported func(namespace string) *v1alpha1.MeshReportStatus

	// EvictionDisabled says that no Pod is to be evicted.
	EvictionDisabled bool
	// Evictions is what is remembered of the evictions of a workload. May be nil.
	Evictions func(types.UID) Evictions

	silences *silences
	breakers *breakers
	ledger   *ledger
	// governed are the namespaces of each policy.
	governed map[*Policy][]*inventory.Namespace
	// callers are counted when a check asks for them, by policy.
	callers map[*Policy]*callers
	trials  trials
	// recorder writes down what is asked; nil where nobody wants to know.
	recorder *recorder
}

// IsSystem reports whether a namespace is governed only where a label on it says so: one of System,
// or one in which a control plane of the mesh runs.
func (in *Input) IsSystem(namespace string) bool {
	return in.System.Has(namespace) || in.Snapshot.Injector.RunsIn(namespace)
}

// Plan is what is decided.
type Plan struct {
	// Namespaces that a policy governs or in which a restart is in flight, by name.
	Namespaces []*NamespacePlan
	// Policies is what else is to be said of the policies that govern one of them.
	Policies map[*Policy]*Standing
	// NextLook is when time alone may change the plan; zero where it may not.
	NextLook time.Time
	// Windows are what those of each policy are now.
	Windows map[*Policy]Stretch
}

// NamespacePlan is what is decided about one namespace.
type NamespacePlan struct {
	*inventory.Namespace
	// Policy that governs the namespace; nil where none does any more.
	Policy *Policy
	// Verdicts on the workloads that are not complete, the worst first.
	Verdicts []Verdict
	Standing Standing
	// Restarted are the workloads of which Fullmesh is known to have made the restart that they tell of.
	Restarted []*inventory.Workload
	// believed are those of which it may have.
	believed []*inventory.Workload

	// rest are the workloads of which no restart goes on or has just ended.
	rest []*situation
	// looks are when time may change what the verdicts rest on.
	looks []time.Time
}

// candidate is a workload that no check has anything against.
type candidate struct {
	situation *situation
	plan      *NamespacePlan
}

// Decide says of every workload that is not complete what is done about it, and why.
func Decide(in Input) *Plan {
	in.silences = listen(&in)
	in.breakers = newBreakers()
	in.trials, in.ledger = trials{}, newLedger()
	in.governed, in.callers = map[*Policy][]*inventory.Namespace{}, map[*Policy]*callers{}
	ranked := Rank(in.Policies)
	plan := &Plan{Windows: map[*Policy]Stretch{}}
	for _, policy := range ranked {
		plan.Windows[policy] = policy.windows.stretchAt(in.Now)
		plan.lookAgain(plan.Windows[policy].Ends, in.Now)
	}
	var candidates []candidate
	for _, namespace := range in.Snapshot.Namespaces {
		policy := Governing(ranked, in.IsSystem(namespace.Name), namespace)
		if policy != nil {
			in.governed[policy] = append(in.governed[policy], namespace)
			in.ledger.open(policy, namespace)
			in.breakers.watch(&in, policy, namespace)
		} else if !slices.ContainsFunc(namespace.Open, hasRestart) {
			continue
		}
		decision := &NamespacePlan{Namespace: namespace, Policy: policy}
		plan.Namespaces = append(plan.Namespaces, decision)
	}
	for _, decision := range plan.Namespaces { // when all that percentages are taken of is known
		decision.judgeRestarts(&in, plan.Windows[decision.Policy])
	}
	for _, decision := range plan.Namespaces {
		decision.slowDown(in.ledger)
	}
	in.breakers.settle(in.Now)
	for _, namespace := range plan.Namespaces {
		candidates = append(candidates, namespace.judge()...)
	}
	turns := newTurns(candidates, in.ledger)
	for next, waits := turns.next(); waits; next, waits = turns.next() {
		next.plan.Verdicts = append(next.plan.Verdicts, next.decide(in.ledger))
	}
	for _, namespace := range plan.Namespaces {
		namespace.sortVerdicts()
		for i := range namespace.Verdicts {
			// What a check is asked about is decided again when it is answered.
			if namespace.Verdicts[i].Step != StepCheck {
				plan.lookAgain(namespace.Verdicts[i].Until, in.Now)
			}
		}
		for _, at := range namespace.looks {
			plan.lookAgain(at, in.Now)
		}
	}
	plan.standings(&in)
	return plan
}

// judgeRestarts gives the verdicts on restarts that go on or have just ended, and counts them and those
// that have failed. The other workloads are left for judge.
func (n *NamespacePlan) judgeRestarts(in *Input, windows Stretch) {
	timeout := defaultProgressTimeout
	if n.Policy != nil {
		timeout = n.Policy.progressTimeout
	}
	n.findRestarted(in, timeout)
	in.breakers.wentWell(n.Restarted, in.Now)
	podLimit := in.ledger.podLimit(n.Policy, n.Name)
	for _, workload := range n.Open {
		s := &situation{in: in, namespace: n.Namespace, policy: n.Policy, windows: windows, workload: workload, podLimit: podLimit}
		if workload.Record.InFlight() {
			verdict, ours := inFlight(s, timeout), n.counts(workload)
			// One that has ended makes room, whether or not that can be written down.
			if ours && (verdict.Step != StepFinish || verdict.Record.Failed() && n.keepsItsPlace(in, workload, &verdict.Record, timeout)) {
				in.ledger.take(s, workload.Record.Method)
			}
			if verdict.Step == StepFinish {
				in.breakers.count(s, &verdict.Record)
			} else if ours {
				in.breakers.count(s, workload.Record)
			}
			n.Verdicts = append(n.Verdicts, verdict)
			continue
		}
		if verdict, late := completedLate(s); late {
			n.Verdicts = append(n.Verdicts, verdict)
			continue
		}
		if until := n.mayBeInFlight(in, workload, timeout); until.After(in.Now) {
			in.ledger.take(s, v1alpha1.MethodRolloutRestart)
			n.looks = append(n.looks, until)
		}
		if workload.Record.Failed() && n.counts(workload) && n.keepsItsPlace(in, workload, workload.Record, timeout) {
			in.ledger.take(s, workload.Record.Method)
		}
		in.breakers.count(s, workload.Record)
		n.rest = append(n.rest, s)
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
		spoken := firstToSpeak(s)
		n.looks = append(n.looks, s.laterCloses)
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

func firstToSpeak(s *situation) *hold {
	spoken := firstOf(checksOfAll, s)
	if spoken == nil && !s.workload.Complete() {
		spoken = firstOf(checks, s)
	}
	return spoken
}

// firstOf is what the first of several checks says that speaks; nil where none does.
func firstOf(checks []check, s *situation) *hold {
	for _, check := range checks {
		if spoken := check.put(s); spoken != nil {
			return spoken
		}
	}
	return nil
}

// decide gives the verdict on a workload that only the others can hold.
func (c *candidate) decide(ledger *ledger) Verdict {
	s := c.situation
	kept := ledger.giveBack(s)
	if spoken := firstOf(ledger.checks(), s); spoken != nil {
		if kept {
			ledger.take(s, s.workload.Record.Method)
		}
		return s.held(spoken)
	}
	method := s.method()
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
	verdict.Record.Probe = s.in.breakers.begin(s)
	if method.name == v1alpha1.MethodRestartAt {
		verdict.RestartAt = s.restartAt()
	}
	if _, known := s.answer(); !known && s.in.Check != nil {
		verdict.Step = StepCheck
	}
	return verdict
}

// Steps are what is to be done, in its order: how restarts have ended is written down before others
// begin in their place, so that at no moment more is in flight, by what is written, than may be.
func (p *Plan) Steps() iter.Seq2[*NamespacePlan, *Verdict] {
	return func(yield func(*NamespacePlan, *Verdict) bool) {
		for _, finishes := range []bool{true, false} {
			for _, namespace := range p.Namespaces {
				for i := range namespace.Verdicts {
					verdict := &namespace.Verdicts[i]
					if verdict.Step != StepNone && finishes == (verdict.Step == StepFinish) && !yield(namespace, verdict) {
						return
					}
				}
			}
		}
	}
}

func (p *Plan) lookAgain(at, now time.Time) {
	if !at.IsZero() && at.Before(now) {
		at = now
	}
	p.NextLook = earlier(p.NextLook, at)
}

// earlier is the earlier of two times of which each may be zero for never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// sortVerdicts puts first what somebody must act on, then what is going on, then what waits.
func (n *NamespacePlan) sortVerdicts() {
	slices.SortStableFunc(n.Verdicts, func(a, b Verdict) int {
		return cmp.Or(
			cmp.Compare(urgency(&a), urgency(&b)),
			strings.Compare(a.Workload.Key.Kind, b.Workload.Key.Kind),
			strings.Compare(a.Workload.Key.Name, b.Workload.Key.Name),
			strings.Compare(a.Workload.Key.Group, b.Workload.Key.Group),
		)
	})
}

func urgency(verdict *Verdict) int {
	switch {
	case verdict.NeedsAction():
		return 0
	case verdict.Action == v1alpha1.ActionInFlight:
		return 1
	case verdict.Action == v1alpha1.ActionRestart:
		return 2
	default:
		return 3
	}
}

func hasRestart(workload *inventory.Workload) bool { return workload.Record.InFlight() }
