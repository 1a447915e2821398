// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Annotations on a Pod, usually by way of its template, decide how the nodes
// treat it. They may also be changed on a running Pod, which then changes its
// ways: a crashing Pod whose annotation is removed becomes ready.
const (
	// Behaviour takes one of the values below. Without it a Pod runs and is
	// ready as soon as it is scheduled.
	Behaviour = "test.fullmesh.dev/behaviour"
	// ReadyAfter is a duration, such as "3s", for which a Pod runs before it
	// is ready.
	ReadyAfter = "test.fullmesh.dev/ready-after"
	// TerminateAfter is a duration for which a deleted Pod goes on
	// terminating. Without it a deleted Pod is gone at once.
	TerminateAfter = "test.fullmesh.dev/terminate-after"
)

// Values of the annotation Behaviour.
const (
	// NeverReady Pods run and do not become ready.
	NeverReady = "never-ready"
	// NeverReadyInjected Pods do so only if they have a sidecar.
	NeverReadyInjected = "never-ready-injected"
	// Crash Pods are in CrashLoopBackOff: their own containers have been
	// restarted three times and last ended with exit code 1. A sidecar of
	// theirs runs.
	Crash = "crash"
	// CrashInjected Pods do so only if they have a sidecar.
	CrashInjected = "crash-injected"
	// Complete Pods end successfully once they were ready, as Pods of Jobs do.
	// A classic sidecar goes on running, and so does its Pod.
	Complete = "complete"
)

var (
	//go:embed stages/node.yaml
	nodeStages string
	//go:embed stages/volume.yaml
	volumeStages string
	//go:embed stages/pod-status.yaml.tmpl
	podStatus string
)

// podWords are the words that the conditions of podStages are written in. The
// language is jq, evaluated on the Pod.
const podWords = `
def asked($behaviour):
  (.metadata.annotations["` + Behaviour + `"] // "") as $given
  | ([.spec.containers[], .spec.initContainers[]?] | any(.name == "istio-proxy")) as $injected
  | $given == $behaviour or ($injected and $given == $behaviour + "-injected");
def slow: .metadata.annotations["` + ReadyAfter + `"] != null;
def deleted: .metadata.deletionTimestamp != null;
def pending: .status.phase == "Pending";
def running: .status.phase == "Running";
def ready: any(.status.conditions[]?; .type == "Ready" and .status == "True");
def crashing: any(.status.containerStatuses[]?; .state.waiting.reason == "CrashLoopBackOff");
def completed: any(.status.containerStatuses[]?; .state.terminated != null);
`

// podStages are the steps in a Pod's life on a node. At most one of them
// applies to a Pod at any time.
var podStages = []struct {
	name  string
	when  string // a condition in podWords
	after string // an annotation with the delay
	state string // the state that podStatus describes; "" deletes the Pod
}{
	{
		// A grace period of zero means that it is going already. Deleting it
		// twice could hit its successor of the same name.
		name:  "pod-gone",
		when:  `deleted and .metadata.deletionGracePeriodSeconds != 0`,
		after: TerminateAfter,
	},
	{
		name:  "pod-ready",
		when:  `(deleted or ready or completed or asked("crash") or asked("never-ready") | not) and (running or pending and (slow | not))`,
		after: ReadyAfter,
		state: "ready",
	},
	{
		name:  "pod-unready",
		when:  `(deleted or asked("crash") | not) and (pending and (slow or asked("never-ready")) or running and ready and asked("never-ready"))`,
		state: "unready",
	},
	{
		name:  "pod-crashing",
		when:  `(deleted or crashing | not) and (pending or running) and asked("crash")`,
		state: "crashing",
	},
	{
		name:  "pod-completed",
		when:  `(deleted | not) and running and ready and asked("complete")`,
		state: "completed",
	},
}

// stages is kwok's configuration.
func stages(kubeletVersion string) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(strings.ReplaceAll(nodeStages, "KUBELET_VERSION", kubeletVersion))
	out.WriteString("---\n" + volumeStages)
	for _, s := range podStages {
		type object = map[string]any
		step := object{"delete": true}
		if s.state != "" {
			step = object{"patch": object{
				"subresource": "status",
				// The uid keeps it off a successor of the same name.
				"template": fmt.Sprintf("{{ $state := %q }}\nmetadata: {uid: {{ .metadata.uid }}}\nstatus:\n%s",
					s.state, strings.ReplaceAll("\n"+podStatus, "\n", "\n  ")),
			}}
		}
		spec := object{
			"resourceRef": object{"apiGroup": "v1", "kind": "Pod"},
			"selector": object{"matchExpressions": []object{{"jq": object{
				"key": podWords + s.when, "operator": "In", "values": []string{"true"},
			}}}},
			"steps": []object{step},
		}
		if s.after != "" {
			spec["delay"] = object{"durationFrom": object{"jq": object{
				"expression": fmt.Sprintf(".metadata.annotations[%q]", s.after),
			}}}
		}
		stage, err := yaml.Marshal(object{
			"apiVersion": "kwok.x-k8s.io/v1alpha1",
			"kind":       "Stage",
			"metadata":   object{"name": s.name},
			"spec":       spec,
		})
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(stage)
	}
	return out.Bytes(), nil
}
