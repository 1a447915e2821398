package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/fullmesh/fullmesh/test/cluster"
)

// operator is a replica. When it ends by itself, for instance because it could not renew its lease
// in time on a loaded machine, it is started again, as a kubelet would do.
type operator struct {
	log *log

	mu      sync.Mutex
	program *cluster.Program
	over    bool
	done    chan struct{}
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

// startOperator runs a replica as the operator's ServiceAccount until the test ends. A panic or a
// data race in it fails the test.
func startOperator(t *testing.T, flags ...string) *operator {
	t.Helper()
	o := &operator{log: &log{}, done: make(chan struct{})}
	if err := o.start(flags); err != nil {
		t.Fatal(err)
	}
	go o.supervise(flags)
	t.Cleanup(func() {
		// An operator that a test has killed, or that lost its lease, ends with an error.
		o.end(func(p *cluster.Program) { _ = p.Stop() })
		for _, bad := range []string{"panic:", "WARNING: DATA RACE", "Observed a panic"} {
			if strings.Contains(o.log.String(), bad) {
				t.Errorf("the operator's log has %q", bad)
			}
		}
		if t.Failed() {
			t.Logf("the operator's log:\n%s", o.log)
		}
	})
	return o
}

// Kill ends the replica with SIGKILL, for good.
func (o *operator) Kill() { o.end((*cluster.Program).Kill) }

func (o *operator) start(flags []string) error {
	arguments := append([]string{
		"manager", "--kubeconfig", shared.kubeconfig, "--namespace", operatorNamespace,
		"--leader-elect", "--leader-elect-lease-duration", "4s",
		"--metrics-bind-address", "0", "--health-probe-bind-address", "0",
	}, flags...)
	command := exec.Command(shared.operator, arguments...)
	command.Stdout, command.Stderr = o.log, o.log
	program, err := cluster.StartProgram(command)
	o.program = program
	return err
}

func (o *operator) supervise(flags []string) {
	defer close(o.done)
	for {
		<-o.program.Done()
		o.mu.Lock()
		over := o.over
		if !over && o.start(flags) != nil {
			over = true
		}
		o.mu.Unlock()
		if over {
			return
		}
	}
}

func (o *operator) end(how func(*cluster.Program)) {
	o.mu.Lock()
	o.over = true
	program := o.program
	o.mu.Unlock()
	if program != nil {
		how(program)
	}
	<-o.done
}
