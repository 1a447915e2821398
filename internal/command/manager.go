package command

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fullmesh/fullmesh/controllers"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

const (
	defaultNamespace = "fullmesh-system"
	leaseName        = "fullmesh-leader"
)

// managerOptions are the flags of the manager.
type managerOptions struct {
	controllers.Options
	leaderElect            bool
	eviction               eviction
	leaseDuration          time.Duration
	metricsAddr, probeAddr string
	log                    zap.Options
}

func newManager() *cobra.Command {
	options := &managerOptions{}
	command := &cobra.Command{
		Use:   "manager",
		Short: "Run the operator",
		Long: `Run the operator: watch the cluster, restart what a restart brings into the mesh where a
MeshPolicy in mode Enforce says so, and report.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runManager(command, options) },
	}
	flags := command.Flags()
	flags.StringVar(&options.Namespace, "namespace", cmp.Or(os.Getenv("POD_NAMESPACE"), defaultNamespace), "the operator's own "+
		"namespace, where its lease and the red button are")
	flags.StringVar(&options.IstioNamespace, "istio-namespace", mesh.IstioNamespace, "the namespace of Istio's control plane")
	flags.BoolVar(&options.AllowUnguarded, "allow-unguarded", false, "restart workloads though the admission guard is not in force")
	options.eviction = evictionEnabled
	flags.Var(&options.eviction, "eviction", "whether Pods may be evicted: Enabled, or Disabled (what only evictions would bring in is "+
		"then held; take the verb away with config/components/no-eviction, too)")
	flags.BoolVar(&options.leaderElect, "leader-elect", false, "act only while holding the lease; needed where more than one replica runs")
	flags.DurationVar(&options.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "how long the lease is good after its "+
		"holder was last heard of, at least 3s")
	flags.StringVar(&options.metricsAddr, "metrics-bind-address", ":8443", "where metrics are served, over TLS and with authentication; "+
		"0 for nowhere")
	flags.StringVar(&options.probeAddr, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 for nowhere")
	goFlags := flag.NewFlagSet("", flag.ContinueOnError)
	options.log.BindFlags(goFlags)
	config.RegisterFlags(goFlags)
	flags.AddGoFlagSet(goFlags)
	return command
}

// eviction says whether Pods may be evicted.
type eviction string

const (
	evictionEnabled  eviction = "Enabled"
	evictionDisabled eviction = "Disabled"
)

// String, Set and Type make it a flag.
func (e *eviction) String() string { return string(*e) }

func (e *eviction) Set(value string) error {
	switch eviction(value) {
	case evictionEnabled, evictionDisabled:
		*e = eviction(value)
		return nil
	default:
		return fmt.Errorf("must be %s or %s", evictionEnabled, evictionDisabled)
	}
}

func (e *eviction) Type() string { return "word" }

func runManager(command *cobra.Command, options *managerOptions) error {
	ctx := command.Context()
	if options.leaseDuration < 3*time.Second {
		return fmt.Errorf("--leader-elect-lease-duration is %s; set it to 3s or more", options.leaseDuration)
	}
	// An error says where it comes from; a stack trace of the reconciler adds nothing.
	ctrl.SetLogger(zap.New(zap.StacktraceLevel(zapcore.PanicLevel), zap.UseFlagOptions(&options.log)))
	restConfig, err := managerConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                        newScheme(),
		LeaderElection:                options.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       options.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &options.leaseDuration,
		RenewDeadline:                 new(options.leaseDuration * 2 / 3),
		RetryPeriod:                   new(options.leaseDuration / 7),
		HealthProbeBindAddress:        options.probeAddr,
		Metrics: metricsserver.Options{
			BindAddress:    options.metricsAddr,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	options.EvictionDisabled = options.eviction == evictionDisabled
	if err := controllers.Setup(ctx, manager, options.Options); err != nil {
		return err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := manager.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	return manager.Start(ctx)
}

// managerConfig finds the cluster. Requests are not slowed down here: the renewal of the lease would
// wait behind them (https://github.com/kubernetes-sigs/controller-runtime/issues/3092). The API server's
// own fairness bounds them.
func managerConfig() (*rest.Config, error) {
	found, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w; set --kubeconfig or KUBECONFIG", err)
	}
	found.QPS = -1
	return found, nil
}
