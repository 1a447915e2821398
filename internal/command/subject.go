package command

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/matchcondition"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// assumedPolicy is the name of the policy that is assumed where there is none.
const assumedPolicy = "assumed"

// What a subject is read from.
const (
	inCluster = "cluster"
	inDump    = "dump"
)

// aboutDumps is what the help of plan and explain says of -f.
const aboutDumps = `With -f objects are read from files instead, and no cluster is asked: what kubectl get -o yaml or -o json
prints, one object or many, lists, files of many documents, directories of such (.yaml, .yml, .json,
read in the order of their names) and - for standard input. What the files do not hold is taken not to
exist; where that misleads, a line on standard error says so. Of an object that is there twice, the
later counts.

A dump is decided upon as of the newest time that any of its objects tells, not as of today, so that
the answer stays the same; settling is taken to be over. Objects that were written by hand work as
well: without a UID they are found by their names, without a status a workload counts as rolled out
and a Pod as ready. A PodDisruptionBudget without status allows nothing.`

// subjectOptions say what plan and explain look at: a cluster, or a dump of one.
type subjectOptions struct {
	cluster                           clusterOptions
	files                             []string
	operatorNamespace, istioNamespace string
}

func (o *subjectOptions) addFlags(command *cobra.Command) {
	flags := command.Flags()
	o.cluster.addFlags(flags)
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "read this file or directory, or standard input (-), in place of a cluster; "+
		"may be given several times")
	flags.StringVar(&o.operatorNamespace, "operator-namespace", defaultNamespace, "the operator's namespace, where the red button is")
	flags.StringVar(&o.istioNamespace, "istio-namespace", mesh.IstioNamespace, "the namespace of Istio's control plane")
	command.MarkFlagsMutuallyExclusive("filename", "kubeconfig")
	command.MarkFlagsMutuallyExclusive("filename", "context")
}

// subject is what is decided about.
type subject struct {
	restart.Input
	inventory *inventory.Inventory
	// assumed says that there is no MeshPolicy.
	assumed bool
	// where it was read from: a cluster or a dump.
	where string
}

// read reads what is asked for and makes it ready to be decided upon.
func (o *subjectOptions) read(command *cobra.Command, notes screen) (*subject, error) {
	if len(o.files) > 0 {
		return o.readDump(command.InOrStdin(), notes)
	}
	reader, err := o.cluster.client()
	if err != nil {
		return nil, err
	}
	return o.readCluster(command.Context(), reader, notes)
}

// newSubject knows the policies and nothing of the cluster yet.
func (o *subjectOptions) newSubject(policies []v1alpha1.MeshPolicy, where string, notes screen) *subject {
	s := &subject{where: where}
	s.Guard = restart.GuardHolds
	s.System = restart.SystemNamespaces.Union(sets.New(o.istioNamespace, o.operatorNamespace))
	if len(policies) == 0 {
		s.assumed = true
		policies = append(policies, *newAssumedPolicy())
	}
	for i := range policies {
		object := &policies[i]
		policy, err := restart.NewPolicy(object)
		if object.DeletionTimestamp != nil {
			continue
		}
		if err != nil {
			notes.line("MeshPolicy %s cannot be used, and nothing is restarted under it: %v.", object.Name, err)
		}
		if policy != nil {
			s.Policies = append(s.Policies, policy)
		}
		if allowed := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionRestartsAllowed); allowed != nil &&
			allowed.Reason == v1alpha1.ReasonGuardMissing {
			s.Guard = restart.GuardMissing
		}
	}
	return s
}

func (o *subjectOptions) newObserver(now func() time.Time) *controllers.Observer {
	return controllers.NewObserver(mesh.Options{IstioNamespace: o.istioNamespace, Match: matchcondition.New().Match}, now)
}

// look takes over what was observed.
func (s *subject) look(observer *controllers.Observer, now time.Time) {
	s.inventory, s.Snapshot, s.Now = observer.Inventory, observer.Inventory.Snapshot(), now
}

func (s *subject) hasNamespace(name string) bool {
	for _, namespace := range s.Snapshot.Namespaces {
		if namespace.Name == name {
			return true
		}
	}
	return false
}

func (o *subjectOptions) readCluster(ctx context.Context, reader client.Client, notes screen) (*subject, error) {
	var policies v1alpha1.MeshPolicyList
	if err := reader.List(ctx, &policies); err != nil && !meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("listing MeshPolicies: %w", err)
	}
	s := o.newSubject(policies.Items, inCluster, notes)
	var err error
	if s.Stopped, err = o.readStopped(ctx, reader, notes); err != nil {
		return nil, err
	}
	observer := o.newObserver(time.Now)
	if err := observer.ReadOnce(ctx, reader, o.istioNamespace); err != nil {
		return nil, fmt.Errorf("reading the cluster: %w", err)
	}
	s.look(observer, time.Now())
	return s, nil
}

// readStopped reports whether the red button is pressed, as far as this account may see.
func (o *subjectOptions) readStopped(ctx context.Context, reader client.Client, notes screen) (bool, error) {
	var pressed corev1.ConfigMapList
	err := reader.List(ctx, &pressed, client.InNamespace(o.operatorNamespace),
		client.MatchingFields{metav1.ObjectNameField: v1alpha1.StopConfigMap})
	switch {
	case apierrors.IsForbidden(err):
		notes.line("Whether everything is stopped cannot be seen (ConfigMap %s in %s); it is taken to be not.", v1alpha1.StopConfigMap,
			o.operatorNamespace)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for ConfigMap %s/%s: %w", o.operatorNamespace, v1alpha1.StopConfigMap, err)
	default:
		return len(pressed.Items) > 0, nil
	}
}

var errNoNamespaces = errors.New("the dump has no Namespaces, and their labels decide about injection; add: kubectl get namespaces -o yaml")

func (o *subjectOptions) readDump(stdin io.Reader, notes screen) (*subject, error) {
	dumped, err := readDump(o.files, stdin)
	if err != nil {
		return nil, err
	}
	dumped.sayWhatIsPassedOver(notes)
	return o.newDumpSubject(dumped, notes)
}

func (o *subjectOptions) newDumpSubject(dumped *dump, notes screen) (*subject, error) {
	var policies []v1alpha1.MeshPolicy
	var objects []client.Object
	stopped, namespaces := false, 0
	for _, object := range dumped.objects {
		switch object := object.(type) {
		case *v1alpha1.MeshPolicy:
			// Settling is over: a dump does not change any more.
			object.Spec.SettleSeconds = new(int32(restart.LeastSettle / time.Second))
			policies = append(policies, *object)
		case *corev1.ConfigMap:
			stopped = stopped || object.Namespace == o.operatorNamespace && object.Name == v1alpha1.StopConfigMap
			if object.Namespace == o.istioNamespace {
				objects = append(objects, object)
			}
		case *corev1.Namespace:
			namespaces++
			objects = append(objects, object)
		default:
			objects = append(objects, object)
		}
	}
	if namespaces == 0 {
		return nil, errNoNamespaces
	}
	dumped.sayWhatIsMissing(o.istioNamespace, notes)
	s := o.newSubject(policies, inDump, notes)
	s.Stopped = stopped
	now := dumped.newest.Add(restart.LeastSettle)
	observer := o.newObserver(func() time.Time { return now })
	if err := observer.Read(objects); err != nil {
		return nil, fmt.Errorf("reading the dump: %w", err)
	}
	s.look(observer, now)
	return s, nil
}

// newAssumedPolicy governs everything and bounds nothing but what no policy may leave out.
func newAssumedPolicy() *v1alpha1.MeshPolicy {
	return &v1alpha1.MeshPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: assumedPolicy},
		Spec: v1alpha1.MeshPolicySpec{
			Mode:              v1alpha1.ModeEnforce,
			NamespaceSelector: &v1alpha1.LabelSelector{},
			SettleSeconds:     new(int32(restart.LeastSettle / time.Second)),
			Budgets:           []v1alpha1.Budget{{Scope: v1alpha1.BudgetScopePolicy, Workloads: new(intstr.FromString("100%"))}},
		},
	}
}
