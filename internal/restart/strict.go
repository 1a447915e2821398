package restart

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// wouldRefuseItsCallers speaks where the Pods of a workload would refuse plain traffic once they are in
// the mesh, while others can send nothing else. A workload of which a Pod is in the mesh refuses it
// already, and one of which no Pod is ready answers nobody.
func wouldRefuseItsCallers(s *situation) *hold {
	if s.policy.accepts(v1alpha1.RiskStrictMTLS, s.workload) {
		return nil
	}
	strict := s.pass.wouldRefuse(s.namespace, s.workload)
	if !strict.Strict {
		return nil
	}
	callers := s.callers()
	others := callers.outside - s.workload.Pods.Outside
	if others <= 0 {
		return nil
	}
	near := s.namespace.Totals.Outside - s.workload.Pods.Outside
	message := fmt.Sprintf("%s makes it take mutual TLS only%s: once it is in the mesh it refuses Pods that are outside of it. There are such %s.",
		strict.By, onPorts(strict.Ports), s.where(near > 0, others > near))
	answer := &hold{reason: ReasonStrictMTLS, clearsBy: v1alpha1.ClearedByAdmin}
	accept := "Accept it"
	switch {
	case callers.coming >= others:
		answer.clearsBy = v1alpha1.ClearedByCluster
		message += " All of them are on their way into the mesh, and it follows them by itself."
		accept = "To have it restarted before, accept it"
	case callers.held >= callers.outside:
		message += " All of them belong to workloads that are held for the same reason, so that this does not end by itself."
	case callers.coming == 0:
		message += " Nothing is about to bring the others in, so that this does not end by itself."
	}
	answer.message = message + fmt.Sprintf(" %s with accept: [StrictMTLS] in MeshPolicy %s, or for this workload alone with the annotation %s=StrictMTLS; or set the mode PERMISSIVE until everything is in the mesh.", accept, s.policy.Name, v1alpha1.AcceptAnnotation)
	return answer
}

// where says where Pods are, without their number: that changes all the time.
func (s *situation) where(near, far bool) string {
	switch {
	case near && far:
		return "in its namespace and in others that MeshPolicy " + s.policy.Name + " governs"
	case near:
		return "in its namespace"
	default:
		return "in other namespaces that MeshPolicy " + s.policy.Name + " governs"
	}
}

func onPorts(ports []string) string {
	if len(ports) == 0 {
		return ""
	}
	return " on port " + strings.Join(ports, ", ")
}

// wouldRefuse is what the workload would do with plain traffic when its first Pods are in the mesh; the
// zero value where a restart changes nothing about it.
func (in *Input) wouldRefuse(namespace *inventory.Namespace, workload *inventory.Workload) mesh.MutualTLS {
	pods := &workload.Pods
	if in.Snapshot.PeerAuthentications == nil || !workload.Expectation.Inject || workload.Finding != v1alpha1.FindingMissing || pods.Ready == 0 || pods.Outside < pods.Running {
		return mesh.MutualTLS{}
	}
	return in.Snapshot.Injector.Effective(in.Snapshot.PeerAuthentications, workload.Expectation.Revision, namespace.Name, workload.Template.Labels)
}

// callersOf are those of the workloads under a policy that one revision injects.
type callersOf struct {
	policy   *Policy
	revision string
}

// callers are the Pods under one policy that can send plain traffic only.
type callers struct {
	outside int
	// held are those of workloads that would refuse their own callers, unaccepted; coming those of
	// others that are brought in without anybody doing anything.
	held, coming int
}

// isKeptOut reports whether somebody must do something before the workload is brought into the mesh, beside what
// holds as well those whom a revision injects and who wait for it.
func (s *situation) isKeptOut(revision string) bool {
	if s.workload.Record.InFlight() {
		return false
	}
	return slices.ContainsFunc(s.pass.checks, func(check check) bool {
		if check.occasions&notOfCallers != 0 || check.occasions&ofRevision != 0 && s.workload.Expectation.Revision == revision {
			return false
		}
		spoken := check.ask(s)
		return spoken != nil && spoken.needsSomebody()
	})
}

// callers counts those under the workload's policy once for its revision, and only where somebody would refuse them.
func (s *situation) callers() *callers {
	p, policy := s.pass, s.policy
	by := callersOf{policy, s.workload.Expectation.Revision}
	if known := p.callers[by]; known != nil {
		return known
	}
	counted := &callers{}
	for _, namespace := range p.governed[policy] {
		counted.outside += namespace.Totals.Outside
		for _, workload := range namespace.Open {
			if workload.Finding != v1alpha1.FindingMissing {
				continue
			}
			caller := &situation{pass: p, namespace: namespace, policy: policy, windows: s.windows, workload: workload, podLimit: p.ledger.podLimit(policy, namespace.Name)}
			switch {
			case p.wouldRefuse(namespace, workload).Strict && !policy.accepts(v1alpha1.RiskStrictMTLS, workload):
				counted.held += workload.Pods.Outside
			case !caller.isKeptOut(by.revision):
				counted.coming += workload.Pods.Outside
			}
		}
	}
	p.callers[by] = counted
	return counted
}
