package controllers

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// The API server takes the Pod for one of the workload's, and keeps nothing of it.
func TestDryRunOfEveryKindIsAccepted(t *testing.T) {
	w := apiServer(t)
	w.define(t)
	shop := w.namespace(t)
	fixed := func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		}
		template.Finalizers = []string{"team.example.com/keep"}
	}
	for _, object := range []client.Object{
		builder.Deployment(shop, "web").Labelled("version", "v1").With(func(d *appsv1.Deployment) { fixed(&d.Spec.Template) }).Build(),
		builder.Deployment(shop, strings.Repeat("long-", 40)+"name").With(func(d *appsv1.Deployment) {
			// A label's value is shorter than a name may be.
			d.Spec.Selector.MatchLabels["app"], d.Spec.Template.Labels["app"] = "long", "long"
		}).Build(),
		builder.StatefulSet(shop, "db").With(func(s *appsv1.StatefulSet) { fixed(&s.Spec.Template); claimVolumes(s) }).Build(),
		builder.DaemonSet(shop, "agent").With(func(d *appsv1.DaemonSet) { fixed(&d.Spec.Template) }).Build(),
		builder.Rollout(shop, "canary").Build(),
	} {
		t.Run(fmt.Sprintf("%T %s", object, object.GetName()), func(t *testing.T) {
			w.create(t, object)
			before := known(t, object)
			kept := before.Template.DeepCopy()
			answer := (&checker{client: w.operator}).dryRun(t.Context(), before)
			if answer.Outcome != restart.CheckAdmitted || answer.Observed.Proxy != mesh.ProxyNone || answer.At.IsZero() {
				t.Errorf("the answer is %+v", answer)
			}
			if diff := cmp.Diff(kept, before.Template); diff != "" {
				t.Errorf("the template of the picture was changed (-before +after):\n%s", diff)
			}
		})
	}
	var pods corev1.PodList
	if err := w.admin.List(t.Context(), &pods, client.InNamespace(shop)); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) > 0 {
		t.Errorf("%d Pods were created", len(pods.Items))
	}
}

// claimVolumes gives a StatefulSet two claims, of which one stands in for a volume of the template.
func claimVolumes(s *appsv1.StatefulSet) {
	for _, name := range []string{"data", "scratch"} {
		claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
		claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		s.Spec.VolumeClaimTemplates = append(s.Spec.VolumeClaimTemplates, claim)
		s.Spec.Template.Spec.Containers[0].VolumeMounts = append(s.Spec.Template.Spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: name, MountPath: "/" + name})
	}
	s.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

func TestPodIsBuiltAsItsControllerWould(t *testing.T) {
	for _, test := range []struct {
		object  client.Object
		labels  map[string]string
		volumes map[string]string
	}{
		{
			object: builder.Deployment("shop", "web").Labelled("version", "v1").TemplateAnnotated("team/tem", "plate").Build(),
			labels: map[string]string{"app": "web", "version": "v1", "pod-template-hash": "dryrun"},
		},
		{
			object: builder.StatefulSet("shop", "web").With(claimVolumes).TemplateAnnotated("team/tem", "plate").Build(),
			labels: map[string]string{"app": "web", "statefulset.kubernetes.io/pod-name": "web-0", "apps.kubernetes.io/pod-index": "0",
				"controller-revision-hash": "dryrun"},
			volumes: map[string]string{"data": "data-web-0", "scratch": "scratch-web-0"},
		},
		{
			object: builder.DaemonSet("shop", "web").TemplateAnnotated("team/tem", "plate").Build(),
			labels: map[string]string{"app": "web", "controller-revision-hash": "dryrun", "pod-template-generation": "1"},
		},
		{
			object: builder.Rollout("shop", "web").TemplateAnnotated("team/tem", "plate").Build(),
			labels: map[string]string{"app": "web", "rollouts-pod-template-hash": "dryrun"},
		},
	} {
		t.Run(fmt.Sprintf("%T", test.object), func(t *testing.T) {
			object := known(t, test.object)
			pod := podOf(object)
			want := metav1.ObjectMeta{
				Namespace: "shop", GenerateName: "web-", Labels: test.labels,
				Annotations:     map[string]string{"team/tem": "plate"},
				OwnerReferences: []metav1.OwnerReference{builder.ControlledBy(test.object)},
			}
			if diff := cmp.Diff(want, pod.ObjectMeta); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
			var claims map[string]string
			for _, volume := range pod.Spec.Volumes {
				if claims == nil {
					claims = map[string]string{}
				}
				claims[volume.Name] = volume.PersistentVolumeClaim.ClaimName
			}
			if diff := cmp.Diff(test.volumes, claims); diff != "" {
				t.Errorf("claims by volume (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDryRunTellsWhatANewPodWouldBecome(t *testing.T) {
	w := apiServer(t)
	pods := admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}
	for _, test := range []struct {
		name     string
		arrange  func(t *testing.T, shop string)
		template func(*corev1.PodSpec)
		client   client.Client
		labels   []string
		want     restart.CheckOutcome
		carries  mesh.Observation
		says     string
	}{
		{
			name:    "the sidecar of a revision",
			arrange: func(t *testing.T, shop string) { w.inject(t, shop, "canary") },
			want:    restart.CheckAdmitted,
			carries: mesh.Observation{Proxy: mesh.ProxyClassic, Revision: "canary", Capture: mesh.CaptureOn, Image: "proxyv2"},
		},
		{
			name: "no sidecar",
			want: restart.CheckAdmitted,
		},
		{
			name: "the injector is down",
			arrange: func(t *testing.T, shop string) {
				w.refuseByClosedWebhook(t, shop, "namespace.sidecar-injector.istio.io", pods, admissionregistrationv1.Create)
			},
			want: restart.CheckUnreachable,
			says: "failed calling webhook",
		},
		{
			name: "another webhook is down",
			arrange: func(t *testing.T, shop string) {
				w.refuseByClosedWebhook(t, shop, "audit.example.com", pods, admissionregistrationv1.Create)
			},
			want: restart.CheckFailed,
			says: "audit.example.com",
		},
		{
			name:    "the injector denies it",
			arrange: func(t *testing.T, shop string) { w.inject(t, shop, "") },
			want:    restart.CheckDeniedByInjector,
			says:    "no such revision",
		},
		{
			name: "the quota is used up",
			arrange: func(t *testing.T, shop string) {
				none := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}
				w.quota(t, none, none, builder.Pod(shop, "try").Build())
			},
			want: restart.CheckOverQuota,
			says: "exceeded quota",
		},
		{
			name: "a quota wants a limit that a container lacks",
			arrange: func(t *testing.T, shop string) {
				hard := corev1.ResourceList{corev1.ResourceLimitsCPU: resource.MustParse("9")}
				w.quota(t, hard, corev1.ResourceList{corev1.ResourceLimitsCPU: resource.MustParse("0")}, builder.Pod(shop, "try").Build())
			},
			want: restart.CheckOverQuota,
			says: "must specify limits.cpu",
		},
		{
			name:     "its service account is missing",
			template: func(spec *corev1.PodSpec) { spec.ServiceAccountName = "nobody" },
			want:     restart.CheckNoServiceAccount,
			says:     `"nobody" not found`,
		},
		{
			name:   "PodSecurity forbids it",
			labels: []string{"pod-security.kubernetes.io/enforce", "restricted"},
			want:   restart.CheckDeniedByPodSecurity,
			says:   "violates PodSecurity",
		},
		{
			name:   "the operator may not ask",
			client: w.as(t, "system:serviceaccount:elsewhere:nobody"),
			want:   restart.CheckForbidden,
			says:   `cannot create resource "pods"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			shop := w.namespace(t, test.labels...)
			object := builder.Deployment(shop, "web").With(func(d *appsv1.Deployment) {
				if test.template != nil {
					test.template(&d.Spec.Template.Spec)
				}
			}).Build()
			w.create(t, object)
			if test.arrange != nil {
				test.arrange(t, shop)
			}
			c := test.client
			if c == nil {
				c = w.operator
			}
			got := (&checker{client: c}).dryRun(t.Context(), known(t, object))
			if got.Outcome != test.want || !strings.Contains(got.Message, test.says) {
				t.Errorf("the answer is %s: %s", got.Outcome, got.Message)
			}
			if diff := cmp.Diff(test.carries, got.Observed); diff != "" {
				t.Errorf("the Pod carries (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("the namespace is gone", func(t *testing.T) {
		object := known(t, builder.Deployment("never-was", "web").Build())
		if got := (&checker{client: w.operator}).dryRun(t.Context(), object); got.Outcome != restart.CheckFailed || !strings.Contains(got.Message, "not found") {
			t.Errorf("the answer is %s: %s", got.Outcome, got.Message)
		}
	})
}

// as is a client of somebody without any right.
func (w *world) as(t *testing.T, user string) client.Client {
	t.Helper()
	config := rest.CopyConfig(w.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	c, err := client.New(config, client.Options{Scheme: testScheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inject starts an injector for a namespace: of a revision, or one that denies every Pod.
func (w *world) inject(t *testing.T, namespace, revision string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(in.Body).Decode(&review); err != nil {
			t.Error(err)
			return
		}
		answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: "no such revision"}}
		if revision != "" {
			injected := builder.Pod(namespace, "web").Injected(revision).Build()
			answer.Allowed, answer.PatchType = true, new(admissionv1.PatchTypeJSONPatch)
			answer.Patch, _ = json.Marshal([]operation{
				{"add", "/metadata/annotations", injected.Annotations},
				{"add", "/spec/initContainers", injected.Spec.InitContainers},
				{"add", "/spec/containers/-", injected.Spec.Containers[1]},
			})
		}
		review.Response = answer
		if err := json.NewEncoder(out).Encode(&review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	w.create(t, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:              "rev.namespace.sidecar-injector.istio.io",
			NamespaceSelector: named(namespace),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &server.URL, CABundle: authority},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}},
	})
	eventually(t, "the injector is called", func(ctx context.Context) error {
		pod := builder.Pod(namespace, "try").Build()
		if err := w.admin.Create(ctx, pod, client.DryRunAll); err == nil && len(pod.Spec.Containers) == 1 {
			return errors.New("a Pod would be created without a sidecar")
		}
		return nil
	})
}

// asking is a checker on a client that answers as a test says, in a bubble's time.
func asking(answer func(context.Context) error, answered func()) *checker {
	return newChecker(answering(interceptor.Funcs{
		Create: func(ctx context.Context, _ client.WithWatch, _ client.Object, _ ...client.CreateOption) error {
			return answer(ctx)
		},
	}), nil, time.Now, answered)
}

func TestOneQuestionAtATimeIsAskedOfAWorkload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, answered atomic.Int32
		c := asking(func(context.Context) error {
			asked.Add(1)
			time.Sleep(time.Second)
			return nil
		}, func() { answered.Add(1) })
		workload := outside("web")
		key := restart.CheckKey{UID: workload.Object.UID, InputsHash: "now"}
		for range 3 {
			c.Ask(t.Context(), key, workload)
		}
		synctest.Wait()
		if _, known := answerTo(c, key); known {
			t.Error("there is an answer before the API server gave one")
		}
		time.Sleep(2 * time.Second)
		if asked.Load() != 1 || answered.Load() != 1 {
			t.Errorf("asked %d times, answered %d times", asked.Load(), answered.Load())
		}
		if answer, known := answerTo(c, key); !known || answer.Outcome != restart.CheckAdmitted {
			t.Errorf("the answer is %+v", answer)
		}
		c.Ask(t.Context(), key, workload)
		time.Sleep(2 * time.Second)
		if asked.Load() != 2 {
			t.Error("after an answer it is not asked again")
		}
	})
}

func TestFewQuestionsAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most, answered atomic.Int32
		c := asking(func(context.Context) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil
		}, func() { answered.Add(1) })
		for i := range 3 * checksAtOnce {
			workload := outside(fmt.Sprint(i))
			c.Ask(t.Context(), restart.CheckKey{UID: workload.Object.UID}, workload)
		}
		begun := time.Now()
		for answered.Load() < 3*checksAtOnce {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); most.Load() != checksAtOnce || took < 3*time.Second || took > 4*time.Second {
			t.Errorf("%d at once, %s for all", most.Load(), took)
		}
	})
}

func TestQuestionWithoutAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan time.Time, 1)
		c := asking(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, func() { answered <- time.Now() })
		workload := outside("web")
		key, begun := restart.CheckKey{UID: workload.Object.UID}, time.Now()
		c.Ask(t.Context(), key, workload)
		if took := (<-answered).Sub(begun); took != checkTimeout {
			t.Errorf("it was given up after %s", took)
		}
		if answer, _ := answerTo(c, key); answer.Outcome != restart.CheckFailed || !answer.Retry.Equal(begun.Add(checkTimeout+restart.FirstRetry)) {
			t.Errorf("the answer is %+v", answer)
		}
	})
}

func TestAnswersOtherThanYesStandLongerAndLonger(t *testing.T) {
	clock := atNoon()
	c := newChecker(nil, nil, clock.Now, nil)
	key := restart.CheckKey{UID: "web"}
	const (
		yes         = "yes"
		uninjected  = "no sidecar"
		denied      = "denied"
		refused     = "refused"
		fitsInTurn  = "fits in turn"
		unreachable = "unreachable"
	)
	answers := map[string]restart.CheckOutcome{
		yes: restart.CheckAdmitted, uninjected: restart.CheckAdmitted, denied: restart.CheckDenied,
		refused: restart.CheckRefused, fitsInTurn: restart.CheckFitsInTurn, unreachable: restart.CheckUnreachable,
	}
	for at, step := range []struct {
		says    string
		seconds int
	}{
		{yes, 0},
		// What the cluster may fix by itself is asked more often than what somebody must.
		{denied, 2}, {uninjected, 4}, {unreachable, 8}, {denied, 16}, {unreachable, 15}, {denied, 60},
		// A yes ends it.
		{yes, 0}, {denied, 2}, {fitsInTurn, 0}, {denied, 2},
		// A yes upon which the restart is refused does not: what refuses is not asked by a dry run.
		{yes, 0}, {refused, 2}, {yes, 0}, {refused, 4}, {yes, 0}, {refused, 8}, {denied, 16},
		// One upon which it is not refused does.
		{yes, 0}, {yes, 0}, {refused, 2},
	} {
		c.Remember(key, restart.Check{Outcome: answers[step.says]}, step.says == yes || step.says == fitsInTurn)
		answer, known := answerTo(c, key)
		if !known || answer.Outcome != answers[step.says] || answer.At != clock.Now() {
			t.Fatalf("answer %d is %+v, %t", at, answer, known)
		}
		var stands time.Duration
		if !answer.Retry.IsZero() {
			stands = answer.Retry.Sub(clock.Now())
		}
		if stands != time.Duration(step.seconds)*time.Second {
			t.Errorf("answer %d, %s, stands for %s, want %ds", at, step.says, stands, step.seconds)
		}
		clock.pass(stands)
	}
}

func TestAnswersThatNobodyAsksForAreForgotten(t *testing.T) {
	clock := atNoon()
	c := newChecker(nil, nil, clock.Now, nil)
	old, other := restart.CheckKey{UID: "old"}, restart.CheckKey{UID: "other"}
	c.Remember(old, restart.Check{Outcome: restart.CheckDenied}, false)
	c.Remember(other, restart.Check{}, true)
	clock.pass(checksAreKept)
	c.Remember(restart.CheckKey{UID: "new"}, restart.Check{Outcome: restart.CheckDenied}, false)
	for _, key := range []restart.CheckKey{old, other} {
		if _, known := answerTo(c, key); !known {
			t.Errorf("the answer for %s was forgotten too early", key.UID)
		}
	}
	clock.pass(restart.LastRetry)
	c.Remember(restart.CheckKey{UID: "new"}, restart.Check{Outcome: restart.CheckDenied}, false)
	for _, key := range []restart.CheckKey{old, other} {
		if _, known := answerTo(c, key); known {
			t.Errorf("the answer for %s was never forgotten", key.UID)
		}
	}
	if left := len(c.refused.known); left != 1 {
		t.Errorf("%d back-offs are kept, want 1", left)
	}
}

// That a namespace has the mesh's root certificate is looked up once in an hour, and again when the
// namespace was made anew: istiod may not serve that one.
func TestRootCertificateIsLookedUpAgain(t *testing.T) {
	clock, asked := atNoon(), 0
	c := newChecker(nil, answering(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			asked++
			return nil
		},
	}), clock.Now, func() {})
	pod := builder.Pod("shop", "web").Build()
	pod.Spec.Volumes = []corev1.Volume{{Name: "ca", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: mesh.RootCertificateConfigMap}}}}}
	look := func(when string, want int) {
		t.Helper()
		if missing := c.missingRootCertificate(t.Context(), pod); missing != "" || asked != want {
			t.Errorf("%s: it was looked up %d times and misses %q", when, asked, missing)
		}
	}
	shop := inventoryOf(t, builder.Namespace("shop").Build())
	look("first", 1)
	c.Answers(shop.Snapshot())
	look("in a namespace that stays", 1)
	clock.pass(checksAreKept)
	look("an hour later", 2)
	c.Answers(inventoryOf(t, builder.Namespace("shop").Terminating(noon).Build()).Snapshot())
	look("in a namespace that is being deleted", 3)
	c.Answers(inventoryOf(t, builder.Namespace("bank").Build()).Snapshot())
	look("in a namespace that was gone", 4)
}

// answerTo is the newest answer that a checker has.
func answerTo(c *checker, key restart.CheckKey) (restart.Check, bool) {
	answer, known := c.Answers(inventory.New().Snapshot())[key]
	return answer, known
}
