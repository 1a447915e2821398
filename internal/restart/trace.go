package restart

import (
	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Answer is what one check said about a workload.
type Answer string

// The answers.
const (
	// AnswerPassed: it has nothing against a restart.
	AnswerPassed Answer = "Passed"
	// AnswerHolds: it holds the workload.
	AnswerHolds Answer = "Holds"
	// AnswerNotReached: another one held before, or nothing is decided.
	AnswerNotReached Answer = "NotReached"
	// AnswerAssumed: what it asks could not be looked up here, and it is taken to have nothing against
	// a restart.
	AnswerAssumed Answer = "Assumed"
)

// TracedPhase is a phase of a decision, and what its checks said.
type TracedPhase struct {
	Phase  string        `json:"phase"`
	Answer Answer        `json:"answer"`
	Checks []TracedCheck `json:"checks"`
}

// TracedCheck is a check by its name, and its answer.
type TracedCheck struct {
	Check  string `json:"check"`
	Answer Answer `json:"answer"`
}

// Trace is how the decision about one workload was made.
type Trace struct {
	// Namespace of the workload; Policy that governs it, nil where none does.
	Namespace *inventory.Namespace
	Policy    *Policy
	// Verdict, also on a workload that is complete. Where no policy governs the namespace there is
	// none and its Action is empty.
	Verdict Verdict
	// Phases in the order in which they are asked: those of a decision; of a workload of which Pods are being evicted,
	// those that are asked before further evictions. None where a restart of another kind is in flight.
	Phases []TracedPhase
	// Risks are why a restart would do harm or no good whoever makes it, also where another check held
	// first. Unknown where no policy governs the workload.
	Risks []Reason
}

// Explain decides as Decide does, and says of one workload how its verdict was reached. It is false
// where the snapshot has no such workload.
func Explain(in Input, key mesh.Key) (*Trace, bool) {
	workload, namespace := find(in.Snapshot, key)
	if workload == nil {
		return nil, false
	}
	recorder := &recorder{workload: workload, answers: map[askedCheck]Answer{}}
	trace := &Trace{Namespace: namespace, Verdict: Verdict{Workload: workload}}
	p := newPass(&in, recorder)
	for _, decision := range p.decide().Namespaces {
		if decision.Name != key.Namespace {
			continue
		}
		trace.Policy = decision.Policy
		for _, verdict := range decision.All() {
			if verdict.Workload == workload && (decision.Policy != nil || verdict.Action != v1alpha1.ActionNone) {
				trace.Verdict = verdict
			}
		}
	}
	trace.Phases = recorder.phases(p, &trace.Verdict)
	trace.Risks = recorder.risks()
	return trace, true
}

func find(snapshot *inventory.Snapshot, key mesh.Key) (*inventory.Workload, *inventory.Namespace) {
	for _, namespace := range snapshot.Namespaces {
		if namespace.Name != key.Namespace {
			continue
		}
		for _, workload := range namespace.Workloads {
			if workload.Key == key {
				return workload, namespace
			}
		}
	}
	return nil, nil
}

// recorder writes down what is asked about one workload while everything is decided.
type recorder struct {
	workload *inventory.Workload
	answers  map[askedCheck]Answer
	// candidate is nil until a check is asked.
	candidate *Candidate
}

type askedCheck struct{ phase, check string }

func (r *recorder) record(c *Candidate, phase, check string, holds bool) {
	r.candidate = c
	r.answers[askedCheck{phase, check}] = AnswerPassed
	if holds {
		r.answers[askedCheck{phase, check}] = AnswerHolds
	}
}

// recordGate records the answers of the gate of a candidate's policy, where somebody wants to know.
func (p *pass) recordGate(c *Candidate) {
	if p.recorder == nil || p.recorder.workload != c.workload {
		return
	}
	gate := p.gates[c.policy]
	for _, check := range gateChecks {
		holds := gate != nil && gate.check == check.name
		p.recorder.record(c, gatePhase, check.name, holds)
		if holds {
			return
		}
	}
}

func (r *recorder) risks() []Reason {
	if r.candidate == nil || r.candidate.workload.Object == nil {
		return nil
	}
	var risks []Reason
	for _, check := range byHand.checks {
		if h := check.run(r.candidate); h != nil {
			risks = append(risks, h.reason)
		}
	}
	return risks
}

// phases lists every check that the verdict rests on with its answer.
func (r *recorder) phases(p *pass, verdict *Verdict) []TracedPhase {
	asked := phases
	switch {
	case verdict.Action == v1alpha1.ActionInFlight && verdict.Method == v1alpha1.MethodEviction:
		asked = []phase{toKeepEvicting, toStartARound}
	case verdict.Action == v1alpha1.ActionInFlight:
		return nil
	case verdict.Workload.Complete():
		asked = []phase{whenComplete}
	}
	var traced []TracedPhase
	for _, phase := range asked {
		traced = append(traced, r.phase(p, phase))
	}
	return traced
}

func (r *recorder) phase(p *pass, asked phase) TracedPhase {
	names := asked.names()
	if asked.name == gatePhase {
		for _, check := range gateChecks {
			names = append(names, check.name)
		}
	}
	traced := TracedPhase{Phase: asked.name, Answer: AnswerNotReached}
	for _, name := range names {
		answer := r.answers[askedCheck{asked.name, name}]
		switch {
		case answer == "":
			answer = AnswerNotReached
		case asked.name == evidence.name && answer == AnswerPassed && p.Answers == nil:
			answer = AnswerAssumed
		}
		if answer == AnswerHolds || traced.Answer == AnswerNotReached {
			traced.Answer = answer
		}
		traced.Checks = append(traced.Checks, TracedCheck{name, answer})
	}
	return traced
}
