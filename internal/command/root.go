package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Exit statuses.
const (
	exitNothingToDo   = 0
	exitError         = 1
	exitSomethingToDo = 2
)

// exitStatus ends the command with a status and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Run runs the command line and returns the exit status.
func Run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	return runWithInput(ctx, version, args, os.Stdin, stdout, stderr)
}

func runWithInput(ctx context.Context, version string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "fullmesh",
		Short:         "Bring namespaces with Istio's sidecar injection to full mesh",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newManager(), newPlan(), newExplain(), newStatus(), newStop())
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return exitNothingToDo
	case errors.As(err, &status):
		return int(status)
	default:
		fmt.Fprintf(stderr, "fullmesh: %v\n", err)
		return exitError
	}
}

// withStatuses adds to a command's help what its exit status means.
func withStatuses(command *cobra.Command, nothingToDo, somethingToDo string) {
	command.Long += fmt.Sprintf("\n\nExit status:\n  %d  %s\n  %d  error\n  %d  %s", exitNothingToDo, nothingToDo, exitError,
		exitSomethingToDo, somethingToDo)
}

// newScheme knows Kubernetes' types and ours.
func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}
