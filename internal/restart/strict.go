package restart

import (
	"fmt"
	"strings"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// wouldRefuseItsCallers holds where the Pods of a workload would refuse plain traffic once they are in
// the mesh, while others can send nothing else. A workload of which a Pod is in the mesh refuses it
// already, and one of which no Pod is ready answers nobody.
func wouldRefuseItsCallers(c *Candidate) *hold {
	strict := c.wouldRefusePlainTraffic()
	if !strict.Strict {
		return nil
	}
	callers := c.callers()
	others := callers.outside - c.workload.Pods.Outside
	if others <= 0 {
		return nil
	}
	near := c.namespace.Totals.Outside - c.workload.Pods.Outside
	message := fmt.Sprintf("%s makes it take mutual TLS only%s: once it is in the mesh it refuses Pods that are outside of it, and there "+
		"are some %s.",
		strict.By, onPorts(strict.Ports), c.where(near > 0, others > near))
	answer := &hold{reason: ReasonStrictMTLS, clearsBy: v1alpha1.ClearedByAdmin}
	accept := "Accept it"
	switch {
	case callers.coming >= others:
		answer.clearsBy = v1alpha1.ClearedByCluster
		message += " All of them are on their way into the mesh, and it follows them by itself."
		accept = "To have it restarted before, accept it"
	case callers.held >= callers.outside:
		message += " All of them belong to workloads that are held for the same reason, so this does not end by itself."
	case callers.coming == 0:
		message += " Nothing is about to bring the others in, so this does not end by itself."
	}
	answer.message = message + fmt.Sprintf(" %s with accept: [StrictMTLS] in MeshPolicy %s, or for this workload alone with the "+
		"annotation %s=StrictMTLS; or set the mode PERMISSIVE until everything is in the mesh.", accept, c.policy.Name, v1alpha1.AcceptAnnotation)
	return answer
}

// where says where Pods are, without their number: that changes all the time.
func (c *Candidate) where(near, far bool) string {
	switch {
	case near && far:
		return "in its namespace and in others that MeshPolicy " + c.policy.Name + " governs"
	case near:
		return "in its namespace"
	default:
		return "in other namespaces that MeshPolicy " + c.policy.Name + " governs"
	}
}

func onPorts(ports []string) string {
	if len(ports) == 0 {
		return ""
	}
	return " on port " + strings.Join(ports, ", ")
}

// wouldRefusePlainTraffic is what the workload would do with plain traffic when its first Pods are in the mesh; the
// zero value where a restart changes nothing about it, or that is accepted.
func (c *Candidate) wouldRefusePlainTraffic() mesh.MutualTLS {
	workload, snapshot := c.workload, c.pass.Snapshot
	pods := &workload.Pods
	if snapshot.PeerAuthentications == nil || !workload.Expectation.Inject || workload.Finding != v1alpha1.FindingMissing ||
		pods.Ready == 0 || pods.Outside < pods.Running ||
		c.policy.accepts(v1alpha1.RiskStrictMTLS, workload) {
		return mesh.MutualTLS{}
	}
	return snapshot.Injector.Effective(snapshot.PeerAuthentications, workload.Expectation.Revision, c.namespace.Name, workload.Template.Labels)
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

// callers counts those under the workload's policy, by the verdicts that were given before: workloads that would refuse
// plain traffic are judged last.
func (c *Candidate) callers() *callers {
	p, policy := c.pass, c.policy
	by := callersOf{policy, c.workload.Expectation.Revision}
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
			caller := &Candidate{pass: p, namespace: namespace, policy: policy, workload: workload}
			switch {
			case caller.wouldRefusePlainTraffic().Strict:
				counted.held += workload.Pods.Outside
			case !p.needsActionToJoin(workload, by):
				counted.coming += workload.Pods.Outside
			}
		}
	}
	p.callers[by] = counted
	return counted
}

// needsActionToJoin reports whether somebody must do something before the workload is brought into the mesh, not counting
// holds that equally stop those that it calls: the policy's gate, and the injector of their revision.
func (p *pass) needsActionToJoin(workload *inventory.Workload, by callersOf) bool {
	verdict := p.verdicts[workload]
	if verdict == nil || !verdict.NeedsAction() {
		return false
	}
	gate := p.gates[by.policy]
	if gate != nil && gate.Reason == verdict.Reason {
		return false
	}
	return verdict.Reason != ReasonInjectorRollingOut || workload.Expectation.Revision != by.revision
}
