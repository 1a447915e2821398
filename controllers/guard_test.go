package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
	"github.com/fullmesh/fullmesh/test/manifests"
)

// The operator's account, as config/rbac names it.
const account = "system:serviceaccount:fullmesh-system:fullmesh"

func TestGuardIsTriedOnAWorkload(t *testing.T) {
	w := apiServer(t)
	root, err := manifests.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := manifests.Apply(t.Context(), w.admin, root, "config/rbac"); err != nil {
		t.Fatal(err)
	}
	as := rest.CopyConfig(w.config)
	as.Impersonate = rest.ImpersonationConfig{UserName: account, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	operator, err := client.New(as, client.Options{Scheme: testScheme, FieldOwner: FieldOwner})
	if err != nil {
		t.Fatal(err)
	}
	shop := w.namespace(t)
	web := builder.Deployment(shop, "web").Build()
	w.create(t, web)
	snapshot := pictureOf(t, builder.Namespace(shop).Build(), web).Snapshot()
	try := func(c client.Client) (restart.Guard, time.Time, error) {
		g := &guard{client: c, now: atNoon().Now}
		again, err := g.Try(t.Context(), snapshot)
		return g.State(), again, err
	}

	if state, again, err := try(operator); state != restart.GuardMissing || err != nil || again != noon.Add(guardMissingFor) {
		t.Errorf("without the guard: %d, again at %s, %v", state, again, err)
	}
	if err := manifests.Apply(t.Context(), w.admin, root, "config/guard"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.removeManifests(t, root, "config/guard") })
	eventually(t, "the guard is in force", func(context.Context) error {
		if state, again, err := try(operator); state != restart.GuardHolds || err != nil || again != noon.Add(guardHoldsFor) {
			return errors.Join(fmt.Errorf("with the guard: %d, again at %s", state, again), err)
		}
		return nil
	})
	if state, _, err := try(w.operator); state != restart.GuardMissing || err != nil {
		t.Errorf("with a guard over another account: %d, %v", state, err)
	}
	if labels := get(t, w, web).Labels; len(labels) > 0 {
		t.Errorf("what the guard is tried with was written: %v", labels)
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
	snapshot := pictureOf(t, builder.Namespace(locked).Build(), builder.Namespace(open).Build(), first, second).Snapshot()
	clock := atNoon()
	g := &guard{client: w.operator, now: clock.Now}

	again, err := g.Try(t.Context(), snapshot)
	if g.State() != restart.GuardUnknown || err == nil || !strings.Contains(err.Error(), locked+"/web") || again != noon.Add(guardMissingFor) {
		t.Errorf("where something else refuses: %d, again at %s, %v", g.State(), again, err)
	}
	clock.pass(guardMissingFor)
	if _, err := g.Try(t.Context(), snapshot); g.State() != restart.GuardMissing || err != nil {
		t.Errorf("on the next workload: %d, %v", g.State(), err)
	}
}

func TestGuardIsBelievedForAWhile(t *testing.T) {
	object := builder.Deployment("shop", "web").Build()
	snapshot := pictureOf(t, builder.Namespace("shop").Build(), object).Snapshot()
	refusal := fmt.Errorf("ValidatingAdmissionPolicy 'x' denied request: in metadata only the annotation fullmesh.dev/last-restart may change")
	for _, test := range []struct {
		name   string
		answer error
		want   restart.Guard
		stands time.Duration
	}{
		{"it holds", refusal, restart.GuardHolds, guardHoldsFor},
		{"it is missing", nil, restart.GuardMissing, guardMissingFor},
		{"there is no answer", context.DeadlineExceeded, restart.GuardUnknown, guardMissingFor},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock, tries := atNoon(), 0
			g := &guard{now: clock.Now, client: answering(interceptor.Funcs{
				Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
					tries++
					return test.answer
				},
			})}
			for _, step := range []struct {
				wait time.Duration
				want int
			}{{0, 1}, {0, 1}, {test.stands - time.Second, 1}, {time.Second, 2}, {test.stands, 3}} {
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
		Patch: func(_ context.Context, _ client.WithWatch, object client.Object, _ client.Patch, options ...client.PatchOption) error {
			asked = append(asked, object.GetNamespace()+"/"+object.GetName())
			if applied := (&client.PatchOptions{}).ApplyOptions(options); len(applied.DryRun) == 0 {
				t.Error("the guard is tried for real")
			}
			return context.DeadlineExceeded
		},
	})}
	leaving := builder.Namespace("c").Terminating(yesterday).Build()
	picture := pictureOf(t,
		builder.Namespace("a").Build(), builder.Namespace("b").Build(), leaving,
		builder.Deployment("a", "web").Build(), builder.Job("a", "once").Build(), builder.CronJob("a", "hourly").Build(),
		builder.ReplicaSet("a", "own").Build(), builder.Pod("a", "alone").Build(),
		builder.DaemonSet("b", "agent").Build(), builder.StatefulSet("b", "db").Build(),
		builder.Deployment("c", "leaving").Build(),
	)
	for range 4 {
		if _, err := g.Try(t.Context(), picture.Snapshot()); err == nil {
			t.Error("no answer is no error")
		}
		clock.pass(guardMissingFor)
	}
	if diff := cmp.Diff([]string{"a/web", "b/agent", "b/db", "a/web"}, asked); diff != "" {
		t.Errorf("it is tried on (-want +got):\n%s", diff)
	}
	// The workload on which it was tried last is gone.
	picture.DeleteObject(known(t, builder.Deployment("a", "web").Build()))
	if _, err := g.Try(t.Context(), picture.Snapshot()); err == nil || asked[len(asked)-1] != "b/agent" {
		t.Errorf("it is tried on %v", asked)
	}
}

func TestWithoutAWorkloadTheGuardIsNotTried(t *testing.T) {
	g := &guard{now: atNoon().Now}
	again, err := g.Try(t.Context(), pictureOf(t, builder.Namespace("shop").Build(), builder.Pod("shop", "alone").Build()).Snapshot())
	if !again.IsZero() || err != nil || g.State() != restart.GuardUnknown {
		t.Errorf("again at %s, %v, state %d", again, err, g.State())
	}
}

func TestWaivedGuardIsNotTried(t *testing.T) {
	g := &guard{waived: true, now: atNoon().Now}
	again, err := g.Try(t.Context(), pictureOf(t, builder.Namespace("shop").Build(), builder.Deployment("shop", "web").Build()).Snapshot())
	if !again.IsZero() || err != nil || g.State() != restart.GuardHolds {
		t.Errorf("again at %s, %v, state %d", again, err, g.State())
	}
}

// removeManifests takes away what manifests.Apply has put there.
func (w *world) removeManifests(t *testing.T, root, path string) {
	objects, err := manifests.Render(root, path)
	if err != nil {
		t.Error(err)
	}
	for _, object := range objects {
		if err := w.admin.Delete(context.Background(), object); err != nil {
			t.Errorf("deleting %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}
