package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
		if got := nextPass(test.waits...); got != test.want {
			t.Errorf("of %v it is %s, want %s", test.waits, got, test.want)
		}
	}
}

// stage is a Reconciler on a picture of its own, in a bubble's time. Behind its client are the policy
// and the operator's ConfigMaps; what it writes to workloads and asks by dry run is answered by the
// stage.
type stage struct {
	*Reconciler
	observer *Observer
	events   *recorder
	// patches are what was written to workloads.
	patches []string
	// onPatch, where it is set, answers a write.
	onPatch func(object client.Object) error
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
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			pod, is := object.(*corev1.Pod)
			if !is {
				return c.Create(ctx, object, options...)
			}
			injected := builder.Pod(pod.Namespace, "x").Injected("default").Build()
			pod.CreationTimestamp = metav1.Now()
			pod.Annotations, pod.Spec = injected.Annotations, injected.Spec
			return nil
		},
		Patch: func(_ context.Context, _ client.WithWatch, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
			s.patches = append(s.patches, object.GetNamespace()+"/"+object.GetName())
			if s.onPatch != nil {
				return s.onPatch(object)
			}
			return s.restarted(object, patch)
		},
	}, builder.Enforcing("production").Unbounded().Build())
	s.Reconciler = &Reconciler{
		client: c, inventory: s.observer.Inventory, now: time.Now, namespace: "fullmesh-system", system: restart.SystemNamespaces,
		wake:    &waker{},
		checker: newChecker(c, c, time.Now, func() {}),
		actor:   &actor{client: c, reader: c, inventory: s.observer.Inventory},
		guard:   &guard{waived: true},
		sight:   newSight(time.Now, func() {}),
	}
	s.announcer = announcer{recorder: s.events}
	s.Reconciler.events = lastEvents{reader: c}
	s.reporter = newReporter(c, time.Now, s.announcer)
	return s
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

// restarted answers a write as the API server would.
func (s *stage) restarted(object client.Object, patch client.Patch) error {
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), "restart-cause") {
		return errors.New("this is no restart")
	}
	deployment := object.(*appsv1.Deployment)
	*deployment = *builder.Deployment(object.GetNamespace(), object.GetName()).Replicas(2).
		With(func(d *appsv1.Deployment) { d.Generation, d.ResourceVersion = 2, "2" }).Build()
	key := mesh.Key{Group: "apps", Kind: "Deployment", Namespace: object.GetNamespace(), Name: object.GetName()}
	for _, namespace := range s.observer.Inventory.Snapshot().Namespaces {
		for _, workload := range namespace.Workloads {
			if workload.Key == key {
				record := recordOf(workload, time.Now())
				deployment.Annotations = map[string]string{v1alpha1.LastRestartAnnotation: record.String()}
				deployment.Spec.Template.Annotations = map[string]string{v1alpha1.RestartCauseAnnotation: record.Cause}
			}
		}
	}
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
	patches := s.patches
	s.patches = nil
	slices.Sort(patches)
	return patches
}

func TestPassChecksAndThenRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		if err := s.pass(t, 1); err != nil || s.wrote() != nil {
			t.Errorf("something was restarted without a dry run, or %v", err)
		}
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a/web", "b/web"}, s.wrote()); diff != "" {
			t.Errorf("restarts (-want +got):\n%s", diff)
		}
		sent := s.events.take()
		for _, want := range []string{"Normal Restarted on Deployment web: ", "Normal Restarted on MeshPolicy production: Deployment a/web: ", "Normal Restarted on MeshPolicy production: Deployment b/web: "} {
			if !slices.ContainsFunc(sent, func(event string) bool { return strings.HasPrefix(event, want) }) {
				t.Errorf("no Event %q in %q", want, sent)
			}
		}
		time.Sleep(time.Minute)
		if err := s.pass(t, 3); err != nil || s.wrote() != nil || s.events.take() != nil {
			t.Errorf("something happens again, or %v", err)
		}
		if report := reportIn(t, s.client, "a"); report == nil || report.Status.Workloads[0].Action != v1alpha1.ActionInFlight {
			t.Errorf("the report is %+v", report)
		}
		if got := s.started.last(builder.Deployment("a", "web").Build().UID); got.Policy != "production" {
			t.Errorf("the restart is remembered as begun under %q", got.Policy)
		}
	})
}

// Between the decision and the restart somebody presses the red button.
func TestRedButtonIsLookedAtBeforeEachRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b", "c")
		looks := 0
		pressedAfter := 2 // once before the decision, once before the first restart
		s.onStop = func() error {
			if looks++; looks > pressedAfter {
				return nil
			}
			return apierrors.NewNotFound(corev1.Resource("configmaps"), v1alpha1.StopConfigMap)
		}
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		looks = 0
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a/web"}, s.wrote()); diff != "" {
			t.Errorf("restarts (-want +got):\n%s", diff)
		}
		if looks != 4 {
			t.Errorf("it was looked for %d times: once before the decision and before each of three restarts is 4", looks)
		}
		if err := s.pass(t, 2); err != nil || s.wrote() != nil {
			t.Errorf("something is restarted though everything is stopped, or %v", err)
		}
		// Where it cannot be told, nothing is restarted either.
		s.onStop = func() error { return errors.New("no cache") }
		if err := s.pass(t, 1); err == nil || !strings.Contains(err.Error(), "looking for ConfigMap fullmesh-system/fullmesh-stop") || s.wrote() != nil {
			t.Errorf("the error is %v", err)
		}
		s.onStop = nil
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"b/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("restarts when the button is let go (-want +got):\n%s", diff)
		}
	})
}

func TestWriteThatFailsKeepsNoOtherAndIsNotRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b", "c")
		broken := true
		s.onPatch = func(object client.Object) error {
			if broken && object.GetNamespace() != "b" {
				return errors.New("no answer")
			}
			return s.restarted(object, client.RawPatch("", []byte("restart-cause")))
		}
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		s.wake.start(queue)
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		err := s.pass(t, 1)
		for _, want := range []string{"patching Deployment a/web: no answer", "patching Deployment c/web: no answer"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		if diff := cmp.Diff([]string{"a/web", "b/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		if reportIn(t, s.client, "c") == nil {
			t.Error("what failed is not reported")
		}
		time.Sleep(gather)
		synctest.Wait()
		if queue.Len() != 1 {
			t.Error("the error is all that asks for a pass")
		}
		// A busy cluster asks for pass after pass.
		for range 19 {
			if err := s.pass(t, 1); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if writes := s.wrote(); writes != nil {
			t.Errorf("writes while it is left alone: %v", writes)
		}
		broken = false
		time.Sleep(firstRetry - 1900*time.Millisecond)
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("writes afterwards (-want +got):\n%s", diff)
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

// hasEnded adds a namespace with a Deployment whose restart has ended, and nobody has written that down. It
// returns the Deployment as it is when somebody has.
func (s *stage) hasEnded(t *testing.T, namespace string) *appsv1.Deployment {
	t.Helper()
	past := time.Now().Add(-24 * time.Hour)
	web := builder.Deployment(namespace, "web").Replicas(1).CreatedAt(past).RolledOut()
	cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: web.Build().UID, Newest: past.Unix()}
	record := inventory.NewRecord(cause, v1alpha1.MethodRolloutRestart, "decided", past.Add(time.Hour))
	ended := web.Annotated(v1alpha1.LastRestartAnnotation, record.String()).TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Build()
	set := builder.ReplicaSet(namespace, "web-2").OwnedBy(ended).Build()
	s.take(t, builder.Namespace(namespace).Labelled("istio-injection", "enabled").CreatedAt(past).Build(), ended, set,
		builder.Pod(namespace, "web-2-0").OwnedBy(set).CreatedAt(past.Add(time.Hour)).Injected("default").Ready(past.Add(time.Hour)).Build())
	written := record.Ended(v1alpha1.ResultSucceeded, "", time.Now())
	return web.Annotated(v1alpha1.LastRestartAnnotation, written.String()).With(func(d *appsv1.Deployment) { d.ResourceVersion = "2" }).Build()
}

// By what is written down, no more may be in flight at any moment than the budgets allow. Where they leave room
// beside what could not be written, others start in it.
func TestNothingStartsInPlaceOfWhatIsNotWrittenDown(t *testing.T) {
	noAnswer := errors.New("no answer")
	for name, test := range map[string]struct {
		answer error
		budget int
		// startsIn is in which pass the other one starts; 0 where it does not before the outcome is written.
		startsIn int
	}{
		"no answer":                    {noAnswer, 1, 0},
		"no answer, and there is room": {noAnswer, 2, 2},
		"it has moved on":              {apierrors.NewConflict(appsv1.Resource("deployments"), "web", errors.New("test")), 1, 0},
		"it is refused":                {apierrors.NewForbidden(appsv1.Resource("deployments"), "web", errors.New("it is not the season")), 1, 1},
		"it is refused, there is room": {apierrors.NewForbidden(appsv1.Resource("deployments"), "web", errors.New("it is not the season")), 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, "b")
				s.allow(t, test.budget)
				_ = s.pass(t, 1) // asks whether the other one would get a sidecar
				written, answer := s.hasEnded(t, "a"), test.answer
				s.onPatch = func(object client.Object) error {
					if object.GetNamespace() == "a" {
						*object.(*appsv1.Deployment) = *written.DeepCopy()
						return answer
					}
					return s.restarted(object, client.RawPatch("", []byte("restart-cause")))
				}
				startedIn := 0
				for pass := range 4 { // the second leaves the outcome alone for a while
					_ = s.pass(t, 1)
					if writes := s.wrote(); slices.Contains(writes, "b/web") {
						startedIn = pass + 1
					}
					if pass > 0 {
						time.Sleep(time.Minute / 2) // in the bubble's time, in which reports are written
					}
				}
				if startedIn != test.startsIn {
					t.Errorf("the other one started in pass %d, want %d (0 for never)", startedIn, test.startsIn)
				}
				if test.startsIn > 0 {
					return
				}
				if row := reportIn(t, s.client, "b").Status.Workloads[0]; row.Reason != string(restart.ReasonBudgetUsedUp) {
					t.Errorf("the other one is held by %s: %s", row.Reason, row.Message)
				}
				if row := reportIn(t, s.client, "a").Status.Workloads[0]; !strings.Contains(row.Message, "counts as in flight") {
					t.Errorf("of the one that has ended it is said: %s", row.Message)
				}
				answer = nil
				time.Sleep(lastRetry) // in the bubble's time, after which the outcome is tried again
				if err := s.pass(t, 2); err != nil {
					t.Fatal(err)
				}
				if writes := s.wrote(); !slices.Contains(writes, "b/web") {
					t.Errorf("the writes are %q when the outcome is written down", writes)
				}
			})
		})
	}
}

// The policy that has begun a restart has no room for another either, though it governs its namespace no more.
func TestNothingStartsInPlaceOfWhatAnotherPolicyHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "b")
		s.allow(t, 1)
		s.take(t, builder.Namespace("b").Labelled("istio-injection", "enabled", "team", "b").CreatedAt(time.Now().Add(-24*time.Hour)).Build())
		s.edit(t, func(p *v1alpha1.MeshPolicy) {
			p.Spec.NamespaceSelector = builder.Enforcing(p.Name).Over("team", "b").Build().Spec.NamespaceSelector
		})
		time.Sleep(time.Minute) // in the bubble's time, after which the namespace has settled
		_ = s.pass(t, 1)
		s.hasEnded(t, "a")
		for _, namespace := range s.observer.Inventory.Snapshot().Namespaces {
			for _, workload := range namespace.Recorded {
				s.started.remember(workload.Object.UID, *workload.Record, "production", time.Now())
			}
		}
		s.onPatch = func(client.Object) error { return errors.New("no answer") }
		for range 2 {
			_ = s.pass(t, 1)
		}
		if diff := cmp.Diff([]string{"a/web"}, s.wrote()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// That the beginning of a restart had no answer keeps nobody from writing down its end.
func TestTheEndOfARestartIsWrittenDownThoughItsBeginningHadNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "b")
		s.allow(t, 1)
		_ = s.pass(t, 1)
		ended := s.hasEnded(t, "a")
		s.failed.failed(attempt{ended.UID, restart.StepRestart}, s.now(), lastRetry)
		s.onPatch = func(object client.Object) error {
			if object.GetNamespace() == "a" {
				return errors.New("no answer")
			}
			return s.restarted(object, client.RawPatch("", []byte("restart-cause")))
		}
		_ = s.pass(t, 1)
		if diff := cmp.Diff([]string{"a/web"}, s.wrote()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// A restart that was made though its answer was lost counts as one that this process has begun, and nothing else starts
// before that is known.
func TestWhatBecameOfALostAnswerIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a", "b")
		reads := 0
		var stored *appsv1.Deployment
		reader := errors.New("no answer")
		s.actor.reader = readerOf(func(object client.Object) error {
			reads++
			if reader == nil {
				*object.(*appsv1.Deployment) = *stored
			}
			return reader
		})
		s.onPatch = func(object client.Object) error {
			if err := s.restarted(object, client.RawPatch("", []byte("restart-cause"))); err != nil || object.GetNamespace() != "a" {
				return err
			}
			stored = object.(*appsv1.Deployment).DeepCopy()
			return errors.New("the answer was lost")
		}
		for range 2 {
			_ = s.pass(t, 1)
		}
		if diff := cmp.Diff([]string{"a/web", "b/web"}, s.wrote()); diff != "" {
			t.Fatalf("writes (-want +got):\n%s", diff)
		}
		uid := stored.UID
		s.addNamespace(t, "c", time.Now().Add(-24*time.Hour))
		if err := s.pass(t, 2); err == nil || reads == 0 || s.started.last(uid).Cause != "" {
			t.Errorf("it was read %d times, and taken for started: %+v, %v", reads, s.started.last(uid), err)
		}
		if writes := s.wrote(); writes != nil {
			t.Errorf("%q is written to, and it is not known what has started", writes)
		}
		begun := s.unanswered[uid].verdict.Record
		stored.Annotations[v1alpha1.LastRestartAnnotation] = begun.String()
		stored.Spec.Template.Annotations[v1alpha1.RestartCauseAnnotation] = begun.Cause
		reader = nil
		if err := s.pass(t, 1); err != nil {
			t.Error(err)
		}
		if got := s.started.last(uid); got.Cause != begun.Cause || got.Cause == "" || got.Policy != "production" || len(s.unanswered) > 0 {
			t.Errorf("it is remembered as started for %q under %q, and %d are not answered", got.Cause, got.Policy, len(s.unanswered))
		}
		if diff := cmp.Diff([]string{"c/web"}, s.wrote()); diff != "" {
			t.Errorf("writes when it is known (-want +got):\n%s", diff)
		}
		if sent := s.events.take(); !slices.ContainsFunc(sent, func(event string) bool {
			return strings.HasPrefix(event, "Normal Restarted on MeshPolicy production: Deployment a/web: ")
		}) {
			t.Errorf("nobody is told that it has started: %q", sent)
		}
	})
}

// Which restarts have ended must be known even when somebody takes the record away, or writes another.
func TestWhatHasEndedIsRemembered(t *testing.T) {
	for name, test := range map[string]struct {
		answer  error
		written bool
		want    bool
	}{
		"it is written":                  {nil, true, true},
		"the answer is lost":             {errors.New("no answer"), true, true},
		"nothing is written":             {errors.New("no answer"), false, false},
		"the workload has changed since": {apierrors.NewConflict(appsv1.Resource("deployments"), "web", errors.New("test")), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				written := s.hasEnded(t, "a")
				begun := recordIn(t, s, written.UID)
				s.started.remember(written.UID, begun, "production", time.Now())
				stored := written.DeepCopy()
				if !test.written {
					stored.Annotations[v1alpha1.LastRestartAnnotation] = begun.String()
				}
				s.actor.reader = readerOf(func(object client.Object) error { stored.DeepCopyInto(object.(*appsv1.Deployment)); return nil })
				s.onPatch = func(object client.Object) error {
					written.DeepCopyInto(object.(*appsv1.Deployment))
					return test.answer
				}
				_ = s.pass(t, 2)
				if got := s.started.last(written.UID); got.Cause != begun.Cause || got.Ended != test.want {
					t.Errorf("remembered is %+v", got)
				}
			})
		})
	}
}

// recordIn is the record that a workload has.
func recordIn(t *testing.T, s *stage, uid types.UID) inventory.Record {
	t.Helper()
	for _, namespace := range s.observer.Inventory.Snapshot().Namespaces {
		for _, workload := range namespace.Recorded {
			if workload.Object.UID == uid {
				return *workload.Record
			}
		}
	}
	t.Fatalf("no workload with uid %s has a record", uid)
	return inventory.Record{}
}

// readerOf reads single objects.
type readerOf func(object client.Object) error

func (r readerOf) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return r(object)
}

func (readerOf) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is listed")
}

// What is in flight when this process takes over is somebody's to end, and its own to count.
func TestWhatIsInFlightIsFoundByTheFirstPassAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.hasEnded(t, "a")
		s.onPatch = func(client.Object) error { return errors.New("no answer") }
		_ = s.pass(t, 1)
		s.hasEnded(t, "b")
		_ = s.pass(t, 1)
		if len(s.found) != 1 || s.found["deployment-a-web"] == "" {
			t.Errorf("found in flight: %v", s.found)
		}
	})
}

// What admission refuses is a hold with a reason, and is tried again less and less often, although
// each dry run says yes.
func TestRestartThatIsRefusedBecomesAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "a")
		s.onPatch = func(client.Object) error {
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
		if row.Reason != string(restart.ReasonRefusedByAdmission) || row.ClearsBy != v1alpha1.ClearedByAdmin || !strings.Contains(row.Message, "not the season") {
			t.Errorf("the row is %+v", row)
		}
		if sent := s.events.take(); !slices.ContainsFunc(sent, func(event string) bool {
			return strings.HasPrefix(event, "Warning RefusedByAdmission on MeshPolicy production: Deployment a/web: ")
		}) || slices.ContainsFunc(sent, func(event string) bool { return strings.Contains(event, "Restarted") }) {
			t.Errorf("Events are %q", sent)
		}
	})
}

// A long list is not worked off blindly: what was seen in the meantime counts.
func TestDecisionIsActedUponForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e", "f"}
		s := newStage(t, names...)
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		s.onPatch = func(object client.Object) error {
			time.Sleep(400 * time.Millisecond)
			// Somebody opts a workload out by an annotation on its namespace.
			if object.GetNamespace() == "b" {
				for _, name := range names[3:] {
					s.take(t, builder.Namespace(name).Labelled("istio-injection", "enabled").Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled).Build())
				}
			}
			return s.restarted(object, client.RawPatch("", []byte("restart-cause")))
		}
		if err := s.pass(t, 3); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a/web", "b/web", "c/web"}, s.wrote()); diff != "" {
			t.Errorf("restarts (-want +got):\n%s", diff)
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
