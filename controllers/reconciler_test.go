package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestNextPassIsTheSoonestThatIsAskedFor(t *testing.T) {
	for _, test := range []struct {
		waits []time.Duration
		want  time.Duration
	}{
		{nil, 0},
		{[]time.Duration{0, 0, 0}, 0},
		{[]time.Duration{0, 3, 2}, 2},
		{[]time.Duration{1, 0}, 1},
		{[]time.Duration{until(time.Time{}, noon), until(noon.Add(time.Minute), noon)}, time.Minute},
		// What is due already is due now, which is not never.
		{[]time.Duration{until(noon.Add(-time.Minute), noon), time.Minute}, 1},
		{[]time.Duration{until(noon, noon), time.Minute}, 1},
	} {
		if got := shortest(test.waits...); got != test.want {
			t.Errorf("of %v it is %s, want %s", test.waits, got, test.want)
		}
	}
}

// stage is a Reconciler on an inventory of its own, in a bubble's time. Behind its client are the policy, the
// operator's ConfigMaps and MeshRestarts; what it writes to workloads and asks by dry run is answered by the stage.
type stage struct {
	*Reconciler
	observer *Observer
	events   *recorder

	mu sync.Mutex
	// patches are the workloads that were written to, by their namespaces.
	patches []string
	// onPatch, where it is set, answers a write to a workload of a namespace.
	onPatch func(namespace string) error
	// onFinish, where it is set, answers a write of a MeshRestart's status.
	onFinish func() error
	// onStop, where it is set, answers whether the red button is pressed.
	onStop func() error
}

// newStage has a policy that restarts what it may, and namespaces that asked for sidecars yesterday,
// with a Deployment of two ready Pods without sidecars in each.
func newStage(t *testing.T, namespaces ...string) *stage {
	t.Helper()
	s := &stage{events: &recorder{}}
	past := time.Now().Add(-24 * time.Hour)
	s.observer = NewObserver(mesh.Options{}, func() time.Time { return past })
	s.take(t, builder.Webhooks(), builder.InjectorSettings())
	for _, name := range namespaces {
		s.addNamespace(t, name, past)
	}
	c := answering(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if _, is := object.(*corev1.ConfigMap); is && s.onStop != nil {
				return s.onStop()
			}
			return c.Get(ctx, key, object, options...)
		},
		Create: s.create,
		Patch: func(_ context.Context, _ client.WithWatch, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
			s.mu.Lock()
			s.patches = append(s.patches, object.GetNamespace()+"/"+object.GetName())
			answer := s.onPatch
			s.mu.Unlock()
			if answer != nil {
				if err := answer(object.GetNamespace()); err != nil {
					return err
				}
			}
			return touched(object, patch)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch,
			options ...client.SubResourcePatchOption) error {
			if _, is := object.(*v1alpha1.MeshRestart); is && s.onFinish != nil {
				if err := s.onFinish(); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Patch(ctx, object, patch, options...)
		},
	}, builder.Enforcing("production").Unbounded().Build())
	s.Reconciler = &Reconciler{
		client: c, inventory: s.observer.Inventory, now: time.Now, system: restart.SystemNamespaces,
		debouncer:   &debouncer{},
		checker:     newChecker(c, c, time.Now, func() {}),
		guard:       &guard{waived: true, now: time.Now, client: answeredAs(refusal(ledgerRefusal))},
		watchHealth: newWatchHealth(time.Now, func() {}),
		reporter:    newReporter(c, time.Now, announcer{recorder: s.events}),
	}
	s.actor = newActor(&actor{
		client: c, reader: c, inventory: s.observer.Inventory, now: time.Now, namespace: "fullmesh-system",
		checker: s.checker, announcer: announcer{recorder: s.events}, done: s.debouncer.Trigger,
	})
	return s
}

// create answers a dry run of a Pod with an injected one, and dates MeshRestarts as the API server would.
func (s *stage) create(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
	switch object := object.(type) {
	case *corev1.Pod:
		injected := builder.Pod(object.Namespace, "x").Injected("default").Build()
		object.CreationTimestamp = metav1.Now()
		object.Annotations, object.Spec = injected.Annotations, injected.Spec
		return nil
	case *v1alpha1.MeshRestart:
		object.UID, object.CreationTimestamp = uuid.NewUUID(), metav1.Now()
	}
	return c.Create(ctx, object, options...)
}

func (s *stage) addNamespace(t *testing.T, name string, past time.Time) {
	t.Helper()
	web := builder.Deployment(name, "web").Replicas(2).CreatedAt(past).RolledOut().Build()
	set := builder.ReplicaSet(name, "web-1").OwnedBy(web).Build()
	s.take(t, builder.Namespace(name).Labelled("istio-injection", "enabled").CreatedAt(past).Build(), web, set)
	for i := range 2 {
		s.take(t, builder.Pod(name, fmt.Sprintf("web-1-%d", i)).OwnedBy(set).CreatedAt(past).Ready(past).Build())
	}
}

func (s *stage) take(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		cut, err := cutDown(object)
		if err != nil {
			t.Fatal(err)
		}
		s.observer.take(cut)
	}
}

// touched answers a write to a Deployment as the API server would.
func touched(object client.Object, patch client.Patch) error {
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	var operations []operation
	if err := json.Unmarshal(data, &operations); err != nil {
		return err
	}
	last := operations[len(operations)-1]
	if !strings.HasSuffix(last.Path, "restarted-by") {
		return fmt.Errorf("this is no restart: %s", data)
	}
	*object.(*appsv1.Deployment) = *builder.Deployment(object.GetNamespace(), object.GetName()).Replicas(2).
		TemplateAnnotated(v1alpha1.RestartedByAnnotation, last.Value.(string)).
		With(func(d *appsv1.Deployment) { d.Generation, d.ResourceVersion = 2, "2" }).Build()
	return nil
}

// pass makes passes until there is something to wait for: an answer to a dry run is one, so that
// what is to be restarted is restarted in the second.
func (s *stage) pass(t *testing.T, passes int) error {
	t.Helper()
	var errs []error
	for range passes {
		result, err := s.Reconcile(t.Context(), ctrl.Request{})
		if result != (reconcile.Result{}) {
			t.Errorf("the result asks for a pass of its own: %+v", result)
		}
		errs = append(errs, err)
		synctest.Wait()
	}
	return errors.Join(errs...)
}

// wrote are the writes to workloads since it was called last, sorted.
func (s *stage) wrote() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	patches := s.patches
	s.patches = nil
	slices.Sort(patches)
	return patches
}

// ledger are the MeshRestarts of the cluster, in the order of their names.
func (s *stage) ledger(t *testing.T) []*inventory.Restart {
	t.Helper()
	var list v1alpha1.MeshRestartList
	if err := s.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var ledger []*inventory.Restart
	for i := range list.Items {
		ledger = append(ledger, inventory.FromMeshRestart(&list.Items[i]))
	}
	return ledger
}

func TestPassChecksAndThenRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		if err := s.pass(t, 1); err != nil || s.wrote() != nil || len(s.ledger(t)) > 0 {
			t.Errorf("something was restarted without a dry run, or %v", err)
		}
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a/web", "b/web"}, s.wrote()); diff != "" {
			t.Errorf("restarts (-want +got):\n%s", diff)
		}
		for _, r := range s.ledger(t) {
			if !r.InFlight() || r.Policy != "production" || r.Cause.Finding != v1alpha1.FindingMissing || r.Attempt != 1 {
				t.Errorf("a MeshRestart is %+v", r)
			}
		}
		time.Sleep(time.Minute)
		if err := s.pass(t, 3); err != nil || s.wrote() != nil || s.events.take() != nil || len(s.ledger(t)) != 2 {
			t.Errorf("something happens again, or %v", err)
		}
		if report := reportIn(t, s.client, "a"); report == nil || report.Status.Workloads[0].Action != v1alpha1.ActionInFlight {
			t.Errorf("the report is %+v", report)
		}
	})
}

// Between the decision and the restart somebody presses the red button.
// Whoever has every right in a namespace may write what its report says, which is for people.
func TestReportThatATenantEditsChangesNoDecision(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.MeshReportStatus){
		"that everything is in the mesh": func(status *v1alpha1.MeshReportStatus) {
			status.Workloads = nil
			for i := range status.Conditions {
				status.Conditions[i].Status = metav1.ConditionTrue
			}
		},
		"that its restarts are in flight": func(status *v1alpha1.MeshReportStatus) {
			for i := range status.Workloads {
				status.Workloads[i].Action = v1alpha1.ActionInFlight
			}
		},
		"that another policy governs it": func(status *v1alpha1.MeshReportStatus) { status.Policy = "evil" },
		"nothing":                        func(status *v1alpha1.MeshReportStatus) { *status = v1alpha1.MeshReportStatus{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, "a", "evil")
				if err := s.pass(t, 1); err != nil {
					t.Fatal(err)
				}
				report := reportIn(t, s.client, "evil")
				if report == nil || len(report.Status.Workloads) == 0 {
					t.Fatalf("there is nothing to edit: %+v", report)
				}
				edit(&report.Status)
				if err := s.client.Status().Update(t.Context(), report); err != nil {
					t.Fatal(err)
				}
				if err := s.pass(t, 2); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff([]string{"a/web", "evil/web"}, s.wrote()); diff != "" {
					t.Errorf("restarts (-want +got):\n%s", diff)
				}
				for _, r := range s.ledger(t) {
					if !r.InFlight() || r.Policy != "production" || r.Attempt != 1 {
						t.Errorf("a MeshRestart is %+v", r)
					}
				}
			})
		})
	}
}

func TestRedButtonIsLookedAtBeforeEachRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b", "c")
		var looks atomic.Int32
		s.onStop = func() error {
			// Once before the decision, once before the first restart.
			if looks.Add(1) > 2 {
				return nil
			}
			return apierrors.NewNotFound(corev1.Resource("configmaps"), v1alpha1.StopConfigMap)
		}
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		looks.Store(0)
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if writes, ledger := s.wrote(), s.ledger(t); len(writes) != 1 || len(ledger) != 1 {
			t.Errorf("restarts: %v; MeshRestarts: %v", writes, ledger)
		}
		if looks.Load() != 4 {
			t.Errorf("it was looked for %d times: once before the decision and before each of three restarts is 4", looks.Load())
		}
		time.Sleep(restart.LastRetry)
		if err := s.pass(t, 2); err != nil || s.wrote() != nil {
			t.Errorf("something is restarted though everything is stopped, or %v", err)
		}
		// Where it cannot be told, nothing is restarted either.
		s.onStop = func() error { return errors.New("no cache") }
		if err := s.pass(t, 1); err == nil || !strings.Contains(err.Error(), "looking for ConfigMap fullmesh-system/fullmesh-stop") ||
			s.wrote() != nil {
			t.Errorf("the error is %v", err)
		}
		s.onStop = nil
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if writes := s.wrote(); len(writes) != 2 || len(s.ledger(t)) != 3 {
			t.Errorf("restarts when the button is let go: %v", writes)
		}
	})
}

// A write without an answer is made again until there is one, and keeps nothing else from being done.
func TestWriteWithoutAnAnswerKeepsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b", "c")
		s.onPatch = func(namespace string) error {
			if namespace != "b" {
				return errors.New("no answer")
			}
			return nil
		}
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		s.debouncer.start(queue)
		if err := s.pass(t, 2); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a/web", "b/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		if reportIn(t, s.client, "c") == nil {
			t.Error("what has no answer is not reported")
		}
		// A busy cluster asks for pass after pass.
		for range 4 {
			if err := s.pass(t, 1); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if writes := s.wrote(); writes != nil {
			t.Errorf("writes before it is time: %v", writes)
		}
		s.mu.Lock()
		s.onPatch = nil
		s.mu.Unlock()
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"a/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("writes afterwards (-want +got):\n%s", diff)
		}
		time.Sleep(minDelay)
		synctest.Wait()
		if queue.Len() != 1 {
			t.Error("nobody asks for a pass when the answers are there")
		}
		if ledger := s.ledger(t); len(ledger) != 3 {
			t.Errorf("there are %d MeshRestarts", len(ledger))
		}
	})
}

// What does not answer for long is left alone for longer and longer.
func TestStepThatFailsIsTriedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.hasEnded(t, "a")
		var tries []time.Duration
		begun := time.Now()
		s.onFinish = func() error {
			tries = append(tries, time.Since(begun).Truncate(time.Second))
			return errors.New("no answer")
		}
		for time.Since(begun) < 30*time.Second {
			if err := s.pass(t, 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second, 29 * time.Second}; !cmp.Equal(want, tries) {
			t.Errorf("it was tried after %v, want %v", tries, want)
		}
	})
}

// allow has so many workloads restarted at once.
func (s *stage) allow(t *testing.T, workloads int) {
	t.Helper()
	s.edit(t, func(p *v1alpha1.MeshPolicy) {
		p.Spec.Budgets = builder.Enforcing(p.Name).Budget(v1alpha1.BudgetScopePolicy, workloads, nil).Build().Spec.Budgets
	})
}

// edit changes the policy.
func (s *stage) edit(t *testing.T, change func(*v1alpha1.MeshPolicy)) {
	t.Helper()
	policy := &v1alpha1.MeshPolicy{}
	if err := s.client.Get(t.Context(), client.ObjectKey{Name: "production"}, policy); err != nil {
		t.Fatal(err)
	}
	change(policy)
	if err := s.client.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
}

// hasEnded adds a namespace with a Deployment whose restart has ended, and nobody has written that down.
func (s *stage) hasEnded(t *testing.T, namespace string) {
	t.Helper()
	past := time.Now().Add(-24 * time.Hour)
	web := builder.Deployment(namespace, "web").Replicas(1).CreatedAt(past).RolledOut()
	r := intended(known(t, web.Build()))
	r.Cause.Newest = past.Unix()
	touched := web.TemplateAnnotated(v1alpha1.RestartedByAnnotation, r.Name).Build()
	set := builder.ReplicaSet(namespace, "web-2").OwnedBy(touched).Build()
	written := r.MeshRestart()
	if err := s.client.Create(t.Context(), written); err != nil {
		t.Fatal(err)
	}
	s.take(t, builder.Namespace(namespace).Labelled("istio-injection", "enabled").CreatedAt(past).Build(), touched, set, written,
		builder.Pod(namespace, "web-2-0").OwnedBy(set).CreatedAt(past.Add(time.Hour)).Injected("default").Ready(past.Add(time.Hour)).Build())
}

// By what is written down, no more may be in flight at any moment than the budgets allow.
func TestNothingStartsInPlaceOfWhatIsNotWrittenDown(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer error
		budget int
		// governed says that the policy still governs the namespace of the restart that has ended.
		governed, starts bool
	}{
		{name: "no answer", answer: errors.New("no answer"), budget: 1, governed: true},
		{name: "no answer, and there is room", answer: errors.New("no answer"), budget: 2, governed: true, starts: true},
		{name: "it has moved on", answer: apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("meshrestarts").GroupResource(), "web",
			errors.New("test")), budget: 1, governed: true},
		{name: "it is refused", answer: apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("meshrestarts").GroupResource(), "web",
			errors.New("no")), budget: 1, governed: true},
		{name: "the policy governs its namespace no more", answer: errors.New("no answer"), budget: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, "b")
				s.allow(t, test.budget)
				s.hasEnded(t, "a")
				if !test.governed {
					s.take(t, builder.Namespace("b").Labelled("istio-injection", "enabled", "team", "b").CreatedAt(time.Now().Add(-24*time.Hour)).Build())
					s.edit(t, func(p *v1alpha1.MeshPolicy) {
						p.Spec.NamespaceSelector = builder.Enforcing(p.Name).Over("team", "b").Build().Spec.NamespaceSelector
					})
				}
				var answer atomic.Pointer[error]
				answer.Store(&test.answer)
				s.onFinish = func() error { return *answer.Load() }
				var writes []string
				for range 4 {
					time.Sleep(time.Minute / 2) // in the bubble's time, in which reports are written
					if err := s.pass(t, 1); err != nil {
						t.Fatal(err)
					}
					writes = append(writes, s.wrote()...)
				}
				if slices.Contains(writes, "b/web") != test.starts {
					t.Fatalf("the writes are %q before the end is written down", writes)
				}
				if test.starts {
					return
				}
				if row := reportIn(t, s.client, "b").Status.Workloads[0]; row.Reason != string(restart.ReasonBudgetExhausted) {
					t.Errorf("the other one is held by %s: %s", row.Reason, row.Message)
				}
				answer.Store(new(error))
				time.Sleep(restart.LastRetry)        // in the bubble's time, after which the end is tried again
				if err := s.pass(t, 3); err != nil { // it ends, the other one is checked, and is restarted
					t.Fatal(err)
				}
				if writes := s.wrote(); !slices.Contains(writes, "b/web") {
					t.Errorf("the writes are %q when the end is written down", writes)
				}
			})
		})
	}
}

// What another process has begun counts before the informer knows of it.
func TestTheLedgerIsReadFromTheAPIServerByTheFirstPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		s.allow(t, 1)
		begun := intended(known(t, builder.Deployment("a", "web").Build())).MeshRestart()
		if err := s.client.Create(t.Context(), begun); err != nil {
			t.Fatal(err)
		}
		if err := s.pass(t, 3); err != nil || s.wrote() != nil {
			t.Errorf("something else starts, or %v", err)
		}
		s.actor.reader = readerOf(func(client.Object) error { return errors.New("no answer") })
		if err := s.pass(t, 1); err != nil {
			t.Errorf("it is read again: %v", err)
		}
		other := newStage(t, "a")
		other.actor.reader = s.actor.reader
		if err := other.pass(t, 2); err == nil || !strings.Contains(err.Error(), "listing MeshRestarts") || other.wrote() != nil {
			t.Errorf("where it cannot be read, the error is %v", err)
		}
	})
}

// readerOf reads single objects.
type readerOf func(object client.Object) error

func (r readerOf) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return r(object)
}

func (readerOf) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is listed")
}

// A creation without an answer counts until the name has been read, which happens at once. Nothing is done about it
// before: neither a round of evictions nor an end could be written.
func TestCreationWithoutAnAnswerIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		s.allow(t, 1)
		s.observer.drop(known(t, builder.Deployment("a", "web").Build()))
		s.take(t, builder.Deployment("a", "web").Replicas(2).CreatedAt(time.Now().Add(-24*time.Hour)).RolledOut().Build())
		pending := intended(known(t, builder.Deployment("a", "web").Build()))
		pending.Method = v1alpha1.MethodEviction
		finishes := 0
		s.onFinish = func() error { finishes++; return nil }
		s.inventory.AddPendingRestart(pending)
		lost := s.actor.reader
		s.actor.reader = readerOf(func(client.Object) error { return errors.New("no answer") })
		s.ledgerRead = true
		if err := s.pass(t, 3); err != nil || s.wrote() != nil || finishes > 0 {
			t.Errorf("while it cannot be read, something is written, or %v", err)
		}
		s.actor.reader = lost
		time.Sleep(restart.FirstRetry)
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		if left := s.inventory.Snapshot().Namespaces[0].Restarts; len(left) > 0 {
			t.Errorf("what the API server does not have still counts: %+v", left[0])
		}
		if err := s.pass(t, 2); err != nil || len(s.wrote()) != 1 {
			t.Errorf("when it is known, nothing starts, or %v", err)
		}
	})
}

// What admission refuses is a hold with a reason, and is tried again less and less often, although
// each dry run says yes.
func TestRestartThatIsRefusedBecomesAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a")
		s.onPatch = func(string) error {
			return apierrors.NewForbidden(appsv1.Resource("deployments"), "web", errors.New("it is not the season"))
		}
		var tries []time.Duration
		begun := time.Now()
		for time.Since(begun) < 2*time.Minute {
			if err := s.pass(t, 1); err != nil {
				t.Fatal(err)
			}
			for range s.wrote() {
				tries = append(tries, time.Since(begun).Truncate(time.Second))
			}
			time.Sleep(100 * time.Millisecond)
		}
		want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}
		if len(tries) < 5 || !cmp.Equal(want, tries[:5]) || len(tries) > 11 {
			t.Errorf("it was tried after %v", tries)
		}
		row := reportIn(t, s.client, "a").Status.Workloads[0]
		if row.Reason != string(restart.ReasonRefusedByAdmission) || row.ClearsBy != v1alpha1.ClearedByAdmin ||
			!strings.Contains(row.Message, "not the season") {
			t.Errorf("the row is %+v", row)
		}
		if sent := s.events.take(); !slices.ContainsFunc(sent, func(event string) bool {
			return strings.HasPrefix(event, "Warning RefusedByAdmission on MeshPolicy production: Deployment a/web: ")
		}) {
			t.Errorf("Events are %q", sent)
		}
		if ledger := s.ledger(t); len(ledger) > 0 {
			t.Errorf("MeshRestarts stay: %+v", ledger)
		}
	})
}

// A long list is not worked off blindly: no more is handed out than is done at once, and what was seen in the
// meantime counts for the rest.
func TestNoMoreIsHandedOutThanIsDoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range actAtOnce + 3 {
			names = append(names, fmt.Sprintf("shop-%02d", i))
		}
		s := newStage(t, names...)
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // in the bubble's time: checks have a rate
		synctest.Wait()
		release := make(chan struct{})
		s.onPatch = func(string) error { <-release; return nil }
		if err := s.pass(t, 2); err != nil {
			t.Fatal(err)
		}
		if at := len(s.wrote()); at != actAtOnce || len(s.ledger(t)) != actAtOnce {
			t.Errorf("%d are done at once, and %d MeshRestarts are created", at, len(s.ledger(t)))
		}
		// Somebody opts the rest out by an annotation on their namespaces.
		for _, r := range s.ledger(t) {
			names = slices.DeleteFunc(names, func(name string) bool { return name == r.Namespace })
		}
		for _, name := range names {
			s.take(t, builder.Namespace(name).Labelled("istio-injection", "enabled").Annotated(v1alpha1.RestartAnnotation,
				v1alpha1.RestartDisabled).Build())
		}
		close(release)
		synctest.Wait()
		if err := s.pass(t, 2); err != nil || s.wrote() != nil || len(s.ledger(t)) != actAtOnce {
			t.Errorf("what was opted out is restarted, or %v", err)
		}
	})
}

func TestPolicyThatIsBeingDeletedOrCannotBeUsedGovernsNothing(t *testing.T) {
	invalid := builder.Enforcing("invalid").Build()
	invalid.Spec.NamespaceSelector.MatchExpressions = []v1alpha1.LabelSelectorRequirement{{Key: "team", Operator: "Like"}}
	leaving := builder.Enforcing("leaving").Build()
	leaving.DeletionTimestamp = new(metav1.NewTime(noon))
	fine := builder.Enforcing("fine").Build()
	policies := []policyInForce{inForce(t, invalid), inForce(t, leaving), inForce(t, fine)}
	var got []string
	for _, policy := range usable(policies) {
		got = append(got, policy.Name)
	}
	if diff := cmp.Diff([]string{"fine"}, got); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if policies[0].invalid == nil || objectOf(policies[2].policy, policies) != fine || objectOf(nil, policies) != nil {
		t.Errorf("the policies are %+v", policies)
	}
}
