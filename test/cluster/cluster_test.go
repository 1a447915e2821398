// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestCluster shows what a whole cluster does. Its subtests share one and come
// in an order: what breaks the cluster stands last and repairs it.
func TestCluster(t *testing.T) {
	c := ForTest(t, Options{})

	t.Run("nodes report a kubelet like the API server", func(t *testing.T) {
		version, err := c.client.Discovery().ServerVersion()
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes.Items) != 3 {
			t.Errorf("%d nodes, want 3", len(nodes.Items))
		}
		for _, node := range nodes.Items {
			if got := node.Status.NodeInfo.KubeletVersion; got != version.GitVersion {
				t.Errorf("%s reports kubelet %s, want %s", node.Name, got, version.GitVersion)
			}
		}
	})

	t.Run("a namespace labelled late is partially injected until its restart", func(t *testing.T) {
		namespace := newNamespace(t, c, "late", nil)
		deployment := newDeployment(t, c, namespace, "web", nil)
		scale(t, c, deployment, 2)
		awaitPods(t, c, namespace, "2 ready Pods without sidecar", func(pods []corev1.Pod) bool {
			return count(pods, ready) == 2 && count(pods, injected) == 0
		})
		label(t, c, namespace, "istio-injection", "enabled")
		scale(t, c, deployment, 3)
		awaitPods(t, c, namespace, "3 ready Pods, one of them injected", func(pods []corev1.Pod) bool {
			return count(pods, ready) == 3 && count(pods, injected) == 1
		})
		restart := []byte(`{"spec":{"template":{"metadata":{"annotations":{"restarted":"yes"}}}}}`)
		_, err := c.client.AppsV1().Deployments(namespace).Patch(t.Context(), deployment.Name, "application/merge-patch+json", restart, metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pods := awaitPods(t, c, namespace, "3 ready injected Pods", func(pods []corev1.Pod) bool {
			return len(pods) == 3 && count(pods, ready) == 3 && count(pods, injected) == 3
		})
		for _, status := range pods[0].Status.InitContainerStatuses {
			if status.Name == proxyContainer && status.Started != nil && *status.Started && status.Ready {
				return
			}
		}
		t.Errorf("no native sidecar runs: %v", pods[0].Status.InitContainerStatuses)
	})

	t.Run("annotations decide how Pods behave", func(t *testing.T) {
		namespace := newNamespace(t, c, "behaviour", map[string]string{"istio-injection": "enabled"})
		uninjected := map[string]string{"sidecar.istio.io/inject": "false"}
		classic := map[string]string{"sidecar.istio.io/nativeSidecar": "false"}
		for _, pod := range []*corev1.Pod{
			behaving("ready", nil, nil),
			behaving("slow", map[string]string{ReadyAfter: "1s"}, nil),
			behaving("never-ready", map[string]string{Behaviour: NeverReady}, nil),
			behaving("never-ready-injected", map[string]string{Behaviour: NeverReadyInjected}, nil),
			behaving("never-ready-uninjected", map[string]string{Behaviour: NeverReadyInjected}, uninjected),
			behaving("crash", map[string]string{Behaviour: Crash}, nil),
			behaving("crash-injected", map[string]string{Behaviour: CrashInjected}, nil),
			behaving("crash-uninjected", map[string]string{Behaviour: CrashInjected}, uninjected),
			behaving("complete", map[string]string{Behaviour: Complete}, nil),
			behaving("complete-classic", merge(classic, map[string]string{Behaviour: Complete}), nil),
		} {
			create(t, c, namespace, pod)
		}
		want := map[string]string{
			"ready":                  "Running, ready",
			"slow":                   "Running, ready",
			"never-ready":            "Running",
			"never-ready-injected":   "Running",
			"never-ready-uninjected": "Running, ready",
			"crash":                  "Running, CrashLoopBackOff after exit code 1",
			"crash-injected":         "Running, CrashLoopBackOff after exit code 1",
			"crash-uninjected":       "Running, ready",
			"complete":               "Succeeded, Completed",
			"complete-classic":       "Running, Completed",
		}
		awaitPods(t, c, namespace, fmt.Sprint(want), func(pods []corev1.Pod) bool {
			return maps.Equal(describe(pods), want)
		})

		for _, name := range []string{"crash", "never-ready"} {
			patch := []byte(`{"metadata":{"annotations":{"` + Behaviour + `":null}}}`)
			if _, err := c.client.CoreV1().Pods(namespace).Patch(t.Context(), name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			want[name] = "Running, ready"
		}
		awaitPods(t, c, namespace, fmt.Sprint(want), func(pods []corev1.Pod) bool {
			return maps.Equal(describe(pods), want)
		})
	})

	t.Run("a deleted Pod may take its time", func(t *testing.T) {
		namespace := newNamespace(t, c, "termination", nil)
		create(t, c, namespace, behaving("quick", nil, nil))
		create(t, c, namespace, behaving("slow", map[string]string{TerminateAfter: "10m"}, nil))
		awaitPods(t, c, namespace, "2 ready Pods", func(pods []corev1.Pod) bool { return count(pods, ready) == 2 })
		for _, name := range []string{"slow", "quick"} {
			if err := c.client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		awaitPods(t, c, namespace, "the slow Pod alone", func(pods []corev1.Pod) bool {
			return len(pods) == 1 && pods[0].Name == "slow" && pods[0].DeletionTimestamp != nil
		})
		// Namespaces are not deleted while it terminates.
		now := metav1.NewDeleteOptions(0)
		if err := c.client.CoreV1().Pods(namespace).Delete(t.Context(), "slow", *now); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a node with an older kubelet brings classic sidecars", func(t *testing.T) {
		namespace := newNamespace(t, c, "classic", map[string]string{"istio-injection": "enabled"})
		old := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "old"},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.32.0"}},
		}
		if _, err := c.client.CoreV1().Nodes().Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		sidecars := func(want string) {
			t.Helper()
			eventually(t, c, want+" sidecars", func(ctx context.Context) error {
				pod, err := c.client.CoreV1().Pods(namespace).Create(ctx, behaving("try", nil, nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				if err != nil {
					return err
				}
				got := "native"
				if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == proxyContainer }) {
					got = "classic"
				}
				if got != want {
					return fmt.Errorf("the sidecar is %s", got)
				}
				return nil
			})
		}
		sidecars("classic")
		if err := c.client.CoreV1().Nodes().Delete(t.Context(), old.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		sidecars("native")
	})

	t.Run("StatefulSets get volumes, DaemonSets a Pod on every node, Jobs complete", func(t *testing.T) {
		namespace := newNamespace(t, c, "kinds", nil)
		selector, template := podTemplate("set", nil)
		set := &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: "set"},
			Spec: appsv1.StatefulSetSpec{
				Selector: selector, Template: template, Replicas: new(int32(2)),
				VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
					ObjectMeta: metav1.ObjectMeta{Name: "data"},
					Spec: corev1.PersistentVolumeClaimSpec{
						AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
						Resources: corev1.VolumeResourceRequirements{
							Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
						},
					},
				}},
			},
		}
		if _, err := c.client.AppsV1().StatefulSets(namespace).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		selector, template = podTemplate("daemon", nil)
		daemons := &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: "daemon"},
			Spec:       appsv1.DaemonSetSpec{Selector: selector, Template: template},
		}
		if _, err := c.client.AppsV1().DaemonSets(namespace).Create(t.Context(), daemons, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, template = podTemplate("job", map[string]string{Behaviour: Complete})
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{Template: template}}
		if _, err := c.client.BatchV1().Jobs(namespace).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitPods(t, c, namespace, "2 + 3 ready Pods and a completed one", func(pods []corev1.Pod) bool {
			return len(pods) == 6 && count(pods, ready) == 5
		})
		eventually(t, c, "the Job's completion", func(ctx context.Context) error {
			job, err := c.client.BatchV1().Jobs(namespace).Get(ctx, "job", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if job.Status.Succeeded != 1 {
				return fmt.Errorf("its status is %+v", job.Status)
			}
			return nil
		})
	})

	t.Run("Argo's controller runs Rollouts, and restarts them by spec.restartAt", func(t *testing.T) { testRollouts(t, c) })

	t.Run("a ServiceAccount's kubeconfig has its rights, and the audit log tells what it did", func(t *testing.T) {
		namespace := newNamespace(t, c, "audited", nil)
		ctx := t.Context()
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "operator"}}
		if _, err := c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		role := &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: "operator"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create", "get"}}},
		}
		if _, err := c.client.RbacV1().Roles(namespace).Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "operator"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "operator"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "operator"}},
		}
		if _, err := c.client.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		path, err := c.ServiceAccountKubeconfig(ctx, namespace, "operator")
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		client := kubernetes.NewForConfigOrDie(config)
		dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		eventually(t, c, "the Role to be known", func(ctx context.Context) error {
			_, err := client.CoreV1().Pods(namespace).Create(ctx, behaving("asked", nil, nil), dryRun)
			return err
		})
		if err := client.CoreV1().Pods(namespace).Delete(ctx, "asked", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("deleting a Pod: %v, want it forbidden", err)
		}

		events, err := c.Audit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var created, deleted *AuditEvent
		for _, e := range events {
			if e.User != "system:serviceaccount:"+namespace+":operator" || e.Resource != "pods" {
				continue
			}
			switch {
			case e.Verb == "create" && e.Code == http.StatusCreated:
				created = &e
			case e.Verb == "delete":
				deleted = &e
			}
		}
		if created == nil || created.Name != "asked" || !created.DryRun || !strings.Contains(string(created.Object), `"asked"`) {
			t.Errorf("the creation is logged as %+v", created)
		}
		if deleted == nil || deleted.Code != http.StatusForbidden || deleted.DryRun || deleted.Namespace != namespace {
			t.Errorf("the deletion is logged as %+v", deleted)
		}
	})

	t.Run("a second revision injects where it or its tag is asked for", func(t *testing.T) {
		if err := c.InstallRevision(t.Context(), "canary", "prod"); err != nil {
			t.Fatal(err)
		}
		byRevision := newNamespace(t, c, "by-revision", map[string]string{"istio.io/rev": "canary"})
		byTag := newNamespace(t, c, "by-tag", map[string]string{"istio.io/rev": "prod"})
		for _, namespace := range []string{byRevision, byTag} {
			create(t, c, namespace, behaving("first", nil, nil))
			awaitPods(t, c, namespace, "a Pod injected by canary", func(pods []corev1.Pod) bool {
				return count(pods, ready) == 1 && pods[0].Annotations["istio.io/rev"] == "canary"
			})
		}
		if err := c.SetTag(t.Context(), "prod", DefaultRevision); err != nil {
			t.Fatal(err)
		}
		pod := create(t, c, byTag, behaving("second", nil, nil))
		if got := pod.Annotations["istio.io/rev"]; got != DefaultRevision {
			t.Errorf("after the tag moved, a Pod is injected by %q", got)
		}
	})

	t.Run("without istiod Pods are refused or come up uninjected, as failurePolicy says", func(t *testing.T) {
		namespace := newNamespace(t, c, "stopped", map[string]string{"istio-injection": "enabled"})
		ctx := t.Context()
		if err := c.StopIstiod(ctx, DefaultRevision); err != nil {
			t.Fatal(err)
		}
		_, err := c.client.CoreV1().Pods(namespace).Create(ctx, behaving("refused", nil, nil), metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("with failurePolicy Fail: %v, want that the webhook's call failed", err)
		}
		if err := c.SetFailurePolicy(ctx, admissionregistrationv1.Ignore); err != nil {
			t.Fatal(err)
		}
		var pod *corev1.Pod
		eventually(t, c, "a Pod to be admitted", func(ctx context.Context) (err error) {
			pod, err = c.client.CoreV1().Pods(namespace).Create(ctx, behaving("uninjected", nil, nil), metav1.CreateOptions{})
			return err
		})
		if injected(pod) {
			t.Error("with failurePolicy Ignore: a Pod is injected, though no istiod runs")
		}
		if err := c.SetFailurePolicy(ctx, admissionregistrationv1.Fail); err != nil {
			t.Fatal(err)
		}
		if err := c.StartIstiod(ctx, DefaultRevision); err != nil {
			t.Fatal(err)
		}
		if pod := create(t, c, namespace, behaving("injected", nil, nil)); !injected(pod) {
			t.Error("a Pod is not injected after istiod has started again")
		}
	})

	t.Run("the API server comes back where it was and remembers", func(t *testing.T) {
		namespace := newNamespace(t, c, "before", nil)
		if err := c.RestartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		newDeployment(t, c, namespace, "web", nil)
		awaitPods(t, c, namespace, "a ready Pod", func(pods []corev1.Pod) bool { return count(pods, ready) == 1 })
	})

	t.Run("Pods go whose deletion the end of the API server interrupted", func(t *testing.T) {
		namespace := newNamespace(t, c, "interrupted", nil)
		asked := holdRemoval(t, c, namespace)
		// Until the API server knows the webhook, Pods go without it.
		for held := false; !held; {
			pod := create(t, c, namespace, behaving("going", nil, nil))
			awaitPods(t, c, namespace, "a ready Pod", func(pods []corev1.Pod) bool { return count(pods, ready) == 1 })
			if err := c.client.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, c, "the Pod to be deleted", func(ctx context.Context) error {
				select {
				case <-asked:
					held = true
					return nil
				default:
				}
				_, err := c.client.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return errors.Join(err, errors.New("it is there, and nobody deletes it"))
			})
		}
		if err := c.RestartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitPods(t, c, namespace, "no Pod", func(pods []corev1.Pod) bool { return len(pods) == 0 })
	})
}

// holdRemoval has the first API server that is about to remove a Pod, with its grace period at zero
// already, wait until it ends. It says when one does.
func holdRemoval(t *testing.T, c *Cluster, namespace string) <-chan struct{} {
	t.Helper()
	asked := make(chan struct{}, 1)
	var once sync.Once
	webhook := httptest.NewTLSServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
			t.Errorf("what the webhook is asked: %v", err)
			return
		}
		var pod corev1.Pod
		if err := json.Unmarshal(review.Request.OldObject.Raw, &pod); err != nil {
			t.Errorf("the Pod that the webhook is asked about: %v", err)
			return
		}
		if grace := pod.DeletionGracePeriodSeconds; grace != nil && *grace == 0 {
			once.Do(func() {
				asked <- struct{}{}
				<-request.Context().Done()
			})
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if err := json.NewEncoder(response).Encode(review); err != nil {
			t.Logf("answering in the webhook: %v", err)
		}
	}))
	t.Cleanup(webhook.Close)

	configurations := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err := configurations.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "hold.test.fullmesh.dev",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL:      &webhook.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: webhook.Certificate().Raw}),
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Delete},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(30)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := configurations.Delete(context.Background(), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return asked
}

func TestClustersShareNothing(t *testing.T) {
	one := ForTest(t, Options{APIServerOnly: true, APIServers: 2})
	two := ForTest(t, Options{APIServerOnly: true})
	newNamespace(t, one, "only-in-one", nil)
	_, err := two.client.CoreV1().Namespaces().Get(t.Context(), "only-in-one", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a Namespace of one cluster, asked for in the other: %v", err)
	}

	second, err := kubernetes.NewForConfig(one.ConfigFor(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.CoreV1().Namespaces().Get(t.Context(), "only-in-one", metav1.GetOptions{}); err != nil {
		t.Errorf("a Namespace, asked for at the second API server: %v", err)
	}

	if err := errors.Join(one.Stop(), one.Stop()); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
	if _, err := os.Stat(one.Dir()); !os.IsNotExist(err) {
		t.Errorf("the temporary directory of a stopped cluster: %v", err)
	}
	if _, err := two.client.Discovery().ServerVersion(); err != nil {
		t.Errorf("after one cluster has stopped, the other answers: %v", err)
	}
}

func TestAPartThatDoesNotComeUpIsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster, which short mode leaves out")
	}
	t.Setenv("KUBEBUILDER_ASSETS", "")
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		prepare func(bin string) error
		want    []string
	}{
		"because it is missing": {
			prepare: func(bin string) error { return os.Remove(filepath.Join(bin, "kube-apiserver")) },
			want:    []string{"starting kube-apiserver", "make cluster-binaries"},
		},
		"because it ends": {
			prepare: func(bin string) error {
				path := filepath.Join(bin, "kube-apiserver")
				script := "#!/bin/sh\necho it does not like its flags\nexit 3\n"
				return errors.Join(os.Remove(path), os.WriteFile(path, []byte(script), 0o755))
			},
			want: []string{"starting kube-apiserver", "exit status 3", "kube-apiserver.log", "it does not like its flags"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for _, program := range []string{"etcd", "kube-apiserver"} {
				if err := os.Symlink(filepath.Join(root, "bin", program), filepath.Join(bin, program)); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.prepare(bin); err != nil {
				t.Fatal(err)
			}
			_, err := Start(t.Context(), Options{Bin: bin, APIServerOnly: true})
			if err == nil {
				t.Fatal("the cluster started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not tell %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestProgramsOfKubebuilderAssetsAreUsedFirst(t *testing.T) {
	bin, assets := t.TempDir(), t.TempDir()
	t.Setenv("KUBEBUILDER_ASSETS", assets)
	for _, path := range []string{filepath.Join(bin, "etcd"), filepath.Join(bin, "kwok"), filepath.Join(assets, "etcd")} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cluster{options: Options{Bin: bin}}
	for name, dir := range map[string]string{"etcd": assets, "kwok": bin} {
		got, err := c.program(name)
		if want := filepath.Join(dir, name); got != want || err != nil {
			t.Errorf("%s is %s (%v), want %s", name, got, err, want)
		}
	}
}

func TestAPartThatEndsLaterIsNamed(t *testing.T) {
	c := ForTest(t, Options{APIServerOnly: true})
	if err := c.Failure(); err != nil {
		t.Errorf("a healthy cluster: %v", err)
	}
	c.etcd.proc.kill() // not stop, which would be on purpose
	if err := c.Failure(); err == nil || !strings.Contains(err.Error(), "etcd ended by itself") {
		t.Errorf("a cluster whose etcd was killed: %v", err)
	}
	if err := c.Stop(); err == nil {
		t.Error("stopping a cluster whose etcd was killed tells nothing")
	}
	c.stop = func() error { return nil } // told already
}

func newNamespace(t *testing.T, c *Cluster, name string, labels map[string]string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

func label(t *testing.T, c *Cluster, namespace, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
	if _, err := c.client.CoreV1().Namespaces().Patch(t.Context(), namespace, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The API server's admission sees the label a moment later.
	eventually(t, c, "the label to count", func(ctx context.Context) error {
		pod, err := c.client.CoreV1().Pods(namespace).Create(ctx, behaving("try", nil, nil), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && !injected(pod) {
			err = errors.New("a Pod is not injected")
		}
		return err
	})
}

func podTemplate(name string, annotations map[string]string) (*metav1.LabelSelector, corev1.PodTemplateSpec) {
	pod := behaving(name, annotations, map[string]string{"app": name})
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec}
}

func newDeployment(t *testing.T, c *Cluster, namespace, name string, annotations map[string]string) *appsv1.Deployment {
	t.Helper()
	selector, template := podTemplate(name, annotations)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Selector: selector, Template: template},
	}
	deployment, err := c.client.AppsV1().Deployments(namespace).Create(t.Context(), deployment, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return deployment
}

func scale(t *testing.T, c *Cluster, deployment *appsv1.Deployment, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := c.client.AppsV1().Deployments(deployment.Namespace).Patch(t.Context(), deployment.Name, "application/merge-patch+json", patch, metav1.PatchOptions{}, "scale"); err != nil {
		t.Fatal(err)
	}
}

// behaving is a Pod with one container.
func behaving(name string, annotations, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/app"}}},
	}
}

func merge(all ...map[string]string) map[string]string {
	merged := map[string]string{}
	for _, m := range all {
		maps.Copy(merged, m)
	}
	return merged
}

// create creates a Pod as soon as the namespace has a ServiceAccount for it.
func create(t *testing.T, c *Cluster, namespace string, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var created *corev1.Pod
	eventually(t, c, "Pod "+pod.Name+" to be created", func(ctx context.Context) (err error) {
		created, err = c.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	return created
}

func eventually(t *testing.T, c *Cluster, what string, condition func(context.Context) error) {
	t.Helper()
	if err := c.await(t.Context(), what, condition); err != nil {
		t.Fatal(err)
	}
}

// awaitPods waits until a namespace's Pods are as wanted, and returns them.
func awaitPods(t *testing.T, c *Cluster, namespace, what string, as func([]corev1.Pod) bool) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	eventually(t, c, what, func(ctx context.Context) error {
		list, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if !as(list.Items) {
			return fmt.Errorf("the Pods are %v", describe(list.Items))
		}
		pods = list.Items
		return nil
	})
	return pods
}

// describe tells in words what state each Pod is in.
func describe(pods []corev1.Pod) map[string]string {
	states := map[string]string{}
	for _, pod := range pods {
		words := []string{string(pod.Status.Phase)}
		if ready(&pod) {
			words = append(words, "ready")
		}
		for _, container := range pod.Status.ContainerStatuses {
			waiting, last := container.State.Waiting, container.LastTerminationState.Terminated
			if waiting != nil && last != nil && container.RestartCount > 0 {
				words = append(words, fmt.Sprintf("%s after exit code %d", waiting.Reason, last.ExitCode))
			}
			if ended := container.State.Terminated; ended != nil {
				words = append(words, ended.Reason)
			}
		}
		states[pod.Name] = strings.Join(words, ", ")
	}
	return states
}

func count(pods []corev1.Pod, which func(*corev1.Pod) bool) int {
	n := 0
	for i := range pods {
		if which(&pods[i]) {
			n++
		}
	}
	return n
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
