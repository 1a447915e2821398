package command

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clusterOptions say which cluster a command talks to, in the words of kubectl.
type clusterOptions struct {
	kubeconfig, context string
}

func (o *clusterOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig file; by default $KUBECONFIG, then ~/.kube/config")
	flags.StringVar(&o.context, "context", "", "the context of the kubeconfig; by default its current one")
}

// config finds the cluster as kubectl does.
func (o *clusterOptions) config() (*rest.Config, error) {
	// What libraries log goes to stderr by way of klog.
	ctrl.SetLogger(klog.Background())
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("finding the cluster: there is no kubeconfig (looked at %s); set --kubeconfig or KUBECONFIG",
			cmp.Or(os.Getenv(clientcmd.RecommendedConfigPathEnvVar), clientcmd.RecommendedHomeFile))
	case err != nil:
		return nil, fmt.Errorf("finding the cluster: %w; look at --kubeconfig, --context and KUBECONFIG", err)
	}
	// A command asks little and once; the API server's own fairness bounds it.
	config.QPS = -1
	return config, nil
}

func (o *clusterOptions) client() (client.Client, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	return newClient(config)
}

func newClient(config *rest.Config) (client.Client, error) {
	c, err := client.New(config, client.Options{Scheme: newScheme()})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return c, nil
}

// withRights adds to a refusal what the command needs. The API server's own words name the account
// and the resource.
func withRights(err error, needs string) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	return errors.Join(err, errors.New(needs))
}
