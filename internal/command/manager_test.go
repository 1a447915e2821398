package command

import (
	"os"
	"path/filepath"
	"testing"
)

// The lease shares its client with everything else. A limit of the client's own would let its renewal
// wait behind other requests, and a burst of restarts would cost the leader its lease.
func TestRequestsAreNotSlowedDownHere(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	t.Setenv("KUBECONFIG", kubeconfig)
	const content = `{"apiVersion": "v1", "kind": "Config", "current-context": "here",
		"clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:6443"}}],
		"contexts": [{"name": "here", "context": {"cluster": "here"}}]}`
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := managerConfig()
	if err != nil {
		t.Fatal(err)
	}
	if found.RateLimiter != nil || found.QPS >= 0 {
		t.Errorf("the operator's client allows itself %v requests a second (limiter %v)", found.QPS, found.RateLimiter)
	}
}
