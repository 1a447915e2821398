// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster starts Kubernetes clusters with Istio for tests.
//
// Everything in such a cluster is the real thing except the kubelets: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler and istiod with its
// injection webhook run as processes on free ports of 127.0.0.1, and kwok plays
// the nodes. So Pods are admitted, injected, owned, scheduled, rolled out,
// evicted and collected as everywhere else; only their containers are
// pretended, and behave as annotations on the Pod ask (see Behaviour).
//
//	func TestSomething(t *testing.T) {
//		c := cluster.ForTest(t, cluster.Options{})
//		client := kubernetes.NewForConfigOrDie(c.Config())
//		…
//	}
//
// Clusters share nothing: any number of them runs side by side. Their processes
// die with the process that started them, also when it panics or is killed
// (on Linux). The programs come from bin/, where make cluster-binaries builds
// them, and those of the control plane from KUBEBUILDER_ASSETS if that is set.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Options say what a cluster consists of. The zero value is a whole cluster
// with three nodes and Istio's revision "default".
type Options struct {
	// Dir takes the cluster's data, logs, kubeconfigs and audit logs. What a
	// former cluster left there is replaced. If empty, a temporary directory is
	// used, which Stop removes.
	Dir string
	// Bin is where the programs are. If empty, bin/ in the root of the Go
	// module that the working directory belongs to.
	Bin string
	// Nodes is the number of nodes; 3 if zero. Their kubelets report the API
	// server's version, so sidecars are native; they are classic while there is
	// a Node that was created with an older one in its status.
	Nodes int
	// APIServers is the number of API servers on the one etcd; 1 if zero. Each
	// has its own caches, so what one has seen another may see later.
	APIServers int
	// WithoutIstio leaves out istiod and its webhooks.
	WithoutIstio bool
	// APIServerOnly leaves out everything but etcd and the API servers: nothing
	// is scheduled, owned or collected, and there are no nodes.
	APIServerOnly bool
	// Supervised has the scheduler, the controller manager and kwok started again
	// when they end by themselves, as a kubelet does: the scheduler, for one, ends
	// itself when it finds that it has missed something. Without it that is a
	// failure of the cluster.
	Supervised bool
	// Istio are values for Istio's charts, each in the form "name=value" that
	// istioctl takes after --set.
	Istio []string
}

// Cluster is a running cluster.
type Cluster struct {
	options   Options
	dir       string
	temporary bool // dir goes when the cluster does

	authority *authority
	pki       pki
	config    *rest.Config
	client    kubernetes.Interface

	etcd       *part
	apiServers []*part

	mu        sync.Mutex
	parts     []*part // all of them
	revisions map[string]*revision

	stop func() error
}

// Start starts a cluster and waits until it is of use: nodes are ready, a Pod
// has run, and a Pod is injected. The context bounds the starting only. An
// error names the part that did not come up and shows the end of its log.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{options: o, dir: o.Dir, revisions: map[string]*revision{}}
	c.stop = sync.OnceValue(c.shutDown)
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return fmt.Errorf("preparing the cluster's directory: %w", err)
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	if c.options.APIServerOnly {
		return nil
	}
	if err := c.startControllers(ctx); err != nil {
		return err
	}
	if err := c.addNodes(ctx); err != nil {
		return err
	}
	if err := c.addStorage(ctx); err != nil {
		return err
	}
	if !c.options.WithoutIstio {
		if err := c.InstallRevision(ctx, DefaultRevision); err != nil {
			return err
		}
	}
	return c.runPod(ctx)
}

// prepare makes the cluster's directory, its certificates and its admin.
func (c *Cluster) prepare() error {
	var err error
	if c.options.Bin == "" {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		c.options.Bin = filepath.Join(root, "bin")
	}
	if c.dir == "" {
		c.temporary = true
		if c.dir, err = os.MkdirTemp("", "cluster-"); err != nil {
			return err
		}
	}
	// The parts run in directories of their own.
	for _, path := range []*string{&c.dir, &c.options.Bin} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	for _, name := range []string{"run", "logs", "audit", "pki", "kubeconfigs", "kubeconfig"} {
		if err := os.RemoveAll(filepath.Join(c.dir, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"run", "logs", "audit", "kubeconfigs"} {
		if err := os.MkdirAll(filepath.Join(c.dir, name), 0o755); err != nil {
			return err
		}
	}
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	c.pki, err = c.authority.writePKI(filepath.Join(c.dir, "pki"))
	return err
}

// moduleRoot is the nearest directory upwards with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is in no Go module, and Options.Bin is empty")
		}
		dir = filepath.Dir(dir)
	}
}

// Stop ends every process of the cluster, waits until they are gone and removes
// a temporary directory. Called again, it returns the same. It returns an error
// if a part had ended by itself before.
func (c *Cluster) Stop() error {
	return c.stop()
}

func (c *Cluster) shutDown() error {
	err := c.Failure()
	c.mu.Lock()
	parts := c.parts
	c.mu.Unlock()
	var ends sync.WaitGroup
	for _, p := range parts {
		ends.Go(p.stop)
	}
	ends.Wait()
	if c.temporary {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// Failure is an error if a part of the cluster ended by itself. It names the
// part and shows the end of its log.
func (c *Cluster) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.parts {
		errs = append(errs, p.failure())
	}
	return errors.Join(errs...)
}

// Config is a client configuration for an administrator of the cluster. Its
// requests are not slowed down on the client's side.
func (c *Cluster) Config() *rest.Config {
	return rest.CopyConfig(c.config)
}

// ConfigFor is Config for one of several API servers, counted from zero.
func (c *Cluster) ConfigFor(apiServer int) *rest.Config {
	config := c.Config()
	config.Host = c.host(apiServer)
	return config
}

// Kubeconfig is the path of a file with Config.
func (c *Cluster) Kubeconfig() string {
	return filepath.Join(c.dir, "kubeconfig")
}

// Dir is where the cluster keeps its data and logs.
func (c *Cluster) Dir() string {
	return c.dir
}

// ForTest starts a cluster for a test and stops it when the test is over. If
// the test failed, it logs the end of each part's log. It skips the test in
// short mode.
func ForTest(t testing.TB, o Options) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster, which short mode leaves out")
	}
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("Starting a cluster: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.mu.Lock()
			parts := c.parts
			c.mu.Unlock()
			for _, p := range parts {
				t.Log(p.tail())
			}
		}
		if err := c.Stop(); err != nil {
			t.Errorf("Stopping the cluster: %v", err)
		}
	})
	return c
}

// part makes a part of the cluster with a number of free ports.
func (c *Cluster) part(name, program string, ports int) (*part, error) {
	path, err := c.program(program)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &part{
		name:    name,
		program: path,
		dir:     filepath.Join(c.dir, "run", name),
		log:     filepath.Join(c.dir, "logs", name+".log"),
		ports:   make([]int, ports),
	}
	for i := range p.ports {
		if p.ports[i], err = freePort(); err != nil {
			return nil, fmt.Errorf("starting %s: %w", name, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts = append(c.parts, p)
	return p, nil
}

// program is the path of one of the cluster's programs.
func (c *Cluster) program(name string) (string, error) {
	candidates := []string{filepath.Join(c.options.Bin, name)}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		candidates = append([]string{filepath.Join(assets, name)}, candidates...)
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s in %s: make cluster-binaries builds it", name, c.options.Bin)
}
