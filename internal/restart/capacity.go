package restart

import (
	"fmt"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// capacityIsMissing holds where new Pods would find no node, or where others are taking the workload's
// Pods down already. A Pod that cannot be scheduled is not one that fails because it is outside the
// mesh: injected, it asks for more.
//
// A Pod that has waited for as long as a restart may take to make progress is not taken to come by itself.
//
// A DaemonSet's Pods stay on a cordoned node and come back to it: only those for which the
// scheduler finds no room hold it.
func capacityIsMissing(c *Candidate) *hold {
	nodes := c.pass.Snapshot.Nodes
	staysOnNodes := c.workload.Key.Is().OnEveryNode
	answer := &hold{reason: ReasonWaitingForCapacity, clearsBy: v1alpha1.ClearedByCluster}
	switch pod, cordoned := c.workload.Unschedulable, c.workload.OnCordonedNode; {
	case pod != nil:
		answer.message = fmt.Sprintf("The scheduler finds no node for Pod %s (%s), and injected Pods ask for more.", pod.Pod,
			inShort(pod.Scheduler))
		if waited := time.Unix(pod.Created, 0).Add(c.policy.progressTimeout); c.pass.Now.Before(waited) {
			answer.until = waited
			answer.message += " Waiting until there is room; add nodes, or correct what the template asks for."
		} else {
			answer.clearsBy = v1alpha1.ClearedByOwner
			answer.message += fmt.Sprintf(" It has waited for longer than %s. Correct what the template asks for, or have nodes added that "+
				"offer it.", c.policy.progressTimeout)
		}
	case staysOnNodes:
		return nil
	case cordoned != nil:
		answer.message = fmt.Sprintf("Pod %s runs on node %s, which is cordoned: what a drain takes down would come on top of a restart, "+
			"and what it recreates is injected. Waiting until the Pod has moved; if nobody drains the node, run: kubectl uncordon %s",
			cordoned.Pod, cordoned.Node, cordoned.Node)
	case nodes.Known > 0 && nodes.Cordoned == nodes.Known:
		answer.message = fmt.Sprintf("Every node (%d) is cordoned, and no new Pod would be scheduled. Waiting until there is another, or "+
			"one is uncordoned (kubectl uncordon).", nodes.Known)
	default:
		return nil
	}
	return answer
}

// longestQuote is how much of what others say is repeated.
const longestQuote = 200

// inShort is what the scheduler or a controller says, in one line and without what is said of preemption.
func inShort(message string) string {
	message, _, _ = strings.Cut(message, " preemption:")
	message = strings.TrimSuffix(strings.Join(strings.Fields(message), " "), ".")
	if message == "" {
		return "it does not say why"
	}
	if runes := []rune(message); len(runes) > longestQuote {
		return string(runes[:longestQuote]) + "…"
	}
	return message
}
