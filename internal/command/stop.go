package command

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/controllers"
)

// What the ConfigMap of the red button says. The operator asks no more than whether it is there.
const (
	stoppedBy     = "by"
	stoppedAt     = "at"
	stoppedReason = "reason"
)

// stopOptions are the flags of stop.
type stopOptions struct {
	cluster   clusterOptions
	namespace string
	clear     bool
	reason    string
}

func newStop() *cobra.Command {
	options := &stopOptions{}
	command := &cobra.Command{
		Use:   "stop",
		Short: "Stop everything, at once: the red button",
		Long: `Stop everything: from now on no restart starts, whatever policies say, until fullmesh stop --clear.
Rollouts that have begun go on: the workloads' own controllers make them. No further Pod is evicted; evictions
that had begun go on after --clear. The operator goes on watching and reporting.

The red button is a ConfigMap, ` + v1alpha1.StopConfigMap + `, in the operator's namespace. Without this program:
  kubectl create configmap ` + v1alpha1.StopConfigMap + ` -n ` + defaultNamespace + `
  kubectl delete configmap ` + v1alpha1.StopConfigMap + ` -n ` + defaultNamespace,
		Example: `  fullmesh stop --reason "checkout is down, see incident 4711"
  fullmesh stop --clear`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runStop(command, options) },
	}
	flags := command.Flags()
	options.cluster.addFlags(flags)
	flags.StringVarP(&options.namespace, "namespace", "n", defaultNamespace, "the operator's namespace")
	flags.BoolVar(&options.clear, "clear", false, "let Fullmesh restart again")
	flags.StringVar(&options.reason, "reason", "", "why, for those who find it stopped")
	command.MarkFlagsMutuallyExclusive("clear", "reason")
	return command
}

func runStop(command *cobra.Command, options *stopOptions) error {
	c, err := options.cluster.client()
	if err != nil {
		return err
	}
	c = client.WithFieldOwner(c, controllers.FieldOwner+"-stop")
	out := screenOf(command.OutOrStdout())
	needs := fmt.Sprintf("stop needs to get, create and delete the ConfigMap %s in namespace %s; somebody who may has to press or clear it",
		v1alpha1.StopConfigMap, options.namespace)
	if options.clear {
		return withRights(options.release(command.Context(), c, out), needs)
	}
	return withRights(options.press(command.Context(), c, out), needs)
}

func (o *stopOptions) press(ctx context.Context, c client.Client, out screen) error {
	button := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: v1alpha1.StopConfigMap},
		Data:       map[string]string{stoppedBy: whoAmI(ctx, c), stoppedAt: time.Now().UTC().Format(time.RFC3339)},
	}
	if o.reason != "" {
		button.Data[stoppedReason] = o.reason
	}
	err := c.Create(ctx, button)
	switch {
	case apierrors.IsAlreadyExists(err):
		return o.sayStoppedBefore(ctx, c, out)
	case apierrors.IsNotFound(err):
		return o.noSuchNamespace()
	case err != nil:
		return fmt.Errorf("creating ConfigMap %s/%s: %w", o.namespace, v1alpha1.StopConfigMap, err)
	}
	out.line("Stopped. No restart starts until: fullmesh stop --clear")
	out.line("Rollouts that have begun go on, and no further Pod is evicted; the operator goes on watching and reporting.")
	return nil
}

func (o *stopOptions) sayStoppedBefore(ctx context.Context, c client.Client, out screen) error {
	var button corev1.ConfigMap
	if err := c.Get(ctx, client.ObjectKey{Namespace: o.namespace, Name: v1alpha1.StopConfigMap}, &button); err != nil {
		return fmt.Errorf("everything is stopped already; reading by whom: %w", err)
	}
	out.line("Everything is stopped already%s.", circumstances(&button))
	return nil
}

func (o *stopOptions) release(ctx context.Context, c client.Client, out screen) error {
	err := c.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: v1alpha1.StopConfigMap}})
	switch {
	case err == nil:
		out.line("Cleared. Fullmesh restarts again what policies in mode Enforce let it.")
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("deleting ConfigMap %s/%s: %w", o.namespace, v1alpha1.StopConfigMap, err)
	}
	if err := c.Get(ctx, client.ObjectKey{Name: o.namespace}, &corev1.Namespace{}); apierrors.IsNotFound(err) {
		return o.noSuchNamespace()
	}
	out.line("Nothing was stopped.")
	return nil
}

func (o *stopOptions) noSuchNamespace() error {
	return fmt.Errorf("there is no namespace %s; name the one that the operator runs in with --namespace", o.namespace)
}

// circumstances are who stopped everything, when and why, as far as the ConfigMap says.
func circumstances(button *corev1.ConfigMap) string {
	text := fmt.Sprintf(", since %s", cmp.Or(button.Data[stoppedAt], button.CreationTimestamp.UTC().Format(time.RFC3339)))
	if by := button.Data[stoppedBy]; by != "" {
		text += ", by " + by
	}
	if reason := button.Data[stoppedReason]; reason != "" {
		text += ": " + reason
	}
	return text
}

// whoAmI is the user as the API server knows it, and the user of this machine.
func whoAmI(ctx context.Context, c client.Client) string {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return cmp.Or(os.Getenv("USER"), "somebody")
	}
	name := review.Status.UserInfo.Username
	if user := os.Getenv("USER"); user != "" && user != name {
		name += fmt.Sprintf(" (%s)", user)
	}
	return name
}
