package restart

import (
	"slices"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// Answer is what one check said about a workload.
type Answer string

// The answers.
const (
	// AnswerSilent: it has nothing against a restart.
	AnswerSilent Answer = "Silent"
	// AnswerSpoke: it gave the verdict.
	AnswerSpoke Answer = "Spoke"
	// AnswerNotAsked: another one spoke before, or nothing is to be decided.
	AnswerNotAsked Answer = "NotAsked"
	// AnswerTaken: what it asks could not be looked up here, and it is taken to have nothing against
	// a restart.
	AnswerTaken Answer = "TakenAsSilent"
)

// Asked is a check by its name, and its answer.
type Asked struct {
	Check  string `json:"check"`
	Answer Answer `json:"answer"`
}

// restartIsInFlight stands in a trace for what is looked at before all checks: a restart that has
// begun is judged by how it goes on.
const restartIsInFlight = "RestartIsInFlight"

// dryRunCheck is the check that rests on answers of the API server.
const dryRunCheck = "DryRunCheckSaysNo"

// Trace is how the decision about one workload came about.
type Trace struct {
	// Namespace of the workload; Policy that governs it, nil where none does.
	Namespace *inventory.Namespace
	Policy    *Policy
	// Verdict, also on a workload that is complete. Where no policy governs the namespace there is
	// none and its Action is empty.
	Verdict Verdict
	// Checks in the order in which they are asked.
	Checks []Asked
	// Risks are why a restart would do harm or no good whoever makes it, also where another check spoke
	// first. Unknown where no policy governs the workload.
	Risks []Reason
}

// Explain decides as Decide does, and says of one workload how its verdict came about. It is false
// where the picture has no such workload.
func Explain(in Input, key mesh.Key) (*Trace, bool) {
	workload, namespace := find(in.Snapshot, key)
	if workload == nil {
		return nil, false
	}
	recorder := &recorder{workload: workload, spoke: map[string]bool{}}
	trace := &Trace{Namespace: namespace, Verdict: Verdict{Workload: workload}}
	for _, decision := range newPass(&in, recorder).decide().Namespaces {
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
	trace.Checks = recorder.answers(&in, &trace.Verdict)
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
	spoke    map[string]bool
	// situation is nil until a check is asked.
	situation *situation
}

// put asks a check, and has it written down where somebody wants to know.
func (c *check) put(s *situation) *hold {
	answer := c.ask(s)
	if r := s.pass.recorder; r != nil && r.workload == s.workload {
		r.spoke[c.name], r.situation = answer != nil, s
	}
	return answer
}

func (r *recorder) risks() []Reason {
	if r.situation == nil || r.situation.workload.Object == nil {
		return nil
	}
	var risks []Reason
	for check := range r.situation.pass.checksAlso(asRisk) {
		if spoken := check.ask(r.situation); spoken != nil {
			risks = append(risks, spoken.reason)
		}
	}
	return risks
}

// answers lists every check there is with its answer.
func (r *recorder) answers(in *Input, verdict *Verdict) []Asked {
	first := Asked{restartIsInFlight, AnswerSilent}
	switch verdict.Action {
	case v1alpha1.ActionInFlight:
		first.Answer = AnswerSpoke
	case "":
		first.Answer = AnswerNotAsked
	}
	all := []Asked{first}
	for _, check := range slices.Concat(checks(), checksBesideOthers) {
		spoke, asked := r.spoke[check.name]
		answer := AnswerSilent
		switch {
		case !asked:
			answer = AnswerNotAsked
		case spoke:
			answer = AnswerSpoke
		case check.name == dryRunCheck && in.Check == nil:
			answer = AnswerTaken
		}
		all = append(all, Asked{check.name, answer})
	}
	return all
}
