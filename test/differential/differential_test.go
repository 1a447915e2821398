package differential

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/matchcondition"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

var (
	cases = flag.Int("cases", 150, "how many Pods are created")
	seed  = flag.Uint64("seed", 1, "what everything random comes from")
)

const (
	// bakedIn is the revision of sidecars that templates bring themselves.
	bakedIn = "baked-in"
	// casesPerEpoch is how many Pods are created under the same settings.
	casesPerEpoch = 30
	// casesPerNamespace is how many Pods are created in one namespace, about.
	casesPerNamespace = 12
	atOnce            = 4
	// printedAtMost is how many disagreements are printed in full.
	printedAtMost = 3
)

func TestTheEvaluatorAgreesWithTheAPIServerAndIstiod(t *testing.T) {
	w := newWorld(t)
	namespaces := w.namespaces(t, newRandom(*seed, 1))
	templates := w.templates(t)
	var (
		former *settings
		tally  tally
	)
	for first := 0; first < *cases && tally.disagreements.Load() < printedAtMost; first += casesPerEpoch {
		w.remove(t, former)
		former = w.change(t, newRandom(*seed, uint64(first)<<1|1<<32))
		injector := mesh.NewInjector(former.webhooks, former.configMaps, mesh.Options{Match: matchcondition.New().Match})
		w.compare(t, &comparison{
			settings: former, injector: injector, namespaces: namespaces, templates: templates, tally: &tally,
			first: first, last: min(first+casesPerEpoch, *cases),
		})
	}
	t.Logf("%d cases with seed %d: %d injected, %d not, %d refused; %d depend on what nobody knows; %d disagreements",
		*cases, *seed, tally.injected.Load(), tally.declined.Load(), tally.refused.Load(), tally.assumed.Load(), tally.disagreements.Load())
	if *cases >= 100 && min(tally.injected.Load(), tally.declined.Load(), tally.refused.Load()) == 0 {
		t.Error("one of the three answers never came: the cases say little")
	}
}

// tally counts answers.
type tally struct {
	injected, declined, refused, assumed, disagreements atomic.Int64
}

// namespaces makes the namespaces, and waits until Pods can be created in them.
func (w *world) namespaces(t *testing.T, r random) []*corev1.Namespace {
	t.Helper()
	wanted := []*corev1.Namespace{r.namespace("local-path-storage")}
	for i := range 3 + *cases/casesPerNamespace {
		wanted = append(wanted, r.namespace(fmt.Sprintf("case-%d", i)))
	}
	wanted[0].Labels = map[string]string{"istio-injection": "enabled"}
	made := make([]*corev1.Namespace, len(wanted))
	for i := range wanted {
		var err error
		if made[i], err = w.client.CoreV1().Namespaces().Create(t.Context(), wanted[i], metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, namespace := range made {
		w.await(t, "namespace "+namespace.Name, func(ctx context.Context) error {
			_, err := w.client.CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
			return err
		})
	}
	return made
}

// templates makes the template of each case, as the API server keeps it. That is done before any
// settings, under some of which webhooks are called for templates as well.
func (w *world) templates(t *testing.T) []*corev1.PodTemplateSpec {
	t.Helper()
	made := make([]*corev1.PodTemplateSpec, *cases)
	var workers sync.WaitGroup
	for worker := range atOnce {
		workers.Go(func() {
			for number := worker; number < *cases; number += atOnce {
				object := &corev1.PodTemplate{
					ObjectMeta: metav1.ObjectMeta{GenerateName: "case-"},
					Template:   newRandom(*seed, uint64(number)<<1|1).template(),
				}
				stored, err := w.client.CoreV1().PodTemplates(metav1.NamespaceDefault).
					Create(t.Context(), object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				if err != nil {
					t.Errorf("the template of case %d, seed %d: %v", number, *seed, err)
					continue
				}
				made[number] = &stored.Template
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return made
}

// comparison is of the cases under one epoch's settings.
type comparison struct {
	settings    *settings
	injector    *mesh.Injector
	namespaces  []*corev1.Namespace
	templates   []*corev1.PodTemplateSpec
	tally       *tally
	first, last int
}

func (w *world) compare(t *testing.T, c *comparison) {
	var workers sync.WaitGroup
	for worker := range atOnce {
		workers.Go(func() {
			for number := c.first + worker; number < c.last; number += atOnce {
				r := newRandom(*seed, uint64(number)<<1)
				if err := w.compareOne(t.Context(), c, r, number); err != nil {
					t.Errorf("case %d, seed %d: %v", number, *seed, err)
				}
			}
		})
	}
	workers.Wait()
}

// answer is what becomes of a Pod.
type answer struct {
	injected, refused bool
	revision, image   string
}

func (a answer) String() string {
	switch {
	case a.refused:
		return "refused"
	case a.injected:
		return fmt.Sprintf("injected by revision %q with image %q", a.revision, a.image)
	default:
		return "not injected"
	}
}

func (w *world) compareOne(ctx context.Context, c *comparison, r random, number int) error {
	namespace, template, kind := one(r, c.namespaces...), c.templates[number], r.kind()
	expectation := c.injector.Expect(mesh.Namespace{Name: namespace.Name, Labels: namespace.Labels}, mesh.Template{
		Labels: template.Labels, Annotations: template.Annotations, HostNetwork: template.Spec.HostNetwork, Spec: &template.Spec, Kind: kind,
	})
	want := answer{
		injected: expectation.Inject,
		revision: expectation.Revision,
		image:    expectation.Image,
	}
	pod := podOf(namespace.Name, kind, template)
	got, refusal := w.create(ctx, pod)
	if want.image == "" {
		got.image = "" // it is allowed not to know
	}
	switch {
	case got.refused:
		c.tally.refused.Add(1)
	case got.injected:
		c.tally.injected.Add(1)
	default:
		c.tally.declined.Add(1)
	}
	if isUnknowable(expectation.Assumed) {
		c.tally.assumed.Add(1)
		return nil
	}
	// The evaluator says what comes of a Pod that is created. Refused is what an injector was asked for.
	if want == got || got.refused && want.injected {
		return nil
	}
	if c.tally.disagreements.Add(1) > printedAtMost {
		return fmt.Errorf("a disagreement like others")
	}
	return fmt.Errorf("the evaluator says: %s (%s: %s); the cluster: %s (%s). The objects:\n%s",
		want, expectation.Reason, expectation.Message, got, fmt.Sprint(refusal), c.documents(namespace, pod))
}

// podOf is the Pod as the kind's controller makes it of the template.
func podOf(namespace, kind string, template *corev1.PodTemplateSpec) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "case-", Labels: maps.Clone(template.Labels), Annotations: template.Annotations},
		Spec:       template.Spec,
	}
	for _, key := range mesh.LabelsAddedBy(kind) {
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		pod.Labels[key] = "made"
	}
	if owner := kinds[kind]; owner != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: owner, Name: "case", UID: "case", Controller: new(true)}}
	}
	return pod
}

// isUnknowable reports whether what is assumed cannot be known from the objects. That an istiod
// that was built from source reads values as the newest does can: here it is so.
func isUnknowable(assumed string) bool {
	return strings.Contains(assumed, "condition ") || strings.Contains(assumed, "cannot be evaluated") || strings.Contains(assumed, "several injection templates")
}

// create creates the Pod in dry-run.
func (w *world) create(ctx context.Context, pod *corev1.Pod) (answer, error) {
	created, err := w.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		_, answered := errors.AsType[*apierrors.StatusError](err)
		return answer{refused: answered}, err
	}
	observed := mesh.Observe(created)
	if observed.Proxy == mesh.ProxyNone || observed.Revision == bakedIn {
		return answer{}, nil
	}
	return answer{injected: true, revision: observed.Revision, image: observed.Image}, nil
}

// documents prints a case so that it can be looked at by itself.
func (c *comparison) documents(namespace *corev1.Namespace, pod *corev1.Pod) string {
	namespace = namespace.DeepCopy()
	namespace.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
	namespace.ManagedFields = nil
	pod = pod.DeepCopy()
	pod.Name = "case"
	documents := append([]string{document(namespace)}, c.settings.documents()...)
	return "---\n" + strings.Join(append(documents, document(pod)), "---\n")
}
