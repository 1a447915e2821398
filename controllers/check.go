package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// Dry-run checks: how many are asked at once and in a second, how soon the same one again, how long
// one may take, and how long answers are kept
// that nobody asks for.
const (
	checksAtOnce    = 8
	checksPerSecond = 20
	checkAgainAfter = time.Second
	checkTimeout    = 15 * time.Second
	checksAreKept   = time.Hour
)

// checker asks the API server, by dry run, what a new Pod of a template would become, and remembers
// the answers.
type checker struct {
	client client.Client
	// reader reads from the API server.
	reader client.Reader
	now    func() time.Time
	// answered is called when there is a new answer.
	answered func()

	slots   chan struct{}
	limit   *rate.Limiter
	mu      sync.Mutex
	answers map[restart.CheckKey]restart.Check
	refused backOff[restart.CheckKey]
	asking  map[restart.CheckKey]bool
	// certified is when namespaces were seen to have the mesh's root certificate.
	certified map[string]time.Time
}

func newChecker(c client.Client, reader client.Reader, now func() time.Time, answered func()) *checker {
	return &checker{
		client:    c,
		reader:    reader,
		now:       now,
		answered:  answered,
		slots:     make(chan struct{}, checksAtOnce),
		limit:     rate.NewLimiter(checksPerSecond, checksPerSecond),
		answers:   map[restart.CheckKey]restart.Check{},
		asking:    map[restart.CheckKey]bool{},
		certified: map[string]time.Time{},
	}
}

// Answers are the newest ones, for one decision. What is kept of namespaces that are gone or going is forgotten.
func (c *checker) Answers(snapshot *inventory.Snapshot) map[restart.CheckKey]restart.Check {
	c.forget(snapshot)
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.answers)
}

// Ask asks in the background, unless that is being done already.
func (c *checker) Ask(ctx context.Context, key restart.CheckKey, workload *inventory.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking[key] {
		return
	}
	c.asking[key] = true
	last := c.answers[key]
	go func() {
		if err := c.await(ctx, last.Received.Add(checkAgainAfter).Sub(c.now())); err != nil {
			return // the operator is ending
		}
		defer func() { <-c.slots }()
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		answer := c.dryRun(ctx, workload.Object)
		if answer.Outcome == restart.CheckAdmitted && !answer.Promises(workload.Expectation) {
			disagreements.Inc()
			log.FromContext(ctx).Info("A dry run shows another Pod than was expected", "kind", workload.Key.Kind, "workload",
				klog.KObj(workload.Object),
				"expected", workload.Expectation, "shown", answer.Observed)
		}
		c.Remember(key, answer, answer.Promises(workload.Expectation))
		c.answered()
	}()
}

// await waits for some time, for a slot and for its share of the rate.
func (c *checker) await(ctx context.Context, wait time.Duration) error {
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := c.limit.Wait(ctx); err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Remember keeps an answer. One that is not yes is worth asking again after a time that doubles with
// each such answer. The yes that follows when a restart was refused does not end the doubling: the
// next restart may be refused as well.
func (c *checker) Remember(key restart.CheckKey, answer restart.Check, yes bool) {
	checksAnswered.WithLabelValues(answer.Outcome.String()).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asking, key)
	now := c.now()
	answer.Received = now
	if answer.At.IsZero() {
		answer.At = now
	}
	switch former := c.answers[key]; {
	case !yes:
		longest := restart.LastRetry
		if answer.NeedsSomebody() {
			longest = lastRetryByHand
		}
		answer.Retry = c.refused.failed(key, now, longest)
	case !former.RefusesRestart():
		c.refused.succeeded(key)
	}
	c.answers[key] = answer
	maps.DeleteFunc(c.answers, func(_ restart.CheckKey, answer restart.Check) bool {
		return now.Sub(answer.Received) > checksAreKept && now.Sub(answer.Retry) > checksAreKept
	})
}

func (c *checker) dryRun(ctx context.Context, object *inventory.Object) restart.Check {
	pod := podOf(object)
	if err := c.client.Create(ctx, pod, client.DryRunAll); err != nil {
		answer := restart.Check{Outcome: outcomeOf(err), Message: err.Error()}
		if answer.Outcome == restart.CheckOverQuota && fitsInTurn(object, err.Error()) {
			answer.Outcome = restart.CheckFitsInTurn
		}
		return answer
	}
	// The answer is as new as the Pod would be, by the API server's own clock.
	answer := restart.Check{Observed: mesh.Observe(pod), At: pod.CreationTimestamp.Time}
	if missing := c.missingRootCertificate(ctx, pod); missing != "" {
		answer.Outcome, answer.Message = restart.CheckNoRootCertificate, missing
	}
	return answer
}

// missingRootCertificate says that a ConfigMap is missing without which the Pod would never start;
// empty where it is there, not needed or cannot be looked at. What was found is believed for a while, or
// until the namespace goes.
func (c *checker) missingRootCertificate(ctx context.Context, pod *corev1.Pod) string {
	if !slices.ContainsFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool {
		return volume.ConfigMap != nil && volume.ConfigMap.Name == mesh.RootCertificateConfigMap && !ptr.Deref(volume.ConfigMap.Optional, false)
	}) {
		return ""
	}
	c.mu.Lock()
	seen, found := c.certified[pod.Namespace]
	found = found && c.now().Sub(seen) < checksAreKept
	c.mu.Unlock()
	if found {
		return ""
	}
	err := c.reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: mesh.RootCertificateConfigMap}, &corev1.ConfigMap{})
	switch {
	case err == nil:
		c.mu.Lock()
		c.certified[pod.Namespace] = c.now()
		c.mu.Unlock()
		return ""
	case apierrors.IsNotFound(err):
		return err.Error()
	default:
		return ""
	}
}

// forget forgets what was found in namespaces that are gone or going: one that is made anew is another.
func (c *checker) forget(snapshot *inventory.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.certified) == 0 {
		return
	}
	stays := make(map[string]bool, len(snapshot.Namespaces))
	for _, namespace := range snapshot.Namespaces {
		stays[namespace.Name] = !namespace.Terminating
	}
	maps.DeleteFunc(c.certified, func(namespace string, _ time.Time) bool { return !stays[namespace] })
}

// refusals tell apart why a Pod would not be created, by what the API server's admission says
// (k8s.io/apiserver/pkg/admission/plugin/webhook/errors, plugin/resourcequota,
// k8s.io/pod-security-admission and k8s.io/kubernetes/plugin/pkg/admission/serviceaccount). The first row counts whose
// parts are all said.
var refusals = []struct {
	says    []string
	outcome restart.CheckOutcome
}{
	{[]string{"failed calling webhook", mesh.WebhookSuffix + `"`}, restart.CheckUnreachable},
	{[]string{"failed calling webhook"}, restart.CheckFailed},
	{[]string{"does not support dry run"}, restart.CheckUnsupported},
	{[]string{"admission webhook", "denied the request", mesh.WebhookSuffix + `"`}, restart.CheckDeniedByInjector},
	{[]string{"admission webhook", "denied the request"}, restart.CheckDeniedByPolicy},
	{[]string{"ValidatingAdmissionPolicy"}, restart.CheckDeniedByPolicy},
	{[]string{"exceeded quota"}, restart.CheckOverQuota},
	{[]string{"failed quota"}, restart.CheckOverQuota},
	{[]string{"violates PodSecurity"}, restart.CheckDeniedByPodSecurity},
	{[]string{"error looking up service account"}, restart.CheckNoServiceAccount},
	{[]string{"forbidden", `cannot create resource "pods"`}, restart.CheckForbidden},
}

// outcomeOf is why a Pod would not be created.
func outcomeOf(err error) restart.CheckOutcome {
	for _, refusal := range refusals {
		if !slices.ContainsFunc(refusal.says, func(part string) bool { return !strings.Contains(err.Error(), part) }) {
			return refusal.outcome
		}
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return restart.CheckDenied
	}
	return restart.CheckFailed
}

// podOf builds a Pod as the workload's controller would: with its owner, its hash label and, for a
// StatefulSet, its name and a volume per claim template, without which the API server would refuse
// what works.
func podOf(object *inventory.Object) *corev1.Pod {
	template := object.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       object.Namespace,
			GenerateName:    object.Name + "-",
			Labels:          template.Labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controlledBy(object)},
		},
		Spec: template.Spec,
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	for label, value := range object.Is().PodLabels {
		pod.Labels[label] = strings.ReplaceAll(value, "%s", object.Name)
	}
	addClaims(pod, object)
	return pod
}

func addClaims(pod *corev1.Pod, object *inventory.Object) {
	for _, claim := range object.Claims {
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == claim })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name: claim,
			VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
				ClaimName: fmt.Sprintf("%s-%s-0", claim, object.Name),
			}},
		})
	}
}

func controlledBy(object *inventory.Object) metav1.OwnerReference {
	owner := ownedBy(object)
	owner.Controller = new(true)
	return owner
}

func ownedBy(object *inventory.Object) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: object.Is().APIVersion(), Kind: object.Kind, Name: object.Name, UID: object.UID}
}
