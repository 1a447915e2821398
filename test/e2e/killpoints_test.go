package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/referee"
)

var (
	kills    = flag.Int("kills", 30, "how often the operator is killed at a write")
	killSeed = flag.Uint64("kill-seed", 1, "what the order of the kills comes from")
)

// killedWrites are the writes of a restart, and of evictions.
var killedWrites = []struct {
	name string
	is   func(request *http.Request, body string) bool
	// by are the methods that make it.
	by []v1alpha1.RestartMethod
}{
	{"create the MeshRestart", func(r *http.Request, _ string) bool {
		return r.Method == http.MethodPost && path.Base(r.URL.Path) == "meshrestarts"
	}, []v1alpha1.RestartMethod{v1alpha1.MethodRolloutRestart, v1alpha1.MethodEviction}},
	{"touch the workload", func(r *http.Request, body string) bool {
		return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/deployments/") && strings.Contains(body, "restarted-by")
	}, []v1alpha1.RestartMethod{v1alpha1.MethodRolloutRestart}},
	{"name the Pods", func(r *http.Request, body string) bool {
		return isStatusOfRestart(r) && !strings.Contains(body, v1alpha1.ConditionFinished)
	}, []v1alpha1.RestartMethod{v1alpha1.MethodEviction}},
	{"evict a Pod", func(r *http.Request, _ string) bool {
		return r.Method == http.MethodPost && path.Base(r.URL.Path) == "eviction"
	}, []v1alpha1.RestartMethod{v1alpha1.MethodEviction}},
	{"write the end", func(r *http.Request, body string) bool {
		return isStatusOfRestart(r) && strings.Contains(body, v1alpha1.ConditionFinished)
	}, []v1alpha1.RestartMethod{v1alpha1.MethodRolloutRestart, v1alpha1.MethodEviction}},
}

func isStatusOfRestart(r *http.Request) bool {
	return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/meshrestarts/") && path.Base(r.URL.Path) == "status"
}

// moment is when a process dies of a write.
type moment string

const (
	beforeItIsSent moment = "before it reaches the API server"
	unanswered     moment = "when it was carried out and not answered"
	answered       moment = "when it was answered"
)

// killPoint is one death.
type killPoint struct {
	write  int // of killedWrites
	moment moment
	by     v1alpha1.RestartMethod
	// late is how long the process lives after the answer.
	late time.Duration
}

func (p *killPoint) String() string {
	return fmt.Sprintf("%s, %s", killedWrites[p.write].name, p.moment)
}

// killPoints are so many deaths, each sort as often as the others, in an order of the seed's.
func killPoints(seed uint64, n int) []killPoint {
	random := rand.New(rand.NewPCG(seed, 0))
	var points []killPoint
	for len(points) < n {
		round := len(points)
		for write := range killedWrites {
			by := killedWrites[write].by
			for _, moment := range []moment{beforeItIsSent, unanswered, answered} {
				points = append(points, killPoint{write, moment, by[(round+len(points))%len(by)], time.Duration(random.IntN(20)) * time.Millisecond})
			}
		}
	}
	random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return points[:n]
}

// killer lies between the operator and the API server, and has it killed at the next write of a sort.
type killer struct {
	// ahead is how far the API server's clock is.
	ahead atomic.Int64

	mu   sync.Mutex
	at   *killPoint
	kill func()
	dead chan struct{}
}

// arm has the operator killed at a point, once. dead is closed when it is gone.
func (k *killer) arm(at *killPoint, kill func()) (dead <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.kill, k.dead = at, kill, make(chan struct{})
	return k.dead
}

// fires is the point at which the operator is killed for a request, and what does that; nil where it is not.
func (k *killer) fires(r *http.Request, body string) (*killPoint, func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at == nil || r.URL.Query().Has("dryRun") || !killedWrites[k.at.write].is(r, body) {
		return nil, nil
	}
	at, kill, dead := k.at, k.kill, k.dead
	k.at = nil
	return at, func() {
		kill()
		close(dead)
	}
}

func (k *killer) inFrontOf(apiServer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = datedBy{w, time.Duration(k.ahead.Load())}
		if r.Method != http.MethodPost && r.Method != http.MethodPatch {
			apiServer.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // it is dead
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		at, kill := k.fires(r, string(body))
		switch {
		case at == nil:
			apiServer.ServeHTTP(w, r)
		case at.moment == beforeItIsSent:
			kill()
		case at.moment == unanswered:
			apiServer.ServeHTTP(&unsent{header: http.Header{}}, r)
			kill()
		default:
			apiServer.ServeHTTP(w, r)
			time.AfterFunc(at.late, kill)
		}
	})
}

// unsent is an answer that never arrives.
type unsent struct{ header http.Header }

func (u *unsent) Header() http.Header       { return u.header }
func (*unsent) Write(p []byte) (int, error) { return len(p), nil }
func (*unsent) WriteHeader(int)             {}

// Killed before, at and after each write of a restart, over and over, the operator makes each restart exactly
// once.
func TestKilledAtAnyWriteEachRestartIsMadeOnce(test *testing.T) {
	t := onCluster(test)
	const team, perNamespace = "kill-points", 8
	points := killPoints(*killSeed, *kills)
	witness := followLedger(t, team)

	// Each death has a workload of its own, which may be restarted from then on. In each namespace a Pod shows that
	// injection works, so nothing waits for a canary.
	var workloads []client.Object
	var namespaces []string
	for i, point := range points {
		if i%perNamespace == 0 {
			namespaces = append(namespaces, fmt.Sprintf("%s-%d", team, len(namespaces)))
			create(t, builder.Namespace(namespaces[len(namespaces)-1]).Labelled("team", team).Build())
		}
		namespace, name := namespaces[len(namespaces)-1], fmt.Sprintf("app-%d", i%perNamespace)
		if point.by == v1alpha1.MethodEviction {
			workloads = append(workloads, builder.StatefulSet(namespace, name).Replicas(2).OnDelete().Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build())
		} else {
			workloads = append(workloads, builder.Deployment(namespace, name).Replicas(1).Surge(1).Unavailable(0).Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build())
		}
	}
	startWorkloads(t, workloads...)
	outside := map[types.UID][]types.UID{}
	for _, workload := range workloads {
		outside[workload.GetUID()] = uids(podsOf(t, workload.GetNamespace(), workload.GetName()))
	}
	for _, namespace := range namespaces {
		label(t, namespace, "istio-injection", "enabled")
		startInjected(t, builder.Deployment(namespace, "inside").Build())
	}
	begin := serverTime()
	create(t, builder.Enforcing(team).Over("team", team).Settling(2).Unbounded().Build())

	killer := &killer{}
	kubeconfig := t.fullmesh.Behind(t, t.Cluster, killer.inFrontOf)
	flags := []string{"--kubeconfig", kubeconfig, "--leader-elect=false"}
	generations := map[types.UID]int64{}
	for i := range points {
		allowRestart(t, workloads[i])
		generations[workloads[i].GetUID()] = workloads[i].GetGeneration()
		running := make(chan func(), 1)
		dead := killer.arm(&points[i], func() { (<-running)() })
		running <- startOperator(t, flags...).Kill
		select {
		case <-dead:
		case <-time.After(patience):
			t.Fatalf("death %d of %d never came: %s", i+1, len(points), &points[i])
		}
	}
	// MeshRestarts that never touched their workload are given up after two minutes.
	killer.ahead.Store(int64(2 * time.Minute))
	startOperator(t, flags...)
	for _, namespace := range namespaces {
		awaitReport(t, namespace, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)
		awaitNothingInFlight(t, namespace)
	}

	witness.check(t)
	requests := operatorRequests(t, begin)
	givenUp := 0
	for i, workload := range workloads {
		if err := t.admin.Get(t.Context(), client.ObjectKeyFromObject(workload), workload); err != nil {
			t.Fatal(err)
		}
		wrong := func(format string, arguments ...any) {
			t.Errorf("%s/%s (%s) "+format, append([]any{workload.GetNamespace(), workload.GetName(), &points[i]}, arguments...)...)
		}
		begun, deleted := witness.begun(t, workload)
		if len(begun) != 1 || begun[0].Result != v1alpha1.ResultSucceeded {
			wrong("has %d restarts: %v", len(begun), begun)
			continue
		}
		givenUp += deleted
		made, sent := begun[0].Name, sentAbout(t, requests, workload)
		if sent.recorded[made] > 1+deleted || len(sent.recorded) > 1 {
			wrong("has MeshRestarts created %v, and %d were deleted", sent.recorded, deleted)
		}
		named, generation, touches := made, generations[workload.GetUID()]+1, 1
		if points[i].by == v1alpha1.MethodEviction {
			named, generation, touches = "", generation-1, 0
		}
		if len(sent.touches) > touches || slices.ContainsFunc(sent.touches, func(touch referee.Touch) bool { return touch.Name != named }) {
			wrong("was touched by %v", sent.touches)
		}
		if got := restartedBy(workload); got != named || workload.GetGeneration() != generation {
			wrong("names %q, want %q, and has generation %d, want %d", got, named, workload.GetGeneration(), generation)
		}
		for _, uid := range sent.evicted {
			if touches > 0 || !slices.Contains(outside[workload.GetUID()], uid) {
				wrong("had Pod %s evicted", uid)
			}
		}
	}
	if givenUp == 0 {
		t.Error("no MeshRestart was given up that had not touched its workload; the deaths in between are not shown")
	}
}

// allowRestart takes the annotation off a workload that keeps it from being restarted, and waits until its controller
// has seen that.
func allowRestart(t *clusterTest, workload client.Object) {
	t.Helper()
	modify(t, workload, func(object client.Object) {
		annotations := object.GetAnnotations()
		delete(annotations, v1alpha1.RestartAnnotation)
		object.SetAnnotations(annotations)
	})
	eventually(t, workload.GetName()+" is observed", func(ctx context.Context) error { return rolledOut(ctx, t, workload) })
}

// restartedBy is the MeshRestart that a template names.
func restartedBy(workload client.Object) string {
	switch w := workload.(type) {
	case *appsv1.Deployment:
		return w.Spec.Template.Annotations[v1alpha1.RestartedByAnnotation]
	case *appsv1.StatefulSet:
		return w.Spec.Template.Annotations[v1alpha1.RestartedByAnnotation]
	default:
		return ""
	}
}

func TestKillPointsComeFromTheSeed(t *testing.T) {
	if !slices.Equal(killPoints(7, 100), killPoints(7, 100)) || slices.Equal(killPoints(7, 100), killPoints(8, 100)) {
		t.Error("the deaths are not those of the seed")
	}
	counts := map[string]int{}
	for _, point := range killPoints(7, 90) {
		counts[point.String()]++
	}
	if len(counts) != 3*len(killedWrites) {
		t.Errorf("of 90 deaths there are %v", counts)
	}
}
