package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/operator"
)

// laggard lies between one process and the API server: what it sends and what it is shown is late by as much as the
// seed says.
type laggard struct {
	mu     sync.Mutex
	random *rand.Rand
	// created are the MeshRestarts that it has tried to create.
	created int
}

func newLaggard(seed uint64) *laggard { return &laggard{random: rand.New(rand.NewPCG(seed, 0))} }

func (l *laggard) late() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.random.IntN(300)) * time.Millisecond
}

func (l *laggard) inFrontOf(apiServer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && path.Base(r.URL.Path) == "meshrestarts" && !r.URL.Query().Has("dryRun") {
			l.mu.Lock()
			l.created++
			l.mu.Unlock()
		}
		switch {
		case r.URL.Query().Has("watch"):
			w = lateEvents{w, l}
		case r.Method != http.MethodGet:
			time.Sleep(l.late())
		}
		apiServer.ServeHTTP(w, r)
	})
}

// lateEvents is the answer to a watch.
type lateEvents struct {
	http.ResponseWriter

	laggard *laggard
}

func (e lateEvents) Write(p []byte) (int, error) {
	time.Sleep(e.laggard.late())
	return e.ResponseWriter.Write(p)
}

// Unwrap lets watches be handed on event by event.
func (e lateEvents) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// Two processes that both believe to lead, each with a view that is late, restart nothing twice: the API server takes
// a MeshRestart once, and a touch once.
func TestTwoLeadersRestartNothingTwice(test *testing.T) {
	t := onCluster(test)
	const shop, size = "two-leaders", 24
	var workloads []client.Object
	for i := range size {
		name := fmt.Sprintf("app-%02d", i)
		if i%4 == 3 {
			workloads = append(workloads, builder.StatefulSet(shop, name).Replicas(2).OnDelete().Build())
		} else {
			workloads = append(workloads, builder.Deployment(shop, name).Replicas(2).TemplateAnnotated(cluster.ReadyAfter, "300ms").Build())
		}
	}
	startShop(t, shop, workloads...)
	outside := map[types.UID]bool{}
	for _, workload := range workloads {
		for _, uid := range uids(podsOf(t, shop, workload.GetName())) {
			outside[uid] = true
		}
	}
	witness := followLedger(t, shop)
	begin := serverTime()
	var laggards []*laggard
	var replicas []*operator.Replica
	for seed := range uint64(2) {
		laggards = append(laggards, newLaggard(seed))
		kubeconfig := t.fullmesh.Behind(t, t.Cluster, laggards[seed].inFrontOf)
		replicas = append(replicas, startOperator(t, "--kubeconfig", kubeconfig, "--leader-elect=false"))
	}
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Budget(v1alpha1.BudgetScopePolicy, 6, nil).Build())
	awaitPolicy(t, shop, v1alpha1.ConditionRestartsAllowed, metav1.ConditionTrue, v1alpha1.ReasonEnforcing)
	label(t, shop, "istio-injection", "enabled")
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
	awaitNothingInFlight(t, shop)

	witness.check(t)
	requests := operatorRequests(t, begin)
	for _, workload := range workloads {
		begun, _ := witness.begun(t, workload)
		if len(begun) != 1 || begun[0].Result != v1alpha1.ResultSucceeded {
			t.Errorf("%s has %d restarts: %v", workload.GetName(), len(begun), begun)
		}
		sent := sentAbout(t, requests, workload)
		if want := strings.Count(fmt.Sprintf("%T", workload), "Deployment"); len(sent.touches) != want {
			t.Errorf("%s was touched by %v", workload.GetName(), sent.touches)
		}
		for _, uid := range sent.evicted {
			if !outside[uid] {
				t.Errorf("Pod %s of %s was evicted, which came when the others were replaced", uid, workload.GetName())
			}
		}
	}
	for i, replica := range replicas {
		if laggards[i].created == 0 || !strings.Contains(replica.Log(), "Restarted ") {
			t.Errorf("process %d tried to create %d MeshRestarts; that both lead is not shown", i, laggards[i].created)
		}
	}
	refused := 0
	for i := range requests {
		if requests[i].Resource == "meshrestarts" && requests[i].Verb == "create" && requests[i].Code == http.StatusConflict {
			refused++
		}
	}
	if refused == 0 {
		t.Error("the two never tried the same; nothing is shown")
	}
	t.Logf("MeshRestarts tried: %d and %d, of which %d were refused", laggards[0].created, laggards[1].created, refused)
}
