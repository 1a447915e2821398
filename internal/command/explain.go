package command

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	subject   subjectOptions
	namespace string
	output    format
}

func newExplain() *cobra.Command {
	options := &explainOptions{}
	command := &cobra.Command{
		Use:   "explain KIND/NAME",
		Short: "Explain one workload or Pod, from the webhooks to the verdict",
		Long: `Explain, for one workload, what was decided and how, in the order in which it is decided: what each
webhook of Istio's has to do with it, what a new Pod would get, what the running Pods carry, what
is found, which check speaks against a restart and which had nothing to say before it, the verdict,
and what can be done.

KIND is written as for kubectl, in any case: deployment or deploy, statefulset or sts, daemonset or
ds, replicaset or rs, cronjob or cj, job, pod or po, or another kind that controls Pods, with its
group where that matters (rollout.argoproj.io). A Pod leads to its workload, and what this very Pod
carries is said as well. Without -n the name is looked for in every namespace.

It is the decision of plan: nothing is written, no dry run is made (the check for it counts as
silent), and the admission guard is taken to be in force. Without a MeshPolicy the same is assumed as
in plan.

` + aboutDumps,
		Example: `  fullmesh explain deploy/web -n shop
  fullmesh explain pod/web-5d8f7c9b4-x2x7k -n shop
  fullmesh explain sts/db -n shop -f dump.yaml -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error { return runExplain(command, options, args[0]) },
	}
	withStatuses(command,
		"nothing to do: the workload is as injection would make it, no policy governs it, or it is a Job",
		"something to do: it is to be restarted, is being restarted, or is held and needs time or somebody")
	options.subject.addFlags(command)
	options.output.addTextFlag(command.Flags())
	command.Flags().StringVarP(&options.namespace, "namespace", "n", "", "the namespace of the workload")
	return command
}

func runExplain(command *cobra.Command, options *explainOptions, name string) error {
	asked, err := parseTarget(name, options.namespace)
	if err != nil {
		return err
	}
	out, notes := screenOf(command.OutOrStdout()), screenOf(command.ErrOrStderr())
	subject, err := options.subject.read(command, notes)
	if err != nil {
		return withRights(err, planRights)
	}
	key, pod, err := subject.resolve(asked)
	if err != nil {
		return err
	}
	document := subject.explain(key, pod)
	if err := options.output.print(out, document, document.print); err != nil {
		return err
	}
	if document.row.needsSomething() {
		return exitStatus(exitSomethingToDo)
	}
	return nil
}

// explanation is what explain prints.
type explanation struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pod that was asked for; nil where it was a workload.
	Pod *podRow `json:"pod,omitempty"`

	// Policy that governs the namespace; empty where none does.
	Policy        string    `json:"policy"`
	PolicyAssumed bool      `json:"policyAssumed"`
	Injection     injection `json:"injection"`
	// Pods that carry the same are one group.
	Pods    []podGroup `json:"pods"`
	Finding found      `json:"finding"`
	// Phases of the decision, and what each check of them said.
	Phases  []restart.TracedPhase `json:"phases"`
	Verdict verdict               `json:"verdict"`
	// Restarts are those that Fullmesh has made of the workload, the newest first.
	Restarts []pastRestart `json:"restarts"`
	// WhatToDo says who can do what about it.
	WhatToDo []string `json:"whatToDo"`

	row workloadRow
}

// injection is what admission would do to a new Pod, and why.
type injection struct {
	Inject   bool        `json:"inject"`
	Revision string      `json:"revision"`
	Image    string      `json:"image,omitempty"`
	Reason   mesh.Reason `json:"reason"`
	Message  string      `json:"message"`
	Assumed  string      `json:"assumed,omitempty"`
	Notes    []mesh.Note `json:"notes,omitempty"`
	// NamespaceLabels, TemplateLabels and TemplateAnnotations are those that injection looks at.
	NamespaceLabels     map[string]string `json:"namespaceLabels"`
	TemplateLabels      map[string]string `json:"templateLabels"`
	TemplateAnnotations map[string]string `json:"templateAnnotations"`
	Webhooks            []mesh.Call       `json:"webhooks"`
}

// found is a finding with its reason.
type found struct {
	Finding v1alpha1.Finding `json:"finding"`
	Reason  mesh.Reason      `json:"reason"`
	Message string           `json:"message"`
}

// verdict is what is decided; Action is empty where no policy governs the workload.
type verdict struct {
	Action   v1alpha1.Action        `json:"action"`
	Method   v1alpha1.RestartMethod `json:"method,omitempty"`
	Reason   restart.Reason         `json:"reason"`
	ClearsBy v1alpha1.ClearedBy     `json:"clearsBy,omitempty"`
	Message  string                 `json:"message"`
}

// carries is what Pods carry.
type carries struct {
	Proxy    string `json:"proxy"`
	Revision string `json:"revision,omitempty"`
	Image    string `json:"image,omitempty"`
	Capture  string `json:"capture,omitempty"`
	Ambient  string `json:"ambient,omitempty"`
	Spoofed  string `json:"spoofed,omitempty"`
}

// pastRestart is a restart of the workload, by its MeshRestart.
type pastRestart struct {
	Name    string                 `json:"name"`
	Start   time.Time              `json:"start"`
	Finding v1alpha1.Finding       `json:"finding"`
	Method  v1alpha1.RestartMethod `json:"method"`
	// Result is empty while it is in flight.
	Result  v1alpha1.RestartResult `json:"result,omitempty"`
	Message string                 `json:"message,omitempty"`
}

// podGroup are Pods in one state that carry the same.
type podGroup struct {
	Pods  int `json:"pods"`
	Ready int `json:"ready"`
	// State is Running, or why they do not count: Terminating, Finished.
	State string `json:"state"`
	carries
	found
	Names []string `json:"names"`
	// Troubles say what keeps Pods from being ready.
	Troubles []string `json:"troubles,omitempty"`
}

// podRow is one Pod.
type podRow struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	State string `json:"state"`
	carries
	found
	Trouble string `json:"trouble,omitempty"`
}

// explain decides, and says how the decision about one workload was made.
func (s *subject) explain(key mesh.Key, pod string) *explanation {
	trace, known := restart.Explain(s.Input, key)
	if !known {
		panic(fmt.Sprintf("%s was found and is not in the snapshot", key))
	}
	workload := trace.Verdict.Workload
	document := &explanation{
		Group: key.Group, Kind: key.Kind, Namespace: key.Namespace, Name: key.Name,
		PolicyAssumed: s.assumed,
		Injection:     s.explainInjection(trace.Namespace, workload),
		Pods:          []podGroup{},
		Finding:       found{workload.Finding, workload.Reason, workload.Message},
		Phases:        append([]restart.TracedPhase{}, trace.Phases...),
		Restarts:      []pastRestart{},
		WhatToDo:      whatToDo(trace, s.assumed),
		row:           plannedWorkload(&trace.Verdict),
	}
	if trace.Policy != nil {
		document.Policy = trace.Policy.Name
	}
	for _, r := range workload.Restarts {
		document.Restarts = append(document.Restarts, pastRestart{r.Name, r.Start.UTC(), r.Cause.Finding, r.Method, r.Result, r.Message})
	}
	document.addPods(s.inventory.PodDetails(key), pod)
	document.Verdict = verdict{trace.Verdict.Action, trace.Verdict.Method, trace.Verdict.Reason, trace.Verdict.ClearsBy, trace.Verdict.Message}
	if trace.Verdict.Action == "" {
		document.row.Action = v1alpha1.ActionNone
		document.Verdict.Message = fmt.Sprintf("No MeshPolicy governs the namespace %s, so nothing is done about it.", key.Namespace)
		if s.IsSystem(key.Namespace) {
			document.Verdict.Message += fmt.Sprintf(" System and control-plane namespaces are governed only with the label %s=true.",
				v1alpha1.IncludeLabel)
		}
	}
	return document
}

func only(set map[string]string, keys ...string) map[string]string {
	chosen := maps.Clone(set)
	maps.DeleteFunc(chosen, func(key, _ string) bool { return !slices.Contains(keys, key) })
	if chosen == nil {
		return map[string]string{}
	}
	return chosen
}

func (s *subject) explainInjection(namespace *inventory.Namespace, workload *inventory.Workload) injection {
	expected := workload.Expectation
	explained := injection{
		Inject: expected.Inject, Revision: expected.Revision, Image: expected.Image,
		Reason: expected.Reason, Message: expected.Message, Assumed: expected.Assumed, Notes: workload.Notes,
		NamespaceLabels:     only(namespace.Labels, mesh.InjectionLabel, mesh.RevisionLabel, mesh.DataplaneModeLabel),
		TemplateLabels:      only(workload.Template.Labels, mesh.InjectLabel, mesh.RevisionLabel, mesh.DataplaneModeLabel),
		TemplateAnnotations: only(workload.Template.Annotations, mesh.InjectLabel),
		Webhooks:            []mesh.Call{},
	}
	if expected.Reason != mesh.ReasonMirrorPod { // which no webhook sees
		_, calls := s.Snapshot.Injector.Trace(mesh.Namespace{Name: namespace.Name, Labels: namespace.Labels}, workload.Template)
		explained.Webhooks = append(explained.Webhooks, calls...)
	}
	return explained
}

// addPods groups the Pods, the worst first, and picks out the one that was asked for.
func (e *explanation) addPods(pods []inventory.PodDetail, asked string) {
	type group struct {
		state    string
		observed carries
		judged   found
	}
	at := map[group]int{}
	for _, pod := range pods {
		is := group{stateOf(pod.Pod), carriedBy(pod.Observed.Value()), found(pod.Judgement)}
		trouble := describeTrouble(pod.Pod)
		if pod.Name == asked {
			e.Pod = &podRow{pod.Name, pod.Ready(), is.state, is.observed, is.judged, trouble}
		}
		position, known := at[is]
		if !known {
			position = len(e.Pods)
			at[is] = position
			e.Pods = append(e.Pods, podGroup{State: is.state, carries: is.observed, found: is.judged})
		}
		same := &e.Pods[position]
		same.Pods++
		same.Names = append(same.Names, pod.Name)
		if pod.Ready() {
			same.Ready++
		}
		if trouble != "" {
			same.Troubles = append(same.Troubles, trouble)
		}
	}
	slices.SortStableFunc(e.Pods, func(a, b podGroup) int {
		return cmp.Or(-compareBool(a.State == running, b.State == running), compareBool(a.isWell(), b.isWell()), -cmp.Compare(a.Pods, b.Pods))
	})
}

func (g *podGroup) isWell() bool {
	return g.Finding == v1alpha1.FindingMeshed || g.Finding == v1alpha1.FindingNotExpected
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// States of Pods.
const (
	running     = "Running"
	terminating = "Terminating"
	finished    = "Finished"
)

func stateOf(pod *mesh.Pod) string {
	switch {
	case pod.Finished:
		return finished
	case pod.Terminating:
		return terminating
	default:
		return running
	}
}

func describeTrouble(pod *mesh.Pod) string {
	switch {
	case pod.Trouble != nil:
		return fmt.Sprintf("Pod %s, %s", pod.Name, pod.Trouble)
	case pod.Unschedulable != nil:
		return fmt.Sprintf("Pod %s: the scheduler finds no node", pod.Name)
	default:
		return ""
	}
}

// What Pods carry, in words.
var (
	proxies = map[mesh.Proxy]string{
		mesh.ProxyNone: "None", mesh.ProxyClassic: "Sidecar", mesh.ProxyNative: "NativeSidecar", mesh.ProxyGateway: "Gateway",
		mesh.ProxyAgent: "Agent",
	}
	captures = map[mesh.Capture]string{mesh.CaptureOn: "On", mesh.CaptureBroken: "Broken"}
	ambients = map[mesh.Ambient]string{mesh.AmbientPending: "Pending", mesh.AmbientEnabled: "Enabled"}
)

func carriedBy(observed mesh.Observation) carries {
	return carries{
		Proxy: proxies[observed.Proxy], Revision: observed.Revision, Image: observed.Image,
		Capture: captures[observed.Capture], Ambient: ambients[observed.Ambient], Spoofed: observed.Spoofed,
	}
}
