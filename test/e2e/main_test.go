package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

const operatorNamespace = "fullmesh-system"

// shared is the cluster that the tests share, one after the other: each has namespaces and a policy
// of its own, and starts and ends its own operator.
var shared struct {
	*cluster.Cluster
	admin      client.Client
	kubeconfig string // of the operator's ServiceAccount
	operator   string // the program
}

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e tests need a cluster, which short mode leaves out")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fmt.Println("Starting a cluster with Istio for the e2e tests")
	ctx := context.Background()
	var err error
	if shared.Cluster, err = cluster.Start(ctx, cluster.Options{}); err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() {
		if err := shared.Stop(); err != nil {
			fmt.Println(err)
		}
	}()
	if err := install(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// install puts what config/ has into the cluster, but for the operator's Deployment: there are no
// kubelets that could run it.
func install(ctx context.Context) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	root, err := manifests.Root()
	if err != nil {
		return err
	}
	if shared.admin, err = client.New(shared.Config(), client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if err := manifests.Apply(ctx, shared.admin, root, "config/crd", "config/rbac", "config/guard"); err != nil {
		return fmt.Errorf("installing config/: %w", err)
	}
	if shared.kubeconfig, err = shared.ServiceAccountKubeconfig(ctx, operatorNamespace, "fullmesh"); err != nil {
		return err
	}
	shared.operator = filepath.Join(root, "bin", "fullmesh-race")
	if _, err := os.Stat(shared.operator); err != nil {
		return fmt.Errorf("finding the operator: %w; build it with: make bin/fullmesh-race", err)
	}
	return nil
}
