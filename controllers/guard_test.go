package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// The guard of this test is about one account and two namespaces, and refuses in the words of config/guard.
func TestGuardIsTriedOnAWorkloadAndOnTheLedger(t *testing.T) {
	w := apiServer(t)
	shop, own := w.namespace(t), w.namespace(t)
	web := builder.Deployment(shop, "web").Build()
	w.create(t, web)
	snapshot := inventoryOf(t, builder.Namespace(shop).Build(), web).Snapshot()
	try := func(waived bool) (restart.Guard, time.Time, error) {
		g := &guard{client: w.operator, now: atNoon().Now, namespace: own, waived: waived}
		again, err := g.Try(t.Context(), snapshot)
		return g.State(), again, err
	}
	check := func(when string, waived bool, want restart.Guard) {
		t.Helper()
		stands := guardMissingFor
		if want == restart.GuardHolds {
			stands = guardHoldsFor
		}
		eventually(t, when, func(context.Context) error {
			if state, again, err := try(waived); state != want || err != nil || again != noon.Add(stands) {
				return errors.Join(fmt.Errorf("it is found to be %d, want %d; again at %s", state, want, again), err)
			}
			return nil
		})
	}

	check("nothing is guarded", false, restart.GuardMissing)
	check("nothing is guarded, and the guard of workloads is waived", true, restart.GuardMissing)
	w.refuse(t, own, admissionregistrationv1.Create, v1alpha1.GroupVersion.Group, "meshrestarts", "object.metadata.name != 'guard-probe'",
		ledgerRefusal)
	check("the ledger is guarded, and the guard of workloads is waived", true, restart.GuardHolds)
	check("the ledger is guarded, and workloads are not", false, restart.GuardMissing)
	w.refuse(t, shop, admissionregistrationv1.Update, "apps", "deployments", "!has(object.metadata.labels)", workloadRefusal)
	check("both are guarded", false, restart.GuardHolds)
	if labels, ledger := get(t, w, web).Labels, w.ledger(t, own); len(labels)+len(ledger) > 0 {
		t.Errorf("what the guard is tried with was written: %v, %v", labels, ledger)
	}
}

// A policy of somebody else that refuses proves nothing about the guard. The next try is on another
// workload.
func TestGuardIsNotTakenForThatOfSomebodyElse(t *testing.T) {
	w := apiServer(t)
	locked, open := w.namespace(t), w.namespace(t)
	if locked > open {
		locked, open = open, locked
	}
	first, second := builder.Deployment(locked, "web").Build(), builder.Deployment(open, "web").Build()
	w.create(t, first)
	w.create(t, second)
	w.refuseByPolicy(t, locked, "!has(object.metadata.labels)")
	own := w.namespace(t)
	w.refuse(t, own, admissionregistrationv1.Create, v1alpha1.GroupVersion.Group, "meshrestarts", "object.metadata.name != 'guard-probe'",
		ledgerRefusal)
	snapshot := inventoryOf(t, builder.Namespace(locked).Build(), builder.Namespace(open).Build(), first, second).Snapshot()
	clock := atNoon()
	g := &guard{client: w.operator, now: clock.Now, namespace: own}
	eventually(t, "the guard of the ledger is in force", func(ctx context.Context) error {
		if state, err := g.tryLedger(ctx); state != restart.GuardHolds {
			return errors.Join(fmt.Errorf("it is found to be %d", state), err)
		}
		return nil
	})

	again, err := g.Try(t.Context(), snapshot)
	if g.State() != restart.GuardUnknown || err == nil || !strings.Contains(err.Error(), locked+"/web") || again != noon.Add(guardMissingFor) {
		t.Errorf("where something else refuses: %d, again at %s, %v", g.State(), again, err)
	}
	clock.pass(guardMissingFor)
	if _, err := g.Try(t.Context(), snapshot); g.State() != restart.GuardMissing || err != nil {
		t.Errorf("on the next workload: %d, %v", g.State(), err)
	}
}

// answeredAs is a client for which every creation is answered in the same way.
func answeredAs(err error) client.Client {
	return answering(interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return err },
	})
}

// refusal is how the API server words what a policy of the guard refuses.
func refusal(words string) error {
	return fmt.Errorf("ValidatingAdmissionPolicy 'x' with binding 'x' denied request: %s: no", words)
}

func TestGuardIsBelievedForAWhile(t *testing.T) {
	object := builder.Deployment("shop", "web").Build()
	snapshot := inventoryOf(t, builder.Namespace("shop").Build(), object).Snapshot()
	for _, test := range []struct {
		name             string
		ledger, workload error
		want             restart.Guard
		stands           time.Duration
	}{
		{name: "both hold", ledger: refusal(ledgerRefusal), workload: refusal(workloadRefusal), want: restart.GuardHolds, stands: guardHoldsFor},
		{name: "that of workloads is missing", ledger: refusal(ledgerRefusal), want: restart.GuardMissing, stands: guardMissingFor},
		{name: "that of the ledger is missing", workload: refusal(workloadRefusal), want: restart.GuardMissing, stands: guardMissingFor},
		{name: "each is refused in the words of the other", ledger: refusal(workloadRefusal), workload: refusal(ledgerRefusal),
			want: restart.GuardUnknown, stands: guardMissingFor},
		{name: "no policy refuses", ledger: errors.New(ledgerRefusal), workload: errors.New(workloadRefusal), want: restart.GuardUnknown,
			stands: guardMissingFor},
		{name: "there is no answer on the ledger", ledger: context.DeadlineExceeded, workload: refusal(workloadRefusal),
			want: restart.GuardUnknown, stands: guardMissingFor},
		{name: "there is no answer on the workload", ledger: refusal(ledgerRefusal), workload: context.DeadlineExceeded,
			want: restart.GuardUnknown, stands: guardMissingFor},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock, tries := atNoon(), 0
			g := &guard{now: clock.Now, client: answering(interceptor.Funcs{
				Create: func(_ context.Context, _ client.WithWatch, object client.Object, options ...client.CreateOption) error {
					tries++
					if applied := (&client.CreateOptions{}).ApplyOptions(options); len(applied.DryRun) == 0 || object.GetName() != "guard-probe" {
						t.Error("the guard is tried for real, or by a name that may be created")
					}
					return test.ledger
				},
				Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
					return test.workload
				},
			})}
			for _, step := range []struct {
				wait time.Duration
				want int
			}{{wait: 0, want: 1}, {wait: 0, want: 1}, {wait: test.stands - time.Second, want: 1}, {wait: time.Second, want: 2},
				{wait: test.stands, want: 3}} {
				clock.pass(step.wait)
				again, err := g.Try(t.Context(), snapshot)
				if tries != step.want || g.State() != test.want {
					t.Errorf("after %s: %d tries (want %d), state %d (want %d), %v", clock.Now().Sub(noon), tries, step.want, g.State(), test.want, err)
				}
				if !again.After(clock.Now()) || again.After(clock.Now().Add(test.stands)) {
					t.Errorf("after %s: it is tried again at %s", clock.Now().Sub(noon), again)
				}
			}
		})
	}
}

func TestGuardIsTriedOnOtherWorkloadsWhereOneTellsNothing(t *testing.T) {
	var asked []string
	clock := atNoon()
	g := &guard{now: clock.Now, client: answering(interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return refusal(ledgerRefusal)
		},
		Patch: func(_ context.Context, _ client.WithWatch, object client.Object, _ client.Patch, options ...client.PatchOption) error {
			asked = append(asked, object.GetNamespace()+"/"+object.GetName())
			if applied := (&client.PatchOptions{}).ApplyOptions(options); len(applied.DryRun) == 0 {
				t.Error("the guard is tried for real")
			}
			return context.DeadlineExceeded
		},
	})}
	leaving := builder.Namespace("c").Terminating(yesterday).Build()
	observed := inventoryOf(t,
		builder.Namespace("a").Build(), builder.Namespace("b").Build(), leaving,
		builder.Deployment("a", "web").Build(), builder.Job("a", "once").Build(), builder.CronJob("a", "hourly").Build(),
		builder.ReplicaSet("a", "own").Build(), builder.Pod("a", "alone").Build(),
		builder.DaemonSet("b", "agent").Build(), builder.StatefulSet("b", "db").Build(),
		builder.Deployment("c", "leaving").Build(),
	)
	for range 4 {
		if _, err := g.Try(t.Context(), observed.Snapshot()); err == nil {
			t.Error("no answer is no error")
		}
		clock.pass(guardMissingFor)
	}
	if diff := cmp.Diff([]string{"a/web", "b/agent", "b/db", "a/web"}, asked); diff != "" {
		t.Errorf("it is tried on (-want +got):\n%s", diff)
	}
	// The workload on which it was tried last is gone.
	observed.DeleteObject(known(t, builder.Deployment("a", "web").Build()))
	if _, err := g.Try(t.Context(), observed.Snapshot()); err == nil || asked[len(asked)-1] != "b/agent" {
		t.Errorf("it is tried on %v", asked)
	}
}

func TestWithoutAWorkloadTheGuardIsNotTried(t *testing.T) {
	g := &guard{now: atNoon().Now}
	again, err := g.Try(t.Context(), inventoryOf(t, builder.Namespace("shop").Build(), builder.Pod("shop", "alone").Build()).Snapshot())
	if !again.IsZero() || err != nil || g.State() != restart.GuardUnknown {
		t.Errorf("again at %s, %v, state %d", again, err, g.State())
	}
}

// The guard of the ledger is tried where there is no workload yet, too: there need not be one to wait for.
func TestWaiverIsOfTheGuardOfWorkloadsAlone(t *testing.T) {
	for _, test := range []struct {
		name   string
		ledger error
		want   restart.Guard
	}{
		{name: "the ledger is guarded", ledger: refusal(ledgerRefusal), want: restart.GuardHolds},
		{name: "the ledger is not guarded", want: restart.GuardMissing},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &guard{waived: true, now: atNoon().Now, client: answering(interceptor.Funcs{
				Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
					return test.ledger
				},
				Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
					t.Error("a workload is tried")
					return nil
				},
			})}
			for _, objects := range [][]any{{builder.Namespace("shop").Build()},
				{builder.Namespace("shop").Build(), builder.Deployment("shop", "web").Build()}} {
				g.triedAt = time.Time{}
				if _, err := g.Try(t.Context(), inventoryOf(t, objects...).Snapshot()); err != nil || g.State() != test.want {
					t.Errorf("it is found to be %d, want %d, %v", g.State(), test.want, err)
				}
			}
		})
	}
}
