// Package operator runs Fullmesh beside a test cluster as an installation does: under the
// ServiceAccount, the RBAC and the guard from config/. Only the Deployment is left out, because there
// are no kubelets that could run it; its replicas are processes.
package operator

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

const (
	// Namespace is where Fullmesh is installed.
	Namespace = "fullmesh-system"
	// ServiceAccount is what its replicas run as.
	ServiceAccount = "fullmesh"
	// User is the ServiceAccount as the audit log names it.
	User = "system:serviceaccount:" + Namespace + ":" + ServiceAccount
)

// logTail is how many lines of a replica's log a failed test shows.
const logTail = 400

// Installation is Fullmesh installed into a cluster.
type Installation struct {
	// Admin is a client that may do everything and knows Fullmesh's kinds.
	Admin client.Client
	// Kubeconfig is the path of a file with a token of the operator's ServiceAccount.
	Kubeconfig string

	program string
}

// Install puts what config/ has into a cluster.
func Install(ctx context.Context, c *cluster.Cluster) (*Installation, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	root, err := manifests.Root()
	if err != nil {
		return nil, err
	}
	installation := &Installation{program: filepath.Join(root, "bin", "fullmesh-race")}
	if _, err := os.Stat(installation.program); err != nil {
		return nil, fmt.Errorf("finding the operator: %w; build it with: make bin/fullmesh-race", err)
	}
	if installation.Admin, err = client.New(c.Config(), client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if err := manifests.Apply(ctx, installation.Admin, root, "config/crd", "config/rbac", "config/guard"); err != nil {
		return nil, fmt.Errorf("installing config/: %w", err)
	}
	installation.Kubeconfig, err = c.ServiceAccountKubeconfig(ctx, Namespace, ServiceAccount)
	return installation, err
}

// Behind opens a front of the cluster that it is installed into until the test ends, and returns the path of a
// kubeconfig of the operator's that leads through it.
func (i *Installation) Behind(t testing.TB, c *cluster.Cluster, wrap func(apiServer http.Handler) http.Handler) string {
	t.Helper()
	front, err := c.StartFront(wrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := front.Close(); err != nil {
			t.Error(err)
		}
	})
	kubeconfig, err := front.Kubeconfig(i.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// Replica is one process of the operator. When it ends by itself, for instance because it could not
// renew its lease in time on a loaded machine, it is started again, as a kubelet would do.
type Replica struct {
	command func() *exec.Cmd
	log     *log

	mu      sync.Mutex
	program *cluster.Program
	began   int // where in the log the running process begins
	over    bool
	done    chan struct{}
}

// Start runs a replica as the operator's ServiceAccount until the test ends. A panic or a data race
// in it fails the test.
func (i *Installation) Start(t testing.TB, flags ...string) *Replica {
	t.Helper()
	r := &Replica{log: &log{}, done: make(chan struct{})}
	arguments := append([]string{
		"manager", "--kubeconfig", i.Kubeconfig, "--namespace", Namespace,
		"--leader-elect", "--leader-elect-lease-duration", "4s",
		"--metrics-bind-address", "0", "--health-probe-bind-address", "0",
	}, flags...)
	r.command = func() *exec.Cmd { return exec.Command(i.program, arguments...) }
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	go r.supervise()
	t.Cleanup(func() {
		// A replica that a test has killed, or that lost its lease, ends with an error.
		r.end(func(p *cluster.Program) { _ = p.Stop() })
		for _, bad := range []string{"panic:", "WARNING: DATA RACE", "Observed a panic"} {
			if strings.Contains(r.Log(), bad) {
				t.Errorf("the operator's log has %q", bad)
			}
		}
		if t.Failed() {
			lines := strings.Split(r.Log(), "\n")
			t.Logf("the end of the operator's log:\n%s", strings.Join(lines[max(0, len(lines)-logTail):], "\n"))
		}
	})
	return r
}

// Kill ends the replica with SIGKILL, for good.
func (r *Replica) Kill() { r.end((*cluster.Program).Kill) }

// Crash ends the replica's process with SIGKILL; another one takes its place.
func (r *Replica) Crash() {
	r.mu.Lock()
	program := r.program
	r.mu.Unlock()
	program.Kill()
}

// Leads reports whether the replica's process has acquired the lease.
func (r *Replica) Leads() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.log.String()[r.began:], "Successfully acquired lease")
}

// Log is what the replica's processes have written so far.
func (r *Replica) Log() string { return r.log.String() }

func (r *Replica) start() error {
	command := r.command()
	command.Stdout, command.Stderr = r.log, r.log
	r.began = len(r.log.String())
	program, err := cluster.StartProgram(command)
	r.program = program
	return err
}

func (r *Replica) supervise() {
	defer close(r.done)
	for {
		<-r.program.Done()
		r.mu.Lock()
		over := r.over
		if !over && r.start() != nil {
			over = true
		}
		r.mu.Unlock()
		if over {
			return
		}
	}
}

func (r *Replica) end(how func(*cluster.Program)) {
	r.mu.Lock()
	r.over = true
	program := r.program
	r.mu.Unlock()
	if program != nil {
		how(program)
	}
	<-r.done
}

// log takes a program's output, while others read it.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
