package differential

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/test/cluster"
)

const (
	canary = "canary"
	// marker is the configuration by which an API server shows which settings it has.
	marker      = "a-marker"
	markerLabel = "fullmesh.dev/marker"
	// epochAnnotation is on every Pod that an istiod injects, and shows which settings it has.
	epochAnnotation = "fullmesh.dev/epoch"
)

var revisions = []string{cluster.DefaultRevision, canary}

// settings are how injection is configured at one time.
type settings struct {
	webhooks   []*admissionregistrationv1.MutatingWebhookConfiguration
	configMaps []*corev1.ConfigMap
}

// world is the cluster under test.
type world struct {
	client kubernetes.Interface
	// original is what Istio's installation has made.
	original   map[string]*admissionregistrationv1.MutatingWebhookConfiguration
	configMaps map[string]*corev1.ConfigMap
	urls       map[string]string
	epoch      int
	// silent are the revisions that inject nothing at all.
	silent map[string]bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := cluster.ForTest(t, cluster.Options{Nodes: 1})
	if err := c.InstallRevision(t.Context(), canary, "prod"); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		client:     client,
		original:   map[string]*admissionregistrationv1.MutatingWebhookConfiguration{},
		configMaps: map[string]*corev1.ConfigMap{},
		urls:       map[string]string{},
		silent:     map[string]bool{},
	}
	list, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		configuration := &list.Items[i]
		w.original[configuration.Name] = configuration
		w.urls[configuration.Labels["istio.io/rev"]] = *configuration.Webhooks[0].ClientConfig.URL
	}
	for _, revision := range revisions {
		configMap, err := client.CoreV1().ConfigMaps(cluster.IstioNamespace).Get(t.Context(), configMapOf(revision), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.configMaps[revision] = configMap
	}
	return w
}

func configMapOf(revision string) string {
	if revision == cluster.DefaultRevision {
		return "istio-sidecar-injector"
	}
	return "istio-sidecar-injector-" + revision
}

// layouts are how installations register webhooks: which configurations there are, and what they
// lead to.
func (w *world) layout(r random) []*admissionregistrationv1.MutatingWebhookConfiguration {
	helm := w.original["istio-sidecar-injector"].DeepCopy()
	if r.in(3) {
		w.addAuto(helm)
	}
	made := []*admissionregistrationv1.MutatingWebhookConfiguration{w.original["istio-sidecar-injector-canary"].DeepCopy()}
	switch r.IntN(6) {
	case 0, 1: // one default owner
		made = append(made, helm)
	case 2: // as istioctl does it
		made = append(made, w.tag("default", one(r, revisions...)))
		for i := range helm.Webhooks {
			deactivate(&helm.Webhooks[i])
		}
		made = append(made, helm)
	case 3: // a merge has brought half of it back
		made = append(made, w.tag("default", one(r, revisions...)))
		for i := range helm.Webhooks {
			helm.Webhooks[i].NamespaceSelector.MatchLabels = map[string]string{"istio.io/deactivated": "never-match"}
			helm.Webhooks[i].ObjectSelector.MatchLabels = map[string]string{"istio.io/deactivated": "never-match"}
		}
		made = append(made, helm)
	case 4: // two default owners
		made = append(made, w.tag("default", one(r, revisions...)), helm)
	case 5: // none
	}
	if !r.in(4) {
		made = append(made, w.tag("prod", one(r, revisions...)))
	}
	return made
}

// tag is the configuration of a tag that points to a revision.
func (w *world) tag(tag, revision string) *admissionregistrationv1.MutatingWebhookConfiguration {
	from := w.original["istio-revision-tag-prod"]
	if tag == "default" {
		from = w.original["istio-sidecar-injector"]
	}
	made := from.DeepCopy()
	made.ObjectMeta = metav1.ObjectMeta{
		Name:   "istio-revision-tag-" + tag,
		Labels: map[string]string{"app": "sidecar-injector", "istio.io/rev": revision, "istio.io/tag": tag},
	}
	for i := range made.Webhooks {
		made.Webhooks[i].ClientConfig.URL = new(w.urls[revision])
	}
	return made
}

// addAuto adds the webhook that injects namespaces without labels.
func (w *world) addAuto(configuration *admissionregistrationv1.MutatingWebhookConfiguration) {
	webhook := configuration.Webhooks[0].DeepCopy()
	webhook.Name = "auto.sidecar-injector.istio.io"
	absent := func(key string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist}
	}
	webhook.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		absent("istio-injection"), absent("istio.io/rev"),
		{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}},
	}}
	webhook.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		absent("sidecar.istio.io/inject"), absent("istio.io/rev"),
	}}
	configuration.Webhooks = append(configuration.Webhooks, *webhook)
}

// change configures injection anew, and returns how, when the API server and both istiods have it.
func (w *world) change(t *testing.T, r random) *settings {
	t.Helper()
	w.epoch++
	made := &settings{}
	wanted := w.layout(r)
	for _, configuration := range wanted {
		for i := range configuration.Webhooks {
			r.change(&configuration.Webhooks[i])
		}
	}
	for _, configuration := range append(wanted, w.marker()) {
		stored := w.store(t, configuration)
		if configuration.Name != marker {
			made.webhooks = append(made.webhooks, stored)
		}
	}
	for _, revision := range revisions {
		made.configMaps = append(made.configMaps, w.configure(t, r, revision))
	}
	w.await(t, "the API server", w.apiServerHasIt)
	for _, revision := range revisions {
		w.await(t, "istiod of revision "+revision, func(ctx context.Context) error { return w.istiodHasIt(ctx, revision) })
	}
	return made
}

// marker is a webhook that nobody answers, for Pods with a label of this epoch. The watch of the
// API server brings it after what was written before it.
func (w *world) marker() *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: marker},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    fmt.Sprintf("epoch-%d.marker.fullmesh.dev", w.epoch),
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")},
			ObjectSelector:          &metav1.LabelSelector{MatchLabels: map[string]string{markerLabel: fmt.Sprint(w.epoch)}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
}

// store makes a configuration, in the place of another of its name.
func (w *world) store(t *testing.T, wanted *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	client := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	wanted.ResourceVersion, wanted.UID, wanted.ManagedFields = "", "", nil
	err := client.Delete(t.Context(), wanted.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	stored, err := client.Create(t.Context(), wanted, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("storing %s: %v", wanted.Name, err)
	}
	return stored
}

// remove removes the configurations of the epoch before.
func (w *world) remove(t *testing.T, former *settings) {
	t.Helper()
	if former == nil {
		former = &settings{}
		for _, configuration := range w.original {
			former.webhooks = append(former.webhooks, configuration)
		}
	}
	for _, configuration := range former.webhooks {
		err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), configuration.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
}

// configure writes an injector's ConfigMap.
func (w *world) configure(t *testing.T, r random, revision string) *corev1.ConfigMap {
	t.Helper()
	configMap := w.configMaps[revision].DeepCopy()
	config, values := map[string]any{}, map[string]any{}
	for key, into := range map[string]*map[string]any{"config": &config, "values": &values} {
		if err := yaml.Unmarshal([]byte(configMap.Data[key]), into); err != nil {
			t.Fatal(err)
		}
	}
	r.injectorConfig(config, values)
	if config["policy"] == "on" && w.silent[revision] {
		// Twice in a row could not be told from once.
		config["policy"] = "enabled"
	}
	w.silent[revision] = config["policy"] == "on"
	config["injectedAnnotations"] = map[string]any{epochAnnotation: fmt.Sprint(w.epoch)}
	for key, from := range map[string]map[string]any{"config": config, "values": values} {
		text, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		configMap.Data[key] = string(text)
	}
	configMap.ResourceVersion = ""
	stored, err := w.client.CoreV1().ConfigMaps(cluster.IstioNamespace).Update(t.Context(), configMap, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

const (
	settlesWithin = time.Minute
	lookEvery     = 50 * time.Millisecond
)

func (w *world) await(t *testing.T, what string, has func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settlesWithin)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		err := has(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not have the settings of epoch %d: %v", what, w.epoch, err)
		case <-ticker.C:
		}
	}
}

func (w *world) apiServerHasIt(ctx context.Context) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "marked-", Labels: map[string]string{markerLabel: fmt.Sprint(w.epoch)}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	_, err := w.client.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil && strings.Contains(err.Error(), fmt.Sprintf("epoch-%d.marker", w.epoch)) {
		return nil
	}
	return fmt.Errorf("a marked Pod was not refused by the marker: %w", err)
}

var insecure = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
}

// istiodHasIt asks an istiod directly for the injection of a Pod that asks for it.
func (w *world) istiodHasIt(ctx context.Context, revision string) error {
	pod := `{"metadata":{"name":"canary","namespace":"default","labels":{"sidecar.istio.io/inject":"true"},"annotations":{"inject.istio.io/templates":"sidecar"}},"spec":{"containers":[{"name":"app","image":"app"}]}}`
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  &admissionv1.AdmissionRequest{UID: "canary", Namespace: "default", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(pod)}},
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.urls[revision], bytes.NewReader(review))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := insecure.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	switch {
	case answer.Response == nil:
		return fmt.Errorf("no response")
	case w.silent[revision] && len(answer.Response.Patch) == 0:
		return nil
	case strings.Contains(string(answer.Response.Patch), fmt.Sprintf(`%q:"%d"`, epochAnnotation, w.epoch)),
		strings.Contains(string(answer.Response.Patch), fmt.Sprintf(`"/metadata/annotations/fullmesh.dev~1epoch","value":"%d"`, w.epoch)):
		return nil
	default:
		return fmt.Errorf("a Pod is not injected with the annotation of this epoch: %.300s", answer.Response.Patch)
	}
}

// documents prints the settings as they are read, in YAML. Of injection templates, which are long,
// it leaves what decides.
func (s *settings) documents() []string {
	var made []string
	for _, configuration := range s.webhooks {
		configuration = configuration.DeepCopy()
		configuration.TypeMeta = metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"}
		configuration.ManagedFields = nil
		for i := range configuration.Webhooks {
			configuration.Webhooks[i].ClientConfig.CABundle = nil
		}
		made = append(made, document(configuration))
	}
	slices.Sort(made)
	for _, configMap := range s.configMaps {
		configMap = configMap.DeepCopy()
		configMap.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		configMap.ManagedFields = nil
		var config map[string]any
		if yaml.Unmarshal([]byte(configMap.Data["config"]), &config) == nil {
			templates, _ := config["templates"].(map[string]any)
			for name, text := range templates {
				short := ""
				if strings.Contains(fmt.Sprint(text), ".ProxyImage") {
					short = "{{ .ProxyImage }}"
				}
				templates[name] = short
			}
			configMap.Data["config"] = document(config)
		}
		made = append(made, document(configMap))
	}
	return made
}

func document(object any) string {
	text, err := yaml.Marshal(object)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
