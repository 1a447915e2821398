package e2e

import (
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/operator"
)

// startOperator runs a replica as the operator's ServiceAccount until the test ends. A panic or a
// data race in it fails the test.
func startOperator(t *clusterTest, flags ...string) *operator.Replica {
	t.Helper()
	return t.fullmesh.Start(t, flags...)
}

// datedBy answers as an API server does whose clock is ahead.
type datedBy struct {
	http.ResponseWriter

	ahead time.Duration
}

func (d datedBy) WriteHeader(status int) {
	d.Header().Set("Date", time.Now().Add(d.ahead).UTC().Format(http.TimeFormat))
	d.ResponseWriter.WriteHeader(status)
}

// Unwrap lets watches be handed on event by event.
func (d datedBy) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// Replicas agree on the time, whatever the clocks of their machines say.
func TestTheClockOfTheAPIServerIsWhatCounts(test *testing.T) {
	t := onCluster(test)
	const shop, ahead = "clocks", time.Minute
	web := builder.Deployment(shop, "web").Replicas(2).Build()
	startShop(t, shop, web)
	kubeconfig := t.fullmesh.Behind(t, t.Cluster, func(apiServer http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { apiServer.ServeHTTP(datedBy{w, ahead}, r) })
	})
	startOperator(t, "--kubeconfig", kubeconfig)
	label(t, shop, "istio-injection", "enabled")
	create(t, builder.Enforcing(shop).Over("team", shop).Settling(2).Build())
	awaitReport(t, shop, v1alpha1.ConditionFullMesh, metav1.ConditionTrue)

	made := awaitNothingInFlight(t, shop)
	if len(made) != 1 {
		t.Fatalf("%d restarts, want 1", len(made))
	}
	for _, r := range made {
		if apart := time.Until(r.End); apart < ahead/2 {
			t.Errorf("restart %s ended at %s, which is %s from now on; the API server is %s ahead", r.Name, r.End, apart, ahead)
		}
	}
}
