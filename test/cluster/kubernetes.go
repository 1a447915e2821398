// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

//go:embed audit-policy.yaml
var auditPolicy []byte

// startControlPlane starts etcd and the API servers.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	var err error
	if c.etcd, err = c.part("etcd", "etcd", 2); err != nil {
		return err
	}
	c.etcd.args = func(ports []int) []string {
		client, peer := "http://"+loopback(ports[0]), "http://"+loopback(ports[1])
		return []string{
			"--data-dir=data",
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=default=" + peer,
			"--unsafe-no-fsync",
			"--quota-backend-bytes=" + strconv.Itoa(8<<30),
		}
	}
	c.etcd.ready = func(ctx context.Context) error {
		return get(ctx, "http://"+loopback(c.etcd.ports[0])+"/health")
	}
	if err := c.etcd.start(ctx); err != nil {
		return err
	}

	policy := filepath.Join(c.dir, "audit", "policy.yaml")
	if err := os.WriteFile(policy, auditPolicy, 0o644); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	if c.config, err = c.authority.user("", "admin", "system:masters"); err != nil {
		return err
	}
	for i := range max(1, c.options.APIServers) {
		if err := c.startAPIServer(ctx, i, policy); err != nil {
			return err
		}
	}
	c.config.Host = c.host(0)
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return writeKubeconfig(c.Kubeconfig(), c.config)
}

func (c *Cluster) startAPIServer(ctx context.Context, i int, policy string) error {
	name := "kube-apiserver"
	if i > 0 {
		name = fmt.Sprintf("kube-apiserver-%d", i)
	}
	p, err := c.part(name, "kube-apiserver", 1)
	if err != nil {
		return err
	}
	c.apiServers = append(c.apiServers, p)
	p.args = func(ports []int) []string {
		return []string{
			"--etcd-servers=http://" + loopback(c.etcd.ports[0]),
			"--bind-address=127.0.0.1",
			"--secure-port=" + strconv.Itoa(ports[0]),
			// An address of loopback is refused as the endpoint of the Service
			// "kubernetes".
			"--endpoint-reconciler-type=none",
			"--tls-cert-file=" + c.pki.serverCert,
			"--tls-private-key-file=" + c.pki.serverKey,
			"--client-ca-file=" + c.pki.ca,
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + c.pki.tokenCert,
			"--service-account-signing-key-file=" + c.pki.tokenKey,
			"--service-cluster-ip-range=10.96.0.0/16",
			"--authorization-mode=RBAC",
			"--allow-privileged",
			"--audit-policy-file=" + policy,
			"--audit-log-path=" + c.auditLog(i),
			// Nothing may be missing from the log: a request waits for its
			// line, and the log is not rotated (the size is in megabytes).
			"--audit-log-mode=blocking",
			"--audit-log-maxsize=1000000",
		}
	}
	p.ready = func(ctx context.Context) error {
		return c.apiServerReady(ctx, i)
	}
	return p.start(ctx)
}

func (c *Cluster) apiServerReady(ctx context.Context, i int) error {
	client, err := kubernetes.NewForConfig(c.ConfigFor(i))
	if err != nil {
		return err
	}
	_, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

func (c *Cluster) host(apiServer int) string {
	return "https://" + loopback(c.apiServers[apiServer].ports[0])
}

func (c *Cluster) auditLog(apiServer int) string {
	return filepath.Join(c.dir, "audit", fmt.Sprintf("%d.log", apiServer))
}

// RestartAPIServer kills every API server, starts them again on the same ports
// and waits until they are ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	for _, p := range c.apiServers {
		p.stop()
	}
	for i, p := range c.apiServers {
		if err := endLine(c.auditLog(i)); err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return c.finishDeletions(ctx)
}

// finishDeletions deletes the Pods that an API server was about to remove when it
// ended: it writes a grace period of zero first. A kubelet would try again; kwok
// leaves such Pods alone, and they would stay Terminating forever.
func (c *Cluster) finishDeletions(ctx context.Context) error {
	pods, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing Pods: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if grace := pod.DeletionGracePeriodSeconds; grace == nil || *grace > 0 {
			continue
		}
		now := metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
		err := c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, now)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting Pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return nil
}

// startControllers starts what makes Pods and places them.
func (c *Cluster) startControllers(ctx context.Context) error {
	var starts []func() error
	for _, define := range []func() (*part, error){c.controllerManager, c.scheduler, c.kwok} {
		p, err := define()
		if err != nil {
			return err
		}
		p.supervised = c.options.Supervised
		starts = append(starts, func() error { return p.start(ctx) })
	}
	return inParallel(starts...)
}

func (c *Cluster) controllerManager() (*part, error) {
	p, err := c.clientPart("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	p.args = func(ports []int) []string {
		return []string{
			"--kubeconfig=" + p.kubeconfig,
			"--bind-address=127.0.0.1",
			"--secure-port=" + strconv.Itoa(ports[0]),
			"--leader-elect=false",
			"--controllers=*,-nodeipam",
			// Each controller shows under its own name in the audit log.
			"--use-service-account-credentials",
			"--service-account-private-key-file=" + c.pki.tokenKey,
			"--root-ca-file=" + c.pki.ca,
			"--kube-api-qps=500",
			"--kube-api-burst=1000",
			// On a busy machine heartbeats are late; no node is ever lost.
			"--node-monitor-grace-period=10m",
		}
	}
	p.ready = func(ctx context.Context) error {
		return get(ctx, "https://"+loopback(p.ports[0])+"/healthz")
	}
	return p, nil
}

func (c *Cluster) scheduler() (*part, error) {
	p, err := c.clientPart("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return nil, err
	}
	p.args = func(ports []int) []string {
		return []string{
			"--kubeconfig=" + p.kubeconfig,
			"--bind-address=127.0.0.1",
			"--secure-port=" + strconv.Itoa(ports[0]),
			"--leader-elect=false",
			"--kube-api-qps=500",
			"--kube-api-burst=1000",
		}
	}
	p.ready = func(ctx context.Context) error {
		return get(ctx, "https://"+loopback(p.ports[0])+"/healthz")
	}
	return p, nil
}

func (c *Cluster) kwok() (*part, error) {
	p, err := c.clientPart("kwok", "kwok", "system:masters")
	if err != nil {
		return nil, err
	}
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("asking the API server for its version: %w", err)
	}
	config, err := stages(version.GitVersion)
	if err != nil {
		return nil, fmt.Errorf("writing kwok's stages: %w", err)
	}
	path := filepath.Join(c.dir, "run", "stages.yaml")
	if err := os.WriteFile(path, config, 0o644); err != nil {
		return nil, fmt.Errorf("writing kwok's stages: %w", err)
	}
	p.args = func(ports []int) []string {
		return []string{
			"--kubeconfig=" + p.kubeconfig,
			"--config=" + path,
			"--server-address=" + loopback(ports[0]),
		}
	}
	p.ready = func(ctx context.Context) error {
		return get(ctx, "http://"+loopback(p.ports[0])+"/healthz")
	}
	return p, nil
}

// clientPart makes a part with one port that talks to the first API server as
// a user of its own.
func (c *Cluster) clientPart(name, user string, groups ...string) (*part, error) {
	p, err := c.part(name, name, 1)
	if err != nil {
		return nil, err
	}
	if p.kubeconfig, err = c.userKubeconfig(user, groups...); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// addNodes creates the nodes and waits until Pods may be placed on them.
func (c *Cluster) addNodes(ctx context.Context) error {
	n := c.options.Nodes
	if n == 0 {
		n = 3
	}
	for i := range n {
		name := fmt.Sprintf("node-%d", i)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
		}}
		if _, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating node %s: %w", name, err)
		}
	}
	return c.await(ctx, "the nodes", func(ctx context.Context) error {
		nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, node := range nodes.Items {
			if len(node.Status.Conditions) == 0 || len(node.Spec.Taints) > 0 {
				return fmt.Errorf("node %s is not ready", node.Name)
			}
		}
		return nil
	})
}

// addStorage creates the default StorageClass, whose volumes kwok makes.
func (c *Cluster) addStorage(ctx context.Context) error {
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "simulated",
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: "test.fullmesh.dev/simulated",
	}
	if _, err := c.client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating StorageClass %s: %w", class.Name, err)
	}
	return nil
}

// runPod runs a Pod, to see that one can.
func (c *Cluster) runPod(ctx context.Context) error {
	pods := c.client.CoreV1().Pods(metav1.NamespaceSystem)
	pod := probePod()
	err := c.await(ctx, "the first Pod", func(ctx context.Context) error {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.await(ctx, "the first Pod", func(ctx context.Context) error {
		pod, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is %s on node %q: %v", pod.Status.Phase, pod.Spec.NodeName, pod.Status.Conditions)
	})
	if err != nil {
		return err
	}
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting the first Pod: %w", err)
	}
	return c.await(ctx, "the end of the first Pod", func(ctx context.Context) error {
		_, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
}

// probePod is a Pod that shows whether the cluster works.
func probePod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "probe"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name:  "probe",
			Image: "registry.example/probe",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1m"),
			}},
		}}},
	}
}

// await polls until condition returns nil. It gives up when a part of the
// cluster ends, or after the time that a part may take to start.
func (c *Cluster) await(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if failure := c.Failure(); failure != nil {
			return fmt.Errorf("waiting for %s: %w", what, failure)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		sleep(ctx, pollInterval)
	}
}

// insecure asks parts that sign their own certificates whether they are ready.
var insecure = &http.Client{
	Timeout:   5 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

// get is an error unless url answers 200.
func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := insecure.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}

// inParallel runs functions side by side and returns all their errors.
func inParallel(functions ...func() error) error {
	errs := make([]error, len(functions))
	var ends sync.WaitGroup
	for i, f := range functions {
		ends.Go(func() { errs[i] = f() })
	}
	ends.Wait()
	return errors.Join(errs...)
}

// userKubeconfig writes a kubeconfig with a certificate for a user.
func (c *Cluster) userKubeconfig(user string, groups ...string) (string, error) {
	config, err := c.authority.user(c.config.Host, user, groups...)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, "kubeconfigs", filepath.Base(filepath.Clean(user)))
	return path, writeKubeconfig(path, config)
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a ServiceAccount
// that exists, valid for a day, and returns its path. What authenticates with
// it may do what RBAC grants the ServiceAccount and nothing else.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(24 * 60 * 60))},
	}
	token, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := &rest.Config{
		Host:            c.config.Host,
		BearerToken:     token.Status.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.certPEM()},
	}
	path := filepath.Join(c.dir, "kubeconfigs", namespace+"."+name)
	return path, writeKubeconfig(path, config)
}

func writeKubeconfig(path string, config *rest.Config) error {
	const name = "cluster"
	kubeconfig := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server:                   config.Host,
			CertificateAuthorityData: config.CAData,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData,
			ClientKeyData:         config.KeyData,
			Token:                 config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
	if err := clientcmd.WriteToFile(kubeconfig, path); err != nil {
		return fmt.Errorf("writing kubeconfig %s: %w", path, err)
	}
	return nil
}
