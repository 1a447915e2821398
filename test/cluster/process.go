// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout bounds how long a part may take until it is ready. It is
	// generous because a loaded machine is no reason to fail.
	startTimeout = 3 * time.Minute
	// pollInterval is the pause between two looks at a condition.
	pollInterval = 50 * time.Millisecond
	// logTail is how many lines of a part's log an error shows.
	logTail = 40
)

// launches takes commands to the goroutine that starts them all.
//
// The kernel kills a child whose Pdeathsig is set when the thread that started
// it ends, not when the process does. So one goroutine keeps one thread for
// good and starts every process from there: they live exactly as long as this
// process, however it ends.
var launches = sync.OnceValue(func() chan<- launch {
	queue := make(chan launch)
	go func() {
		runtime.LockOSThread()
		for l := range queue {
			l.result <- l.cmd.Start()
		}
	}()
	return queue
})

type launch struct {
	cmd    *exec.Cmd
	result chan error
}

// process is a running or ended program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	err  error         // how it ended; valid after done
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = sysProcAttr()
	l := launch{cmd: cmd, result: make(chan error, 1)}
	launches() <- l
	if err := <-l.result; err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process at once and waits until it is gone. Nothing in a test
// cluster is worth a graceful end.
func (p *process) kill() {
	// An error means that it has ended already.
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// part is one of the programs a cluster consists of. It may be stopped and
// started again, and keeps its ports and its log when it is.
type part struct {
	name    string // for messages: "kube-apiserver", "istiod (canary)"
	program string // path of the executable
	dir     string // working directory and home
	log     string // path of the file that takes its output
	ports   []int  // on loopback
	// kubeconfig is what the part talks to the API server with, if it does.
	kubeconfig string
	args       func(ports []int) []string
	env        []string
	// ready tells why the part cannot be used yet, or nil.
	ready func(ctx context.Context) error
	// supervised says that the part is started again when it ends by itself.
	supervised bool

	mu      sync.Mutex
	proc    *process
	settled bool // it was ready once, so others know its ports
	stopped bool // its end was asked for
}

// start runs the part and waits until it is ready. While nobody knows its
// ports yet, it moves to others when something took them in the meantime.
func (p *part) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.tryStart(ctx)
		if err == nil {
			p.mu.Lock()
			p.settled = true
			p.mu.Unlock()
			return nil
		}
		p.stop()
		if !errors.Is(err, errPortTaken) || ctx.Err() != nil {
			return err
		}
		if !p.settled {
			for i := range p.ports {
				if p.ports[i], err = freePort(); err != nil {
					return fmt.Errorf("starting %s: %w", p.name, err)
				}
			}
			continue
		}
		sleep(ctx, pollInterval)
	}
}

var errPortTaken = errors.New("port already in use")

func (p *part) tryStart(ctx context.Context) error {
	proc, begin, err := p.launch()
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.proc, p.stopped = proc, false
	p.mu.Unlock()

	if err := p.await(ctx, p.ready); err != nil {
		if proc.ended() && strings.Contains(readFrom(p.log, begin), "address already in use") {
			err = errors.Join(errPortTaken, err)
		}
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	if p.supervised {
		go p.supervise(proc)
	}
	return nil
}

// supervise starts the part again whenever it ends by itself, as a kubelet
// does, until it is stopped.
func (p *part) supervise(proc *process) {
	for {
		<-proc.done
		time.Sleep(pollInterval)
		p.mu.Lock()
		if p.stopped || p.proc != proc {
			p.mu.Unlock()
			return
		}
		next, _, err := p.launch()
		if err != nil {
			// It is a failure from now on, which is shown.
			p.supervised = false
			p.mu.Unlock()
			return
		}
		p.proc = next
		p.mu.Unlock()
		proc = next
	}
}

// launch runs the part's program, and says where in its log that begins.
func (p *part) launch() (proc *process, begin int64, err error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, 0, err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	if begin, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, err
	}
	cmd := exec.Command(p.program, p.args(p.ports)...)
	cmd.Dir = p.dir
	// Nothing of the caller's environment may change how a cluster behaves.
	cmd.Env = append([]string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH")}, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	proc, err = startProcess(cmd)
	return proc, begin, err
}

// await polls until condition returns nil. It gives up when the part ends or
// when ctx does, and then shows the end of the part's log.
func (p *part) await(ctx context.Context, condition func(context.Context) error) error {
	p.mu.Lock()
	proc := p.proc
	p.mu.Unlock()
	for {
		err := condition(ctx)
		switch {
		case err == nil:
			return nil
		case proc.ended():
			return fmt.Errorf("it ended (%v)\n%s", proc.cmd.ProcessState, p.tail())
		case ctx.Err() != nil:
			return fmt.Errorf("it is not ready in time: %w\n%s", err, p.tail())
		}
		sleep(ctx, pollInterval)
	}
}

// stop ends the part, if it runs, and waits until it is gone.
func (p *part) stop() {
	p.mu.Lock()
	proc := p.proc
	p.stopped = true
	p.mu.Unlock()
	if proc != nil {
		proc.kill()
	}
}

// failure is an error if the part ended though nobody asked for it.
func (p *part) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil || p.stopped || p.supervised || !p.proc.ended() {
		return nil
	}
	return fmt.Errorf("%s ended by itself (%v)\n%s", p.name, p.proc.cmd.ProcessState, p.tail())
}

// tail is the end of the part's log, with a headline.
func (p *part) tail() string {
	lines := strings.Split(strings.TrimRight(readFrom(p.log, 0), "\n"), "\n")
	lines = lines[max(0, len(lines)-logTail):]
	return fmt.Sprintf("--- the end of %s's log (%s):\n%s\n---", p.name, p.log, strings.Join(lines, "\n"))
}

// readFrom returns what a log holds after an offset. A log that cannot be read
// is as good as an empty one: it is shown beside an error that matters more.
func readFrom(path string, offset int64) string {
	content, _ := os.ReadFile(path)
	return string(bytes.ToValidUTF8(content[min(offset, int64(len(content))):], []byte("?")))
}

// sleep waits for d, or less when ctx ends before.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
