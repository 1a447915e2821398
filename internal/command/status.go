package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

const statusRights = "status needs to list MeshReports, and MeshPolicies unless -n names a namespace (ClusterRole fullmesh-view)"

var errNotInstalled = errors.New("there is no Fullmesh in this cluster, which knows no MeshReports; fullmesh plan works without")

// statusOptions are the flags of status.
type statusOptions struct {
	cluster   clusterOptions
	namespace string
	output    format
	watch     bool
	until     goal
}

func newStatus() *cobra.Command {
	options := &statusOptions{}
	command := &cobra.Command{
		Use:   "status",
		Short: "Show how far the cluster is, from the operator's reports",
		Long: `Print what the operator reports: of every MeshPolicy whether its namespaces are at full mesh and
whether it may restart, and of every governed namespace how many Pods are in the mesh and, for every
workload that is not complete, what is done about it and why.

With --watch it goes on and shows a bar for each namespace (on a terminal) or a line for each change
(elsewhere), until it is interrupted or what --until says has happened.`,
		Example: `  fullmesh status
  fullmesh status -n shop
  fullmesh status --watch --until full-mesh`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runStatus(command, options) },
	}
	withStatuses(command,
		"every governed namespace in which injection expects Pods is at full mesh; with -n, that one is",
		"not so, or not known: the operator has not looked at a MeshPolicy as it is now, or, with -n, has no report there")
	flags := command.Flags()
	options.cluster.addFlags(flags)
	options.output.addFlag(flags)
	flags.StringVarP(&options.namespace, "namespace", "n", "", "print this namespace only")
	flags.BoolVarP(&options.watch, "watch", "w", false, "go on and show progress")
	flags.Var(&options.until, "until", "with --watch, end when this has happened: full-mesh, or settled (nothing is left that Fullmesh "+
		"will do by itself)")
	return command
}

func runStatus(command *cobra.Command, options *statusOptions) error {
	switch {
	case options.watch && options.output != formatTable:
		return errors.New("--watch shows progress and knows no other --output than table")
	case options.until != "" && !options.watch:
		return errors.New("--until goes with --watch")
	}
	config, err := options.cluster.config()
	if err != nil {
		return err
	}
	reader, err := newClient(config)
	if err != nil {
		return err
	}
	ctx, out, notes := command.Context(), screenOf(command.OutOrStdout()), screenOf(command.ErrOrStderr())
	document, err := options.read(ctx, reader)
	if err != nil {
		return withRights(err, statusRights)
	}
	if err := options.explainNothing(ctx, reader, document, notes); err != nil {
		return err
	}
	if options.watch {
		document, err = options.follow(ctx, config, document, out)
	} else {
		err = options.output.print(out, document, document.print)
	}
	switch {
	case err != nil:
		return err
	case !document.isAtFullMesh():
		return exitStatus(exitSomethingToDo)
	default:
		return nil
	}
}

// read reads the reports and policies. One who may not read policies may still read the reports of
// a namespace.
func (o *statusOptions) read(ctx context.Context, reader client.Reader) (*statusDocument, error) {
	var reports v1alpha1.MeshReportList
	err := reader.List(ctx, &reports, client.InNamespace(o.namespace))
	switch {
	case meta.IsNoMatchError(err):
		return nil, errNotInstalled
	case err != nil:
		return nil, fmt.Errorf("listing MeshReports: %w", err)
	}
	var policies v1alpha1.MeshPolicyList
	err = reader.List(ctx, &policies)
	if o.namespace != "" && apierrors.IsForbidden(err) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing MeshPolicies: %w", err)
	}
	return newStatusDocument(policies.Items, reports.Items, o.namespace), nil
}

// explainNothing says why there is nothing to print, where that is so.
func (o *statusOptions) explainNothing(ctx context.Context, reader client.Reader, document *statusDocument, notes screen) error {
	if len(document.Policies) == 0 && o.namespace == "" {
		notes.line("There is no MeshPolicy, so nothing is governed. fullmesh plan shows what one would do.")
	}
	for _, policy := range document.Policies {
		if !policy.Observed {
			notes.line("The operator has not looked at MeshPolicy %s as it is now. Does it run?", policy.Name)
		}
	}
	if o.namespace == "" || len(document.Namespaces) > 0 {
		return nil
	}
	err := reader.Get(ctx, client.ObjectKey{Name: o.namespace}, &corev1.Namespace{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no namespace %s", o.namespace)
	}
	notes.line("There is no MeshReport in the namespace %s: no MeshPolicy governs it, injection expects nothing there, or the operator "+
		"has not looked yet.", o.namespace)
	return nil
}

// statusDocument is what status prints.
type statusDocument struct {
	Policies   []policyRow         `json:"policies"`
	Namespaces []reportedNamespace `json:"namespaces"`

	// asked is the namespace that was asked for; empty for all.
	asked string
}

// policyRow is what status prints of a MeshPolicy.
type policyRow struct {
	Name string        `json:"name"`
	Mode v1alpha1.Mode `json:"mode"`
	// Observed says that the rest is about the policy as it is now.
	Observed        bool                   `json:"observed"`
	FullMesh        metav1.ConditionStatus `json:"fullMesh"`
	RestartsAllowed metav1.ConditionStatus `json:"restartsAllowed"`
	Message         string                 `json:"message"`

	fullMeshReason, restartsReason string
	reconciling                    bool
}

// reportedNamespace is what status prints of a namespace.
type reportedNamespace struct {
	namespaceRow
	FullMesh metav1.ConditionStatus `json:"fullMesh"`
	Settled  metav1.ConditionStatus `json:"settled"`
	// OmittedWorkloads are not complete and not listed.
	OmittedWorkloads int `json:"omittedWorkloads"`

	noneExpected bool
	// unknown is why it is not known how things are; empty where it is.
	unknown string
}

func newStatusDocument(policies []v1alpha1.MeshPolicy, reports []v1alpha1.MeshReport, asked string) *statusDocument {
	document := &statusDocument{Policies: []policyRow{}, Namespaces: []reportedNamespace{}, asked: asked}
	for i := range policies {
		document.Policies = append(document.Policies, observedPolicy(&policies[i]))
	}
	for i := range reports {
		if asked == "" || reports[i].Namespace == asked {
			document.Namespaces = append(document.Namespaces, newReportedNamespace(&reports[i]))
		}
	}
	slices.SortFunc(document.Policies, func(a, b policyRow) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(document.Namespaces, func(a, b reportedNamespace) int { return strings.Compare(a.Name, b.Name) })
	return document
}

func observedPolicy(policy *v1alpha1.MeshPolicy) policyRow {
	fullMesh := conditionOf(policy.Status.Conditions, v1alpha1.ConditionFullMesh)
	allowed := conditionOf(policy.Status.Conditions, v1alpha1.ConditionRestartsAllowed)
	row := policyRow{
		Name:            policy.Name,
		Mode:            cmp.Or(policy.Spec.Mode, v1alpha1.ModeReport),
		Observed:        policy.Status.ObservedGeneration != nil && *policy.Status.ObservedGeneration == policy.Generation,
		FullMesh:        fullMesh.Status,
		RestartsAllowed: allowed.Status,
		Message:         fullMesh.Message,
		fullMeshReason:  fullMesh.Reason,
		restartsReason:  allowed.Reason,
		reconciling:     meta.IsStatusConditionTrue(policy.Status.Conditions, v1alpha1.ConditionReconciling),
	}
	if allowed.Status != metav1.ConditionTrue && allowed.Message != "" && row.Mode == v1alpha1.ModeEnforce && allowed.Message != row.Message {
		row.Message = strings.TrimSpace(row.Message + " " + allowed.Message)
	}
	return row
}

// conditionOf is a condition, unknown where it is not set.
func conditionOf(conditions []metav1.Condition, kind string) metav1.Condition {
	if condition := meta.FindStatusCondition(conditions, kind); condition != nil {
		return *condition
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
}

func newReportedNamespace(report *v1alpha1.MeshReport) reportedNamespace {
	status := &report.Status
	fullMesh := conditionOf(status.Conditions, v1alpha1.ConditionFullMesh)
	row := reportedNamespace{
		namespaceRow: namespaceRow{Name: report.Namespace, Policy: status.Policy, Workloads: []workloadRow{}, notExpected: map[string]int{}},
		FullMesh:     fullMesh.Status,
		Settled:      conditionOf(status.Conditions, v1alpha1.ConditionSettled).Status,
		noneExpected: fullMesh.Reason == v1alpha1.ReasonNoneExpected,
	}
	if fullMesh.Status == metav1.ConditionUnknown {
		row.unknown = fullMesh.Message
	}
	if status.Pods != nil {
		row.Pods.Eligible, row.Pods.Meshed = number(status.Pods.Eligible), number(status.Pods.Meshed)
		for _, others := range status.Pods.NotExpected {
			row.notExpected[others.Reason] = int(others.Pods)
			row.Pods.NotExpected += int(others.Pods)
		}
	}
	row.OmittedWorkloads = number(status.OmittedWorkloads)
	for i := range status.Workloads {
		workload := &status.Workloads[i]
		row.worstFirst = append(row.worstFirst, i)
		row.Workloads = append(row.Workloads, workloadRow{
			Group:    workload.Group,
			Kind:     workload.Kind,
			Name:     workload.Name,
			Pods:     number(workload.Pods),
			Meshed:   number(workload.Meshed),
			Finding:  workload.Finding,
			Action:   workload.Action,
			Method:   workload.Method,
			Reason:   workload.Reason,
			ClearsBy: workload.ClearsBy,
			Message:  workload.Message,
		})
	}
	return row
}

func number(n *int32) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// isAtFullMesh reports whether every governed namespace is, as far as that is known. A namespace
// that was asked for counts alone. Otherwise the policies have to say it as well: their status is
// written before the reports, which may not be there yet.
func (d *statusDocument) isAtFullMesh() bool {
	return d.isObserved() && !slices.ContainsFunc(d.Namespaces, func(namespace reportedNamespace) bool {
		return namespace.FullMesh != metav1.ConditionTrue && (d.asked != "" || !namespace.noneExpected)
	}) && (d.asked != "" || !slices.ContainsFunc(d.Policies, func(policy policyRow) bool {
		return policy.FullMesh != metav1.ConditionTrue && policy.fullMeshReason != v1alpha1.ReasonNoneExpected
	}))
}

// isSettled reports whether nothing is left that Fullmesh will do by itself.
func (d *statusDocument) isSettled() bool {
	return d.isObserved() && !slices.ContainsFunc(d.Namespaces, func(namespace reportedNamespace) bool {
		return namespace.Settled != metav1.ConditionTrue
	}) && (d.asked != "" || !slices.ContainsFunc(d.Policies, func(policy policyRow) bool { return policy.reconciling }))
}

// isObserved reports whether the operator has looked at every policy as it is now, and has a report
// on the namespace that was asked for.
func (d *statusDocument) isObserved() bool {
	return (d.asked == "" || len(d.Namespaces) > 0) &&
		!slices.ContainsFunc(d.Policies, func(policy policyRow) bool { return !policy.Observed })
}

// print prints the reports for people.
func (d *statusDocument) print(out screen) {
	if len(d.Policies) > 0 && d.asked == "" {
		rows := table{{"MESHPOLICY", "MODE", "FULL MESH", "RESTARTS", "MESSAGE"}}
		for _, policy := range d.Policies {
			rows = append(rows, []string{
				policy.Name, string(policy.Mode),
				withReason(policy.FullMesh, policy.fullMeshReason), cmp.Or(policy.restartsReason, string(policy.RestartsAllowed)), policy.Message,
			})
		}
		rows.print(out, "")
		out.line("")
	}
	total := counts{}
	for i := range d.Namespaces {
		namespace := &d.Namespaces[i]
		total.add(&namespace.namespaceRow)
		out.line("%s", namespace.summary())
		if namespace.unknown != "" {
			out.line("  That was so when it was looked at last. %s", namespace.unknown)
		}
		if len(namespace.Workloads) > 0 {
			namespace.printWorkloads(out)
			if namespace.OmittedWorkloads > 0 {
				out.line("  and %s that the report does not list; fullmesh plan -n %s does", plural(namespace.OmittedWorkloads, "more workload",
					"more workloads"), namespace.Name)
			}
			out.line("")
		}
	}
	if len(d.Namespaces) > 1 {
		out.line("%s: %s", plural(len(d.Namespaces), "namespace", "namespaces"), &total)
	}
}

func withReason(status metav1.ConditionStatus, reason string) string {
	if reason == "" {
		return string(status)
	}
	return fmt.Sprintf("%s (%s)", status, reason)
}
