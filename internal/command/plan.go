package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/controllers"
	"github.com/fullmesh/fullmesh/internal/matchcondition"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/rollout"
)

// assumedPolicy is the name of the policy that plan assumes where there is none.
const assumedPolicy = "assumed"

const planRights = "plan reads only, and needs to list Namespaces, Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, PodDisruptionBudgets, MutatingWebhookConfigurations and MeshPolicies in the whole cluster"

// planOptions are the flags of plan.
type planOptions struct {
	cluster           clusterOptions
	namespace         string
	operatorNamespace string
	istioNamespace    string
	output            format
}

func newPlan() *cobra.Command {
	options := &planOptions{}
	command := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be restarted and why the rest is left",
		Long: `Read a cluster and print, for every namespace that a MeshPolicy governs and for every workload in
it, how many Pods are in the mesh, what is found, what Fullmesh would do now, and why.

plan makes the decision that the operator makes and acts on none of it. It only lists, and writes
nothing: not even a dry run, so that a workload which it would restart may yet be held by the dry-run
check that the operator makes first. It takes the admission guard to be in force unless a MeshPolicy
says that the operator has found it missing, and it counts the red button (fullmesh stop) where it may
see that.

Where there is no MeshPolicy, plan assumes one in mode Enforce that governs every namespace but those
of the system and of the mesh's control plane, that accepts no risk, that settles for two seconds, and
whose budgets let everything be restarted at once: what would wait for its turn is shown as Restart,
too.`,
		Example: `  fullmesh plan                      # the whole cluster
  fullmesh plan -n shop              # one namespace, decided in the same whole
  fullmesh plan -o json | jq '.namespaces[].workloads[] | select(.action == "Hold")'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runPlan(command, options) },
	}
	withStatuses(command,
		"nothing to do: of what is printed, every workload is as injection would make it",
		"something to do: a workload is to be restarted, is being restarted, or is held and needs time or somebody (Pods of Jobs do not count: they end by themselves)")
	flags := command.Flags()
	options.cluster.addFlags(flags)
	options.output.addFlag(flags)
	flags.StringVarP(&options.namespace, "namespace", "n", "", "print this namespace only")
	flags.StringVar(&options.operatorNamespace, "operator-namespace", defaultNamespace, "the operator's namespace, where the red button is")
	flags.StringVar(&options.istioNamespace, "istio-namespace", defaultIstioNamespace, "the namespace of Istio's control plane")
	return command
}

func runPlan(command *cobra.Command, options *planOptions) error {
	reader, err := options.cluster.client()
	if err != nil {
		return err
	}
	out, notes := screenOf(command.OutOrStdout()), screenOf(command.ErrOrStderr())
	plan, policies, err := options.decide(command.Context(), reader, notes)
	if err != nil {
		return withRights(err, planRights)
	}
	document := newPlanDocument(plan, policies.assumed)
	if options.namespace != "" {
		if err := options.narrow(document, policies.known, notes); err != nil {
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

// governance is which policies a plan is made under.
type governance struct {
	policies []*rollout.Policy
	// assumed says that the cluster has none.
	assumed bool
	guard   rollout.Guard
	// known are the names of all namespaces.
	known sets.Set[string]
}

// decide reads the cluster and makes the operator's decision.
func (o *planOptions) decide(ctx context.Context, reader client.Client, notes screen) (*rollout.Plan, *governance, error) {
	policies, err := readPolicies(ctx, reader, notes)
	if err != nil {
		return nil, nil, err
	}
	stopped, err := o.readStopped(ctx, reader, notes)
	if err != nil {
		return nil, nil, err
	}
	observer := controllers.NewObserver(mesh.Options{IstioNamespace: o.istioNamespace, Match: matchcondition.New().Match}, time.Now)
	if err := observer.ReadOnce(ctx, reader, o.istioNamespace); err != nil {
		return nil, nil, fmt.Errorf("reading the cluster: %w", err)
	}
	snapshot := observer.Inventory.Snapshot()
	policies.known = sets.New[string]()
	for _, namespace := range snapshot.Namespaces {
		policies.known.Insert(namespace.Name)
	}
	return rollout.Decide(rollout.Input{
		Now:      time.Now(),
		Snapshot: snapshot,
		Policies: policies.policies,
		System:   rollout.SystemNamespaces.Union(sets.New(o.istioNamespace, o.operatorNamespace)),
		Stopped:  stopped,
		Guard:    policies.guard,
	}), policies, nil
}

// readPolicies reads the MeshPolicies, or assumes one where there is none or the cluster does not
// know the kind.
func readPolicies(ctx context.Context, reader client.Client, notes screen) (*governance, error) {
	var list v1alpha1.MeshPolicyList
	err := reader.List(ctx, &list)
	switch {
	case meta.IsNoMatchError(err):
	case err != nil:
		return nil, fmt.Errorf("listing MeshPolicies: %w", err)
	}
	found := &governance{guard: rollout.GuardHolds}
	if len(list.Items) == 0 {
		policy, err := rollout.NewPolicy(newAssumedPolicy())
		found.policies, found.assumed = []*rollout.Policy{policy}, true
		return found, err
	}
	for i := range list.Items {
		object := &list.Items[i]
		policy, err := rollout.NewPolicy(object)
		switch {
		case object.DeletionTimestamp != nil:
		case err != nil:
			notes.line("MeshPolicy %s cannot be used and governs nothing: %v.", object.Name, err)
		default:
			found.policies = append(found.policies, policy)
		}
		if allowed := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionRestartsAllowed); allowed != nil && allowed.Reason == v1alpha1.ReasonGuardMissing {
			found.guard = rollout.GuardMissing
		}
	}
	return found, nil
}

// newAssumedPolicy governs everything and bounds nothing but what no policy may leave out.
func newAssumedPolicy() *v1alpha1.MeshPolicy {
	return &v1alpha1.MeshPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: assumedPolicy},
		Spec: v1alpha1.MeshPolicySpec{
			Mode:              v1alpha1.ModeEnforce,
			NamespaceSelector: &v1alpha1.LabelSelector{},
			SettleSeconds:     new(int32(2)),
			Budgets:           []v1alpha1.Budget{{Scope: v1alpha1.BudgetScopePolicy, Workloads: new(intstr.FromString("100%"))}},
		},
	}
}

// readStopped reports whether the red button is pressed, as far as this account may see.
func (o *planOptions) readStopped(ctx context.Context, reader client.Client, notes screen) (bool, error) {
	var pressed corev1.ConfigMapList
	err := reader.List(ctx, &pressed, client.InNamespace(o.operatorNamespace), client.MatchingFields{metav1.ObjectNameField: v1alpha1.StopConfigMap})
	switch {
	case apierrors.IsForbidden(err):
		notes.line("Whether everything is stopped cannot be seen (ConfigMap %s in %s); it is taken to be not.", v1alpha1.StopConfigMap, o.operatorNamespace)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for ConfigMap %s/%s: %w", o.operatorNamespace, v1alpha1.StopConfigMap, err)
	default:
		return len(pressed.Items) > 0, nil
	}
}

// narrow leaves only the namespace that was asked for.
func (o *planOptions) narrow(document *planDocument, known sets.Set[string], notes screen) error {
	if !known.Has(o.namespace) {
		return fmt.Errorf("there is no namespace %s", o.namespace)
	}
	document.Namespaces = slices.DeleteFunc(document.Namespaces, func(row namespaceRow) bool { return row.Name != o.namespace })
	if len(document.Namespaces) == 0 {
		notes.line("No MeshPolicy governs the namespace %s, so that nothing is done about it. (System and control-plane namespaces are governed only with the label %s=true.)", o.namespace, v1alpha1.IncludeLabel)
	}
	return nil
}

// planDocument is what plan prints.
type planDocument struct {
	PolicyAssumed bool           `json:"policyAssumed"`
	Namespaces    []namespaceRow `json:"namespaces"`
}

func newPlanDocument(plan *rollout.Plan, assumed bool) *planDocument {
	document := &planDocument{PolicyAssumed: assumed, Namespaces: make([]namespaceRow, 0, len(plan.Namespaces))}
	for _, namespace := range plan.Namespaces {
		document.Namespaces = append(document.Namespaces, plannedNamespace(namespace))
	}
	return document
}

func plannedNamespace(plan *rollout.NamespacePlan) namespaceRow {
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
		workload := verdict.Workload
		position[workload.Key] = len(row.Workloads)
		row.Workloads = append(row.Workloads, workloadRow{
			Group:    workload.Key.Group,
			Kind:     workload.Key.Kind,
			Name:     workload.Key.Name,
			Pods:     workload.Pods.Running,
			Meshed:   workload.Pods.Meshed,
			Finding:  workload.Finding,
			Expected: &expected{Inject: workload.Expectation.Inject, Revision: workload.Expectation.Revision},
			Action:   verdict.Action,
			Reason:   string(verdict.Reason),
			ClearsBy: verdict.ClearsBy,
			Message:  verdict.Message,
		})
	}
	for i := range plan.Verdicts {
		row.worstFirst = append(row.worstFirst, position[plan.Verdicts[i].Workload.Key])
	}
	return row
}

// somethingToDo reports whether a workload is not as it should be. Runs of Jobs end by themselves.
func (d *planDocument) somethingToDo() bool {
	return slices.ContainsFunc(d.Namespaces, func(namespace namespaceRow) bool {
		return slices.ContainsFunc(namespace.Workloads, func(workload workloadRow) bool {
			return workload.Action != v1alpha1.ActionNone && workload.Group != "batch"
		})
	})
}

// print prints the plan for people. Namespaces about which there is nothing to say take a line,
// unless they were asked for.
func (d *planDocument) print(out screen, asked bool) {
	if d.PolicyAssumed {
		out.line("There is no MeshPolicy in this cluster. This is what one in mode Enforce would do that governs every namespace (but the system's) and accepts no risk.")
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
