// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Command testcluster starts a cluster of package test/cluster that outlives
// the command, to try things on by hand, and stops it.
//
//	testcluster up [--dir DIR]
//	testcluster down [--dir DIR]
//
// up starts itself once more in the background, as the parent of the cluster's
// processes. That parent holds a lock on a file in the directory as long as it
// lives, which is how up and down know whether there is a cluster.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fullmesh/fullmesh/test/cluster"
)

const usage = "usage: testcluster up|down [--dir DIR]"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testcluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("testcluster", flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join("bin", "cluster"), "where the cluster keeps its data, logs and kubeconfig")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	s := supervisor{dir: *dir}
	switch args[0] {
	case "up":
		return s.up()
	case "down":
		return s.down()
	case "supervise": // what up runs in the background
		return s.supervise()
	default:
		return errors.New(usage)
	}
}

// supervisor is the process in the background, seen through its files.
type supervisor struct {
	dir string
}

func (s supervisor) lockFile() string { return filepath.Join(s.dir, "supervisor.pid") }
func (s supervisor) logFile() string  { return filepath.Join(s.dir, "supervisor.log") }

// lock takes the lock that a supervisor holds while it lives; ok is false if
// one does.
func (s supervisor) lock() (file *os.File, ok bool, err error) {
	file, err = os.OpenFile(s.lockFile(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, file.Close()
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("locking %s: %w", s.lockFile(), err), file.Close())
	}
	return file, true, nil
}

// running tells whether a supervisor lives.
func (s supervisor) running() (bool, error) {
	file, ok, err := s.lock()
	if err != nil || !ok {
		return !ok, err
	}
	return false, file.Close()
}

func (s supervisor) up() error {
	running, err := s.running()
	if err != nil {
		return err
	}
	if running {
		fmt.Println("The cluster runs already.")
		s.explain()
		return nil
	}

	begin := time.Now()
	fmt.Println("Starting a cluster.")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	// The supervisor says over this pipe how starting went: nothing if well.
	result, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer result.Close()
	cmd := exec.Command(self, "supervise", "--dir", s.dir)
	cmd.Stderr = log
	cmd.Stdout = log
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting the supervisor: %w", err), theirs.Close())
	}
	if err := theirs.Close(); err != nil {
		return err
	}
	message, err := io.ReadAll(result)
	if err != nil {
		return fmt.Errorf("waiting for the supervisor: %w", err)
	}
	if string(message) != ready {
		_ = cmd.Wait()
		return fmt.Errorf("the cluster did not start: %s(the log is %s)", message, s.logFile())
	}
	fmt.Printf("The cluster is ready after %s.\n", time.Since(begin).Round(time.Second))
	s.explain()
	return nil
}

const ready = "ready"

func (s supervisor) explain() {
	fmt.Printf(`
  export KUBECONFIG=%[1]s
  bin/kubectl get nodes
  bin/kubectl create namespace demo
  bin/kubectl -n demo create deployment web --image=registry.example/web --replicas=3
  bin/kubectl label namespace demo istio-injection=enabled
  bin/kubectl -n demo scale deployment web --replicas=4     # the fourth has a sidecar

Logs are in %[2]s; testcluster down (make cluster-down) stops it.
`, filepath.Join(s.absolute(), "kubeconfig"), filepath.Join(s.dir, "logs"))
}

func (s supervisor) absolute() string {
	if path, err := filepath.Abs(s.dir); err == nil {
		return path
	}
	return s.dir
}

func (s supervisor) down() error {
	running, err := s.running()
	if err != nil {
		return err
	}
	if !running {
		fmt.Println("No cluster runs.")
		return nil
	}
	content, err := os.ReadFile(s.lockFile())
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("reading %s: %w", s.lockFile(), err)
	}
	// Whoever holds the lock wrote the number, so it is no other process's.
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping the supervisor (%d): %w", pid, err)
	}
	for range 600 {
		running, err := s.running()
		if err != nil {
			return err
		}
		if !running {
			fmt.Println("The cluster is stopped.")
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the supervisor (%d) does not end; the log is %s", pid, s.logFile())
}

// supervise runs the cluster until it is told to stop.
func (s supervisor) supervise() error {
	const inherited = 3 // the first of up's ExtraFiles
	syscall.CloseOnExec(inherited)
	result := os.NewFile(inherited, "result")
	err := s.hold(result)
	// If the cluster became ready, the pipe is closed and up is gone.
	_, _ = fmt.Fprintln(result, err)
	return err
}

func (s supervisor) hold(result *os.File) (err error) {
	lock, ok, err := s.lock()
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("another one runs already")
	}
	// Not closed, so it is held until this process is gone.
	defer runtime.KeepAlive(lock)
	if err := errors.Join(lock.Truncate(0), os.WriteFile(s.lockFile(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)); err != nil {
		return err
	}

	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{Dir: s.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if _, err := fmt.Fprint(result, ready); err != nil {
		return err
	}
	if err := result.Close(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
