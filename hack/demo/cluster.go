// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
	"github.com/fullmesh/fullmesh/test/cluster"
	"github.com/fullmesh/fullmesh/test/manifests"
)

const (
	operatorNamespace = "fullmesh-system"
	operatorName      = "fullmesh" // of its ServiceAccount, and of its Deployment where it is installed
	istioNamespace    = cluster.IstioNamespace

	// generous bounds how long any one thing may take; a busy machine is no reason to fail.
	generous = 5 * time.Minute
	poll     = 250 * time.Millisecond
)

// demo is a cluster with a shop in it.
type demo struct {
	say       *voice
	root      string // of the Go module
	config    *rest.Config
	client    client.Client
	namespace string
	// environment is what fullmesh commands are run with.
	environment []string
	// annotations of every Pod template.
	annotations map[string]string
	// disposable says that the cluster goes with the demo.
	disposable bool

	shop []exhibit
	// label makes Istio inject.
	labelKey, labelValue string
	// untouched are the UIDs of the Pods that must stay.
	untouched map[string]bool
	operator  *cluster.Program
	log       string
	policy    *v1alpha1.MeshPolicy

	// undo are what cleaning up does, the last first.
	undo []undo
}

type undo struct {
	what string
	do   func(context.Context) error
}

func (d *demo) later(what string, do func(context.Context) error) {
	d.undo = append(d.undo, undo{what, do})
}

// deleteLater deletes what the demo made in somebody's cluster, and waits until it is gone: the demo
// may be run again at once.
func (d *demo) deleteLater(object client.Object) {
	if d.disposable {
		return
	}
	kind, err := d.client.GroupVersionKindFor(object)
	if err != nil {
		panic(fmt.Sprintf("what was created is of no kind: %v", err))
	}
	what := kind.Kind + " " + object.GetName()
	d.later("deleting "+what, func(ctx context.Context) error {
		d.say.text("Deleting %s", what)
		if err := d.client.Delete(ctx, object); err != nil {
			return client.IgnoreNotFound(err)
		}
		return d.await(ctx, "its end", func(ctx context.Context) error {
			err := d.client.Get(ctx, client.ObjectKeyFromObject(object), object)
			switch {
			case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
				return nil
			case err != nil:
				return err
			default:
				return errors.New("it is still there")
			}
		})
	})
}

func (d *demo) cleanUp(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(d.undo) {
		if err := undo.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", undo.what, err))
		}
	}
	return errors.Join(errs...)
}

// startCluster starts a cluster for the demo alone.
func (d *demo) startCluster(ctx context.Context) error {
	d.say.text("Starting a cluster: etcd, the API server, controllers and scheduler, three simulated nodes, and istiod.")
	begin := time.Now()
	c, err := cluster.Start(ctx, cluster.Options{})
	if err != nil {
		return fmt.Errorf("starting a cluster: %w", err)
	}
	d.later("stopping the cluster", func(context.Context) error { return c.Stop() })
	d.say.good("ready after %s", time.Since(begin).Round(time.Second))
	d.namespace, d.disposable = "shop", true
	d.annotations = map[string]string{cluster.ReadyAfter: "1s"}
	d.environment = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return d.connect(c.Config())
}

// useCurrentCluster takes the cluster of the current kubeconfig.
func (d *demo) useCurrentCluster() error {
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	raw, err := loaded.RawConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config, err := loaded.ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w; set KUBECONFIG", err)
	}
	d.namespace = "fullmesh-demo"
	d.environment = os.Environ()
	d.say.text("The demo uses the cluster of the context %q, %s.", raw.CurrentContext, config.Host)
	d.say.text("It makes the namespace %s with eight small workloads and a MeshPolicy for that alone; it installs what it needs of "+
		"config/crd, config/rbac and config/guard where that is missing, and runs the operator on this machine. In the end it removes what "+
		"it made.", d.namespace)
	return d.connect(config)
}

func (d *demo) connect(config *rest.Config) error {
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	var err error
	if d.root, err = manifests.Root(); err != nil {
		return err
	}
	d.config = config
	d.client, err = client.New(config, client.Options{Scheme: scheme, FieldOwner: "fullmesh-demo"})
	return err
}

// chooseLabel finds the label that makes Istio inject here, by the model that Fullmesh decides with.
func (d *demo) chooseLabel(ctx context.Context) error {
	var list admissionregistrationv1.MutatingWebhookConfigurationList
	if err := d.client.List(ctx, &list); err != nil {
		return fmt.Errorf("listing MutatingWebhookConfigurations: %w", err)
	}
	candidates := [][2]string{{"istio-injection", "enabled"}}
	webhooks := make([]*admissionregistrationv1.MutatingWebhookConfiguration, 0, len(list.Items))
	for i := range list.Items {
		webhooks = append(webhooks, &list.Items[i])
		if revision := list.Items[i].Labels["istio.io/rev"]; revision != "" {
			candidates = append(candidates, [2]string{"istio.io/rev", revision})
		}
	}
	injector := mesh.NewInjector(webhooks, nil, mesh.Options{})
	for _, label := range candidates {
		namespace := mesh.Namespace{Name: d.namespace, Labels: map[string]string{label[0]: label[1]}}
		if injector.Expect(namespace, mesh.Template{}).Inject {
			d.labelKey, d.labelValue = label[0], label[1]
			return nil
		}
	}
	return errors.New("this cluster has no webhook of Istio's that injects sidecars; install Istio, or run the demo with CLUSTER=embedded")
}

// installMissing creates what config/ has and the cluster has not.
func (d *demo) installMissing(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		objects, err := manifests.Render(d.root, path)
		if err != nil {
			return err
		}
		for _, object := range objects {
			switch err := d.client.Create(ctx, object); {
			case apierrors.IsAlreadyExists(err):
				continue
			case err != nil:
				return fmt.Errorf("creating %s %s of %s: %w", object.GetKind(), object.GetName(), path, err)
			}
			d.deleteLater(object)
		}
	}
	return d.await(ctx, "the kinds of Fullmesh", func(ctx context.Context) error {
		return errors.Join(d.client.List(ctx, &v1alpha1.MeshPolicyList{}), d.client.List(ctx, &v1alpha1.MeshReportList{}))
	})
}

// operatorConfig is for a client that is the operator: a token of its ServiceAccount.
func (d *demo) operatorConfig(ctx context.Context) (*rest.Config, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600))}}
	if err := d.client.SubResource("token").Create(ctx, account, request); err != nil {
		return nil, fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", operatorNamespace, operatorName, err)
	}
	config := rest.AnonymousClientConfig(d.config)
	config.BearerToken = request.Status.Token
	return config, nil
}

// startOperator runs the manager with the token in a kubeconfig of its own.
func (d *demo) startOperator(config *rest.Config) error {
	dir, err := os.MkdirTemp("", "fullmesh-demo-")
	if err != nil {
		return err
	}
	d.later("removing "+dir, func(context.Context) error { return os.RemoveAll(dir) })
	kubeconfig := filepath.Join(dir, "kubeconfig")
	const name = "operator"
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server:                   config.Host,
			TLSServerName:            config.ServerName,
			InsecureSkipTLSVerify:    config.Insecure,
			CertificateAuthority:     config.CAFile,
			CertificateAuthorityData: config.CAData,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, kubeconfig)
	if err != nil {
		return fmt.Errorf("writing a kubeconfig: %w", err)
	}
	d.log = filepath.Join(dir, "operator.log")
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(d.program(), "manager", "--kubeconfig", kubeconfig, "--namespace", operatorNamespace,
		"--istio-namespace", istioNamespace, "--metrics-bind-address", "0", "--health-probe-bind-address", "0")
	command.Stdout, command.Stderr = log, log
	if d.operator, err = cluster.StartProgram(command); err != nil {
		return err
	}
	program := d.operator
	d.later("stopping the operator", func(context.Context) error {
		d.operator = nil
		program.Kill()
		return nil
	})
	return nil
}

// isInstalled reports whether the operator runs in the cluster already.
func (d *demo) isInstalled(ctx context.Context) (bool, error) {
	err := d.client.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, &appsv1.Deployment{})
	return err == nil, client.IgnoreNotFound(err)
}

func (d *demo) program() string { return filepath.Join(d.root, "bin", "fullmesh") }

// fullmesh runs a command for the reader to see, and demands its exit status.
func (d *demo) fullmesh(ctx context.Context, status int, args ...string) error {
	d.say.command("fullmesh %s", strings.Join(args, " "))
	command := exec.CommandContext(ctx, d.program(), args...)
	command.Env, command.Stdout, command.Stderr = d.environment, os.Stdout, os.Stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("running fullmesh: %w; make build builds it", err)
	}
	if got := command.ProcessState.ExitCode(); got != status {
		return fmt.Errorf("fullmesh %s ended with exit status %d, want %d", strings.Join(args, " "), got, status)
	}
	return nil
}

// await polls until condition returns nil. It gives up when the operator ends or after a generous
// time.
func (d *demo) await(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, generous)
	defer cancel()
	for {
		err := condition(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case d.operatorEnded():
			return fmt.Errorf("waiting for %s: the operator has ended", what)
		}
		select {
		case <-ctx.Done():
		case <-time.After(poll):
		}
	}
}

func (d *demo) operatorEnded() bool {
	if d.operator == nil {
		return false
	}
	select {
	case <-d.operator.Done():
		return true
	default:
		return false
	}
}
