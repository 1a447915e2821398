package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

const operatorNamespace = operator.Namespace

// shared is the cluster that the tests share, one after the other: each has namespaces and a policy
// of its own, and starts and ends its own operator.
var shared struct {
	*cluster.Cluster
	fullmesh *operator.Installation
	admin    client.Client
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
	if shared.fullmesh, err = operator.Install(ctx, shared.Cluster); err != nil {
		fmt.Println(err)
		return 1
	}
	shared.admin = shared.fullmesh.Admin
	return m.Run()
}
