// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

const (
	// DefaultRevision is the revision of Istio that every cluster starts with.
	DefaultRevision = "default"
	// IstioNamespace is where Istio's configuration is.
	IstioNamespace = "istio-system"

	proxyContainer = "istio-proxy"
	revisionLabel  = "istio.io/rev"
)

// revision is one control plane of Istio.
type revision struct {
	name   string
	istiod *part
	// selectors are the values of the label istio.io/rev that lead to it: its
	// name and its tags.
	selectors []string
}

// InstallRevision adds a control plane of Istio with its own istiod, and tags
// that point to it. It waits until Pods are injected through the revision and
// through each tag.
func (c *Cluster) InstallRevision(ctx context.Context, name string, tags ...string) error {
	if _, err := c.revision(name); err == nil {
		return fmt.Errorf("the cluster has revision %s of Istio already", name)
	}
	istiod, err := c.part("istiod-"+name, "pilot-discovery", 4)
	if err != nil {
		return err
	}
	if istiod.kubeconfig, err = c.userKubeconfig("istiod-"+name, "system:masters"); err != nil {
		return fmt.Errorf("starting %s: %w", istiod.name, err)
	}
	istiod.args = func(ports []int) []string {
		return []string{
			"discovery",
			"--kubeconfig=" + istiod.kubeconfig,
			"--httpsAddr=" + loopback(ports[0]),
			"--httpAddr=" + loopback(ports[1]),
			"--secureGRPCAddr=" + loopback(ports[2]),
			"--monitoringAddr=" + loopback(ports[3]),
			"--grpcAddr=",
			"--ctrlz_port=0",
		}
	}
	istiod.env = []string{
		"POD_NAME=" + istiod.name,
		"POD_NAMESPACE=" + IstioNamespace,
		"CLUSTER_ID=Kubernetes",
		// istiod writes its certificate into the webhooks with this label.
		"REVISION=" + name,
		// The name that the webhooks call it by, and its certificate is for.
		"ISTIOD_CUSTOM_HOST=localhost",
	}
	istiod.ready = func(ctx context.Context) error {
		return get(ctx, "http://"+loopback(istiod.ports[1])+"/ready")
	}
	r := &revision{name: name, istiod: istiod, selectors: append([]string{name}, tags...)}

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: IstioNamespace}}
	_, err = c.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating Namespace %s: %w", IstioNamespace, err)
	}
	// istiod does not inject at all if it starts without its ConfigMaps, and its
	// port, which the webhooks need, is certain only when it runs.
	rendered, err := c.render(ctx, name, tags)
	if err != nil {
		return fmt.Errorf("rendering Istio's revision %s: %w", name, err)
	}
	for _, configMap := range rendered.configMaps {
		if _, err := c.client.CoreV1().ConfigMaps(IstioNamespace).Create(ctx, &configMap, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating ConfigMap %s: %w", configMap.Name, err)
		}
	}
	if err := istiod.start(ctx); err != nil {
		return err
	}
	url := fmt.Sprintf("https://localhost:%d/inject", istiod.ports[0])
	for _, webhooks := range rendered.webhooks {
		for i := range webhooks.Webhooks {
			webhooks.Webhooks[i].ClientConfig.URL = &url
		}
		client := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		if _, err := client.Create(ctx, &webhooks, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating MutatingWebhookConfiguration %s: %w", webhooks.Name, err)
		}
	}
	c.mu.Lock()
	c.revisions[name] = r
	c.mu.Unlock()
	return c.awaitInjection(ctx, r)
}

// rendered is what a cluster needs of Istio's charts. The rest is for an istiod
// in a Pod.
type rendered struct {
	configMaps []corev1.ConfigMap
	webhooks   []admissionregistrationv1.MutatingWebhookConfiguration
}

// render has istioctl render a revision. The charts are part of istioctl.
func (c *Cluster) render(ctx context.Context, name string, tags []string) (rendered, error) {
	args := []string{
		"manifest", "generate",
		"--set", "profile=minimal",
		"--set", "values.istiodRemote.injectionURL=https://localhost/inject",
	}
	if name != DefaultRevision {
		args = append(args, "--set", "revision="+name)
	}
	for i, tag := range tags {
		args = append(args, "--set", fmt.Sprintf("values.revisionTags[%d]=%s", i, tag))
	}
	for _, value := range c.options.Istio {
		args = append(args, "--set", value)
	}
	manifest, err := c.istioctl(ctx, args...)
	if err != nil {
		return rendered{}, err
	}

	var r rendered
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		var object metav1.TypeMeta
		if err := errors.Join(err, yaml.Unmarshal(document, &object)); err != nil {
			return rendered{}, fmt.Errorf("reading what istioctl rendered: %w", err)
		}
		switch object.Kind {
		case "ConfigMap":
			r.configMaps = append(r.configMaps, corev1.ConfigMap{})
			err = yaml.UnmarshalStrict(document, &r.configMaps[len(r.configMaps)-1])
		case "MutatingWebhookConfiguration":
			r.webhooks = append(r.webhooks, admissionregistrationv1.MutatingWebhookConfiguration{})
			err = yaml.UnmarshalStrict(document, &r.webhooks[len(r.webhooks)-1])
		}
		if err != nil {
			return rendered{}, fmt.Errorf("reading the %s that istioctl rendered: %w", object.Kind, err)
		}
	}
}

// istioctl runs istioctl and returns what it prints.
func (c *Cluster) istioctl(ctx context.Context, args ...string) ([]byte, error) {
	program, err := c.program("istioctl")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = c.dir, []string{"HOME=" + c.dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running istioctl: %w\n%s", err, &stderr)
	}
	return out, nil
}

// SetTag makes a tag point to a revision, as istioctl does, and waits until
// Pods that ask for the tag are injected by that revision.
func (c *Cluster) SetTag(ctx context.Context, tag, revision string) error {
	r, err := c.revision(revision)
	if err != nil {
		return err
	}
	if _, err := c.istioctl(ctx, "tag", "set", tag, "--revision="+revision, "--overwrite", "--kubeconfig="+c.Kubeconfig()); err != nil {
		return fmt.Errorf("setting tag %s to revision %s: %w", tag, revision, err)
	}
	c.mu.Lock()
	for _, other := range c.revisions {
		other.selectors = slices.DeleteFunc(slices.Clone(other.selectors), func(s string) bool { return s == tag })
	}
	r.selectors = append(r.selectors, tag)
	c.mu.Unlock()
	return c.awaitInjection(ctx, r)
}

// StopIstiod kills the istiod of a revision and waits until that shows: Pods
// that should be injected by it are refused or come up uninjected, as the
// webhooks' failurePolicy says.
func (c *Cluster) StopIstiod(ctx context.Context, revision string) error {
	r, err := c.revision(revision)
	if err != nil {
		return err
	}
	r.istiod.stop()
	return c.await(ctx, "the absence of "+r.istiod.name+" to show", func(ctx context.Context) error {
		return c.tryInjection(ctx, r, func(pod *corev1.Pod, err error) error {
			if err == nil && injected(pod) {
				return errors.New("a Pod is still injected")
			}
			return nil
		})
	})
}

// StartIstiod starts the istiod of a revision again and waits until Pods are
// injected through the revision and its tags.
func (c *Cluster) StartIstiod(ctx context.Context, revision string) error {
	r, err := c.revision(revision)
	if err != nil {
		return err
	}
	r.istiod.stop()
	if err := r.istiod.start(ctx); err != nil {
		return err
	}
	return c.awaitInjection(ctx, r)
}

func (c *Cluster) revision(name string) (*revision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.revisions[name]
	if !ok {
		return nil, fmt.Errorf("the cluster has no revision %s of Istio", name)
	}
	return r, nil
}

// SetFailurePolicy sets the failurePolicy of every injection webhook: what
// happens to Pods while istiod does not answer. (Istio itself installs Fail.)
// The API servers notice a moment later; StopIstiod waits until they have.
func (c *Cluster) SetFailurePolicy(ctx context.Context, policy admissionregistrationv1.FailurePolicyType) error {
	client := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	return c.await(ctx, "the failurePolicy "+string(policy), func(ctx context.Context) error {
		configurations, err := client.List(ctx, metav1.ListOptions{LabelSelector: "app=sidecar-injector"})
		if err != nil {
			return err
		}
		for _, configuration := range configurations.Items {
			for i := range configuration.Webhooks {
				configuration.Webhooks[i].FailurePolicy = &policy
			}
			// istiod writes the same objects, so this may have to be repeated.
			if _, err := client.Update(ctx, &configuration, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitInjection waits until Pods are injected by a revision. That takes more
// than an istiod that is ready: it has to write its certificate into the
// webhooks, and every API server has to see that.
func (c *Cluster) awaitInjection(ctx context.Context, r *revision) error {
	return c.await(ctx, "injection by "+r.istiod.name, func(ctx context.Context) error {
		return c.tryInjection(ctx, r, func(pod *corev1.Pod, err error) error {
			if err != nil {
				return err
			}
			if !injected(pod) {
				return errors.New("a Pod is not injected")
			}
			if by := pod.Annotations[revisionLabel]; by != r.name {
				return fmt.Errorf("a Pod is injected by revision %s", by)
			}
			return nil
		})
	})
}

// tryInjection creates Pods in dry-run that ask for injection by a revision,
// through every API server and by every one of the revision's names, and has
// each result judged.
func (c *Cluster) tryInjection(ctx context.Context, r *revision, judge func(*corev1.Pod, error) error) error {
	c.mu.Lock()
	selectors := r.selectors
	c.mu.Unlock()
	for i := range c.apiServers {
		client, err := kubernetes.NewForConfig(c.ConfigFor(i))
		if err != nil {
			return err
		}
		for _, selector := range selectors {
			pod := probePod()
			pod.Labels = map[string]string{revisionLabel: selector}
			pod, err := client.CoreV1().Pods(IstioNamespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err := judge(pod, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// injected tells whether a Pod has a sidecar, native or classic.
func injected(pod *corev1.Pod) bool {
	isProxy := func(c corev1.Container) bool { return c.Name == proxyContainer }
	return slices.ContainsFunc(pod.Spec.Containers, isProxy) ||
		slices.ContainsFunc(pod.Spec.InitContainers, isProxy)
}
