// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// asChild makes this test binary a process that starts a cluster, tells the
// numbers of its processes and comes to the end that the value names. The
// cluster is kept in the directory that inDir names.
const (
	asChild = "FULLMESH_TEST_CLUSTER_CHILD"
	inDir   = "FULLMESH_TEST_CLUSTER_DIR"
)

func TestProcessesDieWithTheirParent(t *testing.T) {
	if end := os.Getenv(asChild); end != "" {
		startAndDie(t, end)
	}
	if testing.Short() {
		t.Skip("starts a cluster, which short mode leaves out")
	}
	for _, end := range []string{"panics", "is killed"} {
		t.Run("when it "+end, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$")
			child.Env = append(os.Environ(), asChild+"="+end, inDir+"="+t.TempDir())
			var stderr bytes.Buffer
			child.Stderr = &stderr
			out, err := child.Output()
			if err == nil {
				t.Fatal("the child ended well")
			}
			var pids []int
			lines := bufio.NewScanner(bytes.NewReader(out))
			for lines.Scan() {
				if word, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
					pid, err := strconv.Atoi(word)
					if err != nil {
						t.Fatal(err)
					}
					pids = append(pids, pid)
				}
			}
			if len(pids) != 2 {
				t.Fatalf("the child told of %d processes, want 2\n%s%s", len(pids), out, &stderr)
			}
			nobody := &Cluster{}
			eventually(t, nobody, "the child's processes to end", func(context.Context) error {
				for _, pid := range pids {
					if alive(pid) {
						return fmt.Errorf("process %d lives", pid)
					}
				}
				return nil
			})
		})
	}
}

func startAndDie(t *testing.T, end string) {
	c, err := Start(t.Context(), Options{Dir: os.Getenv(inDir), APIServerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.parts {
		pid := p.proc.cmd.Process.Pid
		if !alive(pid) {
			t.Fatalf("%s does not live", p.name)
		}
		fmt.Println("pid", pid)
	}
	switch end {
	case "panics":
		panic("a test that goes wrong")
	case "is killed":
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {}
	}
}

// alive tells whether a process runs. One that has ended but that nobody has
// waited for does not.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows the program's name, which stands in parentheses.
	_, rest, _ := bytes.Cut(status, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z"))
}
