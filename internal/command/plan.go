package command

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

const planRights = "plan reads only, and needs to list Namespaces, Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, " +
	"CronJobs, PodDisruptionBudgets, Nodes, MutatingWebhookConfigurations, MeshPolicies and MeshRestarts in the whole cluster, and " +
	"Rollouts and PeerAuthentications where they are installed"

// planOptions are the flags of plan.
type planOptions struct {
	subject   subjectOptions
	namespace string
	output    format
}

func newPlan() *cobra.Command {
	options := &planOptions{}
	command := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be restarted and why the rest is left",
		Long: `Read a cluster and print, for every namespace that a MeshPolicy governs and for every workload in
it, how many Pods are in the mesh, what is found, what Fullmesh would do now, and why.

plan makes the decision that the operator makes and acts on none of it. It only lists, and writes
nothing: not even a dry run, so a workload which it would restart may yet be held by the dry-run
check that the operator makes first. It takes the admission guard to be in force unless a MeshPolicy
says that the operator has found it missing, and it counts the red button (fullmesh stop) where it may
see that.

Where there is no MeshPolicy, plan assumes one in mode Enforce that governs every namespace but those
of the system and of the mesh's control plane, that accepts no risk, that settles for two seconds, and
whose budgets let everything be restarted at once: what would wait for its turn is shown as Restart,
too.

` + aboutDumps,
		Example: `  fullmesh plan                      # the whole cluster
  fullmesh plan -n shop              # one namespace, decided in the same whole
  fullmesh plan -f dump.yaml         # of what kubectl get -o yaml printed, without a cluster
  fullmesh plan -o json | jq '.namespaces[].workloads[] | select(.action == "Hold")'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runPlan(command, options) },
	}
	withStatuses(command,
		"nothing to do: of what is printed, every workload is as injection would make it",
		"something to do: a workload is to be restarted, is being restarted, or is held and needs time or somebody (Pods of Jobs do not "+
			"count: they end by themselves)")
	flags := command.Flags()
	options.subject.addFlags(command)
	options.output.addFlag(flags)
	flags.StringVarP(&options.namespace, "namespace", "n", "", "print this namespace only")
	return command
}

func runPlan(command *cobra.Command, options *planOptions) error {
	out, notes := screenOf(command.OutOrStdout()), screenOf(command.ErrOrStderr())
	subject, err := options.subject.read(command, notes)
	if err != nil {
		return withRights(err, planRights)
	}
	document := newPlanDocument(restart.Decide(subject.Input), subject.assumed)
	document.where = subject.where
	if options.namespace != "" {
		if err := options.narrow(document, subject, notes); err != nil {
			return err
		}
	}
	if err := options.output.print(out, document, func(out screen) { document.print(out, options.namespace != "") }); err != nil {
		return err
	}
	if document.somethingToDo() {
		return exitStatus(exitSomethingToDo)
	}
	return nil
}

// narrow leaves only the namespace that was asked for.
func (o *planOptions) narrow(document *planDocument, subject *subject, notes screen) error {
	if !subject.hasNamespace(o.namespace) {
		return fmt.Errorf("there is no namespace %s in this %s", o.namespace, subject.where)
	}
	document.Namespaces = slices.DeleteFunc(document.Namespaces, func(row namespaceRow) bool { return row.Name != o.namespace })
	if len(document.Namespaces) == 0 {
		notes.line("No MeshPolicy governs the namespace %s, so nothing is done about it. (System and control-plane namespaces are governed "+
			"only with the label %s=true.)", o.namespace, v1alpha1.IncludeLabel)
	}
	return nil
}

// planDocument is what plan prints.
type planDocument struct {
	PolicyAssumed bool           `json:"policyAssumed"`
	Namespaces    []namespaceRow `json:"namespaces"`

	// where it was read from: a cluster or a dump.
	where string
}

func newPlanDocument(plan *restart.Plan, assumed bool) *planDocument {
	document := &planDocument{PolicyAssumed: assumed, where: inCluster, Namespaces: make([]namespaceRow, 0, len(plan.Namespaces))}
	for _, namespace := range plan.Namespaces {
		document.Namespaces = append(document.Namespaces, plannedNamespace(namespace))
	}
	return document
}

func plannedNamespace(plan *restart.NamespacePlan) namespaceRow {
	sum := plan.Summarise()
	row := namespaceRow{
		Name:        plan.Name,
		Pods:        pods{Eligible: sum.Eligible, Meshed: sum.Meshed, NotExpected: sum.NotExpectedPods()},
		Workloads:   []workloadRow{},
		notExpected: map[string]int{},
	}
	if plan.Policy != nil {
		row.Policy = plan.Policy.Name
	}
	for reason, pods := range sum.NotExpected {
		row.notExpected[string(reason)] = pods
	}
	position := map[mesh.Key]int{}
	for _, verdict := range plan.All() {
		position[verdict.Workload.Key] = len(row.Workloads)
		row.Workloads = append(row.Workloads, plannedWorkload(&verdict))
	}
	for i := range plan.Verdicts {
		row.worstFirst = append(row.worstFirst, position[plan.Verdicts[i].Workload.Key])
	}
	return row
}

func plannedWorkload(verdict *restart.Verdict) workloadRow {
	workload := verdict.Workload
	return workloadRow{
		Group:    workload.Key.Group,
		Kind:     workload.Key.Kind,
		Name:     workload.Key.Name,
		Pods:     workload.Pods.Running,
		Meshed:   workload.Pods.Meshed,
		Finding:  workload.Finding,
		Expected: &expected{Inject: workload.Expectation.Inject, Revision: workload.Expectation.Revision},
		Action:   verdict.Action,
		Method:   verdict.Method,
		Reason:   string(verdict.Reason),
		ClearsBy: verdict.ClearsBy,
		Message:  verdict.Message,
		Notes:    workload.Notes,
	}
}

// somethingToDo reports whether a workload is not as it should be.
func (d *planDocument) somethingToDo() bool {
	return slices.ContainsFunc(d.Namespaces, func(namespace namespaceRow) bool {
		return slices.ContainsFunc(namespace.Workloads, workloadRow.needsSomething)
	})
}

// print prints the plan for people. Namespaces about which there is nothing to say take a line,
// unless they were asked for.
func (d *planDocument) print(out screen, asked bool) {
	if d.PolicyAssumed {
		out.line("There is no MeshPolicy in this %s. This is what one in mode Enforce would do that governs every namespace (but the "+
			"system's) and accepts no risk.", d.where)
		out.line("")
	}
	total := counts{}
	for i := range d.Namespaces {
		namespace := &d.Namespaces[i]
		total.add(namespace)
		out.line("%s", namespace.summary())
		if asked || !namespace.isQuiet() {
			namespace.printWorkloads(out)
			out.line("")
		}
	}
	if len(d.Namespaces) > 1 {
		out.line("%s: %s", plural(len(d.Namespaces), "namespace", "namespaces"), &total)
	}
}
