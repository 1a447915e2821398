package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

const operatorNamespace = operator.Namespace

// clustersAtOnce is how many tests run side by side, each on a cluster that it has to itself, where
// -parallel says nothing else. The tests mostly wait, so this is more than there are processors.
const clustersAtOnce = 4

// clusterTest is a test with the cluster that it has to itself. Policies, istiod and the operator's
// lease are there once in a cluster, so no other test runs on it meanwhile.
type clusterTest struct {
	*testing.T
	*world
}

// world is a cluster with Fullmesh installed. Tests use it one after the other: each has namespaces
// and a policy of its own, and starts and ends its own operator.
type world struct {
	*cluster.Cluster
	fullmesh *operator.Installation
	admin    client.Client
}

// worlds are the clusters that run. There are at most as many as tests run in parallel.
var worlds struct {
	sync.Mutex
	idle []*world
}

// onCluster makes a test run in parallel to the others, on a cluster that no other test uses until it ends.
func onCluster(test *testing.T) *clusterTest {
	test.Helper()
	test.Parallel()
	w := takeIdle()
	if w == nil {
		var err error
		if w, err = startWorld(test.Context()); err != nil {
			test.Fatalf("starting a cluster with Istio and Fullmesh: %v", err)
		}
	}
	test.Cleanup(func() { giveBack(test, w) })
	return &clusterTest{test, w}
}

func takeIdle() *world {
	worlds.Lock()
	defer worlds.Unlock()
	last := len(worlds.idle) - 1
	if last < 0 {
		return nil
	}
	w := worlds.idle[last]
	worlds.idle = worlds.idle[:last]
	return w
}

// giveBack leaves the cluster of a test to the next one. After a failure nobody knows what state it is
// in, so it is stopped then.
func giveBack(test *testing.T, w *world) {
	if err := w.Failure(); err != nil {
		test.Error(err)
	}
	if test.Failed() {
		// What it returns is the failure above.
		_ = w.Stop()
		return
	}
	worlds.Lock()
	defer worlds.Unlock()
	worlds.idle = append(worlds.idle, w)
}

func startWorld(ctx context.Context) (*world, error) {
	c, err := cluster.Start(ctx, cluster.Options{})
	if err != nil {
		return nil, err
	}
	fullmesh, err := operator.Install(ctx, c)
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return &world{Cluster: c, fullmesh: fullmesh, admin: fullmesh.Admin}, nil
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
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(clustersAtOnce)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	code := m.Run()
	// A test that panics takes the whole process with it, and the clusters die with that.
	for w := takeIdle(); w != nil; w = takeIdle() {
		if err := w.Stop(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	return code
}
